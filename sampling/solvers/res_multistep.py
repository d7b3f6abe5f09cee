"""The exponential integrator of second order with exact weights, deterministic: x0 is a line over the whole step.

That is φ2(−h), as refined exponential solvers have it (Zhang 2023): larger steps need less of the slope than their
half. diffusers calls it the ``heun`` type of DPM-Solver++.
"""

from __future__ import annotations

from . import SOLVERS
from ._two_steps import TwoSteps


@SOLVERS.register("res_multistep")
class ResMultistep(TwoSteps):
    """Called so in ComfyUI too."""

    weights = "heun"
