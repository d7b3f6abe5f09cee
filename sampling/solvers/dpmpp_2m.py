"""DPM-Solver++(2M), deterministic: the slope of x0 is taken as that half-way through the step."""

from __future__ import annotations

from . import SOLVERS
from ._two_steps import TwoSteps


@SOLVERS.register("dpmpp_2m")
class DPM2M(TwoSteps):
    """Called so in ComfyUI and k-diffusion too."""

    weights = "midpoint"
