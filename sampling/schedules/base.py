"""What schedules share: the request, the points, and Wan's grid of flow times."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ...core.errors import InputError, require_choice
from ...core.protocols import Solver
from ..solvers import SolverVariant
from ..words import FLOW_SIGMAS, MAX_BEND, MAX_FLOW_SHIFT, MAX_STEPS, MIN_BEND, MIN_FLOW_SHIFT

Grid = TypeVar("Grid", np.ndarray, Tensor)

# Stable Audio Open's range of noise levels, and 2/π·atan(500) ≈ 0.99873, the latest time it knows.
AUDIO_SIGMA_MIN, AUDIO_SIGMA_MAX = 0.3, 500.0
AUDIO_TIME_MAX = 2 / math.pi * math.atan(AUDIO_SIGMA_MAX)
# Lower end of the Brownian path where sigmas fall below 0.3. It must stay clear of the last sigma: torchsde rounds
# times to 1e-6 and recurses without end when a queried interval rounds to nothing at the path's end. The smallest
# sigma that the limits on steps and shift allow is 1.6e-4.
PATH_END = 1e-5


@dataclass(frozen=True)
class Steps:
    """What a schedule is made from.

    Args:
        num_steps: 1 to 1000.
        flow_sigmas: Spacing of the flow grid.
        flow_shift: Towards high noise, 0.1 to 100.
        bend: Where the points lie between the first and the last one, 0.5 to 2; 1 leaves them where they are.

    Raises:
        InputError: a word that is not a choice, or a number out of range.
    """

    num_steps: int
    flow_sigmas: str = "diffusers-0.36"
    flow_shift: float = 3.0
    bend: float = 1.0

    def __post_init__(self) -> None:
        require_choice("flow sigmas", self.flow_sigmas, FLOW_SIGMAS)
        steps = self.num_steps
        if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= MAX_STEPS:
            raise InputError(
                "the number of steps cannot be used",
                got=repr(steps),
                expected=f"a whole number from 1 to {MAX_STEPS}",
            )
        if not MIN_FLOW_SHIFT <= self.flow_shift <= MAX_FLOW_SHIFT:
            raise InputError(
                "the flow shift cannot be used",
                got=self.flow_shift,
                expected=f"{MIN_FLOW_SHIFT:g} to {MAX_FLOW_SHIFT:g}",
            )
        if not MIN_BEND <= self.bend <= MAX_BEND:
            raise InputError(
                "the bend of the steps cannot be used", got=self.bend, expected=f"{MIN_BEND:g} to {MAX_BEND:g}"
            )
        object.__setattr__(self, "flow_shift", float(self.flow_shift))

    def bent(self, grid: Grid) -> Grid:
        """A grid ``(n,)`` of what remains, falling, with the same ends: shares between them to the power of bend.

        Above 1 there are fewer points at first and more towards the end. Picture and sound are bent alike, before
        anything else is made of their grids, so that they stay together. A tenth stays even: steps that vanish have no
        place on a Brownian path.
        """
        if self.bend == 1 or len(grid) < 3:
            return grid
        first, last = grid[0], grid[-1]
        share = (grid - last) / (first - last)
        return last + (first - last) * (0.9 * share**self.bend + 0.1 * share)


@dataclass(frozen=True)
class Points:
    """Where one modality stands at each step.

    Args:
        process: Key in the process registry.
        sigmas: ``(n,)`` float32 noise levels in the convention of its solvers, falling, without the final 0.
        timesteps: ``(n,)`` what the tower is told.
        solver: Key of the solver that belongs to these points; empty for the process's own.
        bounds: Settings of solvers that need to know the ends of the path.
    """

    process: str
    sigmas: Tensor
    timesteps: Tensor
    solver: str = ""
    bounds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ModalitySchedule:
    """One modality's points, and how to make the solver that walks them.

    Args:
        process: Key in the process registry.
        levels: ``(n,)`` float32, see :class:`Points`.
        timesteps: ``(n,)`` what the tower is told: video 0..1000, audio 0..1.
        variant: Makes solvers.
        bounds: For the solver.
    """

    process: str
    levels: Tensor
    timesteps: Tensor
    variant: SolverVariant
    bounds: Mapping[str, float]

    @property
    def sigmas(self) -> Tensor:
        """``(n + 1,)``, falling to 0."""
        return torch.cat([self.levels, torch.zeros(1)])

    def start(self) -> Solver:
        """A fresh solver; solvers keep state, so each run takes its own."""
        return self.variant.start(self.process, self.sigmas, self.timesteps, **self.bounds)


@dataclass(frozen=True)
class Schedule:
    """A run's points for both modalities. It keeps no state and may serve any number of runs.

    Args:
        name: Key in the schedule registry.
        num_steps: Denoising steps, the same for both.
        video: None when no video is generated.
        audio: None when no sound is generated.
    """

    name: str
    num_steps: int
    video: ModalitySchedule | None
    audio: ModalitySchedule | None


def flow_grid(num_steps: int, flow_sigmas: str, latest: float = 1.0) -> np.ndarray:
    """``(n,)`` float64, falling, before the shift. The first 1/1000 is cut off at the start (0.36) or end (0.37).

    Spelled as diffusers spells it, because timesteps are truncated and one ulp can move them by one.
    """
    if flow_sigmas == "diffusers-0.36":
        first, grid = 0.999, np.flip(1 - np.linspace(1, 1 / 1000, num_steps + 1))[:-1].copy()
    else:
        first, grid = 1.0, np.linspace(1, 1 / 1000, num_steps + 1)[:-1]
    if latest < first:
        last = 0.0 if flow_sigmas == "diffusers-0.36" else 1 / 1000
        grid = np.linspace(latest, last, num_steps + 1)[:-1]
    return grid


def shifted(grid: Grid, flow_shift: float) -> Grid:
    """``s·u / (1 + (s − 1)·u)``."""
    return flow_shift * grid / (1 + (flow_shift - 1) * grid)
