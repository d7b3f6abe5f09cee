"""AV-Align against a plain rewriting of the published algorithm, by hand-made cases, and on clips that lack things."""

from __future__ import annotations

import cv2
import librosa
import numpy as np
import pytest
import torch
from evaluation_clips import FPS, RATE, make_av, make_picture, make_sound
from sounding_video.core.types import AudioClip, AVClip, VideoClip
from sounding_video.evaluation.matching import best_pairs, greedy_pairs
from sounding_video.evaluation.metrics import METRICS
from sounding_video.evaluation.sample import Sample
from sounding_video.evaluation.signals import flow_magnitudes, flow_peaks
from sounding_video.media.probe import read_clip

TIMES = [(index + 0.5) / 15 for index in (5, 13, 22, 28)]
AV_ALIGN = METRICS.get("av_align")()


def witness(path) -> float:
    """The algorithm in its published order, with OpenCV reading the file."""
    samples = read_clip(path).audio.waveform[0].numpy()
    onsets = librosa.onset.onset_detect(y=samples, sr=RATE, units="time")
    capture, grays = cv2.VideoCapture(str(path)), []
    fps = capture.get(cv2.CAP_PROP_FPS)
    while True:
        there, picture = capture.read()
        if not there:
            break
        grays.append(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY))
    capture.release()
    trajectory = []
    for index in range(1, len(grays)):
        flow = cv2.calcOpticalFlowFarneback(grays[index - 1], grays[index], None, 0.5, 3, 15, 3, 5, 1.2, 0)
        length, _ = cv2.cartToPolar(flow[..., 0], flow[..., 1])
        if index == 1:
            trajectory.append(length.mean())
        trajectory.append(length.mean())
    peaks = []
    for index in range(1, len(trajectory) - 1):
        here = trajectory[index]
        if here > trajectory[index - 1] and here > trajectory[index + 1] and here >= 0.1:
            peaks.append(index / fps)
    used, matches = set(), 0
    for onset in onsets:
        for number, peak in enumerate(peaks):
            if number not in used and -1 / fps < onset - peak < 1 / fps:
                used.add(number)
                matches += 1
                break
    return matches / (len(onsets) + len(peaks) - matches)


def score(clip):
    return AV_ALIGN.measure(Sample(clip)).values["av_align"]


@pytest.mark.parametrize(
    ("seen", "heard"), [(TIMES, TIMES), (TIMES, [0.4, 1.1, 1.52]), (TIMES[:2], TIMES), ([0.3, 1.0], [0.5, 1.9, 2.0])]
)
def test_files_score_as_the_published_algorithm_scores_them(written, seen, heard):
    path = written("clip.mp4", make_av(seen, heard))
    assert AV_ALIGN([str(path)])["av_align"] == pytest.approx(witness(path), abs=1e-12)


def test_in_sync_is_one_and_shifted_is_not(written):
    together = Sample.read(written("a.mp4", make_av(TIMES, TIMES)))
    apart = Sample.read(written("b.mp4", make_av(TIMES, [time + 0.2 for time in TIMES])))
    assert AV_ALIGN.measure(together).values == {"av_align": 1.0}
    assert AV_ALIGN.measure(apart).values["av_align"] <= 1 / 7


def test_one_pair_too_few_costs_what_the_union_says():
    """Four flashes, three clicks: 3 / (3 + 4 - 3)."""
    assert score(make_av(TIMES, TIMES[:3])) == pytest.approx(3 / 4)


def test_only_the_first_channel_is_heard():
    silent_left = make_sound(TIMES).waveform.clone()
    silent_left[0] = 0
    assert score(AVClip(make_picture(TIMES), AudioClip(silent_left, RATE))) == 0


@pytest.mark.parametrize(
    ("first", "second", "pairs"),
    [
        ([], [], []),
        ([1.0], [], []),
        ([1.0], [1.05], [(0, 0)]),
        ([0.0], [0.25], []),  # exactly the limit: strictly less is asked for
        ([0.2, 0.1], [0.15], [(0, 0)]),  # the order of the first list decides
        ([0.5, 0.6], [0.55, 0.45], [(0, 0), (1, 1)]),  # first free one, not the nearest
        ([0.5, 0.5], [0.5], [(0, 0)]),  # one to one
    ],
)
def test_greedy_matching_by_hand(first, second, pairs):
    assert greedy_pairs(first, second, 0.25) == pairs


def test_greedy_is_not_the_best_matching():
    """The published matching may waste a pair; event F1 must not."""
    onsets, peaks = [0.3, 0.5], [0.4, 0.2]
    assert len(greedy_pairs(onsets, peaks, 0.15)) == 1
    assert len(best_pairs(onsets, sorted(peaks), 0.15)) == 2


def test_peaks_are_strict_high_enough_and_inside():
    fps = 10
    assert flow_peaks([0, 1, 0, 0.1, 0, 0.09, 0, 2, 2, 0, 5], fps) == [0.1, 0.3]
    assert flow_peaks([5, 1, 5], fps) == []
    assert flow_peaks([], fps) == [] == flow_peaks([1], fps) == flow_peaks([1, 2], fps)


def test_the_first_flow_value_is_repeated():
    flow = flow_magnitudes(make_picture([0.07], num_frames=5))
    assert len(flow) == 5 and flow[0] == flow[1] > 0.1
    assert list(flow_magnitudes(make_picture([], num_frames=1))) == []


def test_a_moving_texture_has_the_flow_it_moves_by():
    generator = np.random.default_rng(0)
    wall = cv2.GaussianBlur(generator.random((96, 96, 3)).astype("float32"), (0, 0), 3)
    wall = (wall - wall.min()) / (wall.max() - wall.min())
    frames = torch.from_numpy(np.stack([np.roll(wall, 2 * step, axis=1) for step in range(4)]))
    assert flow_magnitudes(VideoClip(frames, FPS)) == pytest.approx([2.0] * 4, abs=0.15)


def test_without_peaks_a_clip_scores_nothing_and_is_counted():
    """Where the original divides by zero."""
    still = AVClip(make_picture([]), AudioClip(torch.zeros(2, 97_020), RATE))
    measured = [AV_ALIGN.measure(Sample(clip)) for clip in (still, make_av(TIMES, TIMES))]
    assert measured[0].values == {"av_align": 0.0}
    assert AV_ALIGN.summarise(measured) == {"av_align": 0.5, "num_measured": 2, "num_without_peaks": 1}


@pytest.mark.filterwarnings("ignore:n_fft")
@pytest.mark.parametrize("clip", [make_av([], TIMES), AVClip(make_picture(TIMES), AudioClip(torch.zeros(1, 9), RATE))])
def test_peaks_on_one_side_only_score_nothing(clip):
    assert score(clip) == 0.0


@pytest.mark.parametrize(
    ("clip", "reason"),
    [
        (AVClip(make_picture(TIMES)), "the clip has no sound"),
        (AVClip(None, make_sound(TIMES)), "the clip has no picture"),
    ],
)
def test_one_modality_cannot_be_aligned(clip, reason):
    measured = AV_ALIGN.measure(Sample(clip))
    assert measured.values == {"av_align": None} and measured.reasons == {"av_align": reason}
    assert AV_ALIGN.summarise([measured])["num_measured"] == 0
