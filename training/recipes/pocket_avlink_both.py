"""Recipe ``pocket_avlink_both``."""

from __future__ import annotations

from dataclasses import replace

from ..config import TrainConfig
from . import RECIPES
from .pocket_avlink_v2a import pocket_avlink_v2a


@RECIPES.register("pocket_avlink_both")
def pocket_avlink_both() -> TrainConfig:
    """As ``pocket_avlink_v2a``, one set of blocks for both."""
    return replace(pocket_avlink_v2a(), recipe="pocket_avlink_both", task="either_given")
