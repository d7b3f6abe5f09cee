"""The learning rate at a step: linear warm-up, then a cosine to a floor (the paper) or constant (the released code)."""

from __future__ import annotations

import math

from .config import OptimizerConfig


def learning_rate(config: OptimizerConfig, step: int, num_steps: int) -> float:
    """The rate of the update that follows ``step`` finished ones.

    ``lr · step / warmup`` while ``step < warmup``; then ``min + (lr − min)·(1 + cos πp) / 2`` with
    ``p = (step − warmup) / (num_steps − 1 − warmup)``, so that the last update runs at the floor. transformers has the
    same curve as a scheduler with a state; this is a function of the step, so there is none to save or to resume, and
    the rates of recorded runs stay equal to the last bit.

    Args:
        config: Peak, warm-up, decay and floor.
        step: 0-based.
        num_steps: Length of the run.
    """
    if step < config.warmup_steps:
        return config.lr * step / config.warmup_steps
    if config.decay == "constant":
        return config.lr
    progress = min(1.0, (step - config.warmup_steps) / max(1, num_steps - 1 - config.warmup_steps))
    return config.min_lr + (config.lr - config.min_lr) * (1 + math.cos(math.pi * progress)) / 2
