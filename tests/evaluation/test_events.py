"""Event F1 and onset accuracy: best matching against exhaustive search, and clips whose events are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from evaluation_clips import RATE, make_av, make_picture, make_sound
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from sounding_video.core.types import AudioClip, AVClip
from sounding_video.evaluation.matching import best_pairs
from sounding_video.evaluation.metrics import METRICS
from sounding_video.evaluation.sample import Sample, Truth

TIMES = [0.4, 0.9, 1.5]
F1, ACCURACY = METRICS.get("event_f1")(), METRICS.get("onset_accuracy")()
TIMES_MS = st.lists(st.integers(0, 60), max_size=7).map(sorted)


@settings(max_examples=300, deadline=None)
@given(TIMES_MS, TIMES_MS, st.integers(0, 20))
def test_the_best_matching_is_as_large_and_as_near_as_any(first, second, tolerance):
    """Against the Hungarian method over all pairings, which may cross."""
    pairs = best_pairs(first, second, tolerance)
    assert pairs == sorted(pairs) and len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
    assert all(abs(first[i] - second[j]) <= tolerance for i, j in pairs)
    gaps = np.abs(np.subtract.outer(first, second)) if first and second else np.zeros((0, 0))
    worth = np.where(gaps <= tolerance, 1000 - gaps, 0)
    rows, columns = linear_sum_assignment(worth, maximize=True)
    assert sum(1000 - abs(first[i] - second[j]) for i, j in pairs) == worth[rows, columns].sum()


def test_a_gap_of_exactly_the_tolerance_counts():
    assert best_pairs([0.4], [0.4 + 2 / 15], 2 / 15) == [(0, 0)]
    assert best_pairs([0.4], [0.41 + 2 / 15], 2 / 15) == []


@pytest.mark.parametrize(
    ("shift", "one_frame", "two_frames"), [(0.0, 1.0, 1.0), (0.1, 0.0, 1.0), (-0.1, 0.0, 1.0), (0.2, 0.0, 0.0)]
)
def test_f1_falls_at_its_tolerance(written, shift, one_frame, two_frames):
    """67 and 133 ms at 15 frames per second; detectors in between are good to half a frame."""
    seen = [(index + 0.25) / 15 for index in (6, 14, 23)]
    path = written("clip.mp4", make_av(seen, [time + shift for time in seen]))
    summary = F1([str(path)])
    assert (summary["f1_1_frame"], summary["f1_2_frames"]) == (one_frame, two_frames)
    assert (summary["mean_f1_2_frames"], summary["num_measured"]) == (two_frames, 1)


def test_scores_by_hand():
    """Three seen, two heard, of which both are near one: precision 1, recall 2/3, F1 4/5."""
    values = F1.measure(Sample(make_av(TIMES, TIMES[:2]), Truth(events_seconds=TIMES))).values
    assert values["precision_2_frames"] == 1
    assert values["recall_2_frames"] == pytest.approx(2 / 3)
    assert values["f1_2_frames"] == values["sound_f1_2_frames"] == pytest.approx(4 / 5)
    assert values["picture_f1_2_frames"] == values["picture_f1_1_frame"] == 1


def test_the_summary_pools_events_over_clips():
    clips = [make_av(TIMES, TIMES), make_av([0.4], [1.5])]
    summary = F1.summarise([F1.measure(Sample(clip)) for clip in clips])
    assert summary["f1_2_frames"] == pytest.approx(2 * 3 / (4 + 4))
    assert summary["mean_f1_2_frames"] == pytest.approx(0.5)
    assert summary["picture_f1_2_frames"] is None


STILL = AVClip(make_picture([]), AudioClip(torch.zeros(2, 97_020), RATE))


@pytest.mark.parametrize(
    ("truth", "value", "reason"),
    [
        (None, None, "there are no events on either side"),
        (Truth(num_events=3), 0.0, None),
        (Truth(events_seconds=()), None, "the manifest says that nothing happens here"),
    ],
)
def test_a_still_silent_clip_is_right_only_where_nothing_should_happen(truth, value, reason):
    for metric in (F1, ACCURACY):
        measured, first = metric.measure(Sample(STILL, truth)), metric.values[0]
        assert measured.values[first] == value and measured.reasons.get(first) == reason


def test_without_a_picture_the_reason_is_given():
    measured = F1.measure(Sample(AVClip(None, make_sound(TIMES)), Truth(events_seconds=TIMES)))
    assert set(measured.values.values()) == {None}
    assert set(measured.reasons.values()) == {"the clip has no picture"}
    measured = F1.measure(Sample(AVClip(make_picture(TIMES)), Truth(events_seconds=TIMES)))
    assert measured.values["picture_f1_2_frames"] == 1
    assert measured.reasons["f1_2_frames"] == measured.reasons["sound_f1_2_frames"] == "the clip has no sound"


@pytest.mark.parametrize(
    ("seen", "heard", "expected"),
    [
        (TIMES, TIMES, (1, 1, 1)),
        (TIMES, TIMES[:2], (0, 1, 0)),
        (TIMES[:2], TIMES[:2], (1, 0, 0)),
        ([], TIMES, (0, 0, 1)),
    ],
)
def test_onset_accuracy_compares_numbers(seen, heard, expected):
    values = ACCURACY.measure(Sample(make_av(seen, heard), Truth(num_events=3))).values
    assert tuple(values[name] for name in ("same_number", "picture_number", "sound_number")) == expected


def test_onset_accuracy_says_what_it_lacks():
    reasons = ACCURACY.measure(Sample(AVClip(make_picture(TIMES)))).reasons
    assert reasons == {
        "same_number": "the clip has no sound",
        "picture_number": "the manifest gives no number of events",
        "sound_number": "the clip has no sound",
    }


@settings(max_examples=200, deadline=None)
@given(TIMES_MS, TIMES_MS, st.integers(1, 20))
def test_as_many_pairs_as_mir_eval_finds(first, second, tolerance):
    util = pytest.importorskip("mir_eval.util")
    assert len(best_pairs(first, second, tolerance)) == len(
        util.match_events(np.array(first), np.array(second), tolerance)
    )
