"""How far a training is, on disk: the state that it resumes from, and the history of its epochs."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pipeline.artifacts import atomic_file
from pipeline.errors import PipelineError
from pipeline.images.rejection import Rejections
from pipeline.network.checkpoint import load_training_state, save_training_state
from pipeline.network.data_parallel import Replicas
from pipeline.network.kept_weights import KeptWeights
from pipeline.network.landmark_network import LandmarkNetwork
from pipeline.network.training_set import TrainingSet
from pipeline.settings import ModelSettings, PhaseSettings

STATE, HISTORY = "state.pt", "history.csv"
COLUMNS = [
    "epoch", "steps", "train_loss", "local_loss", "train_accuracy", "validation_loss", "validation_top1",
    "learning_rate",
]  # fmt: skip
SUMS = ("loss_sum", "local_sum", "correct", "seen")


@dataclass(frozen=True)
class TrainingSetup:
    """What is trained and how: the model, one of its two phases, the seed of the run, and the device.

    compiled: whether the network runs through torch.compile.
    """

    model: ModelSettings
    phase: PhaseSettings
    seed: int
    device: torch.device
    compiled: bool = False


@dataclass
class Progress:
    """How far a training is; together with the tensors it is all that a checkpoint holds.

    The sums are over the images of the epoch so far: of this rank while it trains, of all ranks in a checkpoint.
    """

    epoch: int = 0
    step: int = 0  # within the epoch
    loss_sum: float = 0.0
    local_sum: float = 0.0
    correct: int = 0
    seen: int = 0
    history: list[dict[str, float | int | None]] = field(default_factory=list)

    def add(self, loss: float, local: float, correct: int, images: int) -> None:
        """Count a batch with these mean losses."""
        self.loss_sum += loss * images
        self.local_sum += local * images
        self.correct += correct
        self.seen += images

    def of_all(self, replicas: Replicas) -> Progress:
        """The progress with the sums of all ranks."""
        loss, local, correct, seen = replicas.sum([getattr(self, name) for name in SUMS])
        return Progress(self.epoch, self.step, loss, local, int(correct), int(seen), self.history)


@dataclass(frozen=True)
class TrainingFolder:
    """The scratch folder of a training whose result depends on what `identity` is the digest of."""

    scratch: Path
    identity: str
    network: LandmarkNetwork
    optimiser: torch.optim.Optimizer
    kept: KeptWeights
    rejections: Rejections | None

    def save(self, progress: Progress) -> None:
        """Write state.pt and history.csv. Raises FloatingPointError for weights that are not finite: the last good
        state remains."""
        for name, value in self.network.state_dict().items():
            if not value.isfinite().all():
                raise FloatingPointError(f"{name} is not finite")
        state = {
            "identity": self.identity,
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "kept": self.kept.state(),
            "progress": asdict(progress),
            "rejected": dict(self.rejections.reasons) if self.rejections is not None else {},
        }
        save_training_state(self.scratch / STATE, state)
        self.write_history(progress)

    def write_history(self, progress: Progress) -> None:
        """The finished epochs as CSV; it holds no times, so that equal trainings write equal bytes."""
        history = pd.DataFrame(progress.history, columns=COLUMNS)
        with atomic_file(self.scratch / HISTORY) as part:
            history.to_csv(part, index=False, float_format="%.6g", lineterminator="\n")

    def load(self) -> Progress:
        """Load the saved state into network, optimiser and rejections, if there is one; how far it is."""
        path = self.scratch / STATE
        if not path.exists():
            return Progress()
        state = load_training_state(path)
        if state["identity"] != self.identity:
            raise PipelineError(
                "this is the state of another training: its settings, photographs or starting weights differ", path,
                "delete the file to train from the start",
            )  # fmt: skip
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.kept.load(state["kept"])
        if self.rejections is not None:
            self.rejections.add_unreadable(state["rejected"])
        return Progress(**state["progress"])


def identify_training(network: LandmarkNetwork, setup: TrainingSetup, images: TrainingSet) -> str:
    """A digest of everything that the result depends on, by which the state of another training is recognised."""
    digest = hashlib.sha256(f"{setup.seed}\n{setup.phase.model_dump_json()}\n".encode())
    digest.update("\n".join(Path(path).name for path in images.paths).encode())
    digest.update(np.asarray(images.aspect_ratios, np.float64).tobytes())
    digest.update(np.asarray(images.labels, np.int64).tobytes())
    for name, value in network.state_dict().items():
        digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
