"""Recipe ``sava_video``."""

from __future__ import annotations

from dataclasses import replace

from ..config import TrainConfig
from . import RECIPES
from .sava_audio import sava_audio


@RECIPES.register("sava_video")
def sava_video() -> TrainConfig:
    """The video tower learns to read the sound. Needs ``alignment.start=FILE`` of ``sava_align`` or ``sava_audio``.

    What that file holds for the audio tower is passed on.
    """
    return replace(
        sava_audio(),
        recipe="sava_video",
        task="conditioned_video",
        trainable=("video_tokens", "video_lora:16::attn2"),
    )
