"""Euler's method, deterministic and of first order; on ``cosine_v`` it is DDIM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers import EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor

from ...core.errors import InputError
from ...core.protocols import Solver
from . import SOLVERS
from ._scheduler import UnitNoise, at_points


@SOLVERS.register("euler")
class Euler:
    """Picks the scheduler of the process."""

    processes = frozenset({"flow", "cosine_v"})
    order = 1

    @classmethod
    def start(
        cls, process: str, sigmas: Tensor, timesteps: Tensor, *, reflect: bool = False, **bounds: float
    ) -> Solver:
        """A fresh solver.

        Args:
            process: ``flow`` or ``cosine_v``.
            sigmas: ``(n + 1,)`` float32, falling, the last one 0.
            timesteps: ``(n,)``, only counted here.
            reflect: Of a flow: fold what a step leaves outside −1…1 back in, for data that lie there (reflected flow);
                where it starts, the noise is folded too.
            bounds: Ends of a Brownian path, which this solver does not need.
        """
        solver = _FlowEuler() if process == "flow" else _VEuler(prediction_type="v_prediction")
        if reflect:
            if process != "flow":
                raise InputError("only a flow is reflected", got=process, expected="flow")
            solver.folded = reflected
        return at_points(solver, sigmas, timesteps)


def reflected(values: Tensor) -> Tensor:
    """Values folded into −1…1 as by mirrors at both ends: a triangle wave, which leaves what lies inside alone."""
    folded = 1 - ((values + 1) % 4 - 2).abs()
    return torch.where(values.abs() <= 1, values, folded)


class _FlowEuler(FlowMatchEulerDiscreteScheduler):
    """``x_σ' = x_σ + (σ' − σ)·v`` for ``v = ε − x0``."""

    stochastic = False
    init_noise_sigma = 1.0
    folded: Callable[[Tensor], Tensor] = staticmethod(lambda state: state)
    _estimate: Tensor | None = None

    def scale_model_input(self, sample: Tensor, timestep: Tensor) -> Tensor:
        """The tower sees the state as it is."""
        return self.folded(sample)

    def step(self, model_output: Tensor, timestep: Tensor, sample: Tensor, **kwargs: Any) -> Any:
        """One step; the scheduler refuses whole numbers as timesteps, which it only counts here."""
        sigma, sample = self.sigmas[self.step_index or 0], self.folded(sample)
        self._estimate = self.folded(sample - sigma * model_output)
        made = super().step(model_output, timestep.float(), sample, **{**kwargs, "return_dict": True})
        made.prev_sample = self.folded(made.prev_sample)
        return made if kwargs.get("return_dict", True) else tuple(made)

    def estimate(self) -> Tensor:
        """``x0 = x − σ·v``."""
        return self._estimate


class _VEuler(UnitNoise, EulerDiscreteScheduler):
    """Euler in σ for ``x0 + σ·ε`` and v-prediction."""

    stochastic = False
    _estimate: Tensor | None = None

    def step(self, model_output: Tensor, timestep: Tensor, sample: Tensor, **kwargs: Any) -> Any:
        """One step."""
        result = super().step(model_output, timestep.float(), sample, **kwargs)
        self._estimate = result.pred_original_sample
        return result

    def estimate(self) -> Tensor:
        """The scheduler's own ``pred_original_sample``."""
        return self._estimate
