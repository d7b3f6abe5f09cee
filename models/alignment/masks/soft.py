"""Mask ``soft``."""

from __future__ import annotations

from torch import Tensor

from . import MASKS
from .base import MaskKind

_LEAST = 1e-6  # of a mean square, so that a latent of zeros stays one


@MASKS.register("soft")
class Soft(MaskKind):
    """The probability itself as a weight, as printed; kept for comparison.

    A decoder undoes any common scale, so that all weights would shrink without end: it reads latents of one length.
    """

    def drawn(self, p: Tensor) -> Tensor:
        """The weights."""
        return p

    settled = drawn

    def shown(self, masked: Tensor) -> Tensor:
        """At a mean square of 1."""
        return masked * (masked.square().mean(-1, keepdim=True) + _LEAST).rsqrt()
