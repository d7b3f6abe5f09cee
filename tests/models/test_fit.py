"""A stage that runs out of memory is run once more with less, and captions that are known need no encoder."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from fake_card import PUBLISHED_FIGURES
from small_models import Sheet
from sounding_video.core.clock import Timeline
from sounding_video.core.device import Placement, resolve_placement
from sounding_video.core.errors import GeometryError, PlacementError
from sounding_video.core.residency import Moving, managed_by, module_bytes
from sounding_video.core.types import Captions, JointLatents, ModalityConditioning
from sounding_video.forecast import forecast_of, settled
from sounding_video.models.conditioning import ConditioningCache
from sounding_video.models.placement import on_device
from sounding_video.models.plan import fit, runs
from sounding_video.models.plan.fit import noted, run_fitting
from sounding_video.models.plan.needs import Needs, Workload
from sounding_video.models.plan.outline import outline_loaded
from sounding_video.models.plan.published import outline_shapes
from sounding_video.models.plan.runs import decoding_video, settle
from sounding_video.models.text._handle import TextEncoderHandle, fingerprint_encoder, fingerprint_files
from sounding_video.models.weights.load import load_wan
from sounding_video.pipeline import (
    JoinedModel,
    SamplingOptions,
    decode_latents,
    encode_captions,
    generate,
    load_models,
    sample_latents,
)

CUDA, META, CPU = torch.device("cuda"), torch.device("meta"), torch.device("cpu")
CAPTIONS = Captions("a dog runs", "a dog barks")
FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")


@pytest.fixture(scope="module")
def model(small_models_dir: Path) -> JoinedModel:
    return load_models(small_models_dir, placement=resolve_placement(device="cpu"))


@pytest.fixture(scope="module")
def timeline(model) -> Timeline:
    return Timeline(5, 15, 32, 32, model.geometry)


def _conditioning(model: JoinedModel):
    return encode_captions(
        model.video, model.audio, CAPTIONS, seconds=1.0, placement=model.placement, cache=ConditioningCache()
    )


def _sample(model: JoinedModel, timeline: Timeline, conditioning, **options) -> JointLatents:
    return sample_latents(
        model,
        conditioning,
        video_shape=(1, *timeline.video_latent_shape),
        audio_shape=(1, *timeline.audio_latent_shape),
        options=SamplingOptions(num_steps=2, **options),
    )


def _full_above(module: torch.nn.Module, rows: int):
    """Like a card with room for few rows: the module refuses larger batches with torch's own error."""

    def refuse(_: torch.nn.Module, args: tuple) -> None:
        if args[0].shape[0] > rows:
            raise FULL

    return module.register_forward_pre_hook(refuse)


def test_sampling_that_runs_out_of_memory_goes_on_with_one_pass_at_a_time(model, timeline, caplog) -> None:
    conditioning = _conditioning(model)
    expected = _sample(model, timeline, conditioning)
    handle = _full_above(model.joint.video.blocks[1], 1)
    with noted() as notes:
        got = _sample(model, timeline, conditioning)
    handle.remove()
    assert torch.allclose(got.video, expected.video, atol=1e-5) and torch.allclose(got.audio, expected.audio, atol=1e-5)
    [sentence] = notes
    assert "sample ran out of memory; once more with" in sentence and "guidance sequential" in sentence
    assert sentence in caplog.text


def test_it_is_tried_once_more_and_not_again(model, timeline) -> None:
    conditioning, calls = _conditioning(model), []

    def refuse(*_: object) -> None:
        calls.append(1)
        raise FULL

    handle = model.joint.video.blocks[0].register_forward_pre_hook(refuse)
    with pytest.raises(torch.OutOfMemoryError, match="Tried to allocate"):
        _sample(model, timeline, conditioning)
    assert len(calls) == 2
    with pytest.raises(torch.OutOfMemoryError):
        _sample(model, timeline, conditioning, guidance_batching="sequential")
    assert len(calls) == 3, "on a CPU nothing takes less than one pass at a time, and an explicit word stays"
    handle.remove()
    assert _sample(model, timeline, conditioning).video.isfinite().all()


