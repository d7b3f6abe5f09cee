"""Noise: one CPU generator, audio first, whatever the device."""

from __future__ import annotations

import pytest
import torch
from sounding_video.core.errors import InputError
from sounding_video.sampling.noise import MAX_SEED, draw_noise

VIDEO, AUDIO = (1, 4, 3, 6, 8), (1, 6, 13)


@pytest.mark.parametrize("seed", [0, 1234, 2**63, MAX_SEED])
def test_audio_is_drawn_first_and_then_video(seed):
    generator = torch.Generator("cpu").manual_seed(seed)
    audio = torch.randn(AUDIO, generator=generator)
    video = torch.randn(VIDEO, generator=generator)
    drawn = draw_noise(seed, video_shape=VIDEO, audio_shape=AUDIO)
    assert torch.equal(drawn.audio, audio)
    assert torch.equal(drawn.video, video)


def test_video_alone_takes_the_first_numbers():
    drawn = draw_noise(5, video_shape=VIDEO)
    assert drawn.audio is None
    assert torch.equal(drawn.video, torch.randn(VIDEO, generator=torch.Generator("cpu").manual_seed(5)))


def test_default_device_and_dtype_do_not_change_the_numbers():
    expected = draw_noise(5, video_shape=VIDEO, audio_shape=AUDIO)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            drawn = draw_noise(5, video_shape=VIDEO, audio_shape=AUDIO)
    finally:
        torch.set_default_dtype(torch.float32)
    assert drawn.video.device.type == "cpu"
    assert drawn.video.dtype == torch.float32
    assert torch.equal(drawn.video, expected.video)
    assert torch.equal(drawn.audio, expected.audio)


def test_global_generator_is_left_alone():
    state = torch.random.get_rng_state()
    draw_noise(5, video_shape=VIDEO)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1, 1.0, True, "7", None])
def test_unusable_seed_is_refused_with_the_range(seed):
    with pytest.raises(InputError, match=r"the seed cannot be used: got .*expected a whole number from 0 to 1844674"):
        draw_noise(seed, audio_shape=AUDIO)


def test_nothing_to_draw_and_wrong_dimensions_are_refused():
    with pytest.raises(InputError, match="nothing to generate"):
        draw_noise(0)
    with pytest.raises(InputError, match="B C T H W"):
        draw_noise(0, video_shape=(4, 3, 6, 8))
