"""UniPC as the Wan 2.1 repository configures it (order 2, bh2, corrector from the second step), for both processes."""

from __future__ import annotations

from typing import Any

from diffusers import UniPCMultistepScheduler
from torch import Tensor

from ...core.protocols import Solver
from ..processes.cosine_v import CosineV
from . import SOLVERS
from ._scheduler import LastOutput, UnitNoise, at_points


@SOLVERS.register("unipc")
class UniPC(LastOutput, UniPCMultistepScheduler):
    """A deterministic solver for a flow ``x_t = (1 − σ)·x0 + σ·ε`` whose model predicts ``ε − x0``."""

    processes = frozenset({"flow", "cosine_v"})
    order = 2
    stochastic = False

    @classmethod
    def start(cls, process: str, sigmas: Tensor, timesteps: Tensor, **bounds: float) -> Solver:
        """A fresh solver.

        Args:
            process: ``flow`` or ``cosine_v``.
            sigmas: ``(n + 1,)`` float32, falling, the last one 0; of a flow below 1.
            timesteps: ``(n,)``, what the tower is told; only counted here.
            bounds: Ends of a Brownian path, which this solver does not need.
        """
        is_flow = process == "flow"
        solver = (cls if is_flow else _CosineV)(
            solver_order=2,
            solver_type="bh2",
            prediction_type="flow_prediction" if is_flow else "v_prediction",
            predict_x0=True,
            use_flow_sigmas=is_flow,
            lower_order_final=True,
            final_sigmas_type="zero",
        )
        return at_points(solver, sigmas, timesteps, below_one=is_flow)

    def step(self, model_output: Tensor, timestep: Tensor, sample: Tensor, **kwargs: Any) -> Any:
        """One step; its points go to the sample's device once, where the stock step would send some every time."""
        self.sigmas = self.sigmas.to(sample.device)
        return super().step(model_output, timestep, sample, **kwargs)


class _CosineV(UnitNoise, UniPC):
    """For v-prediction: the scheduler walks what the tower sees, and the sampler's state is ``x0 + σ·ε``."""

    def scale_model_input(self, sample: Tensor, timestep: Tensor) -> Tensor:
        """What the tower sees."""
        return CosineV.scale(sample, self.sigmas[self.step_index or 0])

    def step(self, model_output: Tensor, timestep: Tensor, sample: Tensor, **kwargs: Any) -> Any:
        """One step."""
        index = self.step_index or 0
        seen = CosineV.scale(sample, self.sigmas[index])
        made = super().step(model_output, timestep, seen, **kwargs)
        made.prev_sample = CosineV.unscale(made.prev_sample, self.sigmas[index + 1])
        return made
