"""LoCon, DoRA, LoHa, LoKr and whole differences: against peft's layers, and against the formulas written out."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import small_models as small
import torch
from lora_files import original
from safetensors.torch import save_file
from sounding_video.core.device import Placement
from sounding_video.core.errors import CorruptWeightsError, IncompatibleWeightsError, NonFiniteError
from sounding_video.models.lora.apply import with_lora
from sounding_video.models.lora.files import read_lora
from sounding_video.models.placement import running
from sounding_video.models.storage import store, whole_weight
from torch import Tensor, nn

RANK, ALPHA = 2, 3.0
SCALE = ALPHA / RANK
LINEAR, WIDE, CONV = "blocks.1.attn1.to_k", "blocks.0.ffn.net.0.proj", "patch_embedding"
Tensors = dict[str, Tensor]


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return 0.4 * torch.randn(shape, generator=torch.Generator().manual_seed(seed + 7 * sum(shape)))


def low_rank(out: int, width: int, *rest: int) -> tuple[Tensors, Tensor]:
    down, up = numbers(RANK, width, *rest), numbers(out, RANK, *(1 for _ in rest), seed=1)
    delta = SCALE * torch.einsum("or,ri...->oi...", up.flatten(1), down)
    return {"lora_down.weight": down, "lora_up.weight": up, "alpha": torch.tensor(ALPHA)}, delta


def locon(out: int, width: int, *rest: int) -> tuple[Tensors, Tensor]:
    ones = [1 for _ in rest]
    down, mid, up = numbers(RANK, width, *ones), numbers(RANK, RANK, *rest), numbers(out, RANK, *ones, seed=1)
    delta = SCALE * torch.einsum("oa,ab...,bi->oi...", up.flatten(1), mid, down.flatten(1))
    names = {"lora_down.weight": down, "lora_mid.weight": mid, "lora_up.weight": up, "alpha": torch.tensor(ALPHA)}
    return names, delta


def loha(out: int, width: int, *rest: int) -> tuple[Tensors, Tensor]:
    wide = width * torch.Size(rest).numel()
    sizes = {"w1_a": (out, RANK), "w1_b": (RANK, wide), "w2_a": (out, RANK), "w2_b": (RANK, wide)}
    parts = {f"hada_{name}": numbers(*size, seed=n) for n, (name, size) in enumerate(sizes.items())}
    a1, b1, a2, b2 = parts.values()
    return {**parts, "alpha": torch.tensor(ALPHA)}, SCALE * ((a1 @ b1) * (a2 @ b2)).reshape(out, width, *rest)


def loha_tucker(out: int, width: int, *rest: int) -> tuple[Tensors, Tensor]:
    sizes = {"w1_a": (RANK, out), "w1_b": (RANK, width), "w2_a": (RANK, out), "w2_b": (RANK, width)}
    parts = {f"hada_{name}": numbers(*size, seed=n) for n, (name, size) in enumerate(sizes.items())}
    parts |= {f"hada_t{n}": numbers(RANK, RANK, *rest, seed=n) for n in (1, 2)}
    halves = [
        torch.einsum("ij...,io,jp->op...", *(parts[f"hada_{p}"] for p in (f"t{n}", f"w{n}_a", f"w{n}_b")))
        for n in (1, 2)
    ]
    return {**parts, "alpha": torch.tensor(ALPHA)}, SCALE * halves[0] * halves[1]


def lokr(out: int, width: int, *rest: int, first: bool = False, second: bool = True) -> tuple[Tensors, Tensor]:
    """``first`` and ``second`` say which factor is itself in factors; alpha counts only when one is."""
    wide = width // 2 * torch.Size(rest).numel()
    parts, made = {}, []
    for name, halved, (rows, columns) in (("lokr_w1", first, (4, 2)), ("lokr_w2", second, (out // 4, wide))):
        a, b = numbers(rows, RANK), numbers(RANK, columns, seed=1)
        parts |= {f"{name}_a": a, f"{name}_b": b} if halved else {name: numbers(rows, columns, seed=2)}
        made.append(a @ b if halved else parts[name])
    delta = torch.kron(*made).reshape(out, width, *rest) * (SCALE if first or second else 1)
    return {**parts, "alpha": torch.tensor(ALPHA if first or second else 9e9)}, delta


def lokr_tucker(out: int, width: int, *rest: int) -> tuple[Tensors, Tensor]:
    parts = {"lokr_w1": numbers(4, 2), "lokr_t2": numbers(RANK, RANK, *rest)}
    parts |= {"lokr_w2_a": numbers(RANK, out // 4), "lokr_w2_b": numbers(RANK, width // 2)}
    core, a, b = (parts[f"lokr_{name}"] for name in ("t2", "w2_a", "w2_b"))
    second = torch.einsum("ij...,io,jp->op...", core, a, b)
    delta = torch.stack(
        [torch.kron(parts["lokr_w1"], second[..., i, j, k]) for i, j, k in itertools.product(*map(range, rest))], dim=-1
    )
    return {**parts, "alpha": torch.tensor(ALPHA)}, SCALE * delta.reshape(out, width, *rest)


def difference(out: int, width: int, *rest: int) -> tuple[Tensors, Tensor]:
    delta = numbers(out, width, *rest)
    return {"diff": delta}, delta


KINDS: dict[str, tuple[Callable[..., tuple[Tensors, Tensor]], tuple[str, ...], str]] = {
    "LoRA": (low_rank, (LINEAR, WIDE, CONV), "LoRA"),
    "LoCon with a middle": (locon, (CONV,), "LoRA"),
    "LoHa": (loha, (LINEAR, WIDE, CONV), "LoHa"),
    "LoHa with cores": (loha_tucker, (CONV,), "LoHa"),
    "LoKr": (lokr, (LINEAR, WIDE, CONV), "LoKr"),
    "LoKr, both in factors": (lambda *s: lokr(*s, first=True), (LINEAR, WIDE), "LoKr"),
    "LoKr, the first in factors": (lambda *s: lokr(*s, first=True, second=False), (LINEAR, WIDE), "LoKr"),
    "LoKr, whole": (lambda *s: lokr(*s, second=False), (LINEAR, WIDE, CONV), "LoKr"),
    "LoKr with a core": (lokr_tucker, (CONV,), "LoKr"),
    "whole difference": (difference, (LINEAR, WIDE, CONV), "whole difference"),
}  # fmt: skip


def lora_file(path: Path, tensors: dict[str, Tensors], rename: Callable[[str], str] = str) -> Path:
    named = {f"diffusion_model.{rename(layer)}.{name}": t for layer, ts in tensors.items() for name, t in ts.items()}
    save_file({name: tensor.contiguous() for name, tensor in named.items()}, path)
    return path


def decomposed(weight: Tensor, delta: Tensor, magnitude: Tensor) -> Tensor:
    """DoRA's W', from the paper: m · (W + D) / ||W + D||, a row or a column."""
    changed = weight + delta
    axes = [axis for axis in range(weight.ndim) if magnitude.shape[axis] == 1]
    return magnitude * changed / changed.pow(2).sum(dim=axes, keepdim=True).sqrt()


def output(layer: nn.Module, weight: Tensor, x: Tensor) -> Tensor:
    """What a layer gives with another weight, in float64."""
    twin = copy.deepcopy(layer).double()
    twin.weight = nn.Parameter(weight)
    return twin(x.double())


def sample(layer: nn.Module) -> Tensor:
    return numbers(2, 4, 2, 4, 6) if isinstance(layer, nn.Conv3d) else numbers(2, 5, layer.in_features)


@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_the_formula_with_and_without_dora(joint, tmp_path, kind, axis):
    make, layers, told = KINDS[kind]
    tensors, wanted, strength = {}, {}, 0.7
    for name in layers:
        weight = joint.video.model.get_submodule(name).weight.detach()
        tensors[name], delta = make(*weight.shape)
        weight, delta = weight.double(), delta.double()
        wanted[name] = weight + strength * delta
        if axis is not None:
            shape = [weight.shape[axis] if n == axis else 1 for n in range(weight.ndim)]
            magnitude = 1 + numbers(*shape)
            tensors[name]["dora_scale"] = magnitude
            wanted[name] = weight + strength * (decomposed(weight, delta, magnitude.double()) - weight)
    changed, report = with_lora(joint, read_lora(lora_file(tmp_path / "x.safetensors", tensors)), strength)
    if axis is not None:
        told = "DoRA" if told == "LoRA" else f"{told} as DoRA"
    assert (set(report.matched), report.unmatched, report.kinds) == (set(layers), (), {told: len(layers)})
    for name, weight in wanted.items():
        old, new = (model.video.model.get_submodule(name) for model in (joint, changed))
        x = sample(old)
        torch.testing.assert_close(new(x).double(), output(old, weight, x), rtol=1e-4, atol=1e-5)
        assert not torch.allclose(new(x), old(x), atol=1e-3)


def peft_adapter(model: nn.Module, config: object, folder: Path) -> tuple[nn.Module, Path]:
    """A model with a random adapter of peft's, and what peft saves of it."""
    from peft import get_peft_model

    adapted = get_peft_model(copy.deepcopy(model), config)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "magnitude" in name:
                parameter.mul_(1 + numbers(*parameter.shape))
            elif parameter.requires_grad:
                parameter.copy_(numbers(*parameter.shape, seed=len(name)))
    adapted.save_pretrained(folder)
    return adapted, folder


