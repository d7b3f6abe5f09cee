"""Way ``replace`` (SyncFlow): noised to the level of each step, as if it were being made too."""

from __future__ import annotations

from torch import Tensor

from . import SHOWN
from .base import Known, Shown


@SHOWN.register("replace")
class Replace(Shown):
    """At the schedule's own time."""

    def view(self, known: Known, sigma: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """One noise, the step's level."""
        process = known.process
        return process.scale(process.state(known.clean, known.noise, sigma), sigma), timestep
