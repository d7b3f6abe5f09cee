"""Recipe ``pav_dit``."""

from __future__ import annotations

from dataclasses import replace

from ..config import TrainConfig
from ..sections import ModelsConfig, ObjectiveConfig, OptimizerConfig
from . import RECIPES
from .pav_dit_mdsa import PAV_DIT_DATA


@RECIPES.register("pav_dit")
def pav_dit() -> TrainConfig:
    """PAV-DiT's transformer by rectified flow, on latents of its autoencoder: ``models.overlays=RUN``.

    Batches of 64, AdamW 1e-4, texts dropped in a tenth of the clips (Open-Sora's numbers); in another tenth picture or
    sound is absent, so that either can be made alone. The paper gives no number of steps: 100 000 are ours.
    """
    return TrainConfig(
        recipe="pav_dit",
        task="pav_dit",
        trainable=("transformer",),
        num_steps=100_000,
        batch_size=8,
        accumulation=8,
        models=ModelsConfig(root="models", form="published", text_length=300, gradient_checkpointing=True),
        data=replace(PAV_DIT_DATA, keep_media=False),
        objective=ObjectiveConfig(modality_dropout=0.1),
        optimizer=OptimizerConfig(
            lr=1e-4, weight_decay=0.0, betas=(0.9, 0.999), eps=1e-15, max_grad_norm=1.0, decay="constant",
            ema_decay=0.9999,
        ),
    )  # fmt: skip
