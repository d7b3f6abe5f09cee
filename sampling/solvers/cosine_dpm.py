"""Stable Audio Open's SDE-DPM-Solver++ (order 2, midpoint) for v-prediction in EDM scaling."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import CosineDPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_cosine_dpmsolver_multistep import BrownianTreeNoiseSampler
from torch import Tensor

from . import SOLVERS
from ._scheduler import LastOutput, at_points


@SOLVERS.register("cosine_dpm")
class CosineDPM(LastOutput, CosineDPMSolverMultistepScheduler):
    """A stochastic solver for ``x_t = x0 + σ·ε`` whose model sees ``x_t/√(σ² + 1)`` and predicts v."""

    processes = frozenset({"cosine_v"})
    order = 2
    stochastic = True

    @classmethod
    def start(
        cls, process: str, sigmas: Tensor, timesteps: Tensor, *, sigma_min: float = 0.3, sigma_max: float = 500.0
    ) -> CosineDPM:
        """A fresh solver.

        Args:
            process: ``cosine_v``.
            sigmas: ``(n + 1,)`` float32, falling, the last one 0.
            timesteps: ``(n,)``, 2/π·atan(σ), what the tower is told; only counted here.
            sigma_min: Lower end of the Brownian path of the SDE noise; must not lie above the last sigma before 0.
            sigma_max: Upper end of the path; also sets ``init_noise_sigma`` = √(σ_max² + 1), so it is the first sigma.
        """
        solver = cls(
            sigma_min=sigma_min,
            sigma_max=sigma_max,
            sigma_data=1.0,
            sigma_schedule="exponential",
            solver_order=2,
            prediction_type="v_prediction",
            solver_type="midpoint",
            lower_order_final=True,
            final_sigmas_type="zero",
        )
        return at_points(solver, sigmas, timesteps)

    def step(
        self,
        model_output: Tensor,
        timestep: Tensor,
        sample: Tensor,
        generator: torch.Generator | None = None,
        **kwargs: Any,
    ) -> Any:
        """One step; the noise is drawn on the CPU, where the stock step would draw another one on the sample's device.

        Args:
            model_output: Prediction ``(B, …)``.
            timestep: Only counted.
            sample: ``(B, …)``.
            generator: Its initial seed is the Brownian path's entropy; None takes any.
            kwargs: See diffusers.
        """
        if self.noise_sampler is None:
            bounds = {"sigma_min": self.config.sigma_min, "sigma_max": self.config.sigma_max}
            like = torch.empty_like(sample, device="cpu")
            self.noise_sampler = BrownianTreeNoiseSampler(like, **bounds, seed=generator and generator.initial_seed())
        return super().step(model_output, timestep, sample, **kwargs)
