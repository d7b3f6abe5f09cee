"""Attention, tables of positions and hidden layers that the autoencoder and the transformer share.

Legend: B batch, L M tokens, D width, N heads, E width of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..rope import Rope, flat_rope, rotate_interleaved


class Attention(nn.Module):
    """Softmax attention of one sequence to itself or to another.

    Args:
        width: D.
        heads: N.
        head_width: E.
        bias: Whether query, key and value have one; the output always has.
        norm: Whether queries and keys are RMS-normalised.
        zero: Whether the output starts as zero, so that a branch with it changes nothing.
    """

    def __init__(
        self, width: int, heads: int, head_width: int, *, bias: bool = False, norm: bool = False, zero: bool = False
    ) -> None:
        super().__init__()
        inner, self.heads = heads * head_width, heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, inner, bias=bias) for _ in range(3))
        self.norm_q = nn.RMSNorm(head_width, eps=1e-6) if norm else nn.Identity()
        self.norm_k = nn.RMSNorm(head_width, eps=1e-6) if norm else nn.Identity()
        self.to_out = nn.Linear(inner, width)
        if zero:
            zero_(self.to_out)

    def forward(
        self, x: Tensor, source: Tensor | None = None, *, rope: Rope | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """``(B, L, D)``.

        Args:
            x: What asks, ``(B, L, D)``.
            source: What is asked, ``(B, M, D)``; None for ``x``.
            rope: Tables ``(L, E)`` by which queries and keys are turned.
            mask: Which keys a query may see, bool that broadcasts to ``(B, N, L, M)``; each sees one at least.
        """
        source = x if source is None else source
        query, key, value = (
            layer(each).unflatten(-1, (self.heads, -1))
            for layer, each in ((self.to_q, x), (self.to_k, source), (self.to_v, source))
        )
        query, key = self.norm_q(query), self.norm_k(key)
        if rope is not None:
            query, key = rotate_interleaved(query, *rope), rotate_interleaved(key, *rope)
        query, key, value = (each.transpose(1, 2) for each in (query, key, value))
        return self.to_out(F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2))


class GatedMlp(nn.Module):
    """GEGLU: a hidden layer four times as wide, gated.

    Args:
        width: D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(width, 8 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """``(…, D)``."""
        hidden, gate = self.enter(x).chunk(2, dim=-1)
        return self.leave(hidden * F.gelu(gate))


def zero_(layer: nn.Module) -> None:
    """Let a layer start as zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def checkpointed(owner: nn.Module, block: Callable[..., Tensor], *given: Any) -> Tensor:
    """A block's result; where its owner keeps nothing of it for the backward pass, it is computed again then."""
    if owner.gradient_checkpointing and torch.is_grad_enabled():
        return owner._gradient_checkpointing_func(block, *given)
    return block(*given)


def line_rope(head_width: int, length: int, device: torch.device) -> Rope:
    """Positions along a line, for ``(length, E)``."""
    return tuple(table.to(device) for table in flat_rope(head_width, length))


def grid_rope(head_width: int, rows: int, columns: int, device: torch.device) -> Rope:
    """Positions on a grid, ``(rows · columns, E)``: half of a head turns by the row, half by the column."""
    down, right = flat_rope(head_width // 2, rows), flat_rope(head_width // 2, columns)
    tables = (
        torch.cat((row[:, None].expand(-1, columns, -1), column.expand(rows, -1, -1)), dim=-1).flatten(0, 1)
        for row, column in zip(down, right, strict=True)
    )
    return tuple(table.to(device) for table in tables)
