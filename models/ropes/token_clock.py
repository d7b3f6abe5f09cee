"""Both towers on one clock that ticks in video latents: AV-Link's time-aligned positions (eq. 4)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..rope import Rope, rotary_frequencies
from ..towers.base import TokenGrid
from . import ROPES
from .base import RopeKind, middles


@ROPES.register("token_clock")
class TokenClockRope(RopeKind):
    """Position = (middle of the token's seconds, from where the sound begins) / seconds of a video latent.

    Latent frame 0, which lasts one frame, stands at 0.125 and latent frame k at k − 0.25; where only the counts T_v and
    T_a are known, audio latent n stands at (n + ½)·(T_v − ¾)/(T_a + ½). AV-Link's own n·η_v/η_a takes the first latent
    frame for as long as the others, which is up to 0.6 of a step wrong. Tokens without a time do not turn.

    The unit is what sets it apart from ``clock``: the fastest pair turns one radian a latent frame, instead of one an
    audio latent.
    """

    in_seconds = True

    def tables(self, head_width: int, video: TokenGrid, audio: TokenGrid) -> tuple[Rope, Rope]:
        """Angles in float64, tables in float32."""
        frequencies = rotary_frequencies(head_width).double()

        def table(grid: TokenGrid) -> Rope:
            angles = torch.outer(token_clock_positions(grid, video, audio), frequencies).repeat_interleave(2, dim=1)
            return angles.cos().float(), angles.sin().float()

        return table(video), table(audio)

    def moments(self, num: int, video: TokenGrid, audio: TokenGrid) -> Tensor:
        """From the start of a latent frame (not the first) to its end, around its middle."""
        return (torch.arange(num) + 0.5) / num - 0.5


def token_clock_positions(grid: TokenGrid, video: TokenGrid, audio: TokenGrid) -> Tensor:
    """Positions of a tower's tokens ``(L,)`` in latent frames, float64; prefix tokens stand at 0.

    Args:
        grid: The tokens.
        video: The video tower's, whose latent frames are the unit.
        audio: The audio tower's, where time begins.
    """
    tick = video.times.step * video.latents_per_step
    steps = torch.tensor([float(middle / tick) for middle in middles(grid, audio)], dtype=torch.float64)
    prefix = torch.zeros(grid.num_prefix, dtype=torch.float64)
    return torch.cat([prefix, steps.repeat_interleave(grid.tokens_per_step)])
