"""Weights kept in fp8, int8 and nf4: smaller, close, and the same in every offload mode."""

from __future__ import annotations

import copy
import sys
from dataclasses import replace

import pytest
import torch
from sounding_video.core.clock import Timeline
from sounding_video.core.device import resolve_placement
from sounding_video.core.errors import IncompatibleWeightsError, MissingPackageError, PlacementError
from sounding_video.core.optional import available
from sounding_video.core.types import Captions
from sounding_video.forecast import forecast_of
from sounding_video.models.conditioning import ConditioningCache
from sounding_video.models.patching import with_tuned_blocks
from sounding_video.models.placement import running
from sounding_video.models.plan.needs import Needs, Workload, num_bytes
from sounding_video.models.plan.outline import outline_loaded
from sounding_video.models.storage import BYTES_PER_WEIGHT, FP8, is_stored, packing_of, shapes, store
from sounding_video.pipeline import SamplingOptions, encode_captions, load_models, sample_latents

NATIVE = resolve_placement(device="cpu")
FP8_PLACEMENT = replace(NATIVE, storage="fp8")


@pytest.fixture(scope="module")
def native(small_models_dir):
    return load_models(small_models_dir, placement=NATIVE)


@pytest.fixture
def model(small_models_dir):
    return load_models(small_models_dir, placement=FP8_PLACEMENT)


@pytest.fixture
def small_inputs(native):
    from sounding_video.core.types import Modality

    g = torch.Generator().manual_seed(5)
    config = native.audio.tower.model.config
    return (
        Modality(torch.randn(1, 4, 2, 4, 4, generator=g), torch.tensor([700.0]), torch.randn(1, 6, 16, generator=g)),
        Modality(
            torch.randn(1, 6, 9, generator=g),
            torch.tensor([0.7]),
            torch.randn(1, 5, config.cross_attention_input_dim, generator=g),
            torch.randn(1, 1, config.global_states_input_dim, generator=g),
        ),
    )


def _close(one: torch.Tensor, two: torch.Tensor) -> float:
    return torch.nn.functional.cosine_similarity(one.flatten(), two.flatten(), dim=0).item()


@torch.no_grad()
def test_fp8_keeps_the_large_weights_in_a_byte_and_computes_nearly_the_same(native, model, small_inputs) -> None:
    expected, got = native.joint(*small_inputs), model.joint(*small_inputs)
    for one, two in zip(got, expected, strict=True):
        assert one.dtype == torch.float32 and not torch.equal(one, two)
        assert _close(one, two) > 0.999
    block = model.joint.video.blocks[0]
    for weight in (block.attn1.to_q.weight, block.ffn.net[0].proj.weight, model.joint.bridges[0].mlp_1.fc1.weight):
        assert weight.dtype == FP8, "cast down again after use"
    assert block.scale_shift_table.dtype == torch.float32
    assert model.joint.video.model.patch_embedding.weight.dtype == torch.float32
    assert num_bytes(model.joint) < 0.6 * num_bytes(native.joint)
    assert not is_stored(native.joint)


@torch.no_grad()
@pytest.mark.parametrize("mode", ["model", "group", "sequential"])
def test_fp8_goes_with_every_offload_mode(model, small_inputs, mode) -> None:
    expected = model.joint(*small_inputs)
    for _ in range(2):
        with running(model.joint, replace(FP8_PLACEMENT, offload=mode)) as joint:
            for _ in range(2):
                got = joint(*small_inputs)
        assert torch.equal(got[0], expected[0]) and torch.equal(got[1], expected[1])
    assert model.joint.video.blocks[0].attn1.to_q.weight.dtype == FP8
    assert torch.equal(model.joint(*small_inputs)[0], expected[0])


