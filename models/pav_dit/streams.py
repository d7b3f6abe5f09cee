"""The autoencoder of one modality: a volume of tokens, three planes that sum it up, and back (PVDM; PAV-DiT eq. 1–3).

What PVDM's code does by mistake is not repeated: its summary token stands at the end while the first element is read,
and its rotary tables turn neighbours by angles of halves.

Legend: B batch, C channels of media, F H W its extent, T h w the extent of the volume, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .layers import Attention, GatedMlp, checkpointed, grid_rope, line_rope
from .planes import PlaneGrid

Planes = tuple[Tensor, ...]


class VolumeBlock(nn.Module):
    """Attention along time, attention within each segment, a gated hidden layer (TimeSformer).

    Args:
        width: D.
        heads: Of both attentions.
        head_width: Of a head.
    """

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.norm_time, self.norm_space, self.norm_mlp = (nn.LayerNorm(width) for _ in range(3))
        self.time, self.space = Attention(width, heads, head_width), Attention(width, heads, head_width)
        self.mlp, self.head_width = GatedMlp(width), head_width

    def forward(self, volume: Tensor) -> Tensor:
        """``(B, T, h, w, D)``."""
        batch, time, rows, columns, _ = volume.shape
        x = volume.flatten(2, 3)
        along = self.norm_time(x).transpose(1, 2).flatten(0, 1)
        rope = line_rope(self.head_width, time, x.device)
        x = x + self.time(along, rope=rope).unflatten(0, (batch, -1)).transpose(1, 2)
        rope = grid_rope(self.head_width, rows, columns, x.device)
        x = x + self.space(self.norm_space(x).flatten(0, 1), rope=rope).unflatten(0, (batch, time))
        x = x + self.mlp(self.norm_mlp(x))
        return x.unflatten(2, (rows, columns))


class SummaryLayer(nn.Module):
    """Attention and a hidden layer over one axis of the volume.

    Args:
        width: D.
        heads: Of the attention.
        hidden: Width of the hidden layer.
    """

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, max(1, width // (2 * heads)))
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        """``(·, 1 + length, D)``."""
        x = x + self.attention(self.norm_attention(x))
        return x + self.mlp(self.norm_mlp(x))


class Summary(nn.Module):
    """Sums one axis of the volume up: a learned token reads it, and what the token then holds is the plane.

    Args:
        width: D.
        length: Of the axis.
        depth: Layers.
        heads: Of the attention.
        hidden: Width of the hidden layers.
    """

    def __init__(self, width: int, length: int, *, depth: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.token = nn.Parameter(0.02 * torch.randn(width))
        self.positions = nn.Parameter(0.02 * torch.randn(length + 1, width))
        self.layers = nn.ModuleList(SummaryLayer(width, heads, hidden) for _ in range(depth))

    def forward(self, volume: Tensor, axis: int) -> Tensor:
        """``(B, D, rows, columns)`` of ``(B, T, h, w, D)`` without one of its axes 1 to 3."""
        lines = volume.movedim(axis, 3)
        x = lines.flatten(0, 2)
        x = torch.cat((self.token.to(x.dtype).expand(len(x), 1, -1), x), dim=1) + self.positions.to(x.dtype)
        for layer in self.layers:
            x = layer(x)
        return x[:, 0].unflatten(0, lines.shape[:3]).movedim(-1, 1)


class StreamEncoder(nn.Module):
    """Media to a volume of tokens, and that to three planes.

    Args:
        channels: C of the media.
        patch: Frames, rows and columns of a patch.
        grid: Of the volume.
        width: D.
        depth: Blocks.
        heads: Of the blocks.
        head_width: Of a head of the blocks.
        summary: Settings of the summaries: ``depth``, ``heads``, ``hidden``.
    """

    def __init__(
        self, channels: int, patch: Sequence[int], grid: PlaneGrid, *, width: int, depth: int, heads: int,
        head_width: int, summary: dict[str, int],
    ) -> None:  # fmt: skip
        super().__init__()
        self.gradient_checkpointing = False
        self.enter = nn.Conv3d(channels, width, tuple(patch), stride=tuple(patch))
        self.blocks = nn.ModuleList(VolumeBlock(width, heads, head_width) for _ in range(depth))
        lengths = grid.time, grid.rows, grid.columns
        self.summaries = nn.ModuleList(Summary(width, length, **summary) for length in lengths)

    def forward(self, media: Tensor) -> Planes:
        """Three planes ``(B, D, rows, columns)`` of ``(B, C, F, H, W)``."""
        volume = self.enter(media).movedim(1, -1)
        for block in self.blocks:
            volume = checkpointed(self, block, volume)
        # Summed up over time, over rows (what is left is time × columns) and over columns (time × rows).
        return tuple(summary(volume, axis) for axis, summary in enumerate(self.summaries, start=1))


class StreamDecoder(nn.Module):
    """A volume of tokens to media.

    Args:
        channels: C of the media.
        patch: Frames, rows and columns of a patch.
        width: D.
        depth: Blocks.
        heads: Of the blocks.
        head_width: Of a head of the blocks.
    """

    def __init__(
        self, channels: int, patch: Sequence[int], *, width: int, depth: int, heads: int, head_width: int
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        self.blocks = nn.ModuleList(VolumeBlock(width, heads, head_width) for _ in range(depth))
        self.leave = nn.ConvTranspose3d(width, channels, tuple(patch), stride=tuple(patch))

    def forward(self, volume: Tensor) -> Tensor:
        """``(B, C, F, H, W)`` in −1…1 of ``(B, D, T, h, w)``."""
        volume = volume.movedim(1, -1)
        for block in self.blocks:
            volume = checkpointed(self, block, volume)
        return 2 * self.leave(volume.movedim(-1, 1)).sigmoid() - 1
