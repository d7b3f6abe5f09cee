"""Recipe ``pocket_sava_audio``."""

from __future__ import annotations

from dataclasses import replace

from ..config import TrainConfig
from ..sections import ObjectiveConfig, SavingConfig
from . import RECIPES
from ._pocket import POCKET_DATA, POCKET_MODELS, POCKET_OPTIMIZER
from .sava_audio import sava_audio


@RECIPES.register("pocket_sava_audio")
def pocket_sava_audio() -> TrainConfig:
    """As ``sava_audio``, for the pocket model. Needs ``alignment.start=FILE`` of ``pocket_sava_align``."""
    return replace(
        sava_audio(),
        recipe="pocket_sava_audio",
        trainable=("audio_tokens", "audio_lora:8::attn2"),
        num_steps=2_000,
        batch_size=8,
        precision="float32",
        models=POCKET_MODELS,
        data=replace(POCKET_DATA, num_clips=2_400, looks=0),
        objective=ObjectiveConfig(times="lockstep", flow_shift=1.0),
        optimizer=replace(POCKET_OPTIMIZER, lr=1e-3, warmup_steps=100),
        saving=SavingConfig(every=200),
    )
