"""Recipe ``pocket_oobleck_long``."""

from __future__ import annotations

from dataclasses import replace

from ..config import TrainConfig
from . import RECIPES
from .pocket_oobleck import pocket_oobleck


@RECIPES.register("pocket_oobleck_long")
def pocket_oobleck_long() -> TrainConfig:
    """Goes on with ``pocket_oobleck``: what is left above 10 kHz takes longest to go quiet."""
    return replace(pocket_oobleck(), recipe="pocket_oobleck_long", num_steps=5_000)
