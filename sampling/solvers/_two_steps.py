"""DPM-Solver++ of second order with one step of memory, for both processes (Lu 2022, algorithm 2).

diffusers has it once for flows and once for the scaling that Stable Audio's sound has; a variant file says only how the
slope between the last two estimates of x0 is weighed.
"""

from __future__ import annotations

from typing import Any, ClassVar

from diffusers import DPMSolverMultistepScheduler, EDMDPMSolverMultistepScheduler
from torch import Tensor

from ...core.protocols import Solver
from ._scheduler import LastOutput, UnitNoise, at_points


class TwoSteps:
    """Picks the scheduler of the process; deterministic.

    A variant sets ``weights``: ``midpoint`` or ``heun``, in the words of diffusers.
    """

    processes = frozenset({"flow", "cosine_v"})
    order = 2
    weights: ClassVar[str]

    @classmethod
    def start(cls, process: str, sigmas: Tensor, timesteps: Tensor, **bounds: float) -> Solver:
        """A fresh solver.

        Args:
            process: ``flow`` or ``cosine_v``.
            sigmas: ``(n + 1,)``, falling, the last one 0.
            timesteps: ``(n,)``, only counted here.
            bounds: Ends of a Brownian path, which this solver does not need.
        """
        settings = {
            "solver_order": 2,
            "algorithm_type": "dpmsolver++",
            "solver_type": cls.weights,
            "final_sigmas_type": "zero",
        }
        solver = _Flow(**settings) if process == "flow" else _CosineV(**settings)
        return at_points(solver, sigmas, timesteps, below_one=process == "flow")


class _Flow(LastOutput, DPMSolverMultistepScheduler):
    """For ``x_t = (1 − σ)·x0 + σ·ε`` and a prediction of ``ε − x0``."""

    stochastic = False

    def __init__(self, **settings: Any) -> None:
        super().__init__(prediction_type="flow_prediction", use_flow_sigmas=True, **settings)

    def step(self, model_output: Tensor, timestep: Tensor, sample: Tensor, **kwargs: Any) -> Any:
        """One step; its points go to the sample's device once, where the stock step would wait for them."""
        self.sigmas = self.sigmas.to(sample.device)
        return super().step(model_output, timestep, sample, **kwargs)


class _CosineV(UnitNoise, LastOutput, EDMDPMSolverMultistepScheduler):
    """For ``x0 + σ·ε`` and v-prediction."""

    stochastic = False

    def __init__(self, **settings: Any) -> None:
        super().__init__(prediction_type="v_prediction", sigma_data=1.0, **settings)
