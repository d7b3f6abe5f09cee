"""Both towers on one clock that ticks in audio latents: the official audio table, and video tokens where they sound."""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor

from ..rope import Rope, flat_rope
from ..towers.base import TokenGrid
from . import ROPES
from .base import RopeKind, middles


@ROPES.register("clock")
class ClockRope(RopeKind):
    """Position = (middle of the token's seconds, from where the sound begins) · audio latents a second + shift.

    The shift, ``num_prefix − ½`` of the audio tower, is the same for both towers and so turns nothing; it lets audio
    latent n stand at n + 1 behind the global token, as in the published table, which is reproduced bit for bit.

    The middle, because tokens of both towers that are about one moment must meet whatever they last: an audio latent
    lasts 46 ms, Wan's first latent one frame and its others four (267 ms at 15 fps). By their starts the pictures would
    be early by half the difference, 110 ms, and the first one by another amount than the rest. AV-Link counts from
    centres too. Positions are counted from the start of the sound, so that a window of a longer clip is as any clip.
    """

    in_seconds = True

    def tables(self, head_width: int, video: TokenGrid, audio: TokenGrid) -> tuple[Rope, Rope]:
        """Float32, as the published tables."""
        return tuple(flat_rope(head_width, clock_positions(grid, audio)) for grid in (video, audio))

    def moments(self, num: int, video: TokenGrid, audio: TokenGrid) -> Tensor:
        """From the start of a latent frame (not the first) to its end, around its middle."""
        duration = float(video.times.step * video.latents_per_step / _tick(audio))
        return ((torch.arange(num) + 0.5) / num - 0.5) * duration


def clock_positions(grid: TokenGrid, audio: TokenGrid) -> Tensor:
    """Positions of a tower's tokens ``(L,)`` in audio latents; prefix tokens count from 0.

    Args:
        grid: The tokens.
        audio: The audio tower's, whose latents are the unit.
    """
    tick, shift = _tick(audio), audio.num_prefix - Fraction(1, 2)
    steps = [float(middle / tick + shift) for middle in middles(grid, audio)]
    prefix = torch.arange(grid.num_prefix, dtype=torch.float32)
    return torch.cat([prefix, torch.tensor(steps, dtype=torch.float32).repeat_interleave(grid.tokens_per_step)])


def _tick(audio: TokenGrid) -> Fraction:
    return audio.times.step * audio.latents_per_step