def test_decoding_that_runs_out_of_memory_goes_on_in_tiles(model, caplog) -> None:
    latents = JointLatents(video=torch.randn(1, 4, 2, 40, 40, generator=torch.Generator().manual_seed(1)))
    ask = {"video_codec": model.video.codec, "audio_codec": None, "fps": 15}

    def refuse(_: torch.nn.Module, args: tuple) -> None:
        if args[0].shape[-1] > 32:
            raise FULL

    handle = model.video.codec.vae.decoder.register_forward_pre_hook(refuse)
    placement = replace(model.placement, offload="auto")
    with noted() as notes:
        clip = decode_latents(latents, **ask, placement=placement)
    handle.remove()
    assert clip.video.frames.shape == (5, 320, 320, 3)
    assert "picture decoded whole" in notes[0] and "once more with" in notes[1] and "in tiles" in notes[1]
    expected = decode_latents(latents, **ask, placement=model.placement, tiling="on")
    assert torch.equal(clip.video.frames, expected.video.frames)


@pytest.mark.parametrize("offload", ["auto", "none"])
@pytest.mark.parametrize(
    ("extent", "error", "sentence"),
    [
        ((4097, 32, 32), GeometryError, r"larger than the video tower's positions reach: got 1025 x 2 x 2 positions"),
        ((100_001, 8192, 8192), PlacementError, "the memory cannot hold a clip of 100001 frames of 8192×8192 pixels"),
        ((97, 8192, 8192), PlacementError, "the memory cannot hold|no plan fits the memory of cpu"),
    ],
)
def test_what_can_never_be_made_is_refused_before_anything_is(model, offload, extent, error, sentence) -> None:
    frames, width, height = extent
    asked = replace(model, placement=replace(model.placement, offload=offload))
    with pytest.raises(error, match=sentence):
        generate(asked, CAPTIONS, timeline=Timeline(frames, 15, width, height, model.geometry))


@pytest.mark.parametrize("room", [1 << 40, 1])
def test_auto_is_decided_by_what_is_free(model, timeline, monkeypatch, room) -> None:
    for module in (fit, runs):
        monkeypatch.setattr(module, "free_bytes", lambda device: room)
    open_model = replace(model, placement=replace(model.placement, offload="auto"))
    if room == 1:
        with pytest.raises(PlacementError, match="no plan fits the memory of cpu"):
            settled(open_model, timeline, SamplingOptions())
        forecast = forecast_of(open_model, timeline)
        assert not forecast["fits"] and "no plan fits" in forecast["sentence"]
        return
    with noted() as notes:
        assert settled(open_model, timeline, SamplingOptions())[0].placement.offload == "none"
        clip = generate(open_model, CAPTIONS, timeline=timeline, options=SamplingOptions(num_steps=1))
    assert clip.video.frames.shape[0] == 5
    assert notes[0].startswith("offload auto: offload none, native float32 weights")
    forecast = forecast_of(open_model, timeline)
    assert forecast["fits"] and set(forecast["stages"]) == {"encode", "sample", "decode video", "decode audio"}
    assert forecast["required_bytes"] == max(forecast["stages"].values()) < forecast["free_bytes"] == room


def test_an_explicit_none_goes_on_in_tiles_and_says_so(model) -> None:
    latents = JointLatents(video=torch.randn(1, 4, 2, 40, 40, generator=torch.Generator().manual_seed(1)))
    ask = {"video_codec": model.video.codec, "audio_codec": None, "fps": 15, "placement": model.placement}

    def refuse(_: torch.nn.Module, args: tuple) -> None:
        if args[0].shape[-1] > 32:
            raise FULL

    handle = model.video.codec.vae.decoder.register_forward_pre_hook(refuse)
    with noted() as notes:
        decode_latents(latents, **ask)
    with pytest.raises(torch.OutOfMemoryError):
        decode_latents(latents, **ask, tiling="off")
    handle.remove()
    assert len(notes) == 1 and "decode video ran out of memory; once more with" in notes[0] and "in tiles" in notes[0]


