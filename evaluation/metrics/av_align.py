"""AV-Align: intersection over union of sound onsets and motion peaks (TempoTokens; BridgeDiT's AV-Align).

The published algorithm, step by step (BridgeDiT reference, section 9, ``avalign_old``): librosa's onsets of channel 0;
peaks of the mean Farnebäck flow; each onset, in order, takes the first free flow peak that is less than one frame away;
score = matches / (onsets + peaks - matches); mean over the clips.

The original divides by zero where a clip has neither onsets nor peaks. Here such a clip scores 0, because nothing in it
shows that picture and sound belong together: otherwise a model that makes still, silent clips would score best. Their
number is reported as ``num_without_peaks``.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..matching import greedy_pairs
from ..sample import Sample
from ..signals import LIBRARIES
from . import METRICS
from .base import Measurement, Metric, Value


@METRICS.register("av_align")
class AVAlign(Metric):
    """0..1, more is better. Needs picture and sound."""

    title = "AV-Align (onsets and optical flow peaks)"
    values = ("av_align",)
    packages = LIBRARIES

    def measure(self, sample: Sample) -> Measurement:
        """The intersection over union of one clip."""
        if sample.missing:
            return Measurement.impossible(self.values, sample.missing)
        onsets, peaks = sample.onsets, sample.flow_peaks
        pairs = greedy_pairs(onsets, peaks, float(1 / sample.fps))
        union = len(onsets) + len(peaks) - len(pairs)
        score = len(pairs) / union if union else 0.0
        return Measurement(
            {"av_align": score}, details={"onsets": onsets, "flow_peaks": peaks, "pairs": [list(p) for p in pairs]}
        )

    def summarise(self, measurements: Sequence[Measurement]) -> dict[str, Value]:
        """Mean over the clips, and how many of them had neither onsets nor flow peaks."""
        empty = [
            item for item in measurements if item.details and not (item.details["onsets"] + item.details["flow_peaks"])
        ]
        return super().summarise(measurements) | {"num_without_peaks": len(empty)}
