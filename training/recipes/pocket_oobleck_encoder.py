"""Recipe ``pocket_oobleck_encoder``."""

from __future__ import annotations

from dataclasses import replace

from ..config import TrainConfig
from . import RECIPES
from ._pocket import POCKET_OPTIMIZER
from .pocket_oobleck import pocket_oobleck


@RECIPES.register("pocket_oobleck_encoder")
def pocket_oobleck_encoder() -> TrainConfig:
    """The pocket model's sound encoder: what its decoder understands. Laid over ``pocket_oobleck``."""
    decoder = pocket_oobleck()
    return replace(
        decoder,
        recipe="pocket_oobleck_encoder",
        trainable=("audio_encoder",),
        num_steps=4_000,
        optimizer=replace(POCKET_OPTIMIZER, lr=1e-3),
    )
