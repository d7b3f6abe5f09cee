"""What is measured in a clip before any score; the players and pictures of :mod:`..media` draw the same values."""

from __future__ import annotations

from ..media.flow import FARNEBACK, LIBRARY, MIN_FLOW, flow_magnitudes, flow_peaks
from ..media.onsets import HOP as ONSET_HOP
from ..media.onsets import onset_strength, onset_times

LIBRARIES = (LIBRARY,)

__all__ = [
    "FARNEBACK",
    "LIBRARIES",
    "MIN_FLOW",
    "ONSET_HOP",
    "flow_magnitudes",
    "flow_peaks",
    "onset_strength",
    "onset_times",
]
