"""Onset accuracy: is the number of events right?

In Foley generation the onset accuracy is the share of clips whose number of onsets fits (CondFoleyGen's "onset acc",
``count_accuracy`` of :mod:`.onset_detection`; AV-Link's Onset ACC is ``detection_accuracy`` there). Here
``same_number``: as many events are heard as seen. ``picture_number`` and ``sound_number``: as many as the manifest
says, which for a prompted clip is what the caption asked for. Timing is left to event F1.
"""

from __future__ import annotations

from ..sample import Sample
from . import METRICS
from .base import Measurement, Metric, Value


@METRICS.register("onset_accuracy")
class OnsetAccuracy(Metric):
    """1 or 0 a clip, the share of clips in the summary. A clip without any event on either side is not measured."""

    title = "onset accuracy (number of events)"
    values = ("same_number", "picture_number", "sound_number")

    def measure(self, sample: Sample) -> Measurement:
        """Compare the counts of one clip."""
        truth = sample.truth
        if truth is not None and truth.num_events == 0:
            return Measurement.impossible(self.values, "the manifest says that nothing happens here")
        expected = None if truth is None else truth.num_events
        seen, heard = (None if e is None else len(e) for e in (sample.picture_events, sample.sound_events))
        values: dict[str, Value] = {}
        reasons: dict[str, str] = {}
        if sample.missing:
            reasons["same_number"] = sample.missing
        elif not (seen or heard or expected):
            reasons["same_number"] = "there are no events on either side"
        else:
            # Nothing seen and nothing heard where events should be is no agreement.
            values["same_number"] = float(seen == heard and seen != 0)
        for name, count, lacking in (("picture", seen, "picture"), ("sound", heard, "sound")):
            if count is None:
                reasons[f"{name}_number"] = f"the clip has no {lacking}"
            elif expected is None:
                reasons[f"{name}_number"] = "the manifest gives no number of events"
            else:
                values[f"{name}_number"] = float(count == expected)
        values = {name: values.get(name) for name in self.values}
        return Measurement(values, reasons, {"num_seen": seen, "num_heard": heard, "num_expected": expected})
