"""Computed where the first block of the video tower says something else than at the last computed step."""

from __future__ import annotations

from dataclasses import dataclass

from . import CACHES
from ._threshold import ThresholdCache


@CACHES.register("first_block")
@dataclass(frozen=True)
class FirstBlock(ThresholdCache):
    """The first block runs at every step between the ends, in the positive pass.

    Only the picture's is looked at: the audio solver draws noise, so its first block changes by half at every step.
    With sound ``itself`` that is looked at as well where the picture is extrapolated.

    Args:
        threshold: Relative change from which a step is computed.
        most: Steps that are extrapolated in a row, at most.
    """

    threshold: float = 0.2
    most: int = 4

    looks = True
