"""Packings of ComfyUI's newer files are undone to the bit; what a file says and we do not know is refused."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sounding_video.core.device import resolve_placement
from sounding_video.core.errors import CorruptWeightsError, IncompatibleWeightsError
from sounding_video.models.weights._header import open_weights
from sounding_video.models.weights._quantised import Packing, hadamard, unpack
from sounding_video.models.weights._wan import load_transformer, load_umt5
from sounding_video.models.weights.layouts import WanFiles, identify, require_kind
from sounding_video.models.weights.load import load_wan
from torch import Tensor

_spec = importlib.util.spec_from_file_location("single_files", Path(__file__).with_name("single_files.py"))
single = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(single)

CPU = resolve_placement(device="cpu")
E2M1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
Packed = dict[str, Tensor]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return single.write_folders(tmp_path_factory.mktemp("folders"))


def turn(size: int) -> Tensor:
    """Entry by entry: the product of the small matrix's entries at the digits of row and column to the base four."""
    small = [[1, 1, 1, -1], [1, 1, -1, 1], [1, -1, 1, 1], [-1, 1, 1, 1]]
    matrix = torch.empty(size, size)
    for row in range(size):
        for column in range(size):
            value, r, c, left = 1, row, column, size
            while left > 1:
                value, r, c, left = value * small[r % 4][c % 4], r // 4, c // 4, left // 4
            matrix[row, column] = value
    return matrix / math.sqrt(size)


def int8(weight: Tensor, *, group: int = 0, whole: bool = False) -> tuple[Packed, Tensor]:
    """What is stored, and what it stands for."""
    turned = weight
    if group:
        turned = torch.cat([part @ turn(group).T for part in weight.split(group, dim=1)], dim=1)
    largest = turned.abs().max() if whole else turned.abs().amax(dim=1, keepdim=True)
    scale = largest / 127
    numbers = (turned / scale).round().to(torch.int8)
    meaning = numbers.float() * scale
    if group:
        meaning = torch.cat([part @ turn(group) for part in meaning.split(group, dim=1)], dim=1)
    return {"weight": numbers, "weight_scale": scale}, meaning


