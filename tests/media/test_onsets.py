"""The one onset detector: librosa's values without librosa, and the same ones wherever onsets are shown."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sounding_video.core.clock import Timeline
from sounding_video.core.errors import NonFiniteError
from sounding_video.core.types import AudioClip
from sounding_video.media.onsets import HOP, onset_strength, onset_times, onsets
from sounding_video.world.scenes import SCENES
from sounding_video.world.synth import make_clip

RATES = [500, 8000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000, 96_000]


def sounds(rate):
    """Silence, noise, a held tone, a click, struck notes over more or less noise; of odd and very short lengths."""
    random = np.random.default_rng(rate)
    yield np.zeros(rate, np.float32)
    yield random.normal(0, 0.3, rate).astype(np.float32)
    yield np.sin(np.arange(2 * rate) * 0.05).astype(np.float32)
    for length in (1, 100, 511, 513, 2048, 5000):
        yield random.normal(0, 0.1, length).astype(np.float32)
    for noise in (0, 0.001, 0.02):
        sound = random.normal(0, noise, int(rate * random.uniform(1, 4))).astype(np.float32)
        clock = np.arange(int(0.3 * rate)) / rate
        for start in random.integers(0, len(sound), 8):
            note = np.sin(2 * np.pi * random.uniform(60, rate / 4) * clock) * np.exp(-clock * 25)
            sound[start : start + len(clock)] += (note * random.uniform(0.1, 0.9))[: len(sound) - start]
        yield sound


@pytest.mark.parametrize("rate", RATES)
def test_every_value_is_librosa_s(rate):
    librosa = pytest.importorskip("librosa")
    for sound in sounds(rate):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of short sounds and empty bands
            envelope = librosa.onset.onset_strength(y=sound, sr=rate, hop_length=HOP)
            times = librosa.onset.onset_detect(onset_envelope=envelope, sr=rate, hop_length=HOP, units="time")
        ours = onset_strength(AudioClip(torch.from_numpy(sound)[None], rate))
        assert np.allclose(ours, envelope, atol=2e-4)
        assert onset_times(ours, rate) == pytest.approx(list(times), abs=1e-9)


@pytest.mark.parametrize("scene", SCENES.names())
def test_the_world_s_clips_have_librosa_s_onsets(scene):
    librosa = pytest.importorskip("librosa")
    clip = make_clip(scene, 3, timeline=Timeline(num_frames=33, width=64, height=64)).clip
    times = librosa.onset.onset_detect(
        y=clip.audio.waveform[0].numpy(), sr=clip.audio.sample_rate, hop_length=HOP, units="time"
    )
    assert onsets(clip.audio) == pytest.approx(list(times), abs=1e-9)


@pytest.mark.parametrize("level", [0.0, 0.25])
def test_what_is_the_same_throughout_has_no_onset(level):
    assert onsets(AudioClip(torch.zeros(2, 44_100), 44_100)) == []
    assert onset_times(np.full(50, level, np.float32), 44_100) == onset_times(np.zeros(0, np.float32), 44_100) == []


def test_the_first_channel_counts():
    sound = torch.zeros(2, 44_100)
    sound[1, 20_000:20_400] = 0.5
    assert onsets(AudioClip(sound, 44_100)) == []
    assert min(abs(onset - 20_000 / 44_100) for onset in onsets(AudioClip(sound.flip(0), 44_100))) < 0.05


def test_a_broken_sound_is_refused():
    with pytest.raises(NonFiniteError):
        onsets(AudioClip(torch.full((1, 100), float("nan")), 44_100))
