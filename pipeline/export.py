"""Take a network or descriptors out of a run, in files that other programs read.

    python -m pipeline.export NETWORK FOLDER
    python -m pipeline.export RUN FOLDER --vectors train index test

The first writes model.safetensors and config.json, a model card, and ONNX graphs; the second a matrix, a table and a
list of ids per split (features/vector_files.py), as the run searched them, or those of the one model whose folder of
descriptors is named in place of the run. A folder appears whole or not at all.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from pipeline import layout
from pipeline.console import run_guarded
from pipeline.new_folder import new_folder, refuse_occupied
from pipeline.run_folder import RunFolder, describe_network
from pipeline.settings import NON_LANDMARK, SPLITS


def main(arguments: list[str] | None = None) -> int:
    """Export and return the exit code: 0 for success, 2 for a wrong folder or command."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.export", description="Take a network or vectors away.")
    parser.add_argument("source", type=Path, help="the folder of a network; with --vectors, of a run")
    parser.add_argument("folder", type=Path, help="a folder that does not exist yet")
    parser.add_argument("--no-onnx", action="store_true", help="write no ONNX graphs")
    splits = (*SPLITS, NON_LANDMARK)
    parser.add_argument("--vectors", nargs="+", choices=splits, help="write the descriptors of these splits instead")
    given = parser.parse_args(arguments)

    def work() -> None:
        if given.vectors:
            export_vectors(given.source.resolve(), given.folder.resolve(), given.vectors)
        else:
            export_network(given.source.resolve(), given.folder.resolve(), onnx=not given.no_onnx)

    return run_guarded(work)


def export_network(source: Path, folder: Path, onnx: bool = True) -> None:
    """Write model.safetensors, config.json, README.md and, if `onnx`, global.onnx and perhaps local.onnx."""
    from pipeline.network import checkpoint, onnx_graphs
    from pipeline.report.model_card import Origin, render_model_card

    refuse_occupied(folder)
    if onnx:
        onnx_graphs.require_packages()
    with new_folder(folder) as partial:
        network = checkpoint.export_network(source, partial)
        errors = onnx_graphs.write_graphs(partial, network) if onnx else {}
        config = json.loads((partial / checkpoint.HUB_DESCRIPTION).read_text())
        card = render_model_card(config, Origin(**describe_network(source)), errors)
        (partial / "README.md").write_text(card, encoding="utf-8")
    for name, error in errors.items():
        print(f"{name} differs from PyTorch by at most {error:.1e}")
    _tell(folder)


def export_vectors(source: Path, folder: Path, splits: list[str]) -> None:
    """Write <split>.npy, <split>.parquet and <split>_ids.txt. source: the folder of a run, or of one model's in it."""
    import numpy as np
    import pandas as pd

    from pipeline.features.ensemble import JoinedDescriptors
    from pipeline.features.vector_files import write_vectors

    of_model = source.parent.name == layout.EXTRACT_GLOBAL
    run = RunFolder(source.parent.parent if of_model else source)
    with new_folder(folder) as partial:
        for split in dict.fromkeys(splits):
            found = run.find_descriptors(split, source.name if of_model else "")
            files = [run.path / reference / "descriptors.npy" for reference in found.references]
            vectors = JoinedDescriptors([np.load(file, mmap_mode="r") for file in files], found.weights)
            table = pd.read_parquet(run.locate(layout.images(split)))
            rows = write_vectors(partial, split, vectors, table)
            print(f"{split}: {rows} descriptors of {vectors.shape[1]} numbers, {' + '.join(found.references)}")
            if rows < len(table):
                print(f"{split}: left out, for want of a descriptor, {len(table) - rows} of {len(table)} images")
    _tell(folder)


def _tell(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        print(f"{path}  {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    sys.exit(main())
