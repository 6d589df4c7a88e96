"""INRIA Holidays (Jégou et al. 2008): photographs <root>/jpg/<six digits>.jpg, the first four digits name the scene.

Of each scene the photograph ending in 00 is the query, and the others are to be found. All of the collection is
searched; the query itself counts as junk.
"""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.competition.benchmark import PHOTOGRAPHS, Benchmark, lay_out
from pipeline.competition.benchmark_metrics import Judgements
from pipeline.competition.metrics import Truth
from pipeline.competition.tables import walk_files
from pipeline.errors import PipelineError

NAME = re.compile(r"([0-9]{4})([0-9]{2})")


def read_holidays(root: Path) -> Benchmark:
    """The benchmark of the photographs below `root`; its one setup is holidays.

    Raises PipelineError for a photograph of another name and for a scene without a query.
    """
    files = (path for path, _ in walk_files(root / PHOTOGRAPHS))
    images = sorted(path.removesuffix(".jpg") for path in files if path.endswith(".jpg"))
    bad = next((name for name in images if not NAME.fullmatch(name)), None)
    if bad is not None or not images:
        what = f"{bad}.jpg is no photograph of Holidays" if bad else "no photographs"
        raise PipelineError(what, root / PHOTOGRAPHS, "the folder holds <six digits>.jpg, as they are distributed")
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(images):
        rows.setdefault(name[:4], []).append(row)
    alone = next((scene for scene, own in rows.items() if not images[own[0]].endswith("00")), None)
    if alone is not None:
        raise PipelineError(f"scene {alone} has no query {alone}00.jpg", root / PHOTOGRAPHS, "unpack both archives")
    positives = Truth.from_lists([own[1:] for own in rows.values()])
    junk = Truth.from_lists([own[:1] for own in rows.values()])
    return lay_out([images[own[0]] for own in rows.values()], images, None, {"holidays": Judgements(positives, junk)})
