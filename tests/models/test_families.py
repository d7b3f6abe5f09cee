"""Families: laws over all, and one that is added as a file and goes the whole way."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from lora_files import diffusers_with_metadata, factors
from sounding_video.core.clock import Timeline
from sounding_video.core.device import Placement, resolve_placement
from sounding_video.core.errors import GeometryError, InputError, MissingModelError
from sounding_video.core.pair import Pair
from sounding_video.core.progress import Progress
from sounding_video.core.types import AudioClip, AVClip, Captions, JointLatents, VideoClip
from sounding_video.forecast import forecast_of
from sounding_video.models.conditioning import ConditioningCache
from sounding_video.models.families import FAMILIES
from sounding_video.models.loading import family_of, find_model, found_folders, outline_found
from sounding_video.models.lora.files import read_lora
from sounding_video.models.plan import fit, runs
from sounding_video.models.plan.fit import noted
from sounding_video.models.plan.needs import STAGES, Needs, Workload
from sounding_video.models.plan.plans import plans
from sounding_video.models.weights.bridges import BridgeOptions
from sounding_video.pipeline import (
    SamplingOptions,
    add_lora,
    encode_captions,
    generate,
    join_towers,
    load_models,
    preview_maps,
    sample_latents,
)
from sounding_video.sampling.given import Given

CPU = resolve_placement(device="cpu")
CAPTIONS = Captions("a dog runs", "a dog barks")
FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")


@pytest.fixture
def model(throw_away_family):
    return load_models(throw_away_family, placement=CPU)


@pytest.fixture
def timeline(model):
    own = model.own
    return Timeline(own.num_frames, own.fps, own.width, own.height, model.geometry)


def made(model, timeline, captions=CAPTIONS, **options):
    options = SamplingOptions(num_steps=2, **options)
    return generate(model, captions, timeline=timeline, options=options, cache=ConditioningCache())


@pytest.mark.parametrize("name", FAMILIES.names())
def test_every_family_has_a_title_and_knows_no_folder_that_is_not_its_own(name, tmp_path):
    family = FAMILIES.get(name)()
    assert family.title
    for text in ("", "[]", "{", '{"_class_name": 3}', '{"_class_name": "SomebodyElsesModel"}'):
        config = tmp_path / "transformer" / "config.json"
        config.parent.mkdir(exist_ok=True)
        config.write_text(text)
        assert family.recognise(tmp_path) is None
    assert family.recognise(tmp_path / "not there") is None
    family.require(CPU, type("", (), {"bridge": "none", "bridge_options": BridgeOptions(), "free_text": False})())


def test_two_towers_are_a_family_like_any_other(small_models_dir):
    found = find_model(small_models_dir)
    assert find_model(found) is found and found.family in FAMILIES.names()
    recognised = family_of(found).recognise(small_models_dir)
    assert (recognised.video, recognised.audio, recognised.bridge) == (found.video, found.audio, found.bridge)
    assert family_of(found).recognise(small_models_dir / "wan") is None
    model = load_models(found, placement=CPU)
    timeline = Timeline(5, 15, 32, 32, model.geometry)
    assert model.shapes(timeline) == Pair((1, *timeline.video_latent_shape), (1, *timeline.audio_latent_shape))
    assert outline_found(found, CPU).geometry == model.geometry == model.outline().geometry
    alone = join_towers(model.video, None)
    assert alone.shapes(timeline).audio is None and not alone.makes("audio") and alone.texts.audio is None


def test_a_new_family_goes_the_whole_way(model, timeline):
    clip = made(model, timeline)
    assert clip.video.frames.shape == (5, 16, 16, 3) and clip.audio.sample_rate == 8000
    assert clip.audio.waveform.shape == (2, timeline.num_samples)
    again, other = made(model, timeline), made(model, timeline, seed=1)
    assert torch.equal(again.video.frames, clip.video.frames) and torch.equal(again.audio.waveform, clip.audio.waveform)
    assert not torch.equal(other.video.frames, clip.video.frames)
    heard = made(model, timeline, replace(CAPTIONS, audio="rain"))
    assert not torch.equal(heard.video.frames, clip.video.frames), "the picture knows what is heard"
    alone = generate(model, CAPTIONS, timeline=timeline, options=SamplingOptions(num_steps=2), with_picture=False)
    assert alone.video is None and alone.audio.waveform.shape == clip.audio.waveform.shape


@pytest.mark.parametrize(
    "options",
    [{"schedule": "coupled"}, {"schedule": "flow"}, {"solver": "unipc"}, {"guidance_batching": "sequential"},
     {"video_modality_scale": 2.0}, {"unconditional": "alone"}],
    ids=str,
)  # fmt: skip
def test_it_is_sampled_in_every_way_with_both_sides_at_one_time(model, timeline, options):
    times = []
    handle = model.root.register_forward_pre_hook(
        lambda _, args: times.append([float(one.timestep[0]) for one in args if one is not None])
    )
    assert made(model, timeline, **options).video.frames.isfinite().all()
    handle.remove()
    assert all(len(set(each)) == 1 and 0 < each[0] <= 1000 for each in times)


def test_a_solver_of_another_process_is_refused_with_those_that_fit(model, timeline):
    with pytest.raises(InputError, match=r"cosine_dpm does not walk the process flow.*auto or dpmpp_2m, euler"):
        made(model, timeline, solver="cosine_dpm")
    with pytest.raises(InputError, match="no points for the process of this model: got cubic; expected flow or cos"):
        SamplingOptions().build_schedule(processes=Pair("flow", "cubic"))


def test_a_given_picture_stays_and_its_sound_is_made(model, timeline):
    clip = AVClip(VideoClip(torch.rand(5, 16, 16, 3), Fraction(15)))
    latents = model.encode(clip, timeline)
    assert latents.video.shape == model.shapes(timeline).video and latents.audio is None
    shapes = model.shapes(timeline)
    conditioning = encode_captions(*model.texts, CAPTIONS, seconds=1.0, placement=CPU)
    ask = {"video_shape": shapes.video, "audio_shape": shapes.audio, "options": SamplingOptions(num_steps=2)}
    result = sample_latents(model, conditioning, given=Pair(Given(latents.video)), **ask)
    assert torch.equal(result.video, latents.video) and result.audio.isfinite().all()
    other = sample_latents(model, conditioning, given=Pair(Given(latents.video + 1)), **ask)
    assert not torch.equal(other.audio, result.audio)


def test_a_side_that_hears_nothing_is_said_in_the_family_s_words(model, timeline, monkeypatch):
    monkeypatch.setattr(type(model), "hears", frozenset())
    given = Pair(Given(torch.zeros(model.shapes(timeline).video)))
    conditioning = encode_captions(*model.texts, CAPTIONS, seconds=1.0, placement=CPU)
    with pytest.raises(InputError, match="from the given picture to the sound: got a model whose sound does not hear"):
        sample_latents(model, conditioning, video_shape=given.video.latents.shape, audio_shape=(1, 4, 166), given=given)


def test_sound_of_a_clip_is_encoded_with_it(model, timeline):
    sound = AudioClip(torch.rand(2, timeline.num_samples), 8000)
    both = model.encode(AVClip(VideoClip(torch.rand(5, 16, 16, 3), Fraction(15)), sound), timeline)
    assert both.audio.shape == model.shapes(timeline).audio


def test_both_latents_are_decoded_together_and_one_alone_says_so(model, timeline):
    shapes = model.shapes(timeline)
    latents = JointLatents(*(torch.randn(shape) for shape in shapes))
    told = []
    with noted() as notes:
        together = model.decode(latents, fps=timeline.fps, progress=Progress(lambda *step: told.append(step[:3])))
        assert notes == [] and told == [("decode", 0, 1), ("decode", 1, 1)]
        alone = model.decode(replace(latents, audio=None), fps=timeline.fps)
        model.decode(replace(latents, video=None), fps=timeline.fps)
    assert not torch.equal(alone.video.frames, together.video.frames), "the picture is drawn with the sound at hand"
    assert "the picture is decoded without the sound" in notes[0] and "sound is decoded without the pic" in notes[1]
    with pytest.raises(InputError, match="there is a video latent but no video codec"):
        replace(model, faces=Pair(None, model.codecs.audio)).decode(latents, fps=timeline.fps)


def test_it_is_planned_before_and_after_loading(model, throw_away_family, timeline):
    told = forecast_of(replace(model, placement=replace(CPU, offload="auto")))
    assert told["fits"] and tuple(told["stages"]) == STAGES and told["tiling"] == "off"
    assert told["clip"] == {"frames": 5, "width": 16, "height": 16}
    before, work = outline_found(find_model(throw_away_family), CPU), Workload(*model.shapes(timeline))
    assert Needs(before, work).weights() == Needs(model.outline(), work).weights()
    card = Placement(torch.device("cuda"), torch.float32, "auto", storage="auto")
    ways = {(plan.offload, plan.storage) for plan in plans(lambda storage: before.stored(storage, None), work, card)}
    assert ways == {("none", "native"), ("model", "native")}, "what cannot be streamed or packed is not planned so"
    with pytest.raises(InputError, match="weights of this model cannot be kept so: got fp8"):
        before.stored("fp8", torch.float32)


def test_every_stage_is_decided_in_one_place(model, timeline, monkeypatch):
    for module in (fit, runs):
        monkeypatch.setattr(module, "free_bytes", lambda device: 1 << 40)
    open_model = replace(model, placement=replace(CPU, offload="auto"))
    with noted() as notes:
        made(open_model, timeline)
    assert notes[0].startswith("offload auto: offload none, native float32 weights")
    with noted() as notes:
        made_latents = JointLatents(*(torch.randn(shape) for shape in model.shapes(timeline)))
        open_model.decode(made_latents, fps=15)
        open_model.encode(AVClip(VideoClip(torch.rand(5, 16, 16, 3), Fraction(15))), timeline)
    assert [note.partition(":")[0] for note in notes] == ["decode video", "encode video"]
    monkeypatch.setattr(runs, "free_bytes", lambda device: 1)
    assert not forecast_of(open_model)["fits"]


def test_sampling_that_runs_out_of_memory_is_repeated_with_less(model, timeline):
    def refuse(_, args):
        if len(args[0]) > 1:
            raise FULL

    handle = model.root.blocks[0].register_forward_pre_hook(refuse)
    with noted() as notes:
        clip = made(model, timeline)
    handle.remove()
    assert "sample ran out of memory; once more with" in notes[0] and "guidance sequential" in notes[0]
    assert torch.allclose(clip.video.frames, made(model, timeline).video.frames, atol=1e-4)


@pytest.mark.parametrize(
    ("wishes", "sentence"),
    [
        ({"bridge": "bridge.safetensors"}, r"\(one throw-away transformer\) has no bridges: got bridge.safetensors"),
        ({"bridge_options": BridgeOptions(rope="clock")}, "has no bridges: got a description of bridges"),
        ({"free_text": True}, "keeps its text encoders"),
        ({"placement": replace(CPU, storage="fp8")}, "cannot keep its weights so: got storage fp8; expected native"),
        ({"placement": replace(CPU, offload="group")}, "cannot be moved so: got offload group; expected none or model"),
    ],
    ids=str,
)
def test_what_it_does_not_offer_is_refused_before_anything_is_loaded(throw_away_family, wishes, sentence, monkeypatch):
    family = family_of(find_model(throw_away_family))
    monkeypatch.setattr(type(family), "load", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(InputError, match=sentence):
        load_models(throw_away_family, **{"placement": CPU, **wishes})


def test_it_takes_no_lora_no_other_extent_and_no_tower_beside_it(model, throw_away_family, small_models_dir, tmp_path):
    towers = load_models(small_models_dir, placement=CPU)
    lora = diffusers_with_metadata(tmp_path / "some.safetensors", factors(towers.video.tower.model))
    with pytest.raises(InputError, match="this model takes no LoRA: got a LoRA for odd"):
        add_lora(model, read_lora(lora))
    with pytest.raises(GeometryError, match="clips of one extent: got 9 frames of 16×16; expected 5 frames of 16×16"):
        Timeline(9, 15, 16, 16, model.geometry)
    with pytest.raises(InputError, match=r"no tower to join: got parts of odd .* makes picture and sound by itself"):
        join_towers(model.sides.video, towers.audio)
    with pytest.raises(InputError, match="has no towers to choose: got Wan21 beside odd"):
        find_model(throw_away_family, video="Wan21")


def test_previews_show_nothing_of_latents_that_are_no_picture(model):
    maps = preview_maps(model)
    assert (maps.colours, maps.levels, maps.token_seconds) == (None, None, None)


def test_a_folder_above_it_will_do_where_no_towers_lie(throw_away_family, small_models_dir, tmp_path):
    above = throw_away_family.parent
    assert find_model(above) == find_model(str(throw_away_family)) == find_model([above])
    assert [found.path for found in found_folders([above, throw_away_family])] == [throw_away_family]
    (tmp_path / "odd").symlink_to(throw_away_family)
    for name in ("wan", "stable_audio"):
        (tmp_path / name).symlink_to(small_models_dir / name)
    assert find_model(tmp_path).video == tmp_path / "wan", "towers that lie there are taken as before"
    assert find_model(tmp_path / "odd").path == tmp_path / "odd"
    (tmp_path / "two").mkdir()
    for name in ("one", "other"):
        (tmp_path / "two" / name).symlink_to(throw_away_family)
    assert find_model(tmp_path / "two").notes == ("the model is one; others that are there: other",)
    with pytest.raises(MissingModelError, match="the model folder was not found"):
        find_model(tmp_path / "nowhere")


def test_without_it_the_folder_is_nobody_s(tmp_path, small_models_dir):
    with pytest.raises(MissingModelError):
        find_model(tmp_path)
    assert found_folders([small_models_dir]) == []
