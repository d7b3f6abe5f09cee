"""LoRA files in every layout, on real small towers: names, numbers, stacking, removal, refusals."""

from __future__ import annotations

import copy
import json

import pytest
import small_models as small
import torch
from lora_files import (
    LAYOUTS,
    RANK,
    SCALE,
    Factors,
    dotted,
    factors,
    mixed,
    original,
    peft_folder,
)
from safetensors.torch import load_file, save_file
from sounding_video.core.device import Placement
from sounding_video.models.joint import JointModel
from sounding_video.models.lora.apply import with_lora
from sounding_video.models.lora.files import read_lora
from sounding_video.models.lora.layers import LayerWithLora
from sounding_video.models.lora.targets import ORIGINAL_WAN, PARTS
from sounding_video.models.placement import running
from sounding_video.models.plan.needs import Needs, Workload
from sounding_video.models.plan.outline import outline_loaded
from sounding_video.pipeline import add_lora, load_models
from torch import Tensor, nn


def part_of(joint: JointModel, part: str) -> nn.Module:
    return joint.get_submodule(PARTS[part][0].removesuffix("."))


def merged(joint: JointModel, part: str, pairs: Factors, strength: float) -> JointModel:
    """The reference: W + s · alpha/r · B A in float64, in a copy of the whole model."""
    twin = copy.deepcopy(joint).double()
    layers = part_of(twin, part)
    for name, (a, b) in pairs.items():
        layers.get_submodule(name).weight.data += strength * SCALE * (b.double() @ a.double())
    return twin


