"""Recipe ``pocket_pav_dit_mdsa_2``."""

from __future__ import annotations

from dataclasses import replace

from ..config import TrainConfig
from . import RECIPES
from .pocket_pav_dit_mdsa import pocket_pav_dit_mdsa


@RECIPES.register("pocket_pav_dit_mdsa_2")
def pocket_pav_dit_mdsa_2() -> TrainConfig:
    """A small PAV-DiT's autoencoder, stage 2: KL, no critics. Goes on with stage 1: ``models.overlays=RUN``.

    Critics are ``trainable=av_codec,critic objective.critic_channels=16``.
    """
    first = pocket_pav_dit_mdsa()
    return replace(
        first,
        recipe="pocket_pav_dit_mdsa_2",
        num_steps=500,
        objective=replace(first.objective, kl_weight=6e-6),
        optimizer=replace(first.optimizer, lr=3e-4, warmup_steps=50),
    )
