"""Rectified flow: ``x_t = (1 − t)·x0 + t·ε``, the tower predicts ``ε − x0``. Wan 2.1 is told 1000·t."""

from __future__ import annotations

from torch import Tensor

from . import PROCESSES


@PROCESSES.register("flow")
class Flow:
    """The solver's state is what the tower sees, and its sigma is t."""

    name = "flow"
    solver = "unipc"
    timestep_scale = 1000.0

    @staticmethod
    def add_noise(clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """What the tower sees; ``time`` broadcasts to the latents."""
        time = time.to(clean.dtype)
        return (1 - time) * clean + time * noise

    @staticmethod
    def target(clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """What the tower should say."""
        return noise - clean

    @staticmethod
    def clean(noisy: Tensor, prediction: Tensor, time: Tensor) -> Tensor:
        """x0 of a prediction."""
        return noisy - time * prediction

    @staticmethod
    def noise(noisy: Tensor, prediction: Tensor, time: Tensor) -> Tensor:
        """ε of a prediction."""
        return noisy + (1 - time) * prediction

    @staticmethod
    def state(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """What a solver holds at its level."""
        return (1 - sigma) * clean + sigma * noise

    @staticmethod
    def scale(state: Tensor, sigma: Tensor) -> Tensor:
        """A solver's state as the tower sees it."""
        return state

    @staticmethod
    def unscale(seen: Tensor, sigma: Tensor) -> Tensor:
        """What the tower sees as a solver's state."""
        return seen

    @staticmethod
    def prediction(state: Tensor, clean: Tensor, sigma: Tensor) -> Tensor:
        """The prediction that stands for an estimate of x0: ``x0 = x − σ·v``, solved for v."""
        return (state - clean) / sigma

    @staticmethod
    def time(sigma: Tensor) -> Tensor:
        """The tower's time at a solver's level."""
        return sigma

    @staticmethod
    def sigma(time: Tensor) -> Tensor:
        """The solver's level at the tower's time."""
        return time

    @staticmethod
    def to_flow(time: float) -> float:
        """The flow time with the same ratio of signal to noise."""
        return time

    @staticmethod
    def from_flow(time: float) -> float:
        """The reverse."""
        return time
