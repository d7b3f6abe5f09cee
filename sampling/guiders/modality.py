"""Modality guidance (LTX-2): each modality is pushed away from what it would be if it did not know the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ...core.types import Pass
from . import GUIDERS
from .base import Scaled

ALONE = Pass("alone", alone=True)


@GUIDERS.register("modality")
@dataclass(frozen=True)
class ModalityGuider(Scaled):
    """Adds ``(m − 1)·(c − s)``, with s the positive prediction of the modality alone."""

    title = "modality"
    needs = (ALONE,)

    def combine(self, modality: str, result: Tensor, predictions: Mapping[str, Tensor]) -> Tensor:
        """LTX-2's term."""
        return result + (self.scales[modality] - 1) * (predictions["positive"] - predictions["alone"])
