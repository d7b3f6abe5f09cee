"""Recipe ``pocket_avlink_a2v``."""

from __future__ import annotations

from dataclasses import replace

from ..config import TrainConfig
from . import RECIPES
from .pocket_avlink_v2a import pocket_avlink_v2a


@RECIPES.register("pocket_avlink_a2v")
def pocket_avlink_a2v() -> TrainConfig:
    """As ``pocket_avlink_v2a``, for the picture of a given sound."""
    return replace(pocket_avlink_v2a(), recipe="pocket_avlink_a2v", task="picture_for_sound")
