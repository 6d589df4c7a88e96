"""The files of published weights: one file, or what a folder from the Hugging Face Hub holds of them."""

from __future__ import annotations

from pathlib import Path

NAMES = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors", "open_clip_pytorch_model.bin")
SHARDS = "model-*-of-*.safetensors"  # of weights too large for one file
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


def list_weights_files(path: Path) -> list[Path]:
    """The files to read: the file itself; of a folder those of the first known name, else its only weights file.

    Where nothing is found, the path itself, which is then no file.
    """
    if not path.is_dir():
        return [path]
    known = next((path / name for name in NAMES if (path / name).is_file()), None)
    if known is not None:
        return [known]
    shards = sorted(path.glob(SHARDS))
    others = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
    return shards or (others if len(others) == 1 else [path])
