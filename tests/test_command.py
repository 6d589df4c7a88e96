"""The command cairn starts what the scripts start, with the same arguments."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import command

SMOKE = ["--config", "configs/smoke.toml"]


def test_every_command_exists_and_has_help(capsys):
    with pytest.raises(SystemExit, match="0"):
        command.main(["--help"])
    text = capsys.readouterr().out
    for name in command.COMMANDS:
        assert f"  {name} " in text
        with pytest.raises(SystemExit, match="0"):
            command.main([name, "--help"])
        assert "usage:" in capsys.readouterr().out


def test_status_is_that_of_the_script(tmp_path, capsys):
    given = [*SMOKE, f"runtime.outputs={tmp_path}", f"data.root={tmp_path / 'world'}"]
    assert command.main(["status", *given]) == 0
    printed = capsys.readouterr().out
    script = subprocess.run([sys.executable, "stages/run_all.py", "--status", *given], capture_output=True, text=True)
    assert printed == script.stdout and "01_prepare_data" in printed
    assert command.main(["run", *given, "nothing.of.this=1"]) == 2
    capsys.readouterr()
    assert command.main(["run", "--dry-run", *given]) == 0
    printed = capsys.readouterr().out
    assert "were never made here" in printed and "artifacts would be made" in printed
    assert not (tmp_path / "smoke").exists()


def test_what_does_not_exist_is_refused(monkeypatch, capsys, tmp_path):
    with pytest.raises(SystemExit, match="2"):
        command.main(["nothing"])
    monkeypatch.setattr(command, "STAGES", Path(tmp_path))
    assert command.main(["run"]) == 2
    assert "pip install -e ." in capsys.readouterr().err
