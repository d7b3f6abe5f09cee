"""UniPC for flow matching, as the Wan 2.1 repository configures it (order 2, bh2, corrector from the second step)."""

from __future__ import annotations

from typing import Any

from diffusers import UniPCMultistepScheduler
from torch import Tensor

from . import SOLVERS


@SOLVERS.register("unipc")
class UniPC(UniPCMultistepScheduler):
    """A deterministic solver for a flow ``x_t = (1 − σ)·x0 + σ·ε`` whose model predicts ``ε − x0``."""

    processes = frozenset({"flow"})
    order = 2
    stochastic = False

    @classmethod
    def start(cls, process: str, sigmas: Tensor, timesteps: Tensor) -> UniPC:
        """A fresh solver.

        Args:
            process: ``flow``.
            sigmas: ``(n + 1,)`` float32 below 1, falling, the last one 0.
            timesteps: ``(n,)``, what the tower is told; only counted here.
        """
        solver = cls(
            solver_order=2,
            solver_type="bh2",
            prediction_type="flow_prediction",
            predict_x0=True,
            use_flow_sigmas=True,
            lower_order_final=True,
            final_sigmas_type="zero",
        )
        # set_timesteps resets the state; its own points depend on the diffusers version and are replaced.
        solver.set_timesteps(len(timesteps))
        solver.sigmas, solver.timesteps = sigmas.clone(), timesteps.clone()
        # σ = 1 would make log(1 − σ) infinite; diffusers moves it by the same amount.
        solver.sigmas[0] = solver.sigmas[0].clamp(max=1 - 1e-6)
        solver.set_begin_index(0)
        return solver

    def step(self, model_output: Tensor, timestep: Tensor, sample: Tensor, **kwargs: Any) -> Any:
        """One step; its points go to the sample's device once, where the stock step would send some every time."""
        self.sigmas = self.sigmas.to(sample.device)
        return super().step(model_output, timestep, sample, **kwargs)

    def estimate(self) -> Tensor:
        """The newest converted output."""
        return self.model_outputs[-1]
