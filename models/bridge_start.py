"""Where new bridges begin: choices that leave them the identity and let them learn sooner.

A new block's output projections are zero, so what stands before them is free. The published blocks begin with gates
near zero and with heads that look anywhere; on small budgets most steps then go into finding the other's moment.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.errors import InputError
from .bridges.base import AttentionBridge, Bridge
from .rope import TIME_ALIGNED_POSITIONS, rotary_frequencies

# Slower rotary pairs hardly turn within a latent video frame and cannot tell moments apart.
SLOWEST_FREQUENCY = 0.02


@torch.no_grad()
def open_gates(bridge: Bridge, bias: float) -> None:
    """Let gates begin near ``bias`` instead of near zero, so that gradients reach what they gate.

    Args:
        bridge: A new attention bridge, changed in place; the identity stays the identity.
        bias: Added to the biases of every gate; 1 opens them.

    Raises:
        InputError: a kind without attention, which is not the identity at the start: open gates would disturb towers.
    """
    if not isinstance(bridge, AttentionBridge):
        raise InputError(
            "gates of this bridge cannot be opened before it has learned",
            got=type(bridge).__name__,
            expected="an attention kind, which starts as the identity",
            remedy="Set bridges.gate_bias=0.",
        )
    for modulation in (bridge.adaln_modulation_1, bridge.adaln_modulation_2):
        parts = modulation[-1].bias.chunk(6)
        for gate in (parts[2], parts[5]):
            gate += bias


@torch.no_grad()
def look_at_one_moment(bridge: Bridge, strength: float, num_video_steps: int) -> None:
    """Let heads begin by attending to what happens at the same time.

    Queries and keys get a constant part through their biases. Rotated on the common time axis, the product of two such
    parts is highest where the times agree. A latent video frame lasts several audio tokens: each head places it at
    another part of its duration, so that together they see all of it.

    Args:
        bridge: A new bridge with ``time_aligned`` rotary positions, changed in place.
        strength: Length of the constant part in each rotary pair that turns fast enough to matter, such as 2.9.
        num_video_steps: Latent frames of a training clip.

    Raises:
        InputError: a kind without attention, or other rotary positions, which have no common time.
    """
    config = bridge.config
    if not isinstance(bridge, AttentionBridge) or config.rope != "time_aligned":
        raise InputError(
            "these bridges cannot begin by attending to one moment",
            got=f"{type(bridge).__name__} with rope {config.rope}",
            expected="an attention kind with rope time_aligned",
            remedy="Set bridges.moment_bias=0, or bridges.rope=time_aligned.",
        )
    attn = bridge.attn
    frequencies = rotary_frequencies(config.head_width)
    lengths = strength * (frequencies > SLOWEST_FREQUENCY)
    duration = TIME_ALIGNED_POSITIONS / num_video_steps
    offsets = (torch.arange(attn.num_heads) + 0.5) / attn.num_heads * duration
    turned = _pairs(lengths, offsets[:, None] * frequencies)
    still = _pairs(lengths, torch.zeros_like(turned[:, ::2]))
    for stream, bias in ((1, turned), (2, still)):
        for letter in "qk":
            getattr(attn, f"{letter}_proj_{stream}").bias.copy_(bias.flatten())


def _pairs(lengths: Tensor, angles: Tensor) -> Tensor:
    """Interleaved (cos, sin) pairs ``(N, D)`` of lengths ``(D/2,)`` and angles ``(N, D/2)``."""
    return torch.stack((lengths * angles.cos(), lengths * angles.sin()), dim=-1).flatten(-2)
