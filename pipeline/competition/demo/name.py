"""Names for landmarks that do not exist."""

from __future__ import annotations

import numpy as np

from pipeline.competition.demo.building import choose_massing
from pipeline.competition.demo.noise import choose, make_generator

ONSETS = (
    "Al", "Bel", "Cor", "Dal", "El", "Fen", "Gar", "Hol", "Ist", "Jor", "Kal", "Lor", "Mar",
    "Nor", "Or", "Pel", "Quin", "Ros", "Sel", "Tor", "Ul", "Ver", "Wes", "Yar", "Zel",
)  # fmt: skip
MIDDLES = ("a", "e", "i", "o", "an", "en", "ar", "el", "is", "on")
ENDINGS = (
    "dor",
    "mont",
    "vale",
    "na",
    "ria",
    "sted",
    "burg",
    "mere",
    "lin",
    "ford",
    "tha",
    "gate",
    "via",
    "ras",
    "wick",
    "haven",
)
TITLES = {
    "church": ("Church of {}", "{} Minster", "Abbey of {}"),
    "palace": ("Palace of {}", "{} House", "Summer Palace, {}"),
    "temple": ("Temple of {}", "Great Temple, {}", "{} Portico"),
    "mausoleum": ("Mausoleum of {}", "Domed Hall of {}", "Tomb of {}"),
    "castle": ("{} Castle", "Fortress of {}", "Citadel of {}"),
    "town hall": ("{} Town Hall", "Guildhall of {}", "Old Town Hall, {}"),
    "pagoda": ("{} Pagoda", "Pagoda of {}", "Tower of Many Eaves, {}"),
    "museum": ("{} Museum", "Museum of {}", "{} Arts Centre"),
    "belfry": ("Belfry of {}", "{} Tower", "Clock Tower of {}"),
}


def invent_place(rng: np.random.Generator) -> str:
    """The name of a place."""
    return choose(rng, ONSETS) + choose(rng, MIDDLES) + choose(rng, ENDINGS)


def invent_names(landmarks: int, seed: int) -> list[str]:
    """A name for each landmark that fits its kind of building; a name met again is numbered."""
    names: list[str] = []
    seen: dict[str, int] = {}
    for landmark in range(landmarks):
        rng = make_generator(seed, "name", landmark)
        name = choose(rng, TITLES[choose_massing(seed, landmark)]).format(invent_place(rng))
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name} {seen[name]}")
    return names
