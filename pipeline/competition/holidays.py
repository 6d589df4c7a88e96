"""INRIA Holidays (Jégou et al. 2008): photographs <root>/jpg/<six digits>.jpg, of which the first four are the scene.

The photograph of each scene whose name ends in 00 is its query, and the others of the scene are its positives. The
whole collection is the database; the query itself is junk in its own list.
"""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.competition.benchmark import PHOTOGRAPHS, Benchmark, assemble_benchmark
from pipeline.competition.junk import Judgements
from pipeline.competition.listing import walk_files
from pipeline.competition.metrics import Truth
from pipeline.errors import PipelineError

NAME = re.compile(r"([0-9]{4})([0-9]{2})")


def read_holidays(root: Path) -> Benchmark:
    """The benchmark of the photographs below `root`; its only setup is called holidays.

    Raises PipelineError for a photograph with another name, for a scene without a query, and without photographs.
    """
    folder = root / PHOTOGRAPHS
    images = sorted(path.removesuffix(".jpg") for path, _ in walk_files(folder) if path.endswith(".jpg"))
    bad = next((name for name in images if not NAME.fullmatch(name)), None)
    if bad is not None or not images:
        what = f"{bad}.jpg is no photograph of Holidays" if bad else "no photographs"
        raise PipelineError(what, folder, "the folder holds <six digits>.jpg, as they are distributed")
    scenes: dict[str, list[int]] = {}
    for row, name in enumerate(images):
        scenes.setdefault(name[:4], []).append(row)
    incomplete = next((scene for scene, rows in scenes.items() if not images[rows[0]].endswith("00")), None)
    if incomplete is not None:
        raise PipelineError(f"scene {incomplete} has no query {incomplete}00.jpg", folder, "unpack both archives")
    queries = [images[rows[0]] for rows in scenes.values()]
    positives = Truth.from_lists([rows[1:] for rows in scenes.values()])
    junk = Truth.from_lists([rows[:1] for rows in scenes.values()])
    return assemble_benchmark(queries, images, None, {"holidays": Judgements(positives, junk)})
