"""AV-Link's guidance: away from the tower alone with the negative text, so both text and other modality are dropped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ...core.types import Pass
from . import GUIDERS
from .base import Scaled

ALONE_NEGATIVE = Pass("alone_negative", "negative", alone=True)


@GUIDERS.register("alone")
@dataclass(frozen=True)
class AloneGuider(Scaled):
    """``u + w·(c − u)`` with u of the tower alone (AVLINK 2.2). It contains what modality guidance does."""

    title = "guidance"
    needs = (ALONE_NEGATIVE,)

    def combine(self, modality: str, result: Tensor, predictions: Mapping[str, Tensor]) -> Tensor:
        """The same form as text guidance with another u."""
        alone, positive = predictions["alone_negative"], predictions["positive"]
        return alone + self.scales[modality] * (positive - alone)
