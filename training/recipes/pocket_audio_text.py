"""Recipe ``pocket_audio_text``."""

from __future__ import annotations

from dataclasses import replace

from ..config import TrainConfig
from . import RECIPES
from .pocket_audio import pocket_audio


@RECIPES.register("pocket_audio_text")
def pocket_audio_text() -> TrainConfig:
    """As ``pocket_video_text``, for the audio tower and its text encoder."""
    plain = pocket_audio()
    return replace(
        plain,
        recipe="pocket_audio_text",
        trainable=("audio_tower", "audio_text"),
        num_steps=4_000,
        optimizer=replace(plain.optimizer, lr=3e-4),
    )
