"""What our solvers share that are diffusers schedulers: our points in place of theirs, first noise, estimates."""

from __future__ import annotations

from typing import Any, TypeVar

from torch import Tensor

S = TypeVar("S")


def at_points(solver: S, sigmas: Tensor, timesteps: Tensor, *, below_one: bool = False) -> S:
    """A scheduler before its first step, at these points.

    Setting its timesteps resets its state; its own points depend on the diffusers version and are replaced.

    Args:
        solver: A diffusers scheduler.
        sigmas: ``(n + 1,)``, falling, the last one 0.
        timesteps: ``(n,)``, only counted here.
        below_one: σ = 1 would make log(1 − σ) infinite; diffusers moves it by the same amount.
    """
    solver.set_timesteps(len(timesteps))
    solver.sigmas, solver.timesteps = sigmas.clone(), timesteps.clone()
    if below_one:
        solver.sigmas[0] = solver.sigmas[0].clamp(max=1 - 1e-6)
    solver.set_begin_index(0)
    return solver


class UnitNoise:
    """Of a scheduler whose state is ``x0 + σ·ε``."""

    sigmas: Any

    @property
    def init_noise_sigma(self) -> float:
        """√(σ² + 1), so that the tower sees unit noise at the first step."""
        return float((self.sigmas[0] ** 2 + 1) ** 0.5)

    @init_noise_sigma.setter
    def init_noise_sigma(self, value: float) -> None:
        """Stock schedulers that keep a number set their own."""


class LastOutput:
    """Of a scheduler that keeps estimates of x0 over its steps."""

    model_outputs: list[Any]

    def estimate(self) -> Tensor:
        """The newest converted output."""
        return self.model_outputs[-1]
