"""Mask ``hard``."""

from __future__ import annotations

from torch import Tensor

from . import MASKS
from .base import MaskKind, straight_through


@MASKS.register("hard")
class Hard(MaskKind):
    """A threshold of a half also while training, as printed; at an open gate only the price is felt, so it flips."""

    def drawn(self, p: Tensor) -> Tensor:
        """Zeros and ones."""
        return straight_through(self.settled(p.detach()), p)
