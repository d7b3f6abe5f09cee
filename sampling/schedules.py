"""Schedules: at which noise levels the towers are asked, and what each is told about the time.

``lockstep`` is the official system: each solver walks its own points, so at one step the two towers stand at different
times. ``coupled`` keeps both at one time t, the condition under which the bridges were trained (t_V = 1000·t_A).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ..core.errors import InputError, require_choice
from ..core.protocols import Solver
from .solvers import SOLVERS

Points = TypeVar("Points", np.ndarray, Tensor)
SCHEDULES = ("lockstep", "coupled")
FLOW_SIGMAS = ("diffusers-0.36", "diffusers-0.37")
MAX_STEPS = 1000
MIN_FLOW_SHIFT, MAX_FLOW_SHIFT = 0.1, 100.0

# Stable Audio Open's range of noise levels, and 2/π·atan(500) ≈ 0.99873, the latest time it knows.
AUDIO_SIGMA_MIN, AUDIO_SIGMA_MAX = 0.3, 500.0
AUDIO_TIME_MAX = 2 / math.pi * math.atan(AUDIO_SIGMA_MAX)
# Lower end of the Brownian path of a coupled run, whose sigmas fall below 0.3. It must stay clear of the last sigma:
# torchsde rounds times to 1e-6 and recurses without end when a queried interval rounds to nothing at the path's end.
# The smallest sigma that the limits on steps and shift allow is 1.6e-4.
COUPLED_PATH_END = 1e-5


@dataclass(frozen=True)
class ModalitySchedule:
    """One modality's points, and how to make the solver that walks them.

    Args:
        sigmas: ``(n + 1,)`` float32 noise levels in the solver's convention, falling to 0.
        timesteps: ``(n,)`` what the tower is told: video 0..1000, audio 0..1.
        start: Makes a fresh solver; solvers keep state, so each run takes its own.
    """

    sigmas: Tensor
    timesteps: Tensor
    start: Callable[[], Solver]


@dataclass(frozen=True)
class Schedule:
    """A run's points for both modalities. It keeps no state and may serve any number of runs.

    Args:
        name: ``lockstep`` or ``coupled``.
        num_steps: Denoising steps, the same for both.
        video: None when no video is generated.
        audio: None when no sound is generated.
    """

    name: str
    num_steps: int
    video: ModalitySchedule | None
    audio: ModalitySchedule | None


def build_schedule(
    name: str,
    num_steps: int,
    *,
    flow_sigmas: str = "diffusers-0.36",
    flow_shift: float = 3.0,
    video: bool = True,
    audio: bool = True,
) -> Schedule:
    """Compute a schedule; it does not depend on the diffusers version that is installed.

    Args:
        name: ``lockstep`` or ``coupled``.
        num_steps: 1 to 1000.
        flow_sigmas: How the flow grid is spaced: as diffusers does up to 0.36 (what the authors' pins imply) or from
            0.37 on.
        flow_shift: Wan's shift towards high noise, 0.1 to 100; 3 for 480p, 5 for 720p.
        video: Whether a video is generated.
        audio: Whether sound is generated.

    Raises:
        InputError: a word that is not a choice, or a number out of range.
    """
    for what, value, choices in (("schedule", name, SCHEDULES), ("flow sigmas", flow_sigmas, FLOW_SIGMAS)):
        require_choice(what, value, choices)
    if isinstance(num_steps, bool) or not isinstance(num_steps, int) or not 1 <= num_steps <= MAX_STEPS:
        raise InputError(
            "the number of steps cannot be used", got=repr(num_steps), expected=f"a whole number from 1 to {MAX_STEPS}"
        )
    if not MIN_FLOW_SHIFT <= flow_shift <= MAX_FLOW_SHIFT:
        raise InputError(
            "the flow shift cannot be used", got=flow_shift, expected=f"{MIN_FLOW_SHIFT:g} to {MAX_FLOW_SHIFT:g}"
        )
    pair = _lockstep if name == "lockstep" else _coupled
    video_schedule, audio_schedule = pair(num_steps, flow_sigmas, float(flow_shift))
    return Schedule(name, num_steps, video_schedule if video else None, audio_schedule if audio else None)


def lockstep_times(remaining: Tensor, flow_shift: float = 3.0) -> tuple[Tensor, Tensor]:
    """The two times at which ``lockstep`` has the towers when a share of the run remains, as continuous curves.

    The video falls from 1 to 0 along its shifted grid, ``t_V = s·u / (1 + (s − 1)·u)``; the audio's noise level falls
    evenly in its logarithm, ``t_A = 2/π · atan(0.3 · (500 / 0.3)^u)``, so that it knows little for long.

    Args:
        remaining: u in 0..1, any shape; 1 at the start.
        flow_shift: s.

    Returns:
        t_V and t_A in 0..1, shaped like ``remaining``.
    """
    sigma = AUDIO_SIGMA_MIN * (AUDIO_SIGMA_MAX / AUDIO_SIGMA_MIN) ** remaining
    return _shifted(remaining, flow_shift), sigma.atan() * (2 / math.pi)


def _lockstep(num_steps: int, flow_sigmas: str, flow_shift: float) -> tuple[ModalitySchedule, ModalitySchedule]:
    """Each solver's own points side by side: integer video timesteps trunc(1000·σ), exponential audio sigmas."""
    flow = _shifted(_flow_grid(num_steps, flow_sigmas), flow_shift)
    # σ = 1 would make UniPC's log(1 − σ) infinite; diffusers moves it by the same amount.
    flow[0] = min(flow[0], 1 - 1e-6)
    video = _video(torch.from_numpy(flow).float(), torch.from_numpy(flow * 1000).long())

    bounds = math.log(AUDIO_SIGMA_MIN), math.log(AUDIO_SIGMA_MAX)
    # A single stock step would start at sigma_min, far below the noise that the latent holds; ours starts at sigma_max.
    audio_sigmas = (
        torch.linspace(*bounds, num_steps).exp().flip(0) if num_steps > 1 else torch.tensor([AUDIO_SIGMA_MAX])
    )
    audio = _audio(
        audio_sigmas, audio_sigmas.atan() / math.pi * 2, sigma_min=AUDIO_SIGMA_MIN, sigma_max=AUDIO_SIGMA_MAX
    )
    return video, audio


def _coupled(num_steps: int, flow_sigmas: str, flow_shift: float) -> tuple[ModalitySchedule, ModalitySchedule]:
    """One time for both: the flow grid from the latest time the audio tower knows; σ_V = t, σ_A = tan(π·t/2)."""
    latest = AUDIO_TIME_MAX / (flow_shift - (flow_shift - 1) * AUDIO_TIME_MAX)
    times = _shifted(_flow_grid(num_steps, flow_sigmas, latest), flow_shift)
    audio_times = torch.from_numpy(times).float()
    video = _video(torch.from_numpy(times).float(), 1000 * audio_times)

    audio_sigmas = torch.from_numpy(np.tan(np.pi / 2 * times)).float()
    audio = _audio(audio_sigmas, audio_times, sigma_min=COUPLED_PATH_END, sigma_max=float(audio_sigmas[0]))
    return video, audio


def _flow_grid(num_steps: int, flow_sigmas: str, latest: float = 1.0) -> np.ndarray:
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


def _shifted(grid: Points, flow_shift: float) -> Points:
    return flow_shift * grid / (1 + (flow_shift - 1) * grid)


def _video(sigmas: Tensor, timesteps: Tensor) -> ModalitySchedule:
    sigmas = torch.cat([sigmas, torch.zeros(1)])
    return ModalitySchedule(sigmas, timesteps, partial(SOLVERS.get("unipc"), sigmas, timesteps))


def _audio(sigmas: Tensor, timesteps: Tensor, **bounds: float) -> ModalitySchedule:
    sigmas = torch.cat([sigmas, torch.zeros(1)])
    return ModalitySchedule(sigmas, timesteps, partial(SOLVERS.get("cosine_dpm"), sigmas, timesteps, **bounds))