@pytest.mark.parametrize("mode", ["none", "group", "sequential"])
def test_text_encoders_in_fp8_stay_close(native, model, mode) -> None:
    ask = {"captions": Captions("a dog runs", "a dog barks"), "seconds": 1.0, "cache": ConditioningCache()}
    expected = encode_captions(native.video, native.audio, placement=NATIVE, **ask)
    got = encode_captions(model.video, model.audio, placement=replace(FP8_PLACEMENT, offload=mode), **ask)
    assert _close(got.video.positive, expected.video.positive) > 0.99
    assert _close(got.audio.positive, expected.audio.positive) > 0.99
    assert not torch.equal(got.video.positive, expected.video.positive)
    layer = model.video.text.model.encoder.block[0].layer
    assert layer[1].DenseReluDense.wo.weight.dtype == layer[0].SelfAttention.q.weight.dtype == FP8
    assert model.video.text.model.shared.weight.dtype == torch.float32


@torch.no_grad()
def test_fine_tuned_blocks_reach_a_tower_in_fp8(native, model, small_inputs) -> None:
    name = "blocks.1.ffn.net.0.proj.weight"
    weights = {name: torch.randn_like(dict(native.video.tower.model.named_parameters())[name]) * 0.3}
    expected = with_tuned_blocks(native.video.tower, weights)(small_inputs[0])
    before = model.video.tower(small_inputs[0])
    got = with_tuned_blocks(model.video.tower, weights)(small_inputs[0])
    assert _close(got, expected) > 0.999
    assert torch.equal(model.video.tower(small_inputs[0]), before), "the loaded tower stays as it was"


def test_the_planner_counts_fp8_as_it_is_kept_and_cast(native, model) -> None:
    work = Workload((1, 4, 2, 8, 8), (1, 6, 20))
    loaded = Needs(outline_loaded(model.joint, model.video, model.audio), work)
    planned = Needs(outline_loaded(native.joint, native.video, native.audio).stored("fp8", torch.float32), work)
    assert planned.weights() == loaded.weights()
    assert planned.activations("sample") == loaded.activations("sample")
    plain = Needs(outline_loaded(native.joint, native.video, native.audio), work)
    largest = max(p.nbytes for p in native.joint.parameters())
    assert 0 <= planned.activations("sample") - plain.activations("sample") <= largest


def test_packed_storage_is_reckoned_by_its_bytes(native) -> None:
    outline = outline_loaded(native.joint, native.video, native.audio)
    plain, int8, nf4 = (
        Needs(outline.stored(storage, torch.float32), Workload(None, None)).weights()
        for storage in ("native", "int8", "nf4")
    )
    for part in ("video tower", "bridges", "video text"):
        assert nf4[part] < int8[part] < plain[part]
    assert nf4["video codec"] == plain["video codec"]


@pytest.mark.parametrize(("storage", "package"), [("int8", "torchao"), ("nf4", "bitsandbytes")])
def test_a_missing_package_is_named_before_anything_is_loaded(small_models_dir, monkeypatch, storage, package) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError) as caught:
        load_models(small_models_dir, placement=replace(NATIVE, storage=storage))
    assert f"pip install {package}" in str(caught.value) and f"weight storage {storage}" in str(caught.value)


def test_what_cannot_be_is_refused(monkeypatch, small_models_dir) -> None:
    monkeypatch.setitem(sys.modules, "torchao", sys)
    with pytest.raises(PlacementError, match="int8 weights cannot be streamed: got storage int8 with offload group"):
        store(torch.nn.Linear(2, 2), replace(NATIVE, storage="int8", offload="group"))

    def no_fp8(*_: object, **__: object) -> None:
        raise RuntimeError("float8_e4m3fn is not supported\non this card")

    monkeypatch.setattr(torch, "ones", no_fp8)
    with pytest.raises(
        PlacementError, match=r"fp8 weights cannot be kept on this device: got cpu .float8_e4m3fn is not"
    ):
        load_models(small_models_dir, placement=FP8_PLACEMENT)


INT8 = pytest.param(
    "int8", 0.999,
    marks=pytest.mark.skipif(not available("torchao"), reason="torchao is not installed (pip install torchao)"),
)  # fmt: skip
NF4 = pytest.param(
    "nf4", 0.9,
    marks=pytest.mark.skipif(not available("bitsandbytes"), reason="bitsandbytes is not installed (pip install it)"),
)  # fmt: skip
CAPTIONS = Captions("a dog runs", "a dog barks")


