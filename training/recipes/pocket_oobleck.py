"""Recipe ``pocket_oobleck``."""

from __future__ import annotations

from dataclasses import replace

from ..config import TrainConfig
from ..sections import ObjectiveConfig
from . import RECIPES
from ._pocket import POCKET_CODEC_DATA, POCKET_MODELS, POCKET_OPTIMIZER


@RECIPES.register("pocket_oobleck")
def pocket_oobleck() -> TrainConfig:
    """The pocket model's sound decoder, on sound alone: from cepstral codes to windows of 9 frames, 0.6 s."""
    return TrainConfig(
        recipe="pocket_oobleck",
        task="audio_codec",
        models=POCKET_MODELS,
        trainable=("audio_decoder",),
        num_steps=3_200,
        batch_size=4,
        precision="float32",
        data=replace(POCKET_CODEC_DATA, num_frames=9, clip_frames=33),
        objective=ObjectiveConfig(codes="cepstral", code_noise=0.1),
        optimizer=replace(POCKET_OPTIMIZER, lr=6e-4, warmup_steps=100),
    )
