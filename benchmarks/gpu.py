"""What a GPU gives and how fast: every path compared with the CPU, then rates; made for ten minutes on one card.

    python -m benchmarks.gpu
    python -m benchmarks.gpu --device cuda:1 --output gpu
    python -m benchmarks.gpu --device cpu --tiny

It needs torch, torchvision, numpy and pydantic, and no data: images, vectors and features are random, the networks too.
The first part (`twins`) says for each path whether the device gives what CPU tensors give. The second (`rates`)
measures extraction, training, local features, verification and exact search at the size of Google Landmarks v2. The
tables go to the console and to `<output>.md`, all numbers to `<output>.json`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_rates import FULL, TINY, Clock, measure_rates
from benchmarks.gpu_twins import compare_twins
from benchmarks.record import format_table


def describe_machine(device: torch.device) -> dict[str, Any]:
    """What the figures were measured on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU tensors"
    bytes_ = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None
    return {
        "date": date.today().isoformat(), "device": name, "memory_gb": bytes_ and round(bytes_ / 1e9, 1),
        "torch": torch.__version__, "cuda": torch.version.cuda,
    }  # fmt: skip


def main() -> int:
    """Compare, measure, and write what was found; 1 where a path does not give what the CPU gives."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="sizes that a CPU goes through in seconds")
    parser.add_argument("--minutes", type=float, default=9.0, help="rates that would begin later are left out")
    parser.add_argument("--output", type=Path, default=Path("gpu"), help="of the files, without .md and .json")
    options = parser.parse_args()
    start, device = time.perf_counter(), torch.device(options.device)
    found: dict[str, Any] = {"machine": describe_machine(device), "twins": [], "rates": []}
    print(json.dumps(found["machine"]), flush=True)
    for name, works in (
        ("twins", compare_twins(device)),
        ("rates", measure_rates(device, TINY if options.tiny else FULL, Clock(start + 60 * options.minutes))),
    ):
        for row in works:
            found[name].append(row)
            print(f"{time.perf_counter() - start:6.0f} s  {row}", flush=True)
    found["seconds"] = round(time.perf_counter() - start, 1)
    text = "\n".join(format_table(found[name]) for name in ("twins", "rates"))
    options.output.with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n")
    options.output.with_suffix(".md").write_text(text)
    print(f"\n{text}")
    return 0 if all(row["agrees"] for row in found["twins"]) else 1


if __name__ == "__main__":
    sys.exit(main())
