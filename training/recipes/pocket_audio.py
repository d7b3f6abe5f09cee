"""Recipe ``pocket_audio``."""

from __future__ import annotations

from dataclasses import replace

from ..config import TrainConfig
from . import RECIPES
from ._pocket import POCKET_DATA
from .pocket_video import pocket_video


@RECIPES.register("pocket_audio")
def pocket_audio() -> TrainConfig:
    """The pocket model's audio tower, on sound alone. Needs the trained codec: ``models.overlays=RUN``."""
    return replace(
        pocket_video(),
        recipe="pocket_audio",
        task="audio",
        trainable=("audio_tower",),
        num_steps=13_200,
        data=POCKET_DATA,
    )
