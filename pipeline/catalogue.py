"""The names that settings choose from (heads, poolings, augmentations), and the competition's limit on a list.

The settings are checked against these lists without loading torch. The implementations stand in network/heads.py,
network/pooling.py and images/augment.py, and a test holds the two to each other.
"""

from __future__ import annotations

from typing import NamedTuple


class HeadTraits(NamedTuple):
    """What the settings need to know of a classification head. margin: whether its logits have one."""

    margin: bool


HEADS: dict[str, HeadTraits] = {
    "arcface": HeadTraits(margin=True),
    "cosface": HeadTraits(margin=True),
    "subcenter_arcface": HeadTraits(margin=True),
    "adacos": HeadTraits(margin=False),
    "softmax": HeadTraits(margin=False),
}
POOLINGS = ("gem", "spoc", "mac", "rmac")
PUBLISHED = ("imagenet", "pretrained")  # weights of a backbone as published: two words for one thing
AUGMENTATIONS = ("none", "soft", "middle")
LIST_LENGTH = 100  # images that Google Landmarks v2 accepts and scores per query
