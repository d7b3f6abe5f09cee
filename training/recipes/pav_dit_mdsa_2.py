"""Recipe ``pav_dit_mdsa_2``."""

from __future__ import annotations

from dataclasses import replace

from ..config import TrainConfig
from . import RECIPES
from .pav_dit_mdsa import pav_dit_mdsa


@RECIPES.register("pav_dit_mdsa_2")
def pav_dit_mdsa_2() -> TrainConfig:
    """PAV-DiT's autoencoder, stage 2: with KL and critics. Goes on with stage 1: ``models.overlays=RUN``.

    The autoencoder and its critics learn in turn; PVDM's authors stop after 8 000 to 14 000 steps of each.
    """
    first = pav_dit_mdsa()
    return replace(
        first,
        recipe="pav_dit_mdsa_2",
        trainable=("av_codec", "critic"),
        num_steps=24_000,
        objective=replace(first.objective, kl_weight=6e-6),
    )
