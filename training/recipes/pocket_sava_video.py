"""Recipe ``pocket_sava_video``."""

from __future__ import annotations

from dataclasses import replace

from ..config import TrainConfig
from . import RECIPES
from .pocket_sava_audio import pocket_sava_audio


@RECIPES.register("pocket_sava_video")
def pocket_sava_video() -> TrainConfig:
    """As ``sava_video``, for the pocket model. Needs ``alignment.start=FILE`` of one of its runs before."""
    return replace(
        pocket_sava_audio(),
        recipe="pocket_sava_video",
        task="conditioned_video",
        trainable=("video_tokens", "video_lora:8::attn2"),
        num_steps=1_200,
    )