def _decoding(model: JoinedModel, codec: Sheet):
    """Decoding without tiles, as it was asked for; the card holds a sheet in the codec's place."""
    return replace(decoding_video(model.video.codec, (1, 4, 2, 8, 8), "off"), modules=(codec,))


def test_what_other_stages_left_on_the_card_makes_room_first(model) -> None:
    towers, codec = Sheet(1000), Sheet(10)
    stays = Placement(META, torch.float32)

    def attempt(where: Placement, plan) -> tuple[str, str]:
        with on_device(codec, where):
            if towers.weight.device == META:
                raise FULL
            return where.offload, plan.tiling

    with managed_by(Moving()), noted() as notes:
        with on_device(towers, stays):
            pass
        assert towers.weight.device == META, "offload none leaves the towers on the card"
        assert run_fitting(_decoding(model, codec), stays, attempt) == ("model", "off")
    assert (towers.weight.device, codec.weight.device) == (CPU, CPU)
    [sentence] = notes
    assert "decode video ran out of memory; once more with offload model" in sentence
    assert "picture decoded whole; what was left on the device has been moved off" in sentence


def test_with_nothing_else_on_the_card_the_failure_is_final(model) -> None:
    calls = []

    def attempt(where: Placement, plan) -> None:
        calls.append(where)
        raise FULL

    with managed_by(Moving()), pytest.raises(torch.OutOfMemoryError):
        run_fitting(_decoding(model, Sheet(10)), Placement(META, torch.float32), attempt)
    assert len(calls) == 1


@pytest.mark.parametrize(("evicts", "offload", "rest"), [(True, "none", META), (False, "model", CPU)])
def test_auto_leaves_on_the_card_what_others_can_push_off(model, monkeypatch, evicts, offload, rest) -> None:
    codec, manager = Sheet(10), Moving()
    monkeypatch.setattr(manager, "evicts", evicts, raising=False)

    def attempt(where: Placement, plan) -> str:
        with on_device(codec, where):
            return where.offload

    with managed_by(manager):
        assert run_fitting(_decoding(model, codec), Placement(META, torch.float32, "auto"), attempt) == offload
    assert codec.weight.device == rest


def test_weights_that_are_in_memory_already_are_not_asked_for_again(model, timeline, monkeypatch) -> None:
    """On a CPU only what is computed takes more than there is."""
    open_model = replace(model, placement=replace(model.placement, offload="auto"))
    told = forecast_of(open_model, timeline)
    required = told["required_bytes"]
    work = Workload((1, *timeline.video_latent_shape), (1, *timeline.audio_latent_shape))
    needs = Needs(outline_loaded(model.joint, model.video, model.audio), work)
    computed = {"sample": needs.activations("sample", batched=True), "decode audio": needs.activations("decode audio")}
    assert {stage: told["stages"][stage] for stage in computed} == computed
    for room in (required, required - 1):
        for module in (fit, runs):
            monkeypatch.setattr(module, "free_bytes", lambda device, room=room: room)
        assert forecast_of(open_model, timeline)["fits"] is (room == required)
    for module in (fit, runs):
        monkeypatch.setattr(module, "free_bytes", lambda device: required)
    clip = generate(open_model, CAPTIONS, timeline=timeline, options=SamplingOptions(num_steps=1))
    assert clip.video.frames.shape[0] == 5
    with noted() as notes:  # and a stage on its own, as a node runs it
        _sample(open_model, timeline, _conditioning(open_model))
    assert [note.partition(":")[0] for note in notes] == ["encode", "encode", "sample"]


