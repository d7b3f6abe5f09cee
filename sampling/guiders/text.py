"""Classifier-free guidance by the text: ``u + w·(c − u)`` (BridgeDiT eq. 9 for the picture, eq. 10 for the sound)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ...core.types import NEGATIVE
from . import GUIDERS
from .base import Scaled


@GUIDERS.register("text")
@dataclass(frozen=True)
class TextGuider(Scaled):
    """Away from the pass in which both captions are negative and both modalities still hear each other."""

    title = "guidance"
    needs = (NEGATIVE,)

    def combine(self, modality: str, result: Tensor, predictions: Mapping[str, Tensor]) -> Tensor:
        """Eq. 9 and 10; takes the place of the plain prediction, so it comes first."""
        negative, positive = predictions["negative"], predictions["positive"]
        return negative + self.scales[modality] * (positive - negative)
