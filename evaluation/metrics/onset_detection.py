"""Onset detection (CondFoleyGen, AV-Link): does the sound begin where the true sound of the same picture begins?

Of the first 2 seconds at 22 050 Hz librosa's onsets (``delta`` 0.3) are compared with those of the true sound, one to
one and within 0.1 s (see :mod:`..onset_matching`):

* ``detection_accuracy``: share of the true onsets that are hit. It is what AV-Link prints as Onset ACC.
* ``average_precision``: of hits, misses and what is left over, ranked by loudness. It separates little: silence has 1.
* ``count_accuracy``: as many onsets as the true sound has, which the published script calls "onset acc". The metric
  ``onset_accuracy`` of this package is the same question, put to the world's own events.

Each is printed beside its chance level, ``chance_…``: what the same sounds score against other clips' true sounds. The
true sound is named by the manifest (``true_sound``), or lies in the folder of ``--references`` under the clip's name.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...core.errors import InputError
from ..onset_matching import RATE, Onset, ScriptFails, detected, judged, matched, prepared
from ..sample import Sample
from . import METRICS
from .base import Measurement, Metric, Value, mean

# Of how many other clips the chance level of a clip is the mean.
OTHERS = 20
MOST_SECONDS = 3600


@METRICS.register("onset_detection")
class OnsetDetection(Metric):
    """0..1, more is better. A clip whose true sound has no onset is not measured, but for the count.

    Args:
        seconds: How much of the beginning is judged; the published script's 2, or more for longer clips.
        compatible: With the published script's slips: no onsets in the true sound count as 0, misses are not counted
            once the judged onsets are used up, close neighbours may be left, and clips on which it fails have no value.

    Raises:
        InputError: seconds out of range.
    """

    title = "onset detection (against the true sound)"
    values = ("detection_accuracy", "average_precision", "count_accuracy")

    def __init__(self, seconds: float = 2.0, compatible: bool = False) -> None:
        if not 0.1 <= seconds <= MOST_SECONDS:
            raise InputError("the seconds to judge are not usable", got=seconds, expected=f"0.1 to {MOST_SECONDS}")
        self.seconds, self.compatible = seconds, compatible

    def measure(self, sample: Sample) -> Measurement:
        """Compare one clip's sound with the true one."""
        if sample.clip.audio is None:
            return Measurement.impossible(self.values, "the clip has no sound")
        if sample.reference is None:
            return Measurement.impossible(self.values, "the true sound is not known")
        true, made = (prepared(audio, self.seconds) for audio in (sample.reference, sample.clip.audio))
        if self.compatible and min(len(true), len(made)) < round(self.seconds * RATE):
            return Measurement.impossible(self.values, "the published script takes no sound that is shorter")
        truth, onsets = detected(true), detected(made)
        try:
            sound = judged(made, onsets, compatible=self.compatible)
        except ScriptFails as reason:
            return Measurement.impossible(self.values, str(reason))
        values: dict[str, Value] = dict.fromkeys(self.values) | self._values(truth, sound, len(onsets))
        reasons = {name: "the true sound has no onset" for name, value in values.items() if value is None}
        found = [[onset.sample, onset.confidence, onset.level] for onset in sound]
        return Measurement(values, reasons, {"true_onsets": truth, "onsets": found, "num_onsets": len(onsets)})

    def _values(self, truth: list[int], sound: list[Onset], num_onsets: int) -> dict[str, float]:
        """Of one sound against a true one; what has no value is left out."""
        match = matched(truth, sound, compatible=self.compatible)
        values = {"detection_accuracy": match.accuracy, "average_precision": match.precision}
        if not truth and not self.compatible:
            values = {}
        values["count_accuracy"] = float(len(truth) == num_onsets)
        return {name: value for name, value in values.items() if value is not None}

    def summarise(self, measurements: Sequence[Measurement]) -> dict[str, Value]:
        """Means over the clips, the chance level of each value, and how many clips have an accuracy."""
        details = [item.details for item in measurements if item.details]
        sounds = [([Onset(*onset) for onset in each["onsets"]], each["num_onsets"]) for each in details]
        chance: list[dict[str, float]] = []
        for index, each in enumerate(details):
            others = [(index + step) % len(details) for step in range(1, min(OTHERS + 1, len(details)))]
            chance += [self._values(each["true_onsets"], *sounds[other]) for other in others]
        means = super().summarise(measurements)
        count = means.pop("num_measured")
        levels = {f"chance_{name}": mean([each.get(name) for each in chance]) for name in self.values}
        return means | levels | {"num_measured": count}
