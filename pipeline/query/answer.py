"""What a run answers for one photograph."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pipeline.arrays import Floats, Integers, Mask, Rows
from pipeline.features.local_store import LocalFeatures

NOT_COMPARED = -1  # inliers of a pair that was not verified


@dataclass(frozen=True)
class Answer:
    """The landmark of a photograph, and K index images, best first, with why each is there.

    landmark: its id, and name: as a person reads it; NO_LABEL and "" where there is none. confidence: the score of the
    recognition submission. support: the mean cosine of the train images that vote for it. is_known: whether that is
    enough for a landmark that train knows; None = the run had too few photographs to tell.
    ids, rows (K,), scores (K,): of index images, as the recipe ranks them. similarities (K,): their cosine with the
    photograph. same_landmark (K,): whether soft voting gives them its landmark. inserted (K,): whether the search did
    not find them, and a step added them. inliers (K,): of the pair, NOT_COMPARED where it was not verified.
    features: the photograph's own local features, where the run compares any.
    """

    photograph: Path
    landmark: int
    name: str
    confidence: float
    support: float
    is_known: bool | None
    ids: list[str]
    rows: Rows
    scores: Floats
    similarities: Floats
    same_landmark: Mask
    inserted: Mask
    inliers: Integers
    features: LocalFeatures | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    def explain(self, position: int) -> str:
        """Why the image at a position of the list is there, in a few words."""
        reasons = [f"similarity {self.similarities[position]:.3f}"]
        reasons += ["same landmark"] if self.same_landmark[position] else []
        reasons += ["inserted"] if self.inserted[position] else []
        compared = self.inliers[position] != NOT_COMPARED
        reasons += [f"{self.inliers[position]} inliers"] if compared else []
        return ", ".join(reasons)