def test_an_encoder_that_is_read_later_still_counts(model, small_models_dir, timeline, monkeypatch) -> None:
    freed = load_models(small_models_dir, placement=model.placement, free_text=True)
    kept, later = (forecast_of(replace(m, placement=Placement(CPU, torch.float32, "auto"))) for m in (model, freed))
    assert not freed.video.text.is_loaded, "headers are enough"
    encoders = [module_bytes(side.text) for side in (model.video, model.audio)]
    assert later["stages"]["encode"] - kept["stages"]["encode"] == pytest.approx(max(encoders), rel=0.1)
    assert later["stages"]["sample"] == kept["stages"]["sample"]
    assert later["host_bytes"] < kept["host_bytes"]


@pytest.fixture(scope="module")
def published():
    """Wan 1.3B on a card, with text encoders that are let go of after use."""
    placement = replace(resolve_placement(device="cpu", dtype="bfloat16", offload="auto"), device=CUDA)
    return replace(outline_shapes("wan-1.3b", placement), freed=("video text", "audio text")), placement


@PUBLISHED_FIGURES
@pytest.mark.parametrize(
    ("free", "offload", "tiling"),
    [(10e9, "auto", None), (12.4e9, "auto", None), (20e9, "none", "off"), (40e9, "none", "off")],
)
def test_towers_stay_only_where_the_encoder_fits_beside_them(published, monkeypatch, free, offload, tiling) -> None:
    """UMT5 takes 11.8 GB while it works: with 10 GB free it must not be moved in whole."""
    outline, placement = published
    monkeypatch.setattr(runs, "free_bytes", lambda device: int(free))
    found = settle(outline, Workload.of(Timeline()), placement, batchings=("sequential",), tilings=("off", "on"))
    assert (found and (found[0].offload, found[1])) == (None if offload == "auto" else (offload, tiling))


def test_freed_encoders_weigh_only_while_captions_are_encoded(published) -> None:
    needs = Needs(published[0], Workload.of(Timeline()))
    weights = needs.weights()
    rest = sum(weights.values()) - weights["video text"] - weights["audio text"]
    assert needs.weights_on_device("sample", "none", prefetch=True) == rest
    assert needs.weights_on_device("encode", "none", prefetch=True) == rest + weights["video text"]


def test_tiles_are_remembered_where_only_they_let_everything_stay(published, monkeypatch) -> None:
    outline, placement = replace(published[0], freed=()), published[1]
    monkeypatch.setattr(runs, "free_bytes", lambda device: int(24e9))
    found = settle(outline, Workload.of(Timeline()), placement, batchings=("sequential",), tilings=("off", "on"))
    assert (found[0].offload, found[1]) == ("none", "on")


def _calls_of(encoder) -> list[int]:
    calls: list[int] = []
    encoder.model.register_forward_hook(lambda *_: calls.append(1))
    return calls


def test_known_captions_are_not_encoded_again(small_models_dir, tmp_path) -> None:
    parts = load_wan(small_models_dir / "wan", resolve_placement(device="cpu"))
    calls, caches = _calls_of(parts.text), [ConditioningCache(tmp_path), ConditioningCache(tmp_path)]
    ask = {"seconds": 1.0, "placement": parts.placement}
    first = encode_captions(parts, None, CAPTIONS, cache=caches[0], **ask)
    assert len(calls) == 2
    again = encode_captions(parts, None, CAPTIONS, cache=caches[0], **ask)
    from_disk = encode_captions(parts, None, CAPTIONS, cache=caches[1], **ask)
    assert len(calls) == 2, "the second from memory, the third from the folder"
    for other in (again, from_disk):
        assert torch.equal(other.video.positive, first.video.positive)
        assert torch.equal(other.video.negative, first.video.negative)
    encode_captions(parts, None, Captions("a cat runs", ""), cache=caches[0], **ask)
    assert len(calls) == 4, "another caption is another entry"
    with torch.no_grad():
        parts.text.model.encoder.block[0].layer[0].SelfAttention.q.weight.add_(1.0)
    changed = encode_captions(parts, None, CAPTIONS, cache=caches[0], **ask)
    assert len(calls) == 6, "and so is another encoder"
    assert not torch.equal(changed.video.positive, first.video.positive)