@torch.no_grad()
@pytest.mark.parametrize(("storage", "closeness"), [INT8, NF4])
def test_packed_weights_stay_close_and_take_what_is_reckoned(storage, closeness) -> None:
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Linear(512, 1024), torch.nn.GELU(), torch.nn.Linear(1024, 512)).eval()
    plain, packed = layers[0].weight, store(copy.deepcopy(layers), replace(NATIVE, storage=storage))
    assert packing_of(layers) == "native" and packing_of(packed) == storage
    x = torch.randn(4, 512)
    assert closeness < _close(packed(x), layers(x)) < 0.999999
    weight = packed[0].weight
    if storage == "int8":
        tensors = [getattr(weight, name) for name in weight.__tensor_flatten__()[0]]
    else:
        state = weight.quant_state
        tensors = [weight, state.absmax, state.state2.absmax]
    reckoned = plain.numel() * BYTES_PER_WEIGHT[storage]
    assert sum(tensor.nbytes for tensor in tensors) == pytest.approx(reckoned, rel=0.02)
    assert shapes(packed) == shapes(layers)


@pytest.mark.parametrize("offload", ["none", "model", "auto"])
@pytest.mark.parametrize(("storage", "closeness"), [INT8, NF4])
def test_packed_weights_go_the_whole_way(native, small_models_dir, storage, closeness, offload) -> None:
    """Loaded, counted, encoded and sampled as a user does it; nf4's rounding of such small widths is coarse."""
    model = load_models(small_models_dir, placement=replace(NATIVE, storage=storage, offload=offload))
    clip = Timeline(5, 15, 32, 32, model.geometry)
    shapes = {"video_shape": (1, *clip.video_latent_shape), "audio_shape": (1, *clip.audio_latent_shape)}
    made = []
    for each in (native, model):
        ask = {"seconds": 1.0, "placement": each.placement, "cache": ConditioningCache()}
        texts = encode_captions(each.video, each.audio, CAPTIONS, **ask)
        made.append((texts, sample_latents(each, texts, **shapes, options=SamplingOptions(num_steps=2))))
    (texts, latents), (got_texts, got) = made
    for one, two in (
        (got_texts.video.positive, texts.video.positive),
        (got_texts.audio.positive, texts.audio.positive),
        (got.video, latents.video),
        (got.audio, latents.audio),
    ):
        assert not torch.equal(one, two) and _close(one, two) > closeness
    told, plain = (forecast_of(each, clip) for each in (model, native))
    assert told["storage"] == storage and set(told["stages"]) == set(plain["stages"])
    weights = Needs(outline_loaded(model.joint, model.video, model.audio), Workload(None, None)).weights()
    usual = Needs(outline_loaded(native.joint, native.video, native.audio), Workload(None, None))
    assert weights == Needs(usual.outline.stored(storage, torch.float32), Workload(None, None)).weights()
    assert weights["video tower"] < usual.weights()["video tower"]


@torch.no_grad()
@pytest.mark.parametrize(("storage", "closeness"), [INT8, NF4])
def test_fine_tuned_blocks_reach_packed_towers(native, small_models_dir, small_inputs, storage, closeness) -> None:
    tower = load_models(small_models_dir, placement=replace(NATIVE, storage=storage)).video.tower
    names = ("blocks.1.ffn.net.0.proj.weight", "blocks.1.ffn.net.0.proj.bias")
    own = dict(native.video.tower.model.named_parameters())
    weights = {name: torch.randn_like(own[name]) * 0.3 for name in names}
    expected, before = with_tuned_blocks(native.video.tower, weights)(small_inputs[0]), tower(small_inputs[0])
    got = with_tuned_blocks(tower, weights)(small_inputs[0])
    assert closeness < _close(got, expected) and not torch.equal(got, before)
    assert torch.equal(tower(small_inputs[0]), before), "the loaded tower stays as it was"
    with pytest.raises(IncompatibleWeightsError, match="fine-tuned blocks"):
        with_tuned_blocks(tower, {names[0]: torch.zeros(3, 3)})
