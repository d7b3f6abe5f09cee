"""A stop is honoured within one layer of any stage, and within one tensor of any file: a law over all of them."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest
import torch
from sounding_video import pipeline, previews
from sounding_video.core.clock import Timeline
from sounding_video.core.device import resolve_placement
from sounding_video.core.errors import Cancelled
from sounding_video.core.progress import SILENT, Progress, ask_to_stop, can_be_stopped, stoppable
from sounding_video.core.types import AudioClip, AVClip, Captions, JointLatents, VideoClip
from sounding_video.models.clip_encoding import encode_clip
from sounding_video.models.conditioning import ConditioningCache
from sounding_video.models.weights.find import find_models
from sounding_video.models.weights.load import load_stable_audio, load_wan
from sounding_video.pipeline import SamplingOptions

TEXTS = Captions("a dog", "a bark")


@pytest.fixture(scope="module")
def loaded(small_models_dir):
    return pipeline.load_models(small_models_dir, placement=replace(resolve_placement(device="cpu"), offload="none"))


@pytest.fixture
def model(request, loaded):
    """With the offload that the test's case names: streamed layers are other hooks' business, too."""
    return replace(loaded, placement=replace(loaded.placement, offload=getattr(request, "param", "none")))


@pytest.fixture(scope="module")
def timeline(loaded):
    return Timeline(9, 15, 32, 32, loaded.geometry)


@pytest.fixture(scope="module")
def given(loaded, timeline):
    """What the later stages begin with."""
    model = loaded
    torch.manual_seed(0)
    latents = JointLatents(torch.randn(1, *timeline.video_latent_shape), torch.randn(1, *timeline.audio_latent_shape))
    texts = pipeline.encode_captions(
        model.video, model.audio, TEXTS, seconds=0.6, placement=model.placement, cache=ConditioningCache()
    )
    return texts, latents


def encode(model, given, timeline, progress):
    cache = ConditioningCache()  # nothing is known
    rest = {"seconds": 0.6, "placement": model.placement, "cache": cache, "progress": progress}
    return pipeline.encode_captions(model.video, model.audio, TEXTS, **rest)


def sample(model, given, timeline, progress):
    shapes = {
        "video_shape": (1, *timeline.video_latent_shape),
        "audio_shape": (1, *timeline.audio_latent_shape),
        "options": SamplingOptions(num_steps=2, audio_modality_scale=2.0),
    }
    return pipeline.sample_latents(model, given[0], **shapes, progress=progress)


def decode(model, given, timeline, progress, **one):
    codecs = {"video_codec": model.video.codec, "audio_codec": model.audio.codec}
    rest = {"fps": timeline.fps, "placement": model.placement, "progress": progress, **one}
    return pipeline.decode_latents(given[1], **codecs, **rest)


def decode_in_tiles(model, given, timeline, progress):
    return decode(model, given, timeline, progress, tiling="on")


def encode_picture_and_sound(model, given, timeline, progress):
    clip = AVClip(
        VideoClip(torch.rand(timeline.num_frames, timeline.height, timeline.width, 3), timeline.fps),
        AudioClip(torch.rand(2, timeline.num_samples) - 0.5, timeline.geometry.sample_rate),
    )
    codecs = {"video_codec": model.video.codec, "audio_codec": model.audio.codec}
    return encode_clip(clip, timeline, **codecs, placement=model.placement, progress=progress)


def fit_preview(model, given, timeline, progress):
    previews._PREVIEW_MAPS.clear()
    return pipeline.preview_maps(model, progress)


STAGES = {
    "encode": (encode, ("video.text.model", "audio.text.model", "audio.text.projection.text_projection")),
    "sample": (sample, ("joint.video", "joint.audio", "joint.bridges")),
    "decode": (decode, ("video.codec.vae.decoder", "audio.codec.vae.decoder")),
    "decode in tiles": (decode_in_tiles, ("video.codec.vae.decoder",)),
    "encode clip": (encode_picture_and_sound, ("video.codec.vae.encoder", "audio.codec.vae.encoder")),
    "preview": (fit_preview, ("video.codec.vae", "audio.codec.vae")),
}
# Codecs are never streamed.
CASES = [*(("none", stage) for stage in STAGES), ("sequential", "encode"), ("sequential", "sample")]
stages = pytest.mark.parametrize(("model", "stage"), CASES, indirect=["model"])


def part(model, path):
    for name in path.split("."):
        model = getattr(model, name)
    return model


@contextmanager
def watched(model, paths, seen):
    """Notes every layer that has computed."""
    with ExitStack() as hooks:
        for path in paths:
            for module in part(model, path).modules():
                if next(module.children(), None) is None:
                    hook = module.register_forward_hook(lambda *_, path=path: seen.append(path))
                    hooks.callback(hook.remove)
        yield


@stages
def test_each_layer_asks_before_it_computes(model, given, timeline, stage):
    run, paths = STAGES[stage]
    seen: list[str] = []
    with watched(model, paths, seen):
        run(model, given, timeline, Progress(check_cancelled=lambda: seen.append("?")))
    assert set(seen) - {"?"} == set(paths)
    unasked = [second for first, second in zip(["", *seen], seen, strict=False) if first != "?" != second]
    assert unasked == []


@stages
@pytest.mark.parametrize("share", [0.0, 0.6])
def test_a_stop_is_the_last_thing_that_happens(model, given, timeline, stage, share):
    """Whichever question is answered with a stop, no further layer computes and nothing stays behind."""
    run, paths = STAGES[stage]
    asked = 0

    def count():
        nonlocal asked
        asked += 1

    run(model, given, timeline, Progress(check_cancelled=count))
    seen: list[str] = []
    left = max(1, int(asked * share))

    def check():
        nonlocal left
        left -= 1
        if left <= 0:
            seen.append("stop")
            raise Cancelled

    roots = [part(model, path) for path in paths]
    before = [(len(m._forward_pre_hooks), len(m._forward_hooks)) for root in roots for m in root.modules()]
    with watched(model, paths, seen), pytest.raises(Cancelled):
        run(model, given, timeline, Progress(check_cancelled=check))
    assert seen.count("stop") == 1 and seen[-1] == "stop"
    after = [(len(m._forward_pre_hooks), len(m._forward_hooks)) for root in roots for m in root.modules()]
    assert after == before
    assert not can_be_stopped()


def test_nobody_listens_and_nothing_is_hooked(model, given, timeline):
    hooked = []
    layer = next(m for m in model.joint.modules() if isinstance(m, torch.nn.Linear))
    handle = layer.register_forward_pre_hook(lambda module, _: hooked.append(len(module._forward_pre_hooks)))
    sample(model, given, timeline, SILENT)
    handle.remove()
    assert set(hooked) == {1}


def test_the_result_is_the_same_whether_somebody_may_stop_or_not(model, given, timeline):
    alone = sample(model, given, timeline, SILENT)
    watched = sample(model, given, timeline, Progress(check_cancelled=lambda: None))
    assert torch.equal(alone.video, watched.video) and torch.equal(alone.audio, watched.audio)


@pytest.mark.parametrize("free_text", [False, True])
def test_loading_asks_at_every_tensor(small_models_dir, free_text):
    found, placement = find_models(small_models_dir), resolve_placement(device="cpu")
    for load, source in ((load_wan, found.video), (load_stable_audio, found.audio)):
        asked = 0

        def count():
            nonlocal asked
            asked += 1

        with stoppable(Progress(check_cancelled=count)):
            parts = load(source, placement, free_text=free_text)
            parts.text.encode(["a dog"])  # a text encoder that is read when it is used asks too
        tensors = sum(len(m.state_dict()) for m in (parts.tower, parts.codec, parts.text.model))
        assert asked >= tensors
        for stop_at in (1, asked // 3, 2 * asked // 3):
            left = stop_at

            def check():
                nonlocal left
                left -= 1
                if left <= 0:
                    raise Cancelled

            with stoppable(Progress(check_cancelled=check)), pytest.raises(Cancelled):
                load(source, placement, free_text=free_text).text.encode(["a dog"])
            assert left > -5, "nothing but tidying up went on after the stop"
            assert torch.is_grad_enabled(), "and what a library had switched off is on again"
    ask_to_stop()  # outside of a stage nobody is asked
