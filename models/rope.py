"""Rotary position tables for bridges, and the two ways of applying one. The kinds of positions are in :mod:`.ropes`.

Legend: B batch, L tokens, N heads, D head width.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from torch import Tensor

from ..core.clock import WAN_STABLE_AUDIO, ClipTimes
from .ropes import ROPES
from .towers.base import TokenGrid

Rope = tuple[Tensor, Tensor]


def flat_rope(head_width: int, positions: int | Tensor) -> Rope:
    """The published bridges' table: 1-D over the flattened token index, theta 10 000, **float32** arithmetic.

    At position 32 759 float32 rounds the phase by about 1e-3, so a float64 table would differ visibly; the
    checkpoints were trained with this one. Returns cos and sin ``(L, D)``, interleaved pairs.

    Args:
        head_width: D.
        positions: How many tokens, which then count from 0; or other positions ``(L,)``.
    """
    return get_1d_rotary_pos_embed(head_width, positions, use_real=True, repeat_interleave_real=True)


def rotary_frequencies(head_width: int) -> Tensor:
    """Radians a position of every rotary pair, ``(D/2,)``, theta 10 000."""
    return 1.0 / 10_000.0 ** (torch.arange(0, head_width, 2, dtype=torch.float32) / head_width)


def on_clock(video: TokenGrid, audio: TokenGrid, times: ClipTimes | None = None) -> tuple[TokenGrid, TokenGrid]:
    """Both towers' tokens with their times.

    Args:
        video: Video tokens.
        audio: Audio tokens.
        times: When latent steps lie; None keeps times that both grids have, and else takes them from the counts.
    """
    if times is None:
        if video.times is not None and audio.times is not None:
            return video, audio
        counts = (grid.num_steps * grid.latents_per_step for grid in (video, audio))
        times = WAN_STABLE_AUDIO.times_from_counts(*counts)
    return replace(video, times=times.video), replace(audio, times=times.audio)


def bridge_rope(kind: str, head_width: int, video: TokenGrid, audio: TokenGrid) -> tuple[Rope, Rope]:
    """Tables for the video and the audio tokens of a bridge.

    Raises:
        InputError: unknown kind.
    """
    return ROPES.get(kind)().tables(head_width, *on_clock(video, audio))


def rotate_interleaved(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate pairs (x0, x1) of ``(B, L, N, D)`` by tables ``(L, D)``; product in float32, result in x's dtype.

    Each half is written where it belongs, as stock Wan does it, so nothing is put together again. A float32 copy is
    made only where x learns: both parts of its gradient are added before they are rounded.
    """
    learns = x.requires_grad and torch.is_grad_enabled()
    source = x.float() if learns or x.dtype == torch.float64 else x
    even, odd = source[..., 0::2], source[..., 1::2]
    cos, sin = cos[:, None], sin[:, None]
    turned = torch.empty_like(x)
    turned[..., 0::2] = even * cos[..., 0::2] - odd * sin[..., 0::2]
    turned[..., 1::2] = odd * cos[..., 1::2] + even * sin[..., 1::2]
    return turned


def rotate_half_split(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the first R channels of each head of ``(B, L, N, D)``, halves against each other; tables ``(L, R)``."""
    rotary_width = cos.shape[-1]
    head, rest = x[..., :rotary_width].float(), x[..., rotary_width:]
    first, second = head.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return torch.cat(((head * cos[:, None] + turned * sin[:, None]).to(x.dtype), rest), dim=-1)