def test_an_encoder_that_is_freed_is_read_for_new_captions_only(small_models_dir) -> None:
    kept = load_models(small_models_dir, placement=resolve_placement(device="cpu"))
    freed = load_models(small_models_dir, placement=resolve_placement(device="cpu"), free_text=True)
    cache, ask = ConditioningCache(), {"seconds": 1.0, "placement": kept.placement}
    handles = [freed.video.text, freed.audio.text]
    assert all(isinstance(handle, TextEncoderHandle) and not handle.is_loaded for handle in handles)
    got = encode_captions(freed.video, freed.audio, CAPTIONS, cache=cache, **ask)
    expected = encode_captions(kept.video, kept.audio, CAPTIONS, cache=ConditioningCache(), **ask)
    for one, two in ((got.video, expected.video), (got.audio, expected.audio)):
        assert torch.equal(one.positive, two.positive) and torch.equal(one.negative, two.negative)
    assert torch.equal(got.audio.duration, expected.audio.duration)
    assert not any(handle.is_loaded for handle in handles)

    def never() -> None:
        raise AssertionError("the encoder was read although the captions are known")

    for handle in handles:
        handle._load = never
    again = encode_captions(freed.video, freed.audio, CAPTIONS, cache=cache, **ask)
    assert torch.equal(again.audio.positive, got.audio.positive)
    with pytest.raises(AssertionError, match="was read"):
        encode_captions(freed.video, freed.audio, CAPTIONS, cache=cache, **(ask | {"seconds": 2.0}))


def test_the_cache_is_bounded_in_memory_and_on_disk(tmp_path) -> None:
    def entry(value: float) -> ModalityConditioning:
        return ModalityConditioning(torch.full((1, 4, 8), value))  # 128 bytes

    cache = ConditioningCache(tmp_path, max_bytes=300, max_files=3)
    for number in range(5):
        cache.put(entry(float(number)), "caption", number)
    assert len(cache) == 2 and len(list(tmp_path.glob("*.safetensors"))) == 3
    assert cache.get("caption", 4).positive[0, 0, 0] == 4
    assert cache.get("caption", 0) is None
    cache.clear()
    assert cache.get("caption", 4).positive[0, 0, 0] == 4, "from its file"
    for file in tmp_path.glob("*.safetensors"):
        file.write_bytes(b"half a file")
    cache.clear()
    assert cache.get("caption", 4) is None, "a damaged file is no entry"
    assert len(list(tmp_path.glob("*.safetensors"))) == 2, "and is deleted when it is met"


def test_fingerprints_tell_encoders_apart(small_models_dir, tmp_path) -> None:
    placement = resolve_placement(device="cpu")
    one, two = (load_wan(small_models_dir / "wan", placement).text for _ in range(2))
    assert fingerprint_encoder(one) == fingerprint_encoder(two)
    assert fingerprint_encoder(
        load_wan(small_models_dir / "wan", placement, text_length=9).text
    ) != fingerprint_encoder(one)
    folder = small_models_dir / "wan" / "text_encoder"
    copy = tmp_path / "moved"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    assert fingerprint_files([folder], 8) == fingerprint_files([copy], 8) != fingerprint_files([copy], 9)
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert fingerprint_files([folder], 8) != fingerprint_files([copy], 8)


@pytest.mark.parametrize("offload", ["auto", "none"])
def test_a_sound_of_days_is_refused_before_anything_is_made(model, offload) -> None:
    """Few pictures, at a rate of less than one a day."""
    asked = replace(model, placement=replace(model.placement, offload=offload))
    with pytest.raises(PlacementError, match="the memory cannot hold a sound of 500100000 s"):
        generate(asked, CAPTIONS, timeline=Timeline(5001, Fraction(1, 100_000), 32, 32, model.geometry))
