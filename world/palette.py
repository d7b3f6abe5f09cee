"""Colours by name, sRGB 0..1. Turquoise and pink things, and peach walls, are seen in the test split only."""

from __future__ import annotations

from .dice import Options

RGB = tuple[float, float, float]

TEST_ONLY_COLOURS = ("turquoise", "pink")
COLOUR_RGB: dict[str, RGB] = {
    "red": (0.88, 0.20, 0.18),
    "orange": (0.97, 0.55, 0.13),
    "yellow": (0.98, 0.84, 0.25),
    "green": (0.24, 0.68, 0.34),
    "blue": (0.20, 0.43, 0.90),
    "purple": (0.56, 0.30, 0.80),
    "white": (0.95, 0.95, 0.94),
    "turquoise": (0.15, 0.80, 0.76),
    "pink": (0.98, 0.50, 0.72),
}
COLOURS = Options(tuple(name for name in COLOUR_RGB if name not in TEST_ONLY_COLOURS), TEST_ONLY_COLOURS)

TEST_ONLY_WALLS = ("peach",)
WALL_RGB: dict[str, RGB] = {
    "cream": (0.90, 0.86, 0.75),
    "slate": (0.38, 0.44, 0.53),
    "sage": (0.62, 0.71, 0.60),
    "sand": (0.80, 0.71, 0.55),
    "lavender": (0.71, 0.68, 0.84),
    "charcoal": (0.20, 0.21, 0.25),
    "peach": (0.95, 0.73, 0.62),
}
WALLS = Options(tuple(name for name in WALL_RGB if name not in TEST_ONLY_WALLS), TEST_ONLY_WALLS)


def mix(first: RGB, second: RGB, share: float) -> RGB:
    """``first`` with a share (0..1) of ``second``."""
    return tuple(a + (b - a) * share for a, b in zip(first, second, strict=True))


def shade(colour: RGB, level: float) -> RGB:
    """Darker (level below 1) or, towards white, lighter (level above 1)."""
    return mix((0.0, 0.0, 0.0), colour, level) if level <= 1 else mix(colour, (1.0, 1.0, 1.0), min(level - 1, 1.0))
