"""Mask ``bernoulli``."""

from __future__ import annotations

import torch
from torch import Tensor

from . import MASKS
from .base import MaskKind, straight_through


@MASKS.register("bernoulli")
class Bernoulli(MaskKind):
    """Each dimension is kept by chance while training, by its probability being over a half afterwards.

    With a decoder at its optimum ``p = 1 − θ/(2Δ)``, so that the threshold of a half is SAVA's condition itself: a
    dimension is kept where removing it costs more than its price.
    """

    def drawn(self, p: Tensor) -> Tensor:
        """Zeros and ones."""
        return straight_through(torch.bernoulli(p.detach()), p)
