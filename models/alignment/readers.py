"""What a tower reads of the other side's moments: tokens behind its text, or what is added to its stream (SAVA's φ)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

# Positions of moments: numbers of a sinusoid, and the axis of the time-aligned bridges, 0..116 over a clip.
SINUSOID, AXIS, PERIOD = 64, 116.0, 10_000.0


class ClipTokens(nn.Module):
    """Vectors of moments to tokens of a tower's text, each of which says its time.

    The tower's cross-attention gives keys no positions. All begins as zeros, which are what padding rows of a text are.

    Args:
        width: Of the vectors.
        text_width: Of the tokens.
    """

    def __init__(self, width: int, text_width: int) -> None:
        super().__init__()
        self.latent, self.time = nn.Linear(width, text_width), nn.Linear(SINUSOID, text_width)
        self.null = nn.Parameter(torch.zeros(text_width))  # for every moment where nothing is given
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, vectors: Tensor, times: Tensor) -> Tensor:
        """``(B, N, D)`` and ``(N,)`` in 0..1 to ``(B, N, W)``."""
        return self.latent(vectors) + self.time(sinusoid(times).to(vectors))


class ClipFrames(nn.Module):
    """Vectors of moments to what is added to a tower's stream in that moment; the stream knows its time.

    All begins as zeros, so that the tower begins as it is, to the bit.

    Args:
        width: Of the vectors.
        stream_width: Of the stream.
    """

    def __init__(self, width: int, stream_width: int) -> None:
        super().__init__()
        self.latent = nn.Linear(width, stream_width)
        self.null = nn.Parameter(torch.zeros(stream_width))  # for every moment where nothing is given
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, vectors: Tensor, times: Tensor) -> Tensor:
        """``(B, N, D)`` to ``(B, N, W)``; the times ``(N,)`` say nothing here."""
        return self.latent(vectors)


# How a tower can be told, and what does it; and which of the tower's widths it has, as an alignment's settings name it.
READERS: dict[str, type[ClipTokens] | type[ClipFrames]] = {"tokens": ClipTokens, "frames": ClipFrames}
WIDTHS = {"tokens": "text_width", "frames": "stream_width"}


def sinusoid(times: Tensor) -> Tensor:
    """Times ``(N,)`` in 0..1 as ``(N, 64)`` sines and cosines."""
    half = SINUSOID // 2
    rates = torch.exp(-math.log(PERIOD) * torch.arange(half, device=times.device) / half)
    angles = times[:, None] * AXIS * rates
    return torch.cat([angles.sin(), angles.cos()], 1)
