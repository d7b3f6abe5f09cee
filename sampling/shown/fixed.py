"""Way ``fixed`` (AV-Link 2.2): one level and one noise for the whole run."""

from __future__ import annotations

import torch
from torch import Tensor

from . import SHOWN
from .base import Known, Shown

# Flow times 0.04 for a given picture, 0.2 for a given sound, here in the processes' own times.
FIXED_TIMES = {"flow": 0.04, "cosine_v": 0.15596}


@SHOWN.register("fixed")
class Fixed(Shown):
    """One level cannot hold for half a clip, so it takes no mask."""

    takes_masks = False

    def view(self, known: Known, sigma: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """The same at every step."""
        process = known.process
        level = FIXED_TIMES.get(process.name, 0.04) if known.level is None else known.level
        time = torch.tensor(level)  # without an axis it goes with tensors on any device
        shown = process.add_noise(known.clean, known.noise, time)
        # Published points are whole numbers; a level between two of them is told as it is.
        return shown, torch.full_like(timestep, level * process.timestep_scale, dtype=torch.float32)
