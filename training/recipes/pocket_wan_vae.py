"""Recipe ``pocket_wan_vae``."""

from __future__ import annotations

from dataclasses import replace

from ..config import TrainConfig
from ..sections import ObjectiveConfig
from . import RECIPES
from ._pocket import POCKET_CODEC_DATA, POCKET_CODEC_OPTIMIZER, POCKET_MODELS


@RECIPES.register("pocket_wan_vae")
def pocket_wan_vae() -> TrainConfig:
    """The pocket model's video codec, on pictures alone: squares of 32 pixels, 9 frames long, of the world's clips."""
    return TrainConfig(
        recipe="pocket_wan_vae",
        task="video_codec",
        models=POCKET_MODELS,
        trainable=("video_codec",),
        num_steps=6_000,
        batch_size=4,
        precision="float32",
        data=replace(POCKET_CODEC_DATA, num_frames=9, clip_frames=33, crop_size=32),
        objective=ObjectiveConfig(kl_weight=1e-6),
        optimizer=POCKET_CODEC_OPTIMIZER,
    )