@pytest.mark.parametrize("kind", ["LoRA", "LoRA with biases", "DoRA", "rsDoRA", "LoHa", "LoKr", "LoKr in factors"])
def test_the_output_is_peft_s(joint, inputs, tmp_path, kind):
    peft = pytest.importorskip("peft", reason="peft is not installed: no second implementation to compare with")
    layers = ["to_q", "to_out.0", "ffn.net.2", "condition_embedder.time_proj"]
    low = {"r": 3, "lora_alpha": 5, "target_modules": [*layers, "patch_embedding"]}
    lycoris = {"r": 2, "alpha": 5, "target_modules": layers, "alpha_pattern": {"to_q": 1}, "rank_pattern": {"net.2": 3}}
    config = {
        "LoRA": lambda: peft.LoraConfig(**low),
        "LoRA with biases": lambda: peft.LoraConfig(**low, lora_bias=True),
        "DoRA": lambda: peft.LoraConfig(**low, use_dora=True),
        "rsDoRA": lambda: peft.LoraConfig(**low, use_dora=True, use_rslora=True),
        "LoHa": lambda: peft.LoHaConfig(**lycoris),
        "LoKr": lambda: peft.LoKrConfig(**lycoris),
        "LoKr in factors": lambda: peft.LoKrConfig(**lycoris, decompose_both=True, decompose_factor=2),
    }[kind]()
    theirs, folder = peft_adapter(joint.video.model, config, tmp_path / "adapter")
    changed, report = with_lora(joint, read_lora(folder))
    assert report.unmatched == () and len(report.matched) == 6 * 2 + 3 + 1 + (
        "patch_embedding" in config.target_modules
    )
    video = inputs["video"]
    with torch.no_grad():
        wanted = theirs(video.latents, video.timestep, video.text, return_dict=False)[0]
        torch.testing.assert_close(changed.video(video), wanted, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(wanted, joint.video(video), atol=1e-2)


NORMS = {"blocks.0.attn1.norm_q", "blocks.1.attn2.norm_k", "blocks.2.norm2"}
TABLES = {"blocks.1.scale_shift_table": "blocks.1.modulation", "scale_shift_table": "head.modulation"}


@pytest.mark.parametrize("naming", ["diffusers", "original", "underscores"])
def test_norms_modulation_the_patch_embedding_and_lone_biases_are_changed(joint, inputs, tmp_path, naming):
    twin = copy.deepcopy(joint).double()
    tensors: Tensors = {}

    def change(parameter: str, name: str, tensor: Tensor) -> None:
        twin.video.model.get_parameter(parameter).data += -0.5 * tensor.double()
        tensors[name] = tensor

    def named(layer: str) -> str:
        new = layer if naming == "diffusers" else original_of(layer)
        return f"lora_unet_{new.replace('.', '_')}" if naming == "underscores" else f"diffusion_model.{new}"

    model = joint.video.model
    for norm in NORMS:
        change(f"{norm}.weight", f"{named(norm)}.diff", numbers(small.VIDEO_WIDTH))
    change("blocks.2.norm2.bias", f"{named('blocks.2.norm2')}.diff_b", numbers(small.VIDEO_WIDTH, seed=5))
    for table, modulation in TABLES.items():
        value = numbers(*model.get_parameter(table).shape)
        short = modulation.removesuffix(".modulation")
        name = f"diffusion_model.{short}.diff_m" if naming == "original" else f"{named(table)}.diff"
        change(table, name, value)
    change("patch_embedding.weight", f"{named(CONV)}.diff", numbers(*model.patch_embedding.weight.shape))
    change("patch_embedding.bias", f"{named(CONV)}.diff_b", numbers(small.VIDEO_WIDTH, seed=9))
    for linear in (LINEAR, "condition_embedder.time_proj", "proj_out"):
        bias = model.get_submodule(linear).bias
        change(f"{linear}.bias", f"{named(linear)}.diff_b", numbers(*bias.shape))
    save_file(tensors, tmp_path / "x.safetensors")
    before = {name: parameter.detach().clone() for name, parameter in joint.named_parameters()}
    changed, report = with_lora(joint, read_lora(tmp_path / "x.safetensors"), -0.5)
    assert report.unmatched == ()
    assert report.summary() == (
        "x.safetensors × -0.5 on 9 layers of the video tower (3 biases, 3 norms, 2 modulations, 1 whole difference)"
    )
    assert all(torch.equal(before[name], parameter) for name, parameter in joint.named_parameters())
    video = inputs["video"]
    with torch.no_grad():
        got = changed.video(video)
        wanted = twin.float().video(video)
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(got, joint.video(video), atol=1e-2)


def original_of(layer: str) -> str:
    by_hand = {
        "blocks.0.attn1.norm_q": "blocks.0.self_attn.norm_q",
        "blocks.1.attn2.norm_k": "blocks.1.cross_attn.norm_k",
    }
    by_hand |= {"blocks.2.norm2": "blocks.2.norm3", CONV: CONV, **TABLES}
    return by_hand.get(layer) or original(layer)


def every_kind(joint, folder: Path) -> list[tuple[Path, float]]:
    """Four files that meet on the same layers, norms among them."""
    files = []
    for number, (kind, axis, strength) in enumerate(
        (("LoRA", 0, 0.5), ("LoHa", 1, -0.3), ("LoKr", 0, 1.0), ("LoRA", None, 0.8))
    ):
        make, layers, _ = KINDS[kind]
        tensors = {}
        for name in layers:
            weight = joint.video.model.get_submodule(name).weight
            tensors[name] = {key: (1 + number) * t for key, t in make(*weight.shape)[0].items()}
            if axis is not None:
                shape = [weight.shape[axis] if n == axis else 1 for n in range(weight.ndim)]
                tensors[name]["dora_scale"] = 1 + numbers(*shape, seed=number)
        tensors["blocks.0.attn1.norm_q"] = {"diff": numbers(small.VIDEO_WIDTH, seed=number)}
        tensors["blocks.1.scale_shift_table"] = {"diff": numbers(1, 6, small.VIDEO_WIDTH, seed=number)}
        files.append((lora_file(folder / f"{number}.safetensors", tensors), strength))
    return files


def test_any_order_gives_the_same_bits_and_the_sum_of_the_single_changes(joint, tmp_path):
    files = [(read_lora(path), strength) for path, strength in every_kind(joint, tmp_path)]
    models = []
    for order in ((0, 1, 2, 3), (3, 1, 0, 2), (2, 3, 1, 0)):
        model = joint
        for index in order:
            model, _ = with_lora(model, *files[index])
        models.append(model)
    singles = [with_lora(joint, *file)[0] for file in files]
    for name in (LINEAR, WIDE, CONV, "blocks.0.attn1.norm_q"):
        x = sample(joint.video.model.get_submodule(name)) if "norm" not in name else numbers(2, 5, small.VIDEO_WIDTH)
        old, first, *others = (m.video.model.get_submodule(name)(x) for m in (joint, *models))
        assert all(torch.equal(first, other) for other in others)
        changes = [single.video.model.get_submodule(name)(x) - old for single in singles]
        torch.testing.assert_close(first, old + sum(changes), rtol=1e-4, atol=1e-4)
    tables = [model.video.model.blocks[1].scale_shift_table for model in models]
    assert all(torch.equal(tables[0], table) for table in tables[1:]) and not torch.equal(
        tables[0], joint.video.model.blocks[1].scale_shift_table
    )


@pytest.mark.parametrize("offload", ["none", "model", "group", "sequential"])
def test_every_offload_mode_gives_the_same(joint, inputs, tmp_path, offload):
    changed = copy.deepcopy(joint)
    for path, strength in every_kind(joint, tmp_path):
        changed, _ = with_lora(changed, read_lora(path), strength)
    with torch.no_grad():
        wanted = changed(**inputs)
        with running(changed, Placement(torch.device("cpu"), torch.float32, offload)) as model:
            got = model(**inputs)
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))


