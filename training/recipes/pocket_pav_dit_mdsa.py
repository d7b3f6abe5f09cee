"""Recipe ``pocket_pav_dit_mdsa``."""

from __future__ import annotations

from dataclasses import replace

from ..config import TrainConfig
from ..sections import ModelsConfig, ObjectiveConfig
from . import RECIPES
from ._pocket import POCKET_CODEC_DATA, POCKET_CODEC_OPTIMIZER

POCKET_PAV_DIT_DATA = replace(POCKET_CODEC_DATA, looks=8, expanded_share=0.4)
# The world's longest captions have 67 tokens.
POCKET_PAV_DIT_MODELS = ModelsConfig(text_length=96)


@RECIPES.register("pocket_pav_dit_mdsa")
def pocket_pav_dit_mdsa() -> TrainConfig:
    """A small PAV-DiT's autoencoder, stage 1: whole clips of the world, 2.2 s of 64×64 pixels, without KL."""
    return TrainConfig(
        recipe="pocket_pav_dit_mdsa",
        task="av_codec",
        models=POCKET_PAV_DIT_MODELS,
        trainable=("av_codec",),
        num_steps=3_000,
        batch_size=4,
        precision="float32",
        data=POCKET_PAV_DIT_DATA,
        objective=ObjectiveConfig(kl_weight=0.0, code_noise=0.1),
        optimizer=replace(POCKET_CODEC_OPTIMIZER, lr=1e-3),
    )
