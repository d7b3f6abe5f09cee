"""The seconds of latent steps on their way: from a timeline through the pipeline to the bridges."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from sounding_video.core.clock import ClipTimes, Timeline
from sounding_video.core.device import resolve_placement
from sounding_video.core.types import Captions
from sounding_video.models.bridges.base import Bridge
from sounding_video.pipeline import JoinedModel, SamplingOptions, encode_captions, generate, load_models, sample_latents

CAPTIONS = Captions("a ball", "a knock")
FAST = SamplingOptions(num_steps=2, audio_modality_scale=2.0, video_guidance_scale=2.0, audio_guidance_scale=1.0)


@pytest.fixture(scope="module")
def model(small_models_dir: Path) -> JoinedModel:
    return load_models(small_models_dir, placement=resolve_placement(device="cpu", dtype="float32"))


@pytest.fixture
def seen(model: JoinedModel) -> Callable[[], set[ClipTimes]]:
    """What the bridges were told since the last look."""
    told: list[ClipTimes] = []

    def look(bridge: Bridge, args: tuple) -> None:
        told.append(ClipTimes(args[0].video_grid.times, args[0].audio_grid.times))

    hooks = [bridge.register_forward_pre_hook(look) for bridge in model.joint.bridges]

    def taken() -> set[ClipTimes]:
        times = set(told)
        told.clear()
        return times

    yield taken
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("batching", ["batched", "sequential"])
@pytest.mark.parametrize("fps", [Fraction(15), Fraction(24000, 1001)])
def test_a_clip_is_made_on_its_own_clock(model, seen, fps, batching) -> None:
    timeline = Timeline(9, fps, 32, 32, model.geometry)
    options = SamplingOptions(**{**vars(FAST), "guidance_batching": batching})
    generate(model, CAPTIONS, timeline=timeline, options=options)
    assert seen() == {timeline.times}
    assert timeline.times.audio.step == Fraction(16, 8000), "of this model's codec, not the published one"


def test_bare_shapes_go_by_their_counts_in_the_model_s_own_geometry(model, seen) -> None:
    timeline = Timeline(9, 15, 32, 32, model.geometry)
    shapes = (1, *timeline.video_latent_shape), (1, *timeline.audio_latent_shape)
    texts = encode_captions(model.video, model.audio, CAPTIONS, seconds=0.6, placement=model.placement)
    given = {"video_shape": shapes[0], "audio_shape": shapes[1], "options": FAST}
    bare = sample_latents(model, texts, **given)
    (times,) = seen()
    assert times == model.geometry.times_from_counts(3, shapes[1][2])
    apart = times.video.edge(3) - timeline.times.video.edge(3)
    assert 0 < abs(apart) <= times.audio.step / 2
    told = sample_latents(model, texts, **given, times=timeline.times)
    assert seen() == {timeline.times}
    assert torch.equal(bare.video, told.video) and torch.equal(bare.audio, told.audio), "official positions do not care"


def test_one_modality_alone_needs_no_clock(model, seen) -> None:
    texts = encode_captions(model.video, model.audio, CAPTIONS, seconds=0.6, placement=model.placement)
    assert sample_latents(model, texts, video_shape=None, audio_shape=(1, 6, 40), options=FAST).video is None
    assert seen() == set()
