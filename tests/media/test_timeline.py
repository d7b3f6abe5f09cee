"""What the player draws: outlines against the samples, onsets against known times, the motion's peaks."""

from __future__ import annotations

import json
import sys
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sounding_video.core.errors import Cancelled, InputError, NonFiniteError
from sounding_video.core.progress import Progress
from sounding_video.core.types import AudioClip, AVClip, VideoClip
from sounding_video.media import flow
from sounding_video.media import timeline as timeline_module
from sounding_video.media.timeline import NUM_COLUMNS, onsets, outline, timeline

RATE = 44_100


def struck(times, *, seconds=3.0, rate=RATE, noise=0.0):
    """Decaying tones that begin at the given times, over a little noise."""
    generator = torch.Generator().manual_seed(0)
    sound = noise * torch.randn(2, int(seconds * rate), generator=generator)
    clock = torch.arange(int(0.3 * rate)) / rate
    note = torch.sin(2 * torch.pi * 600 * clock) * torch.exp(-clock * 25) * 0.7
    for time in times:
        start = round(time * rate)
        part = sound[:, start : start + len(note)]
        part += note[: part.shape[1]]
    return AudioClip(sound, rate)


@pytest.mark.parametrize("noise", [0.0, 0.002])
@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_onsets_are_found_where_the_sounds_begin(rate, noise):
    times = [0.4, 1.1, 1.7, 2.45]
    found = onsets(struck(times, rate=rate, noise=noise))
    assert all(min(abs(time - onset) for onset in found) < 0.07 for time in times)


@given(num_samples=st.integers(1, 3000), num_columns=st.integers(1, 700), seed=st.integers(0, 99))
def test_the_outline_spans_exactly_the_samples(num_samples, num_columns, seed):
    waveform = torch.randn(2, num_samples, generator=torch.Generator().manual_seed(seed))
    found = outline(AudioClip(waveform, RATE), num_columns)
    assert len(found) == min(num_samples, num_columns)
    assert all(low <= high for low, high in found)
    assert min(low for low, _ in found) == round(float(waveform.min()) * 100)
    assert max(high for _, high in found) == round(float(waveform.max()) * 100)


def test_the_outline_is_where_the_sound_is():
    waveform = torch.zeros(1, 1000)
    waveform[0, 500:600] = torch.tensor([0.5, -0.25]).repeat(50)
    found = outline(AudioClip(waveform, RATE), 10)
    assert found == [(0, 0)] * 5 + [(-25, 50)] + [(0, 0)] * 4


def jumping(frames_of_jumps, num_frames=45, size=64):
    """A square that stands still and jumps before the given frames."""
    frames = torch.zeros(num_frames, size, size, 3)
    for index in range(num_frames):
        jumps = sum(jump <= index for jump in frames_of_jumps)
        frames[index, 20:44, 4 + 9 * (jumps % 5) : 20 + 9 * (jumps % 5)] = 1.0
    return VideoClip(frames, Fraction(15))


def test_a_clip_s_timeline_is_plain_values():
    pytest.importorskip("cv2")
    video, sound = jumping([9, 21]), struck([0.6, 1.4])
    whole = timeline(AVClip(video, sound))
    assert (whole["seconds"], whole["fps"], len(whole["outline"])) == (3.0, 15.0, NUM_COLUMNS)
    assert [min(whole["onsets"], key=lambda found: abs(found - time)) for time in (0.6, 1.4)] == [
        pytest.approx(0.6, abs=0.05),
        pytest.approx(1.4, abs=0.05),
    ]
    assert whole["peaks"] == [0.6, 1.4]
    assert json.loads(json.dumps(whole)) == whole
    silent = {"seconds": 3.0, "fps": 15.0, "outline": [], "onsets": [], "peaks": [0.6, 1.4]}
    assert timeline(AVClip(video, None)) == silent
    assert (timeline(AVClip(None, sound))["fps"], timeline(AVClip(None, sound))["peaks"]) == (None, None)


@pytest.mark.parametrize(("num_frames", "size"), [(1, 64), (2, 64), (3, 2), (3, 8)])
def test_the_smallest_pictures_have_no_peaks(num_frames, size):
    pytest.importorskip("cv2")
    assert timeline(AVClip(VideoClip(torch.rand(num_frames, size, size, 3), Fraction(15)), None))["peaks"] in (
        [],
        [0.067],
    )


def test_without_opencv_there_are_no_peaks(monkeypatch):
    for broken in (lambda: monkeypatch.setitem(sys.modules, "cv2", None),
                   lambda: monkeypatch.setattr(flow, "available", lambda name: False)):  # fmt: skip
        with monkeypatch.context():
            broken()
            assert timeline(AVClip(jumping([9]), None))["peaks"] is None


def test_motion_that_nobody_looks_at_or_that_takes_long_is_not_measured(monkeypatch):
    monkeypatch.setattr(timeline_module, "seen_peaks", lambda *arguments: [0.5])
    clip = AVClip(jumping([9], size=16), None)
    assert timeline(clip)["peaks"] == [0.5]
    assert timeline(clip, motion=False)["peaks"] is None
    monkeypatch.setattr(timeline_module, "MOST_PIXELS", 45 * 16 * 16 - 1)
    assert timeline(clip)["peaks"] is None


def test_measuring_motion_can_be_stopped():
    pytest.importorskip("cv2")
    seen = []

    def report(stage, done, total, preview=None):
        seen.append((stage, done, total))

    def check():
        if len(seen) == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        timeline(AVClip(jumping([9]), None), Progress(report, check))
    assert seen == [("measure", 1, 44), ("measure", 2, 44), ("measure", 3, 44)]


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(InputError, match="nothing to outline: got 0 samples in 480 columns"):
        outline(AudioClip(torch.zeros(1, 0), RATE))
    broken = AudioClip(torch.full((1, 100), float("nan")), RATE)
    with pytest.raises(NonFiniteError):
        outline(broken)
