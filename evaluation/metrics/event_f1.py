"""Event F1: do what is seen and what is heard happen at the same moments, within one and two frames?

Events come from the world's own detectors. They are paired one to one, in order, as many as possible, where they lie at
most 1 or 2 frames apart (67 and 133 ms at 15 fps). The sound is judged against the picture: precision is the share of
heard events that are seen, recall the share of seen events that are heard, and F1 = 2·pairs / (heard + seen). With
exact event times in the manifest, picture and sound are each judged against these as well.

A clip with events on neither side has no F1. Where the manifest says that there should be events, it counts as 0.
Scenes for which the manifest has no events (rain, an engine) have nothing to judge and are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from ..matching import best_pairs
from ..sample import Sample
from . import METRICS
from .base import Measurement, Metric, Value

TOLERANCES_FRAMES = {"1_frame": 1, "2_frames": 2}
SIDES = {
    "": ("sound_events", "picture_events"),
    "picture_": ("picture_events", "truth"),
    "sound_": ("sound_events", "truth"),
}
KINDS = ("f1", "precision", "recall")


@METRICS.register("event_f1")
class EventF1(Metric):
    """0..1, more is better.

    ``f1_…``: sound against picture; ``picture_f1_…`` and ``sound_f1_…``: each against the manifest's exact times. In
    the summary these are pooled: pairs and events are summed over all clips first. ``mean_f1_…`` is the mean over
    clips.
    """

    title = "event F1 (seen and heard events, within 1 and 2 frames)"
    values = tuple(f"{side}{kind}_{within}" for within in ("2_frames", "1_frame") for side in SIDES for kind in KINDS)

    def measure(self, sample: Sample) -> Measurement:
        """Precision, recall and F1 of one clip."""
        truth = sample.truth
        if truth is not None and truth.num_events == 0:
            return Measurement.impossible(self.values, "the manifest says that nothing happens here")
        times = {"picture_events": sample.picture_events, "sound_events": sample.sound_events}
        times["truth"] = None if truth is None or truth.events_seconds is None else list(truth.events_seconds)
        values: dict[str, Value] = {}
        reasons: dict[str, str] = {}
        counts: dict[str, list[int]] = {}
        expects_events = bool(truth is not None and truth.num_events)
        for side, (judged, against) in SIDES.items():
            reason = _reason(sample, times, judged, against, expects_events)
            for within, num_frames in TOLERANCES_FRAMES.items():
                names = [f"{side}{kind}_{within}" for kind in KINDS]
                if reason:
                    values |= dict.fromkeys(names)
                    reasons |= dict.fromkeys(names, reason)
                    continue
                pairs = best_pairs(times[judged], times[against], float(Fraction(num_frames) / sample.fps))
                counts[f"{side}{within}"] = [len(pairs), len(times[judged]), len(times[against])]
                values |= dict(zip(names, scores(*counts[f"{side}{within}"]), strict=True))
        return Measurement({name: values[name] for name in self.values}, reasons, {**times, "counts": counts})

    def summarise(self, measurements: Sequence[Measurement]) -> dict[str, Value]:
        """Pooled scores over all clips, the mean F1 over clips, and the number of clips with an F1."""
        summary: dict[str, Value] = {}
        for within in ("2_frames", "1_frame"):
            for side in SIDES:
                counted = [c for item in measurements if (c := item.details.get("counts", {}).get(f"{side}{within}"))]
                totals = [sum(column) for column in zip(*counted, strict=True)] if counted else None
                pooled = scores(*totals) if totals else (None, None, None)
                summary |= {f"{side}{kind}_{within}": value for kind, value in zip(KINDS, pooled, strict=True)}
        means = super().summarise(measurements)
        summary |= {f"mean_f1_{within}": means[f"f1_{within}"] for within in TOLERANCES_FRAMES}
        return summary | {"num_measured": means["num_measured"]}


def scores(num_pairs: int, num_judged: int, num_against: int) -> tuple[float, float, float]:
    """F1, precision and recall; 0 where a share is of nothing."""
    precision = num_pairs / num_judged if num_judged else 0.0
    recall = num_pairs / num_against if num_against else 0.0
    both = num_judged + num_against
    return (2 * num_pairs / both if both else 0.0), precision, recall


def _reason(
    sample: Sample, times: dict[str, list[float] | None], judged: str, against: str, expects_events: bool
) -> str | None:
    """Why two lists of events cannot be compared, or None."""
    if times[against] is None and against == "truth":
        return "the manifest gives no event times"
    if times[judged] is None or times[against] is None or sample.fps is None:
        return sample.missing
    if not times[judged] and not times[against] and not expects_events:
        return "there are no events on either side"
    return None
