"""Colours of the demo world, and arithmetic with them: red, green, blue in [0, 255]."""

import colorsys

import numpy as np

Colour = tuple[float, float, float]
Palette = tuple[Colour, ...]

# fmt: off
WALLS: Palette = (
    (206, 190, 160), (178, 92, 70), (226, 214, 190), (160, 150, 138), (222, 176, 120), (200, 128, 104), (236, 232, 224),
    (142, 112, 92), (186, 196, 202), (228, 200, 120), (150, 176, 160), (120, 134, 160), (214, 160, 150),
    (110, 104, 100), (92, 128, 150), (168, 78, 84),
)
ROOFS: Palette = ((150, 72, 52), (84, 88, 98), (96, 140, 122), (120, 92, 70), (172, 104, 64), (60, 66, 84),
                  (190, 160, 80), (110, 60, 70))
TRIMS: Palette = ((232, 224, 206), (214, 198, 168), (190, 186, 180), (240, 236, 228), (168, 120, 92))
JOINERY: Palette = ((60, 50, 44), (235, 232, 225), (44, 84, 70), (120, 50, 40), (50, 70, 110))
GROUNDS: Palette = ((112, 140, 70), (126, 146, 84), (196, 176, 132), (150, 146, 140), (140, 130, 104))
PAVINGS: Palette = ((190, 180, 164), (164, 160, 156), (196, 160, 130), (150, 144, 138))
HILLS: Palette = ((70, 100, 60), (130, 110, 80), (90, 100, 120), (150, 130, 90), (60, 84, 70))
LEAVES: Palette = ((70, 112, 52), (92, 124, 58), (54, 92, 58), (176, 128, 50))
CLOTHES: Palette = ((170, 40, 44), (40, 66, 130), (36, 38, 44), (220, 216, 205), (60, 110, 70), (214, 160, 50),
                    (120, 80, 130), (90, 130, 170))
SKINS: Palette = ((234, 196, 168), (196, 148, 112), (140, 98, 70), (92, 62, 46))
HAIRS: Palette = ((40, 30, 26), (90, 62, 40), (190, 160, 110), (120, 120, 122))
FOODS: Palette = ((190, 120, 60), (110, 150, 60), (200, 70, 50), (236, 210, 150))
WHITE, IVORY, GOLD, NAVY, LEAD = (255, 255, 255), (238, 232, 214), (206, 164, 74), (40, 50, 80), (30, 30, 32)
SHADE, ASPHALT, GLASS, REFLECTION, SKIRT = (52, 52, 54), (106, 106, 110), (44, 56, 70), (150, 176, 200), (90, 95, 80)
SEA, SAND, HAZE, FLAME, LAMP = (50, 110, 140), (222, 200, 160), (170, 190, 215), (254, 232, 180), (255, 226, 180)
WOOD, BEAM, BARK = (104, 66, 40), (74, 48, 34), (86, 68, 54)
# fmt: on


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """`first` with a share (0 to 1) of `second`."""
    red, green, blue = (a + (b - a) * share for a, b in zip(first, second, strict=True))
    return red, green, blue


def darken(colour: Colour, factor: float) -> Colour:
    """The colour times `factor`, at most 255; a factor above 1 brightens."""
    red, green, blue = (min(255.0, channel * factor) for channel in colour)
    return red, green, blue


def vary(rng: np.random.Generator, colour: Colour, amount: float) -> Colour:
    """The colour with its brightness and each channel changed by up to about `amount` levels."""
    shift = rng.uniform(-amount, amount) + rng.uniform(-amount, amount, 3) * 0.35
    red, green, blue = np.clip(np.asarray(colour) + shift, 0, 255).tolist()
    return red, green, blue


def pick(rng: np.random.Generator, palette: Palette, amount: float) -> Colour:
    """A colour of the palette, varied by up to about `amount` levels."""
    return vary(rng, palette[int(rng.integers(len(palette)))], amount)


def bright(rng: np.random.Generator) -> Colour:
    """A saturated colour."""
    red, green, blue = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.35, 0.8), rng.uniform(0.43, 0.9))
    return red * 255, green * 255, blue * 255
