"""``flow``: one flow level s for both towers, so picture and sound are equally clear at every step (SyncFlow).

s falls evenly, or along Wan's shift; the video's sigma is s, the audio's s/(1 − s), which is told 2/π·atan of it.
"""

from __future__ import annotations

import math

import torch

from ...core.pair import Pair
from . import SCHEDULES
from .base import AUDIO_SIGMA_MAX, PATH_END, Points, Steps, shifted

_LATEST = AUDIO_SIGMA_MAX / (1 + AUDIO_SIGMA_MAX)


@SCHEDULES.register("flow")
def flow(steps: Steps) -> Pair[Points]:
    """Even levels from the most noise that the audio tower knows, shifted; Euler walks both.

    Only the first step differs: the video starts at 1, pure noise, the audio at 500/501.
    """
    latest = _LATEST / (steps.flow_shift - (steps.flow_shift - 1) * _LATEST)
    even = latest * (1 - torch.arange(steps.num_steps, dtype=torch.float64) / steps.num_steps)
    levels = shifted(steps.bent(even), steps.flow_shift)
    sigmas = levels / (1 - levels)
    bounds = {"sigma_min": PATH_END, "sigma_max": float(sigmas[0].float())}
    levels[0] = 1
    return Pair(
        Points("flow", levels.float(), (1000 * levels).float(), "euler"),
        Points("cosine_v", sigmas.float(), (sigmas.atan() * (2 / math.pi)).float(), "euler", bounds),
    )
