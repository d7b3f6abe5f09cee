"""Stage values refuse what the next stage could not use, and say so."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction

import pytest
import torch
from sounding_video.core.errors import GeometryError, InputError, NonFiniteError
from sounding_video.core.types import (
    AudioClip,
    AVClip,
    Captions,
    Conditioning,
    JointLatents,
    ModalityConditioning,
    VideoClip,
    require_finite,
)

FRAMES = torch.zeros(5, 4, 6, 3)
WAVEFORM = torch.zeros(2, 100)


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: VideoClip(torch.zeros(4, 6, 3), 15), "the frames tensor has the wrong shape"),
        (lambda: VideoClip([1, 2], 15), "a tensor (F H W C)"),
        (lambda: VideoClip(torch.zeros(5, 4, 6, 4), 15), "frames must be at least one RGB picture"),
        (lambda: VideoClip(torch.zeros(0, 4, 6, 3), 15), "frames must be at least one RGB picture"),
        (lambda: VideoClip(torch.zeros(5, 4, 6, 3, dtype=torch.uint8), 15), "floating point numbers in 0..1"),
        (lambda: AudioClip(torch.zeros(100), 44_100), "the waveform has the wrong shape"),
        (lambda: AudioClip(torch.zeros(6, 100), 44_100), "mono or stereo: got 6 channels"),
        (lambda: AudioClip(torch.zeros(2, 100, dtype=torch.int16), 44_100), "the waveform must be floating point"),
        (lambda: AudioClip(WAVEFORM, 44_100.0), "the sample rate is not usable: got 44100.0"),
        (lambda: AudioClip(WAVEFORM, 0), "a whole number of Hz"),
        (lambda: AudioClip(WAVEFORM, True), "the sample rate is not usable"),
        (lambda: AVClip(), "a clip needs a picture, a sound or both"),
        (lambda: JointLatents(), "nothing to generate"),
        (lambda: JointLatents(video=torch.zeros(1, 16, 3, 4)), "the video latent has the wrong shape"),
        (lambda: JointLatents(audio=torch.zeros(64, 7)), "a tensor (B C L)"),
        (lambda: ModalityConditioning(torch.zeros(3, 8)), "the positive text embedding has the wrong shape"),
        (lambda: ModalityConditioning(torch.zeros(1, 3, 8), torch.zeros(1, 4, 8)), "does not match the positive one"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_where_it_is_made(build, sentence):
    with pytest.raises(InputError) as caught:
        build()
    assert sentence in str(caught.value)


def test_a_clip_needs_a_real_frame_rate():
    with pytest.raises(GeometryError, match="the frame rate is out of range"):
        VideoClip(FRAMES, 0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_values_are_counted(bad):
    tensor = torch.zeros(2, 5)
    require_finite("the video latent", tensor)
    tensor[1, 2:4] = bad
    with pytest.raises(NonFiniteError, match=r"the video latent contains NaN.*2 of 10 values.*Use float32\."):
        require_finite("the video latent", tensor, "Use float32.")


def test_lengths_are_exact():
    clip = AVClip(VideoClip(FRAMES, "30000/1001"), AudioClip(WAVEFORM, 44_100))
    assert clip.video.seconds == Fraction(5 * 1001, 30000)
    assert clip.audio.seconds == Fraction(100, 44_100)
    assert clip.num_samples == round(5 * 1001 / 30000 * 44_100)
    assert AVClip(video=clip.video).num_samples is None
    assert AVClip(audio=clip.audio).num_samples is None


def test_a_modality_may_be_absent():
    assert JointLatents(video=torch.zeros(1, 4, 2, 2, 2)).audio is None
    assert JointLatents(audio=torch.zeros(1, 4, 2)).video is None
    assert Conditioning().video is None


@pytest.mark.parametrize(
    "value", [Captions("a", "b"), VideoClip(FRAMES, 15), AudioClip(WAVEFORM, 8000), Conditioning()], ids=type
)
def test_values_are_frozen(value):
    name = dataclasses.fields(value)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, name, None)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_one_number_that_is_none_is_found(dtype) -> None:
    for bad in (math.nan, math.inf, -math.inf):
        tensor = torch.randn(3, 50).to(dtype)
        require_finite("it", tensor)
        tensor[2, 7] = bad
        with pytest.raises(NonFiniteError, match="got 1 of 150 values"):
            require_finite("it", tensor)
    require_finite("nothing", torch.zeros(2, 0, dtype=dtype))
