"""Recipe ``avlink_a2v``."""

from __future__ import annotations

from dataclasses import replace

from ..config import TrainConfig
from . import RECIPES
from .avlink_v2a import avlink_v2a


@RECIPES.register("avlink_a2v")
def avlink_a2v() -> TrainConfig:
    """As ``avlink_v2a``, for the picture of a given sound, which keeps 0.156: as noisy as 0.2 of a flow."""
    return replace(avlink_v2a(), recipe="avlink_a2v", task="picture_for_sound")
