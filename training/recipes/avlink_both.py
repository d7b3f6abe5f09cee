"""Recipe ``avlink_both``."""

from __future__ import annotations

from dataclasses import replace

from ..config import TrainConfig
from . import RECIPES
from .avlink_v2a import avlink_v2a


@RECIPES.register("avlink_both")
def avlink_both() -> TrainConfig:
    """As ``avlink_v2a``, one set of blocks for both: in each clip the picture or the sound is given, by chance."""
    return replace(avlink_v2a(), recipe="avlink_both", task="either_given")
