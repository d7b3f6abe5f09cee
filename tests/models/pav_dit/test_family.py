"""PAV-DiT as a family: from its folder to a clip; laws 13 and 14 of its reference."""

from __future__ import annotations

import importlib
import json
import shutil
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from small_models import PAV_GRID, PAV_TEXT, write_pav_dit_folder
from sounding_video.core.clock import Timeline
from sounding_video.core.device import resolve_placement
from sounding_video.core.errors import GeometryError, IncompatibleWeightsError, InputError, SoundingVideoError
from sounding_video.core.pair import Pair
from sounding_video.core.types import AudioClip, AVClip, Captions, JointLatents, Modality, VideoClip
from sounding_video.forecast import forecast_of
from sounding_video.models.conditioning import ConditioningCache
from sounding_video.models.families import FAMILIES
from sounding_video.models.loading import find_model, load_models, outline_found
from sounding_video.models.plan.fit import noted
from sounding_video.models.plan.needs import Needs, Workload
from sounding_video.pipeline import SamplingOptions, encode_captions, generate, sample_latents
from sounding_video.sampling.given import Given

CPU = resolve_placement(device="cpu")
CAPTIONS = Captions("a dog runs", "a dog barks")
LENGTH = 6 + 12 + 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_pav_dit_folder(tmp_path_factory.mktemp("models") / "planes")


@pytest.fixture(scope="module")
def model(folder):
    return load_models(folder, placement=CPU)


@pytest.fixture(scope="module")
def timeline(model):
    own = model.own
    return Timeline(own.num_frames, own.fps, own.width, own.height, model.geometry)


