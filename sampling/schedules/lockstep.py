"""``lockstep``, the official system: each solver walks its own points, so the towers stand at different times."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...core.pair import Pair
from . import SCHEDULES
from .base import AUDIO_SIGMA_MAX, AUDIO_SIGMA_MIN, Points, Steps, flow_grid, shifted


@SCHEDULES.register("lockstep")
def lockstep(steps: Steps) -> Pair[Points]:
    """Each solver's own points side by side: integer video timesteps trunc(1000·σ), exponential audio sigmas."""
    flow = shifted(steps.bent(flow_grid(steps.num_steps, steps.flow_sigmas)), steps.flow_shift)
    # σ = 1 would make UniPC's log(1 − σ) infinite; diffusers moves it by the same amount.
    flow[0] = min(flow[0], 1 - 1e-6)
    video = Points("flow", torch.from_numpy(flow).float(), torch.from_numpy(flow * 1000).long())

    ends = math.log(AUDIO_SIGMA_MIN), math.log(AUDIO_SIGMA_MAX)
    # A single stock step would start at sigma_min, far below the noise that the latent holds; ours starts at sigma_max.
    sigmas = (
        steps.bent(torch.linspace(*ends, steps.num_steps).flip(0)).exp()
        if steps.num_steps > 1
        else torch.tensor([AUDIO_SIGMA_MAX])
    )
    bounds = {"sigma_min": AUDIO_SIGMA_MIN, "sigma_max": AUDIO_SIGMA_MAX}
    return Pair(video, Points("cosine_v", sigmas, sigmas.atan() / math.pi * 2, bounds=bounds))


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
    return shifted(remaining, flow_shift), sigma.atan() * (2 / math.pi)


def least_audio_time() -> float:
    """The least time of the sound at which these points ask its tower: 2/π·atan 0.3."""
    return 2 / math.pi * math.atan(AUDIO_SIGMA_MIN)
