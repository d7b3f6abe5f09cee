"""One time axis for both towers, on which the steps of each are spread evenly."""

from __future__ import annotations

import torch
from torch import Tensor

from ..rope import Rope, rotary_frequencies
from ..towers.base import TokenGrid
from . import ROPES
from .base import RopeKind

# Audio latents of the published clip: positions run over the same numbers, whatever the length.
TIME_ALIGNED_POSITIONS = 116.0


@ROPES.register("time_aligned")
class TimeAlignedRope(RopeKind):
    """Position = (start of the token's step) / (number of steps) · 116; prefix tokens stand at 0.

    Wan's first latent is as long as the others here, which puts early pictures up to 2.7 frames late; ``clock`` does
    not. The bundled bridges were trained with this kind.
    """

    def tables(self, head_width: int, video: TokenGrid, audio: TokenGrid) -> tuple[Rope, Rope]:
        """Tokens of one moment get one position, as far as steps are equally long."""
        return _time_rope(head_width, video), _time_rope(head_width, audio)

    def moments(self, num: int, video: TokenGrid, audio: TokenGrid) -> Tensor:
        """From the start of a latent frame to its end."""
        return (torch.arange(num) + 0.5) / num * (TIME_ALIGNED_POSITIONS / video.num_steps)


def _time_rope(head_width: int, grid: TokenGrid) -> Rope:
    steps = torch.arange(grid.num_steps, dtype=torch.float32) * (TIME_ALIGNED_POSITIONS / grid.num_steps)
    positions = torch.cat([torch.zeros(grid.num_prefix), steps.repeat_interleave(grid.tokens_per_step)])
    angles = torch.outer(positions, rotary_frequencies(head_width)).repeat_interleave(2, dim=1)
    return angles.cos(), angles.sin()
