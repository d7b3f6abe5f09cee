"""How attention can begin by looking at one moment: a constant part of queries and keys that agrees at one time."""

from __future__ import annotations

import torch
from torch import Tensor

from ..rope import rotary_frequencies
from ..ropes import ROPES
from ..towers.base import TokenGrid

# Slower rotary pairs hardly turn within a latent video frame and cannot tell moments apart.
SLOWEST_FREQUENCY = 0.02


def moment_biases(
    rope: str, num_heads: int, head_width: int, *, strength: float, video: TokenGrid, audio: TokenGrid
) -> tuple[Tensor, Tensor] | None:
    """Biases ``(K,)`` of the video's and of the audio's projections; None where positions are not those of moments.

    Args:
        rope: A kind of positions.
        num_heads: N; each head places the moment at another part of a latent video frame.
        head_width: K/N.
        strength: Length of the constant part in each pair that turns fast enough to matter.
        video: Video tokens of a clip, with their times.
        audio: Its audio tokens, with their times.
    """
    places = ROPES.get(rope)().moments(num_heads, video, audio)
    if places is None:
        return None
    frequencies = rotary_frequencies(head_width)
    lengths = strength * (frequencies > SLOWEST_FREQUENCY)
    turned = _pairs(lengths, places[:, None] * frequencies)
    return turned.flatten(), _pairs(lengths, torch.zeros_like(turned[:, ::2])).flatten()


def _pairs(lengths: Tensor, angles: Tensor) -> Tensor:
    """Interleaved (cos, sin) pairs ``(N, D)`` of lengths ``(D/2,)`` and angles ``(N, D/2)``."""
    return torch.stack((lengths * angles.cos(), lengths * angles.sin()), dim=-1).flatten(-2)
