"""Rotary position tables for bridges, and the two ways of applying one.

Legend: B batch, L tokens, N heads, D head width.
"""

from __future__ import annotations

import torch
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from torch import Tensor

from ..core.errors import InputError
from .towers.base import TokenGrid

Rope = tuple[Tensor, Tensor]
ROPE_KINDS = ("official", "time_aligned")
# Latent frames of the published clip: time-aligned positions run over the same numbers, whatever the length.
TIME_ALIGNED_POSITIONS = 116.0


def flat_rope(head_width: int, num_tokens: int) -> Rope:
    """The published bridges' table: 1-D over the flattened token index, theta 10 000, **float32** arithmetic.

    At position 32 759 float32 rounds the phase by about 1e-3, so a float64 table would differ visibly; the
    checkpoints were trained with this one. Returns cos and sin ``(L, D)``, interleaved pairs.
    """
    return get_1d_rotary_pos_embed(head_width, num_tokens, use_real=True, repeat_interleave_real=True)


def rotary_frequencies(head_width: int) -> Tensor:
    """Radians a position of every rotary pair, ``(D/2,)``, theta 10 000."""
    return 1.0 / 10_000.0 ** (torch.arange(0, head_width, 2, dtype=torch.float32) / head_width)


def time_rope(head_width: int, grid: TokenGrid) -> Rope:
    """A table on a time axis that both towers share: tokens of one moment get one position.

    Position = (start of the token's step) / (number of steps) · 116; prefix tokens stand at 0.
    """
    steps = torch.arange(grid.num_steps, dtype=torch.float32) * (TIME_ALIGNED_POSITIONS / grid.num_steps)
    positions = torch.cat([torch.zeros(grid.num_prefix), steps.repeat_interleave(grid.tokens_per_step)])
    angles = torch.outer(positions, rotary_frequencies(head_width)).repeat_interleave(2, dim=1)
    return angles.cos(), angles.sin()


def bridge_rope(kind: str, head_width: int, video: TokenGrid, audio: TokenGrid) -> tuple[Rope, Rope]:
    """Tables for the video and the audio tokens of a bridge.

    Raises:
        InputError: unknown kind.
    """
    if kind == "official":
        return flat_rope(head_width, video.num_tokens), flat_rope(head_width, audio.num_tokens)
    if kind == "time_aligned":
        return time_rope(head_width, video), time_rope(head_width, audio)
    raise InputError("unknown bridge rope", got=repr(kind), expected="one of " + ", ".join(ROPE_KINDS))


def rotate_interleaved(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate pairs (x0, x1) of ``(B, L, N, D)`` by tables ``(L, D)``; product in float32, result in x's dtype."""
    x32 = x.float()
    even, odd = x32.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((-odd, even), dim=-1).flatten(-2)
    return (x32 * cos[:, None] + turned * sin[:, None]).to(x.dtype)


def rotate_half_split(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the first R channels of each head of ``(B, L, N, D)``, halves against each other; tables ``(L, R)``."""
    rotary_width = cos.shape[-1]
    head, rest = x[..., :rotary_width].float(), x[..., rotary_width:]
    first, second = head.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return torch.cat(((head * cos[:, None] + turned * sin[:, None]).to(x.dtype), rest), dim=-1)
