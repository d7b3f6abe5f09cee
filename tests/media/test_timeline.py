"""What the player draws: outlines against the samples, onsets against known times and against librosa."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sounding_video.core.errors import InputError, NonFiniteError
from sounding_video.core.types import AudioClip, AVClip, VideoClip
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


@pytest.mark.parametrize("noise", [0.0, 0.01])
@pytest.mark.parametrize("rate", [8000, 16_000, 44_100, 48_000])
def test_onsets_are_found_where_the_sounds_begin(rate, noise):
    times = [0.0, 0.4, 1.1, 1.7, 2.45]
    found = onsets(struck(times, rate=rate, noise=noise))
    assert len(found) == len(times)
    assert max(abs(ours - true) for ours, true in zip(found, times, strict=True)) < 0.035


def test_onsets_agree_with_librosa():
    librosa = pytest.importorskip("librosa")
    clip = struck([0.3, 0.9, 1.6, 2.2], noise=0.005)
    theirs = librosa.onset.onset_detect(y=clip.waveform[0].numpy(), sr=RATE, units="time")
    theirs = [time for time in theirs if time > 0.1]  # it also counts the beginning of the noise
    ours = onsets(clip)
    assert len(ours) == len(theirs)
    assert max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) < 0.04


def test_silence_and_a_held_tone_have_no_onset_inside():
    assert onsets(AudioClip(torch.zeros(2, RATE), RATE)) == []
    tone = 0.5 * torch.sin(2 * torch.pi * 500 * torch.arange(2 * RATE) / RATE)
    (start,) = onsets(AudioClip(tone[None], RATE))
    assert start < 0.03


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


def test_a_clip_s_timeline_is_plain_values():
    video = VideoClip(torch.zeros(9, 4, 4, 3), Fraction(15))
    sound = struck([0.2], seconds=0.6)
    whole = timeline(AVClip(video, sound))
    assert (whole["seconds"], whole["fps"], len(whole["outline"])) == (0.6, 15.0, NUM_COLUMNS)
    assert whole["onsets"] == [pytest.approx(0.2, abs=0.035)]
    assert timeline(AVClip(video, None)) == {"seconds": 0.6, "fps": 15.0, "outline": [], "onsets": []}
    assert timeline(AVClip(None, sound))["fps"] is None


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(InputError, match="nothing to outline: got 0 samples in 480 columns"):
        outline(AudioClip(torch.zeros(1, 0), RATE))
    broken = AudioClip(torch.full((1, 100), float("nan")), RATE)
    with pytest.raises(NonFiniteError):
        outline(broken)
    with pytest.raises(NonFiniteError):
        onsets(broken)
