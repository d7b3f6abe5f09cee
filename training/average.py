"""An exponential moving average of the trained weights, in float32."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class MovingAverage:
    """``average ← d·average + (1 − d)·weight`` after every step, with ``d = min(decay, (1 + step) / (10 + step))``.

    The ramp lets the average forget the first weights quickly. Unlike diffusers' EMAModel it is in float32 whatever the
    weights are, and follows the run's own step, so that a resumed run ends with the same bytes.

    Args:
        parameters: What to follow.
        decay: d far from the start.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self._parameters, self.decay = parameters, decay
        self.tensors = {name: p.detach().float().clone() for name, p in parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after ``step`` finished steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, parameter in self._parameters.items():
            self.tensors[name].lerp_(parameter.detach().float(), 1 - decay)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from saved values."""
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])