def tiled(scales: Tensor) -> Tensor:
    """Scale by scale to where the matrix units want it."""
    down, across = -(-scales.shape[0] // 128), -(-scales.shape[1] // 4)
    flat = torch.zeros(down * across * 512, dtype=torch.uint8)
    for row in range(scales.shape[0]):
        for column in range(scales.shape[1]):
            tile, inside = (row // 128) * across + column // 4, row % 128
            place = tile * 512 + (inside % 32) * 16 + (inside // 32) * 4 + column % 4
            flat[place] = scales.view(torch.uint8)[row, column]
    return flat.view(scales.dtype).reshape(down * 128, across * 4)


def nvfp4(weight: Tensor) -> tuple[Packed, Tensor]:
    """Two numbers a byte, the first one in the upper half."""
    whole = weight.abs().max() / (448 * 6)
    blocks = weight.reshape(len(weight), -1, 16)
    scales = (blocks.abs().amax(dim=2) / 6 / whole).to(torch.float8_e4m3fn)
    step = (whole * scales.float())[..., None]
    nearest = (blocks / step).abs()[..., None].sub(torch.tensor(E2M1)).abs().argmin(dim=-1)
    codes = (nearest + 8 * (blocks < 0)).reshape(weight.shape).to(torch.uint8)
    meaning = torch.tensor([*E2M1, *(-number for number in E2M1)])[codes.int()].reshape(blocks.shape) * step
    packed = {"weight": codes[:, ::2] * 16 + codes[:, 1::2], "weight_scale": tiled(scales), "weight_scale_2": whole}
    return packed, meaning.reshape(weight.shape)


def mxfp8(weight: Tensor) -> tuple[Packed, Tensor]:
    """A power of two for 32 numbers, kept as its exponent and 127."""
    blocks = weight.reshape(len(weight), -1, 32)
    exponents = torch.ceil(torch.log2(blocks.abs().amax(dim=2) / 448))
    numbers = (blocks / torch.exp2(exponents)[..., None]).to(torch.float8_e4m3fn)
    meaning = numbers.float() * torch.exp2(exponents)[..., None]
    scales = tiled((exponents + 127).to(torch.uint8)).view(torch.float8_e8m0fnu)
    return {"weight": numbers.reshape(weight.shape), "weight_scale": scales}, meaning.reshape(weight.shape)


def fp8(weight: Tensor) -> tuple[Packed, Tensor]:
    scale = weight.abs().max() / 448
    numbers = (weight / scale).to(torch.float8_e4m3fn)
    return {"weight": numbers, "weight_scale": scale}, numbers.float() * scale


# packing -> how it is written, columns it needs a multiple of, what the file says of it
PACKINGS: dict[str, tuple[Callable[[Tensor], tuple[Packed, Tensor]], int, dict[str, object]]] = {
    "rows": (int8, 1, {"format": "int8_tensorwise"}),
    "whole": (lambda w: int8(w, whole=True), 1, {"format": "int8_tensorwise", "convrot": False}),
    "turned": (
        lambda w: int8(w, group=256), 256, {"format": "int8_tensorwise", "convrot": True, "convrot_groupsize": 256}
    ),
    "turned 256": (lambda w: int8(w, group=256), 256, {"format": "int8_tensorwise", "convrot": True}),
    "turned 16": (
        lambda w: int8(w, group=16), 16, {"format": "int8_tensorwise", "convrot": True, "convrot_groupsize": 16}
    ),
    "nested": (
        lambda w: int8(w, group=4), 4,
        {"format": "int8_tensorwise", "params": {"convrot": True, "convrot_groupsize": 4}},
    ),
    "nvfp4": (nvfp4, 16, {"format": "nvfp4"}),
    "mxfp8": (mxfp8, 32, {"format": "mxfp8"}),
    "fp8": (fp8, 1, {"format": "float8_e4m3fn", "full_precision_matrix_mult": True}),
}  # fmt: skip


def pack(state: dict[str, Tensor], packing: str) -> tuple[Packed, Packed, dict[str, dict[str, object]]]:
    """A state with its matrices packed, what it stands for, and what is said of each layer."""
    write, multiple, said = PACKINGS[packing]
    stored, meaning, layers = {}, {}, {}
    for name, tensor in state.items():
        stem = name.removesuffix("weight")
        if not single.is_matrix(name, tensor) or tensor.shape[1] % multiple:
            stored[name] = meaning[name] = tensor
            continue
        packed, meaning[name] = write(tensor)
        stored |= {f"{stem}{word}": value for word, value in packed.items()}
        layers[stem.removesuffix(".")] = said
    assert len(layers) > 4
    return stored, meaning, layers


def beside(stored: Packed, layers: dict[str, dict[str, object]]) -> Packed:
    notes = {name: json.dumps(said).encode() for name, said in layers.items()}
    return stored | {f"{n}.comfy_quant": torch.frombuffer(bytearray(t), dtype=torch.uint8) for n, t in notes.items()}


def header(layers: dict[str, dict[str, object]]) -> dict[str, str]:
    return {"_quantization_metadata": json.dumps({"format_version": "1.0", "layers": layers})}


@pytest.mark.parametrize(
    "packing", [pytest.param(name, marks=pytest.mark.slow) if name == "turned 256" else name for name in PACKINGS]
)
def test_a_packed_transformer_equals_what_it_stands_for(packing, folders, tmp_path) -> None:
    stored, meaning, layers = pack(single.wan_original(folders / "wan"), packing)
    plain = load_transformer(open_weights(single.save(tmp_path / "p.safetensors", meaning)), torch.float32)
    files = [
        single.save(tmp_path / "beside.safetensors", beside(stored, layers)),
        single.save(tmp_path / "header.safetensors", stored, header(layers)),
    ]
    for file in files:
        told = require_kind(open_weights(file), "wan")
        assert told.text_width == single.VIDEO_TEXT
        assert told.dtype.startswith("scaled ")
        loaded = load_transformer(open_weights(file), torch.float32)
        for name, tensor in plain.state_dict().items():
            own = loaded.state_dict()[name]
            # Turning back sums in another order than the witness.
            assert (
                torch.allclose(own, tensor, atol=1e-6)
                if "turned" in packing or packing == "nested"
                else (torch.equal(own, tensor))
            ), name


def test_shards_that_each_describe_their_own_layers(folders, tmp_path) -> None:
    stored, meaning, layers = pack(single.wan_original(folders / "wan"), "rows")
    names = sorted(stored, key=lambda name: name.rpartition(".")[0])
    for number, part in enumerate((names[: len(names) // 2], names[len(names) // 2 :]), start=1):
        own = {name: said for name, said in layers.items() if f"{name}.weight" in part}
        state = {name: stored[name] for name in part}
        single.save(tmp_path / f"w-0000{number}-of-00002.safetensors", state, header(own))
    plain = load_transformer(open_weights(single.save(tmp_path / "p.safetensors", meaning)), torch.float32)
    own = load_transformer(open_weights(tmp_path / "w-00001-of-00002.safetensors"), torch.float32).state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in plain.state_dict().items())
    first = tmp_path / "w-00001-of-00002.safetensors"
    single.save(first, {n: stored[n] for n in names[: len(names) // 2]}, {"_quantization_metadata": "{"})
    with pytest.raises(CorruptWeightsError, match="is not JSON"):
        require_kind(open_weights(first), "wan")


def test_a_packed_text_encoder_and_a_whole_set(folders, tmp_path) -> None:
    stored, meaning, layers = pack(single.part(folders / "wan" / "text_encoder"), "rows")
    text = single.save(tmp_path / "t.safetensors", beside(stored, layers))
    plain = load_umt5(open_weights(single.save(tmp_path / "p.safetensors", meaning)), torch.float32)
    own = load_umt5(open_weights(text), torch.float32).state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in plain.state_dict().items())
    stored, _, layers = pack(single.wan_original(folders / "wan", "model.diffusion_model."), "nvfp4")
    wan = single.save(tmp_path / "w.safetensors", beside(stored, layers))
    vae = single.save(tmp_path / "v.safetensors", single.vae_original(folders / "wan"))
    assert identify(wan).dtype == "scaled nvfp4"
    assert load_wan(WanFiles(wan, vae, text, folders / "wan" / "tokenizer"), CPU).trained


ONE = "blocks.0.self_attn.q"
REFUSALS: dict[str, tuple[dict[str, object], str]] = {
    "another format": ({"format": "convrot_w4a4"}, "convrot_w4a4"),
    "no format": ({}, "None"),
    "an unknown key": ({"format": "int8_tensorwise", "zero_point": 3}, r"int8_tensorwise with zero_point 3"),
    "a key of another format": ({"format": "nvfp4", "convrot": True}, r"nvfp4 with convrot True"),
    "a nested unknown key": ({"format": "int8_tensorwise", "params": {"axis": 0}}, r"with axis 0"),
    "params of another kind": ({"format": "int8_tensorwise", "params": 7}, r"params 7"),
    "a group of no power of four": (
        {"format": "int8_tensorwise", "convrot": True, "convrot_groupsize": 128}, r"convrot_groupsize 128"
    ),
    "a group of text": (
        {"format": "int8_tensorwise", "convrot": True, "convrot_groupsize": "16"}, r"convrot_groupsize '16'"
    ),
    "a truth of text": ({"format": "int8_tensorwise", "convrot": "no"}, r"convrot 'no'"),
    "a format of no text": ({"format": ["nvfp4"]}, r"nvfp4"),
    "two values": ({"format": "int8_tensorwise", "convrot": False, "params": {"convrot": True}}, r"two values for c"),
    "a group without turning": (
        {"format": "int8_tensorwise", "convrot": False, "convrot_groupsize": 0}, r"convrot_groupsize 0"
    ),
    "experts": ({"format": "int8_tensorwise", "num_experts": 4}, r"num_experts 4"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
@pytest.mark.parametrize("where", ["beside", "header"])
def test_what_a_file_says_and_we_do_not_know_is_refused(where, case, folders, tmp_path) -> None:
    said, words = REFUSALS[case]
    stored, _, layers = pack(single.wan_original(folders / "wan"), "rows")
    layers[ONE] = said
    if where == "header":
        file = single.save(tmp_path / "w.safetensors", stored, header(layers))
    else:
        file = single.save(tmp_path / "w.safetensors", beside(stored, layers))
    assert identify(file).kind == "wan", "lists say what it is; loading says why not"
    with pytest.raises(
        IncompatibleWeightsError, match=rf"cannot be undone here: got .*w\.safetensors \(.*{words}.*nvfp4"
    ):
        require_kind(open_weights(file), "wan")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"format_version": "2.0"}, r"format_version '2\.0'"),
        ({"rotation": "left"}, "rotation"),
        ({"layers": []}, "layers"),
    ],
)
def test_a_header_s_note_of_another_kind_is_refused(more, words, folders, tmp_path) -> None:
    stored, _, layers = pack(single.wan_original(folders / "wan"), "rows")
    note = {"format_version": "1.0", "layers": layers, **more}
    file = single.save(tmp_path / "w.safetensors", stored, {"_quantization_metadata": json.dumps(note)})
    with pytest.raises(IncompatibleWeightsError, match=words):
        require_kind(open_weights(file), "wan")


CHANGES: dict[str, tuple[str, Callable[[Packed], object], str]] = {
    "a scale that is missing": ("rows", lambda s: s.pop(f"{ONE}.weight_scale"), "no weight_scale"),
    "a scale of another length": (
        "rows", lambda s: s.update({f"{ONE}.weight_scale": torch.ones(3, 1)}), r"weight_scale \(3, 1\)"
    ),
    "a scale along the columns": (
        "rows", lambda s: s.update({f"{ONE}.weight_scale": torch.ones(1, 256)}), r"weight_scale \(1, 256\)"
    ),
    "weights of another type": (
        "rows", lambda s: s.update({f"{ONE}.weight": torch.zeros(256, 256)}), "weights in float32"
    ),
    "blocks that are not tiled": (
        "nvfp4", lambda s: s.update({f"{ONE}.weight_scale": torch.zeros(256, 15).to(single.FP8)}), r"\(256, 15\)"
    ),
    "blocks in another type": (
        "nvfp4", lambda s: s.update({f"{ONE}.weight_scale": torch.zeros(256, 16)}), "weight_scale in torch.float32"
    ),
    "two whole scales": ("nvfp4", lambda s: s.update({f"{ONE}.weight_scale_2": torch.ones(2)}), "of one number"),
    "powers of two in another type": (
        "mxfp8", lambda s: s.update({f"{ONE}.weight_scale": torch.zeros(256, 8)}), "weight_scale in torch.float32"
    ),
    "a second scale": (
        "rows", lambda s: s.update({f"{ONE}.weight_scale_2": torch.tensor(2.0)}), "a weight_scale_2 as well"
    ),
    "a scale that is no number": (
        "rows", lambda s: s.update({f"{ONE}.weight_scale": torch.full((256, 1), torch.nan)}), "not finite"
    ),
    "bytes for fp8": (
        "fp8", lambda s: s.update({f"{ONE}.weight": s[f"{ONE}.weight"].view(torch.uint8)}), "weights in uint8"
    ),
    "whole numbers for fp8": (
        "fp8", lambda s: s.update({f"{ONE}.weight": s[f"{ONE}.weight"].to(torch.int8)}), "weights in int8"
    ),
    "a scale a column of fp8": (
        "fp8", lambda s: s.update({f"{ONE}.weight_scale": torch.ones(1, 256)}), r"weight_scale \(1, 256\)"
    ),
    "both scales of fp8": (
        "fp8", lambda s: s.update({f"{ONE}.scale_weight": torch.tensor(3.0)}), "two scales"
    ),
    "a scale of the input that changes the weights": (
        "nvfp4", lambda s: s.update({f"{ONE}.pre_quant_scale": torch.ones(256)}), r"1 unexpected: .*pre_quant_scale"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CHANGES)
def test_tensors_that_do_not_go_with_their_packing(case, folders, tmp_path) -> None:
    packing, change, words = CHANGES[case]
    stored, _, layers = pack(single.wan_original(folders / "wan"), packing)
    stored = beside(stored, layers)
    change(stored)
    file = single.save(tmp_path / "w.safetensors", stored)
    with pytest.raises(IncompatibleWeightsError, match=words) as caught:
        load_transformer(open_weights(file), torch.float32)
    assert "w.safetensors" in str(caught.value)


def test_whole_numbers_of_which_nothing_is_said(folders, tmp_path) -> None:
    """One matrix is enough: read as numbers it would be nonsense."""
    state = single.wan_original(folders / "wan")
    state[f"{ONE}.weight"] = (state[f"{ONE}.weight"] * 100).to(torch.int8)
    file = single.save(tmp_path / "w.safetensors", state)
    with pytest.raises(IncompatibleWeightsError, match=r"cannot be undone here: got .*\(int8\)"):
        require_kind(open_weights(file), "wan")
    stored, _, layers = pack(single.wan_original(folders / "wan"), "nvfp4")
    layers.pop(ONE)
    file = single.save(tmp_path / "n.safetensors", beside(stored, layers))
    with pytest.raises(IncompatibleWeightsError, match=r"cannot be undone here: got .*\(nvfp4\)"):
        require_kind(open_weights(file), "wan")


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "bool", "uint8", "uint16", "float8_e8m0fnu", "complex64"])
@pytest.mark.parametrize("name", [f"{ONE}.weight", f"{ONE}.bias", "blocks.1.modulation"])
def test_types_that_are_no_numbers_of_a_model(name, dtype, folders, tmp_path) -> None:
    if not hasattr(torch, dtype):
        pytest.skip("this torch does not know the type")
    state = single.wan_original(folders / "wan")
    state[name] = torch.zeros(state[name].shape).to(getattr(torch, dtype))
    file = single.save(tmp_path / "w.safetensors", state)
    with pytest.raises(IncompatibleWeightsError, match=rf"cannot be undone here: got .*\({dtype}\)"):
        require_kind(open_weights(file), "wan")


def test_two_descriptions_of_one_layer_must_say_the_same(folders, tmp_path) -> None:
    stored, _, layers = pack(single.wan_original(folders / "wan"), "rows")
    other = {**layers, ONE: {"format": "int8_tensorwise", "convrot": True}}
    file = single.save(tmp_path / "w.safetensors", beside(stored, layers), header(other))
    with pytest.raises(IncompatibleWeightsError, match=rf"cannot be undone here: got .*\({ONE}\)"):
        require_kind(open_weights(file), "wan")
    single.save(file, beside(stored, layers), header(layers))
    assert require_kind(open_weights(file), "wan")


def test_descriptions_that_belong_to_nothing_or_are_no_json(folders, tmp_path) -> None:
    stored, _, layers = pack(single.wan_original(folders / "wan"), "rows")
    file = single.save(tmp_path / "w.safetensors", stored, header({**layers, "blocks.9.x": {"format": "nvfp4"}}))
    with pytest.raises(IncompatibleWeightsError, match=r"cannot be undone here: got .*blocks\.9\.x"):
        require_kind(open_weights(file), "wan")
    note = torch.frombuffer(bytearray(b"no json"), dtype=torch.uint8)
    file = single.save(tmp_path / "w.safetensors", stored | {f"{ONE}.comfy_quant": note})
    with pytest.raises(CorruptWeightsError, match="is not JSON"):
        require_kind(open_weights(file), "wan")
    file = single.save(tmp_path / "w.safetensors", stored, {"_quantization_metadata": "{"})
    with pytest.raises(CorruptWeightsError, match="is not JSON"):
        require_kind(open_weights(file), "wan")


def test_the_turning_matrix_is_its_own_inverse() -> None:
    for size in (4, 16, 64, 256):
        assert torch.equal(hadamard(size), turn(size))
        assert torch.allclose(hadamard(size) @ hadamard(size), torch.eye(size), atol=1e-6)


WITNESS = """
import sys, torch
from comfy_kitchen.tensor import TensorCoreMXFP8Layout, TensorCoreNVFP4Layout, TensorWiseINT8Layout
torch.manual_seed(0)
found = []
for shape in ((160, 192), (48, 256), (32, 1024)):
    weight = torch.randn(shape) * 0.3
    q, p = TensorCoreNVFP4Layout.quantize(weight)
    found.append(("nvfp4", 0, q, p.block_scale, p.scale, TensorCoreNVFP4Layout.dequantize(q, p)))
    q, p = TensorCoreMXFP8Layout.quantize(weight)
    found.append(("mxfp8", 0, q, p.scale, None, TensorCoreMXFP8Layout.dequantize(q, p)))
    for group in (0, 16, 64):
        q, p = TensorWiseINT8Layout.quantize(
            weight, per_channel=True, convrot=bool(group), convrot_groupsize=group or 256
        )
        found.append(("int8_tensorwise", group, q, p.scale, None, TensorWiseINT8Layout.dequantize(q, p)))
torch.save(found, sys.argv[1])
"""


def test_comfyui_s_own_arithmetic_gives_the_same_bits(tmp_path) -> None:
    """``comfy_kitchen`` as the witness, in the interpreter of the newest ComfyUI that is given."""
    pythons = [python for python in os.environ.get("COMFYUI_PYTHON", "").split(os.pathsep) if python]
    done = False
    for python in reversed(pythons):
        run = subprocess.run([python, "-c", WITNESS, str(tmp_path / "w.pt")], capture_output=True, text=True)
        done = run.returncode == 0
        if done:
            break
    if not done:
        pytest.skip("no COMFYUI_PYTHON that has comfy_kitchen with these packings")
    for form, group, numbers, scale, whole, meaning in torch.load(tmp_path / "w.pt"):
        own = unpack(Packing(form, group), numbers, {"weight_scale": scale, "weight_scale_2": whole}.get)
        assert torch.equal(own, meaning), (form, group)
