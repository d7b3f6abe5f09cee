"""Weights kept in fp8, int8 and nf4: smaller, close, and the same in every offload mode."""

from __future__ import annotations

import copy
import sys
from dataclasses import replace

import pytest
import torch
from sounding_video.core.device import resolve_placement
from sounding_video.core.errors import MissingPackageError, PlacementError
from sounding_video.core.optional import available
from sounding_video.core.types import Captions
from sounding_video.models.conditioning import ConditioningCache
from sounding_video.models.patching import with_tuned_blocks
from sounding_video.models.placement import running
from sounding_video.models.plan.needs import Needs, Workload, num_bytes
from sounding_video.models.plan.outline import outline_loaded
from sounding_video.models.storage import FP8, is_stored, store
from sounding_video.pipeline import encode_captions, load_models

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


@torch.no_grad()
@pytest.mark.skipif(not available("torchao"), reason="torchao is not installed (pip install torchao)")
def test_int8_through_torchao_stays_close(native, small_inputs) -> None:
    joint = copy.deepcopy(native.joint)
    store(joint, replace(NATIVE, storage="int8"))
    for one, two in zip(joint(*small_inputs), native.joint(*small_inputs), strict=True):
        assert not torch.equal(one, two) and _close(one, two) > 0.999


@torch.no_grad()
@pytest.mark.skipif(not available("bitsandbytes"), reason="bitsandbytes is not installed (pip install bitsandbytes)")
def test_nf4_through_bitsandbytes_stays_close() -> None:
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.GELU(), torch.nn.Linear(128, 64)).eval()
    packed = store(copy.deepcopy(layers), replace(NATIVE, storage="nf4")).to("cpu")
    x = torch.randn(4, 64)
    assert packed[0].weight.dtype == torch.uint8, "packed two to a byte"
    assert 0.9 < _close(packed(x), layers(x)) < 0.99999
