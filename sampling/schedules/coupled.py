"""``coupled``: both towers at one time t, the condition under which the bridges were trained (t_V = 1000·t_A)."""

from __future__ import annotations

import numpy as np
import torch

from ...core.pair import Pair
from . import SCHEDULES
from .base import AUDIO_TIME_MAX, PATH_END, Points, Steps, flow_grid, shifted


@SCHEDULES.register("coupled")
def coupled(steps: Steps) -> Pair[Points]:
    """The flow grid from the latest time the audio tower knows; σ_V = t, σ_A = tan(π·t/2)."""
    latest = AUDIO_TIME_MAX / (steps.flow_shift - (steps.flow_shift - 1) * AUDIO_TIME_MAX)
    times = shifted(steps.bent(flow_grid(steps.num_steps, steps.flow_sigmas, latest)), steps.flow_shift)
    audio_times = torch.from_numpy(times).float()
    sigmas = torch.from_numpy(np.tan(np.pi / 2 * times)).float()
    bounds = {"sigma_min": PATH_END, "sigma_max": float(sigmas[0])}
    return Pair(
        Points("flow", torch.from_numpy(times).float(), 1000 * audio_times),
        Points("cosine_v", sigmas, audio_times, bounds=bounds),
    )
