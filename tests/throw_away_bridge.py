"""A bridge kind that nobody needs: tests lay this file among the others and see that nothing else has to change.

The sound hears the mean of the picture's tokens; the picture hears nothing. Its tensors have names of their own, its
configuration has fields of its own, and it has its own ways to begin.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from . import BRIDGES
from .base import Bridge, BridgeInputs
from .config import BridgeConfig


@dataclass(frozen=True)
class ThrowAwayConfig(BridgeConfig):
    """Sizes, and how wide the way across is."""

    waist: int = 6


@BRIDGES.register("throw_away")
class ThrowAwayBridge(Bridge):
    """Down to a waist, up to the sound's width, times a gate."""

    Config = ThrowAwayConfig
    listeners = frozenset({"audio"})

    def __init__(self, config: ThrowAwayConfig) -> None:
        super().__init__(config)
        self.down = nn.Linear(config.video_width, config.waist)
        self.up = nn.Linear(config.waist, config.audio_width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)
        self.gate = nn.Parameter(torch.full((1,), 0.1))
        self.moment = nn.Parameter(torch.zeros(1))

    def forward(self, inputs: BridgeInputs) -> tuple[Tensor, Tensor]:
        """The picture as it came."""
        heard = self.up(torch.tanh(self.down(inputs.video.mean(dim=1, keepdim=True)) + self.moment))
        return inputs.video, inputs.audio + self.gate * heard

    @torch.no_grad()
    def open_gates(self, bias: float) -> None:
        """There is one."""
        self.gate += bias

    @torch.no_grad()
    def look_at_one_moment(self, strength: float, video: object, audio: object) -> None:
        """As long as a latent frame lasts."""
        self.moment += strength * float(video.times.step)
