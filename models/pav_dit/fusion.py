"""How latent planes are refined before they are decoded: over time scales, and across modalities (PAV-DiT eq. 4–8).

Every branch is added to what comes in and starts as zero, so that a new decoder is one that only sums the planes up.

Legend: B batch, D width, T h w the volume.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import Attention, zero_

Planes = tuple[Tensor, ...]


class PlaneAttention(nn.Module):
    """``z + Attn(LN z)`` over all places of a plane, to itself or to another plane.

    Args:
        width: D.
        heads: Of the attention.
        across: Whether another plane is read.
    """

    def __init__(self, width: int, heads: int, *, across: bool = False) -> None:
        super().__init__()
        self.norm, self.norm_source = nn.LayerNorm(width), nn.LayerNorm(width) if across else None
        self.attention = Attention(width, heads, width // heads, zero=True)

    def forward(self, plane: Tensor, source: Tensor | None = None) -> Tensor:
        """``(B, D, …)``; any extent behind the width."""
        read = None if source is None else self.norm_source(source.flatten(2).mT)
        return plane + self.attention(self.norm(plane.flatten(2).mT), read).mT.reshape(plane.shape)


class TimeScale(nn.Module):
    """One scale of the multi-scale attention: pool, attend along time, and back (eq. 4–5).

    Args:
        width: D.
        heads: Of the attention.
        rate: By how much time is pooled.
    """

    def __init__(self, width: int, heads: int, rate: int) -> None:
        super().__init__()
        self.rate, self.attention = rate, Attention(width, heads, width // heads)
        self.back = nn.ConvTranspose1d(width, width, rate, stride=rate)
        zero_(self.back)

    def forward(self, lines: Tensor) -> Tensor:
        """``(·, D, T)`` with T a multiple of the rate."""
        return self.back(self.attention(F.avg_pool1d(lines, self.rate).mT).mT)


class TimeScales(nn.Module):
    """``z + Σ_k up_k(Attn_k(pool_k(LN z)))`` along the rows of a motion plane, which are time.

    Args:
        width: D.
        heads: Of the attentions.
        scales: Rates at which time is pooled.
    """

    def __init__(self, width: int, heads: int, scales: Sequence[int]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.scales = nn.ModuleList(TimeScale(width, heads, rate) for rate in scales)

    def forward(self, plane: Tensor) -> Tensor:
        """``(B, D, T, columns)``; a time that no scale divides is filled up with its last row, and cut again."""
        batch, _, time, columns = plane.shape
        lines = self.norm(plane.movedim(1, -1)).permute(0, 2, 3, 1).flatten(0, 1)
        lines = F.pad(lines, (0, -time % math.lcm(*(scale.rate for scale in self.scales))), mode="replicate")
        added = sum(scale(lines) for scale in self.scales)[..., :time]
        return plane + added.unflatten(0, (batch, columns)).permute(0, 2, 3, 1)


class PlaneFusion(nn.Module):
    """What is done to the planes of one modality: each for itself, then each with the same plane of the other one.

    Args:
        width: D.
        heads: Of all attentions.
        scales: See :class:`TimeScales`.
    """

    def __init__(self, width: int, heads: int, scales: Sequence[int]) -> None:
        super().__init__()
        self.still = PlaneAttention(width, heads)
        self.motion = nn.ModuleList(TimeScales(width, heads, scales) for _ in range(2))
        self.across = nn.ModuleList(PlaneAttention(width, heads, across=True) for _ in range(3))

    def alone(self, planes: Planes, *, over_scales: bool = True) -> Planes:
        """Planes ``(B, D, rows, columns)`` without the other modality."""
        if not over_scales:
            return planes
        still, *motion = planes
        return self.still(still), *(scales(plane) for scales, plane in zip(self.motion, motion, strict=True))

    def hearing(self, planes: Planes, others: Planes) -> Planes:
        """Planes that have read those of the other modality (GCM, eq. 6)."""
        return tuple(read(plane, other) for read, plane, other in zip(self.across, planes, others, strict=True))


class TimeBlocks(nn.Module):
    """One volume reads another within blocks of time: whole segments, since only time is common to picture and sound.

    Args:
        width: D.
        heads: Of the attention.
        segments: Of a block; the last one may be shorter.
    """

    def __init__(self, width: int, heads: int, segments: int) -> None:
        super().__init__()
        self.segments, self.read = segments, PlaneAttention(width, heads, across=True)

    def forward(self, volume: Tensor, other: Tensor) -> Tensor:
        """``(B, D, T, h, w)`` (eq. 8)."""
        parts = zip(volume.split(self.segments, dim=2), other.split(self.segments, dim=2), strict=True)
        return torch.cat([self.read(part, source) for part, source in parts], dim=2)
