"""The tables of docs/performance.md, from the figures of benchmarks: what stands between two marks is renewed.

<!-- benchmark knn -->
…
<!-- end -->
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.record import ROOT, format_table

PAGE = ROOT / "docs" / "performance.md"
BLOCK = re.compile(r"(<!-- benchmark (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
Records = Mapping[str, Mapping[str, Any]]  # by the name of the benchmark: what `record.publish` wrote


def read_records(folder: Path) -> dict[str, dict[str, Any]]:
    """The figures of every benchmark in a folder, by name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def fill_page(text: str, records: Records) -> str:
    """The page with new tables; a benchmark without figures keeps the old ones."""

    def renew(block: re.Match[str]) -> str:
        record = records.get(block[2])
        return block[0] if record is None else f"{block[1]}{render_record(record)}\n{block[3]}"

    return BLOCK.sub(renew, text)


def render_record(record: Mapping[str, Any]) -> str:
    """The tables of one benchmark, below the command that made them and where."""
    where = f"{record['cores']} cores of an {record['processor']}, {record['memory_gb']} GB"
    took = f"{record['seconds']:,.0f} s in all, load {record['load']:g} at the end"
    made = f"`{record['command']}`, {record['date']}, {where}, code of {record['commit']}; {took}."
    tables = [f"{title[:1].upper()}{title[1:]}:\n\n{format_table(rows)}" for title, rows in record["tables"].items()]
    return "\n".join([f"{made}\n", *tables])
