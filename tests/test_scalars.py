"""Scalars for TensorBoard: what training tells is written, and a missing package is named before any work."""

import importlib.util
import sys
import types
from pathlib import Path

import pytest

from pipeline.config import load_config
from pipeline.errors import PipelineError
from pipeline.runner import Pipeline, Stage, Task
from pipeline.scalars import Scalars, require_tensorboard
from pipeline.task_context import HISTORY, TaskContext


@pytest.fixture
def written(monkeypatch):
    """The scalars that a stand-in for TensorBoard's writer got: (name, value, step)."""
    added = []

    class SummaryWriter:
        def __init__(self, folder):
            self.add_scalar = lambda *scalar: added.append(scalar)
            self.close = lambda: added.append("closed")

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=SummaryWriter))
    return added


def test_steps_and_epochs_are_written_once_each(tmp_path, written):
    task = TaskContext(tmp_path / "made.partial", scalars=Scalars(tmp_path))
    task.scratch.mkdir(parents=True)
    with task.training_progress() as show:
        show(1, 4, 2.5, 0.1)
        (task.scratch / HISTORY).write_text("epoch,train_loss,validation_loss\n1,2.5,\n")
        show(2, 4, 1.5, 0.05)
        show(3, 4, 1.0, 0.05)
    assert written[:4] == [("loss", 2.5, 1), ("learning_rate", 0.1, 1), ("loss", 1.5, 2), ("learning_rate", 0.05, 2)]
    assert [one for one in written if one[0] == "epoch/train_loss"] == [("epoch/train_loss", 2.5, 1)]
    assert written[-1] == "closed"


def test_a_missing_package_is_named_before_any_work(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PipelineError, match="pip install tensorboard"):
        require_tensorboard()
    config = load_config(Path("configs/smoke.toml"), ["runtime.tensorboard=true", f"runtime.outputs={tmp_path}"])
    stage = Stage("01_work", 1, lambda config: [Task("01_work", lambda task, config: pytest.fail("it ran"), {})])
    with pytest.raises(PipelineError, match="not installed"):
        Pipeline(config, [stage]).run_stage(stage)
