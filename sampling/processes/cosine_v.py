"""Stable Audio's process: ``x_t = cos(πt/2)·x0 + sin(πt/2)·ε``, the tower predicts ``v = α·ε − σ·x0`` and is told t."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import PROCESSES

_QUARTER = math.pi / 2


@PROCESSES.register("cosine_v")
class CosineV:
    """The solver's state is ``x0 + sigma·ε`` with sigma = tan(πt/2), √(sigma² + 1) times what the tower sees."""

    name = "cosine_v"
    solver = "cosine_dpm"
    timestep_scale = 1.0

    @staticmethod
    def add_noise(clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """What the tower sees; ``time`` broadcasts to the latents."""
        alpha, sigma = _shares(time)
        return alpha * clean + sigma * noise

    @staticmethod
    def target(clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """What the tower should say."""
        alpha, sigma = _shares(time)
        return alpha * noise - sigma * clean

    @staticmethod
    def clean(noisy: Tensor, prediction: Tensor, time: Tensor) -> Tensor:
        """x0 of a prediction."""
        alpha, sigma = _shares(time)
        return alpha * noisy - sigma * prediction

    @staticmethod
    def noise(noisy: Tensor, prediction: Tensor, time: Tensor) -> Tensor:
        """ε of a prediction."""
        alpha, sigma = _shares(time)
        return sigma * noisy + alpha * prediction

    @staticmethod
    def state(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """What a solver holds at its level."""
        return clean + sigma * noise

    @staticmethod
    def scale(state: Tensor, sigma: Tensor) -> Tensor:
        """A solver's state as the tower sees it."""
        return state / (sigma**2 + 1) ** 0.5

    @staticmethod
    def unscale(seen: Tensor, sigma: Tensor) -> Tensor:
        """What the tower sees as a solver's state."""
        return seen * (sigma**2 + 1) ** 0.5

    @staticmethod
    def prediction(state: Tensor, clean: Tensor, sigma: Tensor) -> Tensor:
        """The prediction for an estimate of x0: ``x0 = x/(σ² + 1) − v·σ/√(σ² + 1)``, solved for v."""
        return (state / (sigma**2 + 1) - clean) * (sigma**2 + 1) ** 0.5 / sigma

    @staticmethod
    def time(sigma: Tensor) -> Tensor:
        """The tower's time at a solver's level."""
        return sigma.atan() / _QUARTER

    @staticmethod
    def sigma(time: Tensor) -> Tensor:
        """The solver's level at the tower's time."""
        return torch.tan(time * _QUARTER)

    @staticmethod
    def to_flow(time: float) -> float:
        """The flow time with the same ratio of signal to noise: σ / (α + σ)."""
        alpha, sigma = math.cos(time * _QUARTER), math.sin(time * _QUARTER)
        return sigma / (alpha + sigma)

    @staticmethod
    def from_flow(time: float) -> float:
        """The reverse: 2/π·atan(s / (1 − s))."""
        return math.atan2(time, 1 - time) / _QUARTER


def _shares(time: Tensor) -> tuple[Tensor, Tensor]:
    angle = time * _QUARTER
    return torch.cos(angle), torch.sin(angle)
