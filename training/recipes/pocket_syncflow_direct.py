"""Recipe ``pocket_syncflow_direct``."""

from __future__ import annotations

from dataclasses import replace

from ..config import TrainConfig
from . import RECIPES
from .pocket_syncflow import pocket_syncflow


@RECIPES.register("pocket_syncflow_direct")
def pocket_syncflow_direct() -> TrainConfig:
    """As ``pocket_syncflow`` without adaptors: the sound attends to the picture's features as they are."""
    adaptors = pocket_syncflow()
    return replace(adaptors, recipe="pocket_syncflow_direct", bridges=replace(adaptors.bridges, kind="video_features"))
