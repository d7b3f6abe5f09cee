"""Recipe ``pocket_video_text``."""

from __future__ import annotations

from dataclasses import replace

from ..config import TrainConfig
from . import RECIPES
from .pocket_video import pocket_video


@RECIPES.register("pocket_video_text")
def pocket_video_text() -> TrainConfig:
    """The pocket model's video tower goes on, and its text encoder, random until then, learns with it.

    Bridges that were trained on the tower before have to go on afterwards.
    """
    plain = pocket_video()
    return replace(
        plain,
        recipe="pocket_video_text",
        trainable=("video_tower", "video_text"),
        num_steps=2_000,
        optimizer=replace(plain.optimizer, lr=3e-4),
    )