@torch.no_grad()
@pytest.mark.parametrize(("storage", "package"), [("int8", "torchao"), ("nf4", "bitsandbytes")])
def test_a_packed_weight_is_looked_at_as_it_works(storage, package):
    pytest.importorskip(package, reason=f"{package} is not installed: no storage {storage}")
    layers = nn.Sequential(nn.Linear(512, 1024)).eval()
    packed = store(copy.deepcopy(layers), Placement(torch.device("cpu"), torch.float32, storage=storage))[0]
    x = numbers(6, 512)
    for _ in range(2):  # bitsandbytes packs anew at the first use
        weight = whole_weight(packed)
        assert weight.shape == (1024, 512) and 0 < (weight - layers[0].weight).abs().max() < 0.01
        torch.testing.assert_close(packed(x), x @ weight.T + packed.bias, rtol=1e-2, atol=2e-2)


@pytest.mark.parametrize(("storage", "package"), [("fp8", "torch"), ("int8", "torchao")])
@pytest.mark.parametrize("axis", [0, 1])
def test_dora_over_small_storage_looks_at_the_weight_that_is_used(joint, tmp_path, storage, package, axis):
    pytest.importorskip(package, reason=f"{package} is not installed: no storage {storage}")
    tower = copy.deepcopy(joint.video.model)
    weight = tower.get_submodule(WIDE).weight.detach()
    tensors, delta = low_rank(*weight.shape)
    magnitude = 1 + numbers(*((len(weight), 1) if axis == 0 else (1, weight.shape[1])))
    path = lora_file(tmp_path / "x.safetensors", {WIDE: {**tensors, "dora_scale": magnitude}})
    stored = copy.deepcopy(joint)
    store(stored.video.model, Placement(torch.device("cpu"), torch.float32, storage=storage))
    base = stored.video.model.get_submodule(WIDE)
    kept = whole_weight(base)
    assert not torch.equal(kept, weight) and (kept - weight).abs().max() < 0.1
    changed, _ = with_lora(stored, read_lora(path), 0.6)
    x = numbers(3, weight.shape[1])
    used = kept.double() + 0.6 * (decomposed(kept.double(), delta.double(), magnitude.double()) - kept.double())
    bias = base.bias.detach().double()
    got = changed.video.model.get_submodule(WIDE)(x)
    torch.testing.assert_close(got.double(), x.double() @ used.T + bias, rtol=1e-2, atol=1e-2)


