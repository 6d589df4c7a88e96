"""All benchmarks of speed and memory: each a process of its own with a JSON file; then the page of their figures.

benchmarks/run_all.sh                               20 minutes on two free cores
benchmarks/run_all.sh --full                        the sizes of Google Landmarks v2 throughout: hours
benchmarks/run_all.sh --only knn growth-worlds
benchmarks/run_all.sh --only                        no benchmark: the page from the figures that are there
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.page import PAGE, fill_page, read_records
from benchmarks.plots import draw_plots
from benchmarks.record import ROOT


class Benchmark(NamedTuple):
    """A module of this folder, and its arguments: within the 20 minutes, and in full."""

    module: str
    arguments: str = ""
    full: str = ""


BENCHMARKS = {
    "knn": Benchmark("knn"),
    "knn-gldv2": Benchmark(
        "knn", "--base 761757 --queries 300 --rounds 2 --baselines", "--base 761757 --baselines torch sklearn"
    ),
    "rerank": Benchmark("rerank"),
    "verification": Benchmark("verification"),
    "local_features": Benchmark("local_features"),
    "reading": Benchmark("reading"),
    "steps": Benchmark("steps"),
    "steps-gldv2": Benchmark("steps", "--index 761757 --steps dba,diffusion", "--index 761757 --dims 512"),
    "backbones": Benchmark("backbones", "--rounds 5"),
    "families": Benchmark(
        "backbones", "--families --rounds 3 --names resnet18 efficientnet_lite0 timm/convnext_atto", "--families"
    ),
    "planning": Benchmark("planning", "--images 1000000"),
    "inspection": Benchmark("inspection", "--files 5000 --rows 1000000"),
    "score": Benchmark("score", "--queries 30000"),
    "report": Benchmark("report"),
    "memory": Benchmark("memory"),
    "growth-worlds": Benchmark("growth", "--vectors --approximate", "--vectors --approximate --worlds 1 4 16 64 256"),
    "growth-vectors": Benchmark("growth", "--worlds", "--worlds --vectors 0.0625 0.25 1"),
}


def run(name: str, full: bool, folder: Path) -> bool:
    """Run a benchmark; its figures and its console output lie in the folder. Whether it ended well."""
    one, start = BENCHMARKS[name], time.monotonic()
    arguments = (one.full if full else one.arguments).split()
    command = [sys.executable, "-m", f"benchmarks.{one.module}", *arguments, "--json", str(folder / f"{name}.json")]
    with open(folder / f"{name}.txt", "w") as console:
        code = subprocess.run(command, cwd=ROOT, stdout=console, stderr=subprocess.STDOUT).returncode
    end = f"{time.monotonic() - start:.0f} s" if code == 0 else f"failed: {folder / name}.txt says why"
    print(f"{name:12} {end}", flush=True)
    return code == 0


def main() -> int:
    """Run what is asked for and renew the page; 1 if a benchmark failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=BENCHMARKS, default=list(BENCHMARKS), metavar="NAME")
    parser.add_argument("--full", action="store_true", help="the larger sizes")
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / "benchmarks", help="for the JSON files")
    parser.add_argument("--page", type=Path, default=PAGE, help="whose tables are renewed (default: %(default)s)")
    asked = parser.parse_args()
    folder = asked.output.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    ended = [run(name, asked.full, folder) for name in asked.only]
    records = read_records(folder)
    asked.page.write_text(fill_page(asked.page.read_text(), records))
    draw_plots(records, asked.page.parent)
    return 0 if all(ended) else 1


if __name__ == "__main__":
    sys.exit(main())
