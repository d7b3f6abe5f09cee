"""A cascade whose towers are told frame by frame: laws 10, 11 and 13 of SAVA's reference for the second way."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
from small_models import random_texts, write_alignment
from sounding_video.cli import main
from sounding_video.core.device import resolve_placement
from sounding_video.core.errors import IncompatibleWeightsError, InputError
from sounding_video.core.pair import MODALITIES, OTHER
from sounding_video.core.types import ModalityConditioning
from sounding_video.media.probe import read_clip
from sounding_video.models.alignment.condition import conditioned, reading
from sounding_video.models.alignment.selective import Alignment
from sounding_video.models.weights.alignment import load_alignment, save_alignment
from sounding_video.pipeline import load_models, sample_latents
from sounding_video.tasks.base import made_alone
from sounding_video.tasks.cascade import cascade_latents
from sounding_video.tasks.reading import Reading

BOTH = pytest.mark.parametrize("given", MODALITIES)


@pytest.fixture(scope="module")
def model(small_models_dir):
    return load_models(small_models_dir, placement=resolve_placement(device="cpu"), bridge="none")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alignment")
    return write_alignment(folder / "frames.safetensors", reads=MODALITIES, frames=MODALITIES)


def latents(side: str, batch: int = 1) -> torch.Tensor:
    shape = {"video": (4, 3, 4, 4), "audio": (6, 300)}[side]
    return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(1))


@BOTH
def test_law_10_texts_stay_as_they_are_and_strength_leads_from_nothing_to_the_clip(loaded, given: str) -> None:
    plain, made = random_texts(), OTHER[given]

    def frames(strength: float):
        told = conditioned(plain, loaded, given, latents(given), strength=strength)
        before, after = getattr(plain, made), getattr(told, made)
        assert after.positive is before.positive and after.negative is before.negative
        assert getattr(told, given) is getattr(plain, given), "the given side is told nothing"
        return after.frames

    null = loaded.alignment.reader_for(made).null
    assert torch.equal(frames(0).positive, null.expand(1, 3, -1))
    assert torch.equal(frames(1).negative, null.expand(1, 3, -1))
    torch.testing.assert_close(frames(0.25).positive, 0.75 * frames(0).positive + 0.25 * frames(1).positive)
    assert len(frames(1).positive[0].unique(dim=0)) == 3, "each moment has its own"
    assert (frames(1).num_steps is None) == (made == "audio")


@BOTH
def test_law_10_a_reader_that_learned_nothing_leaves_the_tower_as_it_is(run, timeline, loaded, tmp_path, given) -> None:
    """To the bit, at any strength: nothing is added to the text."""
    save_alignment(tmp_path / "new.safetensors", Alignment(loaded.alignment.config))
    new = replace(run, reading=Reading(load_alignment(tmp_path / "new.safetensors"), strength=0.7))
    conditioning, side = run.conditioning(timeline), OTHER[given]
    alone = made_alone(new, side, timeline, conditioning)
    assert torch.equal(made_alone(new, side, timeline, conditioning, told_of=latents(given)), alone)
    assert not torch.equal(made_alone(run, side, timeline, conditioning, told_of=latents(given)), alone)


def test_law_13_the_sound_of_there_and_back_is_that_of_one_way(run, timeline) -> None:
    one_way, back = (cascade_latents(run, timeline, order) for order in ("video-first", "both-ways"))
    assert torch.equal(back.audio, one_way.audio) and not torch.equal(back.video, one_way.video)
    first = made_alone(run, "video", timeline, run.conditioning(timeline))
    assert torch.equal(one_way.video, first)


def test_one_side_may_be_told_by_tokens_and_the_other_frame_by_frame(run, timeline, tmp_path) -> None:
    mixed = load_alignment(write_alignment(tmp_path / "x.safetensors", reads=MODALITIES, frames=("video",)))
    assert (mixed.alignment.way("video"), mixed.alignment.way("audio")) == ("frames", "tokens")
    made = cascade_latents(replace(run, reading=Reading(mixed)), timeline, "both-ways")
    assert torch.isfinite(made.video).all() and torch.isfinite(made.audio).all()


@BOTH
def test_batched_and_sequential_guidance_say_the_same(run, timeline, given: str) -> None:
    conditioning, made = run.conditioning(timeline), []
    for batching in ("batched", "sequential"):
        way = replace(run, options=replace(run.options, guidance_batching=batching))
        made.append(made_alone(way, OTHER[given], timeline, conditioning, told_of=latents(given)))
    torch.testing.assert_close(*made, rtol=1e-4, atol=1e-5)


def test_several_clips_are_told_each_its_own(loaded) -> None:
    three = conditioned(random_texts(), loaded, "video", latents("video", 3)).audio
    assert three.frames.positive.shape == (3, 3, 32) and three.positive.shape[0] == 1
    two = replace(random_texts(), audio=ModalityConditioning(torch.zeros(2, 7, 16)))
    with pytest.raises(InputError, match="2 captions and 3 clips"):
        conditioned(two, loaded, "video", latents("video", 3))


def test_a_picture_of_another_length_than_it_was_told_is_refused(model, run, timeline, loaded) -> None:
    told = conditioned(run.conditioning(timeline), loaded, "audio", latents("audio"), num_frames=3)
    alone = model.alone("video")
    with pytest.raises(InputError, match=r"made for another length: got 5 latent steps; expected 3"):
        sample_latents(alone, told, video_shape=(1, 4, 5, 4, 4), audio_shape=None, options=run.options)
    longer = conditioned(run.conditioning(timeline), loaded, "video", latents("video"))
    made = sample_latents(model.alone("audio"), longer, video_shape=None, audio_shape=(1, 6, 250), options=run.options)
    assert made.audio.shape == (1, 6, 250), "a sound's steps are of any rate"


def test_windows_are_refused(model, run, timeline, loaded) -> None:
    told = conditioned(run.conditioning(timeline), loaded, "video", latents("video"))
    options = replace(run.options, windows="given", window_seconds=0.6, overlap_seconds=0.2)
    with pytest.raises(InputError, match=r"is told of the whole clip: got \d+ windows"):
        sample_latents(model.alone("audio"), told, video_shape=None, audio_shape=(1, 6, 900), options=options)


def test_windows_are_refused_where_tokens_tell_of_the_whole_clip_too(run, timeline, tmp_path) -> None:
    tokens = load_alignment(write_alignment(tmp_path / "tokens.safetensors", reads=MODALITIES))
    told = conditioned(run.conditioning(timeline), tokens, "video", latents("video"))
    assert told.audio.frames is None
    options = replace(run.options, windows="given", window_seconds=0.6, overlap_seconds=0.2)
    with pytest.raises(InputError, match=r"is told of the whole clip: got \d+ windows"):
        sample_latents(run.model.alone("audio"), told, video_shape=None, audio_shape=(1, 6, 900), options=options)


@BOTH
def test_a_stream_of_another_width_is_refused(model, loaded, tmp_path, given: str) -> None:
    made = OTHER[given]
    wide = replace(loaded.alignment.config, **{f"{made}_stream_width": 40})
    save_alignment(tmp_path / "wide.safetensors", Alignment(wide))
    other = load_alignment(tmp_path / "wide.safetensors")
    with pytest.raises(IncompatibleWeightsError, match=rf"another {made} tower: got a stream of width 40 in .*wide"):
        reading(model.alone(made), other, made)
    with pytest.raises(IncompatibleWeightsError, match="a stream of width 40"):
        Reading(other).require(model, made)


def test_generate_makes_a_cascade_of_it(small_models_dir, path, tmp_path, capsys) -> None:
    models = shutil.copytree(small_models_dir, tmp_path / "models")
    shutil.copy(path, models / "alignment.safetensors")
    words = ("--frames", "9", "--size", "32x32", "--steps", "2", "--device", "cpu", "--no-expand")
    target = tmp_path / "clip.mp4"
    order = ("--cascade", "both-ways")
    assert main(["generate", "a ball", "-o", str(target), "--models", str(models), *order, *words]) == 0
    told = "".join(capsys.readouterr())
    assert "read by the picture's tower, frame by frame and the sound's tower, frame by frame" in told
    assert read_clip(target).audio is not None
