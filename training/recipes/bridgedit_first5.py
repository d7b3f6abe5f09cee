"""Recipe ``bridgedit_first5``."""

from __future__ import annotations

from dataclasses import replace

from ..config import TrainConfig
from . import RECIPES
from .bridgedit import bridgedit


@RECIPES.register("bridgedit_first5")
def bridgedit_first5() -> TrainConfig:
    """As ``bridgedit``, with the first five blocks of each tower, which the released code's settings name."""
    return replace(bridgedit(), recipe="bridgedit_first5", trainable=("bridges", "video_first:5", "audio_first:5"))