def run(joint: JointModel, inputs: dict, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    def cast(modality):
        fields = {
            n: getattr(modality, n).to(dtype)
            for n in ("latents", "text", "duration")
            if getattr(modality, n) is not None
        }
        return type(modality)(**{**vars(modality), **fields})

    with torch.no_grad():
        return joint(**{name: cast(modality) for name, modality in inputs.items()})


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_wan_gives_the_explicit_sum(joint, inputs, tmp_path, layout):
    pairs = factors(joint.video.model)
    assert len(pairs) == 10 * small.VIDEO_BLOCKS + 6
    before = run(joint, inputs, torch.float32)
    changed, report = with_lora(joint, read_lora(LAYOUTS[layout](tmp_path / "wan.safetensors", pairs)), 0.7)
    assert (report.part, set(report.matched), report.unmatched) == ("video", set(pairs), ())
    # each layer alone, in float64
    twin, reference = copy.deepcopy(changed).double(), merged(joint, "video", pairs, 0.7)
    for name in pairs:
        layer, wanted = twin.video.model.get_submodule(name), reference.video.model.get_submodule(name)
        x = torch.randn(4, wanted.in_features, dtype=torch.float64)
        torch.testing.assert_close(layer(x), wanted(x), rtol=1e-5, atol=1e-6)
    # the whole model; the base is what it was
    for ours, wanted in zip(run(changed, inputs, torch.float32), run(reference, inputs), strict=True):
        torch.testing.assert_close(ours.double(), wanted.double(), rtol=1e-3, atol=2e-4)
    assert all(not torch.equal(a, b) for a, b in zip(run(changed, inputs, torch.float32), before, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(run(joint, inputs, torch.float32), before, strict=True))


@pytest.mark.parametrize(
    ("part", "prefix"),
    [
        ("audio", "transformer."),
        ("audio", "base_model.model."),
        ("bridge", ""),
        ("bridge", "base_model.model.bridges."),
    ],
)
def test_the_audio_tower_and_the_bridges_take_peft_files(joint, inputs, tmp_path, part, prefix):
    pairs = factors(part_of(joint, part))
    path = dotted(prefix, "lora_A", "lora_B", alpha=False)(tmp_path / "x.safetensors", pairs)
    changed, report = with_lora(joint, read_lora(path), -1.5)
    assert (report.part, set(report.matched), report.unmatched) == (part, set(pairs), ())
    reference = merged(joint, part, pairs, -1.5)
    for ours, wanted in zip(run(changed, inputs, torch.float32), run(reference, inputs), strict=True):
        torch.testing.assert_close(ours.double(), wanted.double(), rtol=1e-3, atol=1e-3)


def test_every_linear_layer_has_the_original_name_of_diffusers_renaming(joint):
    import re

    for name in factors(joint.video.model):
        ours = name
        for pattern, replacement in ORIGINAL_WAN:
            ours = re.sub(pattern, replacement, ours)
        assert ours == original(name)


def test_names_and_numbers_are_those_of_diffusers_lora_converters(joint, tmp_path):
    """Diffusers' converters want whole files; where they work, they are an independent witness."""
    from diffusers.loaders import lora_conversion_utils as converters

    pairs = factors(joint.video.model, only="blocks.")
    for layout, convert in (
        ("original names", converters._convert_non_diffusers_wan_lora_to_diffusers),
        ("kohya", converters._convert_musubi_wan_lora_to_diffusers),
    ):
        lora = read_lora(LAYOUTS[layout](tmp_path / f"{layout}.safetensors", pairs))
        theirs = convert({name: lora.file.tensor(name) for name in lora.file})
        changed, _ = with_lora(joint, lora)
        for name in pairs:
            down, up = (theirs[f"transformer.{name}.lora_{letter}.weight"].double() for letter in "AB")
            (term,) = changed.video.model.get_submodule(name).terms
            torch.testing.assert_close(term.up.double() @ term.down.double(), up @ down, rtol=1e-5, atol=1e-7)


def test_the_output_is_peft_s(joint, inputs, tmp_path):
    pytest.importorskip("peft", reason="peft is not installed: no second implementation to compare with")
    path = LAYOUTS["diffusers"](tmp_path / "x.safetensors", factors(joint.video.model))
    model = copy.deepcopy(joint.video.model)
    model.load_lora_adapter(load_file(path), prefix="transformer")
    changed, _ = with_lora(joint, read_lora(path))
    video = inputs["video"]
    with torch.no_grad():
        theirs = model(video.latents, video.timestep, video.text, return_dict=False)[0]
        torch.testing.assert_close(changed.video(video), theirs, rtol=1e-4, atol=1e-5)
    assert not torch.equal(theirs, joint.video(video))


def test_stacking_does_not_depend_on_the_order(joint, inputs, tmp_path):
    write = LAYOUTS["original names"]
    loras = [
        (read_lora(write(tmp_path / "one.safetensors", factors(joint.video.model, 1))), 0.5),
        (read_lora(write(tmp_path / "two.safetensors", factors(joint.video.model, 2, only="attn1"))), -0.25),
        (read_lora(LAYOUTS["kohya"](tmp_path / "three.safetensors", factors(joint.video.model, 3, only="ffn"))), 1.0),
    ]
    results = []
    for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        model = joint
        for index in order:
            model, _ = with_lora(model, *loras[index])
        results.append(run(model, inputs, torch.float32))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
    reference = merged(joint, "video", factors(joint.video.model, 1), 0.5)
    for seed, only, strength in ((2, "attn1", -0.25), (3, "ffn", 1.0)):
        reference = merged(reference, "video", factors(joint.video.model, seed, only=only), strength)
    torch.testing.assert_close(results[0][0].double(), run(reference, inputs)[0].double(), rtol=1e-3, atol=2e-4)


def test_weights_are_shared_and_strength_nought_changes_nothing(joint, tmp_path):
    lora = read_lora(LAYOUTS["original names"](tmp_path / "x.safetensors", factors(joint.video.model)))
    changed, _ = with_lora(joint, lora)
    own = {p.data_ptr() for p in joint.parameters()}
    added = [name for name, p in changed.named_parameters() if p.data_ptr() not in own]
    assert added and all(name.endswith((".down_0", ".up_0")) for name in added)
    assert not any(isinstance(module, LayerWithLora) for module in joint.modules())
    assert with_lora(joint, lora, 0.0)[0] is joint


def test_a_small_change_survives_bfloat16_weights(joint, inputs, tmp_path):
    """Added to the weights it would be rounded away: bfloat16 keeps 8 bits. Beside them it is not."""
    pairs = {n: (1e-2 * a, 1e-2 * b) for n, (a, b) in factors(joint.video.model, only="to_q").items()}
    name = "blocks.0.attn1.to_q"
    half = copy.deepcopy(joint).to(torch.bfloat16)
    changed, _ = with_lora(half, read_lora(LAYOUTS["original names"](tmp_path / "x.safetensors", pairs)))
    layer = changed.video.model.get_submodule(name)
    (term,) = layer.terms
    assert term.down.dtype == torch.bfloat16
    delta = SCALE * (pairs[name][1] @ pairs[name][0])
    beside = term.up.float() @ term.down.float()
    inside = (layer.base.weight.float() + delta).to(torch.bfloat16).float() - layer.base.weight.float()
    assert (beside - delta).norm() / delta.norm() < 0.01 < 0.3 < (inside - delta).norm() / delta.norm()
    ours = run(changed, inputs, torch.bfloat16)[0].double()
    reference = run(merged(half, "video", pairs, 1.0), inputs)[0].double()
    assert (ours - reference).norm() / reference.norm() < 0.05


@pytest.mark.parametrize("offload", ["none", "model", "group", "sequential"])
def test_every_offload_mode_gives_the_same(joint, inputs, tmp_path, offload):
    lora = read_lora(LAYOUTS["kohya"](tmp_path / "x.safetensors", factors(joint.video.model)))
    changed, _ = with_lora(copy.deepcopy(joint), lora, 0.7)
    wanted = run(changed, inputs, torch.float32)
    with running(changed, Placement(torch.device("cpu"), torch.float32, offload)) as model:
        got = run(model, inputs, torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(run(changed, inputs, torch.float32), wanted, strict=True))


def test_weights_stored_in_fp8_stay_so(joint, inputs, tmp_path):
    """Diffusers' layerwise casting keeps the weights in fp8 between uses; the LoRA beside them stays wide."""
    from diffusers.hooks import apply_layerwise_casting

    stored = copy.deepcopy(joint)
    apply_layerwise_casting(stored.video.model.blocks, torch.float8_e4m3fn, torch.float32)
    pairs = factors(joint.video.model, only="blocks.")
    lora = read_lora(LAYOUTS["original names"](tmp_path / "x.safetensors", pairs))
    changed, _ = with_lora(stored, lora)
    layer = changed.video.model.blocks[0].attn1.to_q
    assert (layer.base.weight.dtype, layer.terms[0].down.dtype) == (torch.float8_e4m3fn, torch.float32)
    rounded = copy.deepcopy(joint)
    for name in pairs:
        linear = rounded.video.model.get_submodule(name)
        linear.weight.data = linear.weight.data.to(torch.float8_e4m3fn).float()
        linear.bias.data = linear.bias.data.to(torch.float8_e4m3fn).float()
    reference = merged(rounded, "video", pairs, 1.0)
    got = run(changed, inputs, torch.float32)[0].double()
    torch.testing.assert_close(got, run(reference, inputs)[0].double(), rtol=1e-3, atol=2e-4)


def test_biases_and_whole_differences_are_added(joint, tmp_path):
    a, b = factors(joint.video.model)["blocks.1.ffn.net.2"]
    difference, bias = torch.randn(small.VIDEO_WIDTH, small.VIDEO_WIDTH), torch.randn(small.VIDEO_WIDTH)
    save_file(
        {
            "diffusion_model.blocks.1.ffn.2.lora_down.weight": a,
            "diffusion_model.blocks.1.ffn.2.lora_up.weight": b,
            "diffusion_model.blocks.1.ffn.2.diff_b": bias,
            "diffusion_model.blocks.0.self_attn.o.diff": difference,
        },
        tmp_path / "x.safetensors",
    )
    changed, report = with_lora(joint, read_lora(tmp_path / "x.safetensors"), 0.5)
    assert set(report.matched) == {"blocks.1.ffn.net.2", "blocks.0.attn1.to_out.0"}
    assert report.summary() == "x.safetensors × 0.5 on 2 layers of the video tower (1 LoRA, 1 whole difference)"
    for name, delta, added in (
        ("blocks.1.ffn.net.2", b @ a, bias),
        ("blocks.0.attn1.to_out.0", difference, torch.zeros(())),
    ):
        old, new = joint.video.model.get_submodule(name), changed.video.model.get_submodule(name)
        x = torch.randn(3, old.in_features)
        torch.testing.assert_close(new(x), old(x) + 0.5 * (x @ delta.T + added), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("storage", ["native", "fp8"])
def test_the_plan_counts_what_a_lora_takes(small_models_dir, tmp_path, storage):
    plain = load_models(small_models_dir, placement=Placement(torch.device("cpu"), torch.float32, storage=storage))
    changed = add_lora(plain, read_lora(mixed(tmp_path / "x.safetensors")), 0.5)
    without, counted = (
        Needs(outline_loaded(model.joint, model.video, model.audio), Workload(None, None)).weights()
        for model in (plain, changed)
    )
    width = small.VIDEO_WIDTH  # LoHa; DoRA with its lengths and bias; patch embedding; a bias alone. Sums take nothing.
    numbers = 4 * 2 * width + (4 * width + 2 * width) + width * 16 + 32
    assert counted == without | {"video tower": without["video tower"] + 4 * numbers}


def test_a_configuration_is_that_of_its_own_file(joint, tmp_path):
    """A stray adapter_config.json in a folder of many LoRAs says nothing of them; peft's older .bin is read too."""
    pairs = factors(joint.video.model, only="to_q")
    folder = peft_folder(tmp_path / "x", pairs)
    plain = load_file(folder / "adapter_model.safetensors")
    wanted = read_lora(folder).change("blocks.0.attn1.to_q").form.dense()
    for name in ("one", "two"):
        save_file(plain, folder / f"{name}.safetensors")
    up, down = (plain[f"base_model.model.blocks.0.attn1.to_q.lora_{x}.weight"] for x in "BA")
    stray = read_lora(folder / "one.safetensors").change("blocks.0.attn1.to_q").form.dense()
    torch.testing.assert_close(stray, up @ down)
    torch.testing.assert_close(wanted, SCALE * (up @ down))
    (folder / "adapter_model.safetensors").unlink()
    torch.save(plain, folder / "adapter_model.bin")
    torch.testing.assert_close(read_lora(folder).change("blocks.0.attn1.to_q").form.dense(), wanted)


def test_peft_s_rank_stabilised_scale(joint, tmp_path):
    folder = peft_folder(tmp_path / "x", factors(joint.video.model, only="to_q"))
    config = {"r": RANK, "lora_alpha": 6, "use_rslora": True, "alpha_pattern": {"attn1.to_q": 2}}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    lora = read_lora(folder)
    for layer, scale in (("blocks.0.attn2.to_q", 6 / RANK**0.5), ("blocks.0.attn1.to_q", 2 / RANK**0.5)):
        up = lora.file.tensor(f"base_model.model.{layer}.lora_B.weight")
        torch.testing.assert_close(lora.change(layer).form.up, scale * up)
