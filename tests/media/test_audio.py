"""Length, rate, channels and level of the sound."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sounding_video.core.errors import InputError
from sounding_video.core.types import AudioClip
from sounding_video.media.audio import fit_length, limit_peak, resample, to_stereo


def test_fit_pads_after_a_fade():
    sound = AudioClip(torch.ones(2, 1000), 10_000)
    fitted = fit_length(sound, 1500, fade_seconds=0.01).waveform
    assert fitted.shape == (2, 1500)
    assert torch.equal(fitted[:, :900], torch.ones(2, 900))
    assert float(fitted[0, 999]) == 0 and bool((fitted[0, 900:1000].diff() < 0).all())
    assert torch.equal(fitted[:, 1000:], torch.zeros(2, 500))
    assert float(fitted.diff().abs().max()) < 0.02  # no step, no click


def test_fit_fades_at_the_end_when_too_long():
    fitted = fit_length(AudioClip(torch.ones(1, 2000), 10_000), 1500, fade_seconds=0.01).waveform
    assert fitted.shape == (1, 1500)
    assert torch.equal(fitted[:, :1400], torch.ones(1, 1400)) and float(fitted[0, -1]) == 0


def test_fit_leaves_a_right_length_and_the_input_alone():
    sound = AudioClip(torch.ones(1, 100), 10_000)
    assert fit_length(sound, 100) is sound
    fit_length(sound, 50)
    assert torch.equal(sound.waveform, torch.ones(1, 100))
    assert torch.equal(fit_length(sound, 120, fade_seconds=0).waveform[0, :100], torch.ones(100))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.floats(0, 0.1), st.sampled_from([8000, 44_100]))
def test_fit_gives_exactly_what_was_asked(available, wanted, fade_seconds, rate):
    fitted = fit_length(AudioClip(torch.ones(1, available), rate), wanted, fade_seconds=fade_seconds).waveform
    assert fitted.shape == (1, wanted)
    assert float(fitted.max()) <= 1 and float(fitted.min()) >= 0


@pytest.mark.parametrize(
    ("num_samples", "wanted", "fade", "message"),
    [
        (0, 10, 0.01, "the sound is empty"),
        (10, 0, 0.01, "length is not usable: got 0"),
        (10, 20, -1.0, "fade is not usable: got -1.0"),
        (10, 20, math.nan, "fade is not usable: got nan"),
    ],
)
def test_fit_refuses(num_samples, wanted, fade, message):
    with pytest.raises(InputError, match=message):
        fit_length(AudioClip(torch.zeros(1, num_samples), 8000), wanted, fade_seconds=fade)


@pytest.mark.parametrize(("source", "target"), [(44_100, 48_000), (48_000, 44_100), (16_000, 48_000), (44_100, 16_000)])
def test_resample_keeps_time_pitch_and_level(source, target):
    num_samples = source * 2
    tone = 0.5 * torch.sin(2 * math.pi * 440 * torch.arange(num_samples) / source)
    made = resample(AudioClip(torch.stack([tone, -tone]), source), target)
    assert made.sample_rate == target and made.waveform.shape == (2, target * 2)
    expected = 0.5 * torch.sin(2 * math.pi * 440 * torch.arange(target * 2) / target)
    middle = slice(500, -500)
    assert float((made.waveform[0, middle] - expected[middle]).abs().max()) < 2e-3
    assert torch.allclose(made.waveform[0], -made.waveform[1], atol=1e-6)


def test_resample_is_long_enough_for_long_sounds_and_exact_when_asked():
    click = torch.zeros(1, 300_000)
    click[0, 250_000] = 1
    made = resample(AudioClip(click, 44_100), 48_000, num_samples=326_000)
    assert made.waveform.shape == (1, 326_000)
    assert abs(int(made.waveform.argmax()) - 250_000 * 48_000 / 44_100) <= 1


def test_resample_to_the_same_rate_is_no_change():
    sound = AudioClip(torch.rand(1, 50), 44_100)
    assert resample(sound, 44_100) is sound


def test_to_stereo():
    mono = AudioClip(torch.rand(1, 50), 44_100)
    stereo = to_stereo(mono)
    assert stereo.waveform.shape == (2, 50) and torch.equal(stereo.waveform[0], stereo.waveform[1])
    assert to_stereo(stereo) is stereo


def test_limit_peak():
    quiet = AudioClip(torch.tensor([[0.5, -1.0]]), 44_100)
    assert limit_peak(quiet) == (quiet, 0.0)
    lowered, gain_db = limit_peak(AudioClip(torch.tensor([[1.0, -4.0]]), 44_100))
    assert lowered.waveform.tolist() == [[0.25, -1.0]] and gain_db == pytest.approx(-12.04, abs=0.01)