def clip(frames=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    picture = VideoClip(torch.rand(frames, 16, 24, 3, generator=generator), Fraction(8))
    return AVClip(picture, AudioClip(0.3 * torch.randn(2, 3600, generator=generator), 3600))


def settings(model, **options):
    own = model.own
    return SamplingOptions(num_steps=2, schedule=own.schedule, solver=own.solver, flow_shift=own.flow_shift, **options)


def made(model, timeline, captions=CAPTIONS, **options):
    return generate(model, captions, timeline=timeline, options=settings(model, **options), cache=ConditioningCache())


def sampled(model, timeline, given=None, **options):
    shapes = model.shapes(timeline)
    conditioning = encode_captions(*model.texts, CAPTIONS, seconds=1.0, placement=CPU)
    shapes = {"video_shape": shapes.video, "audio_shape": shapes.audio}
    return sample_latents(model, conditioning, options=settings(model, **options), given=given, **shapes)


def test_it_says_what_it_was_made_for(model, timeline, folder, tmp_path):
    own = model.own
    assert find_model(folder).family == "pav_dit" and find_model(folder).own == own
    assert (own.num_frames, own.fps, own.width, own.height, own.num_steps) == (8, 8, 24, 16, 3)
    assert (own.schedule, own.solver, own.flow_shift, own.video_guidance_scale) == ("coupled", "euler", 1.0, 3.0)
    assert model.shapes(timeline) == Pair((1, 4, 1, 1, LENGTH), (1, 4, LENGTH)) and timeline.num_samples == 3600
    assert model.description == "planes (PAV-DiT); UNTRAINED weights"
    for note, steps, trained in (({"trained": True, "num_steps": 7}, 7, True), ({}, 30, False), (None, 30, False)):
        where = shutil.copytree(folder, tmp_path / str(note))
        (where / "model.json").unlink()
        if note is not None:
            (where / "model.json").write_text(json.dumps(note))
        loaded = load_models(where, placement=CPU)
        assert (loaded.own.num_steps, loaded.trained, loaded.own.num_frames) == (steps, trained, 8)


def test_text_to_a_clip_with_sound(model, timeline):
    first, again, other = made(model, timeline), made(model, timeline), made(model, timeline, seed=1)
    assert first.video.frames.shape == (8, 16, 24, 3) and first.audio.waveform.shape == (2, 3600)
    assert first.audio.sample_rate == 3600 and 0 <= first.video.frames.min() <= first.video.frames.max() <= 1
    assert torch.equal(again.video.frames, first.video.frames) and torch.equal(
        again.audio.waveform, first.audio.waveform
    )
    assert not torch.equal(other.video.frames, first.video.frames)
    heard = made(model, timeline, replace(CAPTIONS, audio="rain"))
    assert not torch.equal(heard.video.frames, first.video.frames), "the picture knows what is heard"


def test_silent_and_blind(model, timeline):
    options = settings(model)
    shape, texts = model.shapes(timeline).video, encode_captions(*model.texts, CAPTIONS, seconds=1.0, placement=CPU)
    alone = sample_latents(model, replace(texts, audio=None), video_shape=shape, audio_shape=None, options=options)
    silent = model.decode(alone, fps=timeline.fps)
    blind = generate(model, CAPTIONS, timeline=timeline, options=options, with_picture=False)
    assert silent.audio is None and silent.video.frames.shape == (8, 16, 24, 3)
    assert blind.video is None and blind.audio.waveform.shape == (2, 3600)


@pytest.mark.parametrize("side", ["video", "audio"])
@pytest.mark.parametrize("how", ["replace", "fixed"])
def test_what_is_given_stays_and_the_other_side_follows_it(model, timeline, side, how):
    known = model.encode(clip(), timeline)
    other = "audio" if side == "video" else "video"
    results = []
    for latents in (getattr(known, side), getattr(known, side) + 1):
        result = sampled(model, timeline, Pair(**{side: Given(latents, how=how)}))
        assert torch.equal(getattr(result, side), latents) and getattr(result, other).isfinite().all()
        results.append(getattr(result, other))
    assert not torch.equal(*results)


def test_latents_are_the_normalised_means_and_come_back(model, timeline):
    whole, known = model.whole.model, model.encode(clip(), timeline)
    face = model.codecs.video
    assert torch.allclose(face.from_raw(face.to_raw(known.video)), known.video, atol=1e-5)
    assert torch.equal(face.decode(face.to_raw(known.video), raw=True), face.decode(known.video))
    with pytest.raises(GeometryError):
        face.decode(face.to_raw(known.video)[..., :-1], raw=True)
    both = model.codecs.map(lambda codec: codec.to_raw(getattr(known, codec.side)))
    for raw, made in zip(
        model.codecs.video.whole.decode_both(both.video, both.audio, raw=True),
        model.codecs.video.whole.decode_both(known.video, known.audio),
        strict=True,
    ):
        assert torch.equal(raw, made)
    moments = whole.encode(video=2 * clip().video.frames.permute(3, 0, 1, 2)[None] - 1).video
    assert torch.allclose(face.to_raw(known.video).flatten(2), whole.latents(moments), atol=1e-5)
    mono = replace(clip(), audio=AudioClip(clip().audio.waveform[:1], 3600))
    assert model.encode(mono, timeline).audio.shape == known.audio.shape
    with noted() as notes:
        both, alone = model.decode(known, fps=8), model.decode(JointLatents(known.video), fps=8)
    assert not torch.equal(both.video.frames, alone.video.frames)
    assert "the picture is decoded without the sound" in notes[0]


def test_law_13_steps_are_even_and_a_constant_velocity_is_walked_exactly(model, timeline):
    seen, target = [], {}

    def tell(_, args, output):
        seen.append([float(one.timestep[0]) for one in args])
        if not target:  # noise minus what the first step aims at; the same for all steps
            target.update(zip(("video", "audio"), (torch.ones_like(one) for one in output), strict=True))
        return target["video"], target["audio"]

    handle = model.root.register_forward_hook(tell)
    options = settings(model, video_guidance_scale=1.0, audio_guidance_scale=1.0)
    shapes = model.shapes(timeline)
    conditioning = encode_captions(*model.texts, CAPTIONS, seconds=1.0, placement=CPU)
    asked = {"video_shape": shapes.video, "audio_shape": shapes.audio}
    ways = [sample_latents(model, conditioning, options=replace(options, num_steps=n), **asked) for n in (30, 3)]
    handle.remove()
    assert all(one[0] == one[1] for one in seen), "one time for both"
    assert [one[0] for one in seen[:30]] == pytest.approx([1000 * (1 - k / 30) for k in range(30)], abs=1.5)
    assert torch.allclose(ways[0].video, ways[1].video, atol=1e-3) and torch.allclose(
        ways[0].audio, ways[1].audio, atol=1e-3
    )


def test_law_14_guidance_is_a_row_more_and_modality_guidance_the_model_without_the_other_side(model, timeline):
    rows = []
    handle = model.root.register_forward_pre_hook(
        lambda _, args: rows.append(tuple(None if one is None else len(one.latents) for one in args))
    )
    for scales, modality, wanted in (
        ((3.0, 3.0), 1.0, [(2, 2)]),
        ((1.0, 1.0), 1.0, [(1, 1)]),
        ((1.0, 1.0), 2.0, [(1, 1), (1, None), (None, 1)]),
    ):
        rows.clear()
        sampled(model, timeline, video_guidance_scale=scales[0], audio_guidance_scale=scales[1],
                video_modality_scale=modality, audio_modality_scale=modality, guidance_batching="batched")  # fmt: skip
        assert rows == wanted * 2, "two steps"
    handle.remove()


def test_picture_and_sound_can_be_kept_apart_to_see_what_planes_do(model, timeline, root, monkeypatch):
    """As the benchmark does, whose figure without that attention has to be chance."""
    monkeypatch.syspath_prepend(str(root / "benchmarks" / "pocket"))
    apart = importlib.import_module("pav_dit").apart
    latents = model.encode(clip(), timeline)
    text = torch.randn(1, 5, PAV_TEXT, generator=torch.Generator().manual_seed(0))
    sides = [Modality(one, torch.tensor([500.0]), text) for one in (latents.video, latents.audio)]
    other = replace(sides[1], latents=sides[1].latents + 1)
    with torch.no_grad():
        together = [model.root(sides[0], sound)[0] for sound in (sides[1], other)]
        with apart(model):
            alone = [model.root(sides[0], sound)[0] for sound in (sides[1], other)]
        again = model.root(*sides)[0]
    assert not torch.allclose(*together, atol=1e-4) and torch.equal(*alone) and alone[0].isfinite().all()
    assert torch.equal(again, together[0]) and not torch.allclose(alone[0], together[0], atol=1e-4)


def test_it_is_planned_before_and_after_loading(model, folder, timeline):
    told = forecast_of(replace(model, placement=replace(CPU, offload="auto")))
    assert told["fits"] and told["clip"] == {"frames": 8, "width": 24, "height": 16}
    before, work = outline_found(find_model(folder), CPU), Workload(*model.shapes(timeline))
    assert Needs(before, work).weights() == Needs(model.outline(), work).weights()
    assert before.geometry == model.geometry
    for stage in before.stages(work):
        assert before.cost(stage, work, batched=False, tiling="off").operations > 0
    half = outline_found(find_model(folder), replace(CPU, dtype=torch.bfloat16)).parts()
    assert {name: part.dtype for name, part in half.items()} == {
        "transformer": torch.bfloat16, "text": torch.bfloat16, "autoencoder": torch.float32,
    }  # fmt: skip


def test_in_bfloat16_it_makes_a_clip_too(folder, timeline):
    model = load_models(folder, placement=replace(CPU, dtype=torch.bfloat16))
    assert made(model, timeline).video.frames.isfinite().all()


def test_another_extent_or_rate_is_refused_with_the_one_that_fits(model):
    with pytest.raises(GeometryError, match="one length and size: got 9 frames of 24×16; expected 8 frames of 24×16"):
        Timeline(9, 8, 24, 16, model.geometry)
    with pytest.raises(
        GeometryError, match=r"clips of one rate: got 0\.5 s for 8 frames; expected 8 frames per second"
    ):
        Timeline(8, 16, 24, 16, model.geometry).audio_latent_shape  # noqa: B018
    with pytest.raises(InputError, match="planes hold a clip as a whole: got tiling on"):
        model.codecs.video.decode(torch.zeros(1, 4, 1, 1, LENGTH), tiling="on")
    with pytest.raises(GeometryError, match="expected L = 26 for T 4, h 2, w 3"):
        model.codecs.audio.decode(torch.zeros(1, 4, LENGTH + 1))
    with pytest.raises(GeometryError, match=r"got \(1, 5, 26\); expected L = 26 for T 4, h 2, w 3, 4 channels"):
        model.codecs.audio.decode(torch.zeros(1, 5, LENGTH))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"storage": "fp8"}, "cannot keep its weights so: got storage fp8"),
        ({"offload": "group"}, "cannot be moved so: got offload group"),
        ({"attention": "sage"}, "masks what was padded: got attention sage; expected auto or sdpa"),
    ],
)
def test_what_it_does_not_offer_is_refused(folder, changes, sentence):
    with pytest.raises(InputError, match=sentence):
        load_models(folder, placement=replace(CPU, **changes))


def test_parts_of_other_models_are_refused(folder, tmp_path):
    where = shutil.copytree(folder, tmp_path / "mixed")
    config = json.loads((where / "autoencoder" / "config.json").read_text())
    for grid, sound in (([8, *PAV_GRID[1:]], {"hop": 50}),):
        changed = {**config, "grid": grid, "sound": {**config["sound"], **sound}}
        (where / "autoencoder" / "config.json").write_text(json.dumps(changed))
        with pytest.raises(IncompatibleWeightsError):
            load_models(where, placement=CPU)
    shutil.rmtree(where / "tokenizer")
    with pytest.raises(SoundingVideoError):
        load_models(where, placement=CPU)
    assert FAMILIES.get("pav_dit")().recognise(where).family == "pav_dit"
    (where / "transformer" / "config.json").write_text("{")
    assert FAMILIES.get("pav_dit")().recognise(where) is None
