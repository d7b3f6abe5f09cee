"""The role of a kind of mask."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor


class MaskKind(ABC):
    """How probabilities ``p (…, D)`` in 0..1, one a dimension, become a mask."""

    @abstractmethod
    def drawn(self, p: Tensor) -> Tensor:
        """The mask of a training step, with its gradient to ``p``. Draws come from torch's own generator.

        Args:
            p: ``(…, D)``.
        """

    def settled(self, p: Tensor) -> Tensor:
        """The mask where nothing is trained, without chance."""
        return (p > 0.5).to(p.dtype)

    def shown(self, masked: Tensor) -> Tensor:
        """Masked latents as a decoder reads them."""
        return masked


def straight_through(mask: Tensor, p: Tensor) -> Tensor:
    """The mask to the bit, with the gradient of ``p``: what comes from above passes as it is, open or closed."""
    return mask + (p - p.detach())