def test_a_patch_embedding_for_pictures_as_input_is_left_out_and_named(joint, tmp_path):
    tensors = {CONV: {"diff": numbers(small.VIDEO_WIDTH, 9, 1, 2, 2)}, LINEAR: low_rank(24, 24)[0]}
    _, report = with_lora(joint, read_lora(lora_file(tmp_path / "x.safetensors", tensors)))
    assert report.summary() == (
        "x.safetensors × 1 on 1 layer of the video tower; "
        "1 entry of the file not used: diffusion_model.patch_embedding.diff"
    )


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        (loha, lambda t: t.pop("hada_w2_b"), "no hada_w2_b"),
        (loha, lambda t: t.update(hada_t1=numbers(2, 2, 1)), "no hada_t2"),
        (loha, lambda t: t.update(hada_w2_b=numbers(2, 7)), "factors that fit one another"),
        (lokr, lambda t: t.pop("lokr_w2_a"), "no lokr_w2_a"),
        (lokr, lambda t: t.pop("lokr_w1"), "no lokr_w1"),
        (low_rank, lambda t: t.update(alpha=torch.ones(3)), "factors that fit one another"),
        (low_rank, lambda t: t.pop("lora_down.weight"), "only its up half"),
    ],
)
def test_parts_that_are_missing_or_do_not_fit_are_named(joint, tmp_path, kind, change, words):
    tensors, _ = kind(24, 24)
    change(tensors)
    with pytest.raises(CorruptWeightsError, match=words):
        with_lora(joint, read_lora(lora_file(tmp_path / "x.safetensors", {LINEAR: tensors})))


def test_sizes_and_numbers_are_looked_at_in_every_kind(joint, tmp_path):
    path = tmp_path / "x.safetensors"
    for tensors in (
        loha(20, 24)[0],
        lokr(48, 24)[0],
        {"diff": numbers(24, 20)},
        {"diff_b": numbers(20)},
        {**low_rank(24, 24)[0], "dora_scale": numbers(7, 1)},
    ):
        with pytest.raises(IncompatibleWeightsError, match="a model of another size"):
            with_lora(joint, read_lora(lora_file(path, {LINEAR: tensors})))
    with pytest.raises(IncompatibleWeightsError, match="a model of another size"):
        with_lora(joint, read_lora(lora_file(path, {"blocks.0.attn1.norm_q": {"diff": numbers(5)}})))
    with pytest.raises(NonFiniteError, match="lokr_w1"):
        tensors = {**lokr(24, 24)[0], "lokr_w1": torch.full((4, 2), float("nan"))}
        with_lora(joint, read_lora(lora_file(path, {LINEAR: tensors})))
