"""What a sampler node is given: tasks, ComfyUI's noise masks in every form, and results that keep the given numbers."""

from __future__ import annotations

import pytest
import torch
from sounding_video.core.errors import InputError
from sounding_video.nodes.given import BOTH, PICTURE, SOUND, given_latents, kept_as_given, noise_mask
from sounding_video.sampling.options import SamplingOptions

VIDEO, AUDIO = torch.rand(1, 4, 3, 6, 8) + 1, torch.rand(1, 6, 13) + 1
CLEAN = {"video": lambda samples: samples * 2, "audio": lambda samples: samples * 3}


def given(task=BOTH, *, video=None, audio=None, **options):
    latents = {"video": video or {"samples": VIDEO}, "audio": audio or {"samples": AUDIO}}
    return given_latents(task, latents, SamplingOptions(**options), CLEAN)


def test_a_task_takes_the_other_side_as_a_whole_in_the_towers_space():
    sound, picture, both = given(SOUND), given(PICTURE), given(BOTH)
    assert torch.equal(sound.video.latents, VIDEO * 2) and sound.video.is_whole and sound.audio is None
    assert torch.equal(picture.audio.latents, AUDIO * 3) and picture.audio.is_whole and picture.video is None
    assert (both.video, both.audio) == (None, None)


def test_the_options_say_how_it_is_shown():
    assert given(SOUND, given_how="fixed").video.time is None
    assert given(SOUND, given_how="fixed", given_time=0.2).video.time == 0.2


@pytest.mark.parametrize(
    ("mask", "kept"),
    [
        (torch.cat([torch.zeros(3, 8), torch.ones(3, 8)]), (slice(None), slice(0, 3))),  # (H, W)
        (torch.cat([torch.zeros(1, 3, 8), torch.ones(1, 3, 8)], 1), (slice(None), slice(0, 3))),  # (B, H, W)
        (torch.cat([torch.zeros(1, 6, 8), torch.ones(2, 6, 8)]), (slice(0, 1), slice(None))),  # one a latent frame
        (torch.cat([torch.zeros(1, 1, 1, 6, 8), torch.ones(1, 1, 2, 6, 8)], 2), (slice(0, 1), slice(None))),
        (torch.cat([torch.zeros(1, 1, 24, 64), torch.ones(1, 1, 24, 64)], 2), (slice(None), slice(0, 3))),  # in pixels
    ],
)
def test_a_noise_mask_keeps_what_it_leaves_out(mask, kept):
    known = given(video={"samples": VIDEO, "noise_mask": mask}).video
    expected = torch.zeros(1, 1, 3, 6, 8)
    expected[0, 0, kept[0], kept[1]] = 1
    assert torch.equal(known.mask.expand_as(expected), expected)


def test_a_sounds_mask_is_along_its_time():
    mask = torch.cat([torch.zeros(1, 5), torch.ones(1, 8)], 1)
    assert given(audio={"samples": AUDIO, "noise_mask": mask}).audio.mask.flatten().tolist() == [1.0] * 5 + [0.0] * 8
    assert noise_mask(torch.ones(1, 1, 26), AUDIO.shape).shape == (1, 1, 13)


def test_a_mask_that_keeps_nothing_gives_nothing_even_of_an_empty_latent():
    empty = {"samples": torch.zeros_like(AUDIO), "noise_mask": torch.ones(1, 1, 13)}
    assert given(audio=empty).audio is None


@pytest.mark.parametrize(
    ("task", "latents", "sentence"),
    [
        ("fill", {}, "unknown task: got 'fill'; expected one of both"),
        (SOUND, {"video": {"samples": torch.zeros_like(VIDEO)}}, "the video latent is empty"),
        (BOTH, {"audio": {"samples": torch.zeros_like(AUDIO), "noise_mask": torch.zeros(1, 1, 13)}}, "is empty"),
    ],
)
def test_what_cannot_be_given_is_told(task, latents, sentence):
    with pytest.raises(InputError, match=sentence):
        given(task, **latents)


def test_a_task_without_its_latent_is_told():
    with pytest.raises(InputError, match="the task needs a picture and none is connected"):
        given_latents(SOUND, {"video": None, "audio": {"samples": AUDIO}}, SamplingOptions(), CLEAN)


def test_results_keep_the_given_numbers_and_not_a_round_trips():
    made = torch.zeros(2, 4, 3, 6, 8)
    whole = given(SOUND).video
    assert torch.equal(kept_as_given(made, {"samples": VIDEO}, whole), VIDEO.expand(2, -1, -1, -1, -1))
    mask = torch.cat([torch.zeros(3, 8), torch.ones(3, 8)])
    part = given(video={"samples": VIDEO, "noise_mask": mask}).video
    result = kept_as_given(made, {"samples": VIDEO}, part)
    assert torch.equal(result[..., :3, :], VIDEO[..., :3, :].expand(2, -1, -1, -1, -1))
    assert not result[..., 3:, :].any()
    assert torch.equal(kept_as_given(made, None, None), made)
