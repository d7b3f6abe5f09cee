"""Names that trainers, wrappers and compilers put around a layer's name, and what is said of names that fit nothing."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from lora_files import RANK, dotted, factors, original, underscored
from safetensors.torch import save_file
from sounding_video.core.errors import CorruptWeightsError, IncompatibleWeightsError
from sounding_video.models.lora.apply import with_lora
from sounding_video.models.lora.files import read_lora
from sounding_video.models.lora.names import layer_of, role_of


def compiled(name: str) -> str:
    """As a block that was compiled on its own is called."""
    block, number, rest = original(name).split(".", 2) if name.startswith("blocks") else ("", "", original(name))
    return f"{block}.{number}._orig_mod.{rest}" if block else rest


PREFIXES: dict[str, tuple[str, Callable[[str], str]]] = {
    "DiffSynth": ("pipe.dit.", original),
    "DiffSynth, diffusers names": ("pipe.dit.", str),
    "Wan Fun, two underscores": ("lora_unet__", underscored),
    "LyCORIS": ("lycoris_", underscored),
    "LyCORIS, diffusers names": ("lycoris_", lambda name: name.replace(".", "_")),
    "compiled": ("_orig_mod.", original),
    "compiled, below ComfyUI's prefix": ("diffusion_model._orig_mod.", original),
    "blocks compiled one by one": ("transformer.", compiled),
    "compiled, underscores": ("lora_unet__orig_mod_", underscored),
    "distributed, below peft's prefix": ("base_model.model.module.", original),
    "FSDP": ("model._fsdp_wrapped_module.", original),
    "several in a row": ("base_model.model.model.diffusion_model.", original),
    "peft over diffusers": ("base_model.model.transformer.", str),
    "a pipeline's": ("unet.", original),
    "ComfyUI's with underscores": ("lora_unet_diffusion_model_", underscored),
    "nobody told us of": ("student.ema_0.", original),
    "a trainer's own": ("lora_dit_", underscored),
    "the model's name, underscores": ("lora_wan_", underscored),
    "a pipeline's, underscores": ("pipe_dit_", underscored),
    "LyCORIS over a named part": ("lycoris_unet_", underscored),
}


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(
    ("down", "up", "alpha"), [("lora_A.default", "lora_B.default", False), ("lora_down", "lora_up", True)]
)
def test_every_prefix_reaches_every_layer(joint, tmp_path, prefix, down, up, alpha):
    pairs = factors(joint.video.model)
    path = dotted(PREFIXES[prefix][0], down, up, PREFIXES[prefix][1], alpha=alpha)(tmp_path / "x.safetensors", pairs)
    changed, report = with_lora(joint, read_lora(path))
    assert (report.part, set(report.matched), report.unmatched) == ("video", set(pairs), ())
    plain = dotted("diffusion_model.", "lora_down", "lora_up", original, alpha=True)(tmp_path / "y.safetensors", pairs)
    wanted, _ = with_lora(joint, read_lora(plain))
    for name in pairs:
        (ours,), (theirs,) = (model.video.model.get_submodule(name).terms for model in (changed, wanted))
        torch.testing.assert_close(ours.form.dense(), theirs.form.dense(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("prefix", ["model.model.", "model.diffusion_model.", "diffusion_model.", "lora_unet_"])
def test_stable_audio_s_own_names_and_its_joined_layers(joint, tmp_path, prefix):
    model, g = joint.audio.model, torch.Generator().manual_seed(1)
    layers = {
        "transformer.layers.1.self_attn.to_qkv": [f"transformer_blocks.1.attn1.to_{letter}" for letter in "qkv"],
        "transformer.layers.1.cross_attn.to_kv": ["transformer_blocks.1.attn2.to_k", "transformer_blocks.1.attn2.to_v"],
        "transformer.layers.0.self_attn.to_out": ["transformer_blocks.0.attn1.to_out.0"],
        "transformer.layers.0.ff.ff.0.proj": ["transformer_blocks.0.ff.net.0.proj"],
        "to_cond_embed.0": ["cross_attention_proj.0"],
    }
    tensors, deltas = {}, {}
    for name, paths in layers.items():
        sizes = [model.get_submodule(path).weight.shape for path in paths]
        down = torch.randn(RANK, sizes[0][1], generator=g)
        up = torch.randn(sum(size[0] for size in sizes), RANK, generator=g)
        stem = prefix + (name.replace(".", "_") if prefix.endswith("_") else name)
        tensors |= {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up}
        deltas |= dict(zip(paths, (up @ down).split([size[0] for size in sizes]), strict=True))
    save_file(tensors, tmp_path / "x.safetensors")
    changed, report = with_lora(joint, read_lora(tmp_path / "x.safetensors"))
    assert (report.part, set(report.matched), report.unmatched) == ("audio", set(deltas), ())
    for path, delta in deltas.items():
        old, new = model.get_submodule(path), changed.audio.model.get_submodule(path)
        x = torch.randn(2, old.in_features, generator=g)
        torch.testing.assert_close(new(x), old(x) + x @ delta.T, rtol=1e-4, atol=1e-5)


def test_names_of_other_models_are_not_taken_for_ours(joint, tmp_path):
    """A control network's blocks, a second expert's, or VACE's have our layers' names behind another word."""
    a, b = factors(joint.video.model)["blocks.0.attn1.to_q"]
    for stem in ("controlnet.blocks.0.self_attn.q", "vace_blocks.0.self_attn.q", "transformer_2.blocks.0.attn1.to_q"):
        save_file({f"{stem}.lora_A.weight": a, f"{stem}.lora_B.weight": b}, tmp_path / "x.safetensors")
        with pytest.raises(IncompatibleWeightsError, match="its layers are not those of this model"):
            with_lora(joint, read_lora(tmp_path / "x.safetensors"))


def test_a_text_encoder_s_tensors_are_named_as_not_applied(joint, tmp_path):
    a, b = factors(joint.video.model)["blocks.0.attn1.to_q"]
    text = {
        f"lora_te1_encoder_block_0_layer_0_SelfAttention_q.lora_{x}.weight": torch.ones(2, 2) for x in ("up", "down")
    }
    text["text_encoder.encoder.block.0.hada_w1_a"] = torch.ones(2, 2)
    lora = {"lora_unet_blocks_0_self_attn_q.lora_down.weight": a, "lora_unet_blocks_0_self_attn_q.lora_up.weight": b}
    save_file({**lora, **text}, tmp_path / "x.safetensors")
    _, report = with_lora(joint, read_lora(tmp_path / "x.safetensors"))
    assert report.matched == ("blocks.0.attn1.to_q",) and report.unmatched == ()
    assert report.summary() == (
        "x.safetensors × 1 on 1 layer of the video tower; 3 of its tensors are for a text encoder, which stays as it is"
    )
    save_file(text, tmp_path / "y.safetensors")
    with pytest.raises(
        IncompatibleWeightsError, match="a LoRA for a text encoder; expected a LoRA for the video tower"
    ):
        with_lora(joint, read_lora(tmp_path / "y.safetensors"))


def test_what_reaches_no_layer_is_refused_and_not_said_to_be_applied(joint, tmp_path):
    path = tmp_path / "x.safetensors"
    for tensors in (
        {"blocks.0.self_attn.q.alpha": torch.tensor(4.0), "blocks.90.self_attn.q.diff_b": torch.zeros(24)},
        {"blocks.0.self_attn.q.dora_scale": torch.ones(24, 1), "blocks.90.self_attn.q.diff_b": torch.zeros(24)},
    ):
        save_file(tensors, path)
        with pytest.raises(IncompatibleWeightsError) as caught:
            with_lora(joint, read_lora(path))
        assert "the LoRA changes nothing that the video tower has: got" in str(caught.value)
        assert "blocks.0.self_attn.q" in str(caught.value) and "fits" not in str(caught.value)
    save_file({"blocks.0.self_attn.q.alpha": torch.tensor(4.0)}, path)
    with pytest.raises(IncompatibleWeightsError, match="the file is not a LoRA"):
        read_lora(path)


def test_strength_nought_says_that_nothing_is_changed(joint, tmp_path):
    write = dotted("pipe.dit.", "lora_A", "lora_B", original, alpha=False)
    path = write(tmp_path / "x.safetensors", factors(joint.video.model, only="ffn"))
    same, report = with_lora(joint, read_lora(path), 0.0)
    assert same is joint
    assert report.summary() == "x.safetensors × 0 changes nothing; it fits 6 layers of the video tower"


def test_two_changes_of_one_layer_are_refused(joint, tmp_path):
    a, b = factors(joint.video.model)["blocks.0.attn1.to_q"]
    path = tmp_path / "x.safetensors"
    for first, second in (("pipe.dit.", "diffusion_model."), ("", "lora_unet_")):
        names = [first + "blocks.0.attn1.to_q", second + "blocks.0.attn1.to_q"]
        if second == "lora_unet_":
            names[1] = "lora_unet_blocks_0_self_attn_q"
        save_file({f"{n}.{x}.weight": t.clone() for n in names for x, t in (("lora_A", a), ("lora_B", b))}, path)
        with pytest.raises(CorruptWeightsError, match="changes a layer twice"):
            with_lora(joint, read_lora(path))


@pytest.mark.parametrize(
    ("name", "role", "layer"),
    [
        ("diffusion_model.blocks.0.diff_m", "diff", "blocks.0.modulation"),
        ("head.diff_m", "diff", "head.modulation"),
        ("x.lora_A.weight", "down", "x"),
        ("x.lora_B.my_name.weight", "up", "x"),
        ("x.lora_B", "up", "x"),
        ("x.to_q_lora.down.weight", "down", "x.to_q"),
        ("x.processor.to_q_lora.up.weight", "up", "x.to_q"),
        ("x.lora_B.default.bias", "up_bias", "x"),
        ("x.lora_magnitude_vector.default.weight", "magnitude", "x"),
        ("x.lora_magnitude_vector", "magnitude", "x"),
        ("lycoris_x.lokr_w2_a", "lokr_w2_a", "x"),
        ("x.hada_t1.default", "hada_t1", "x"),
        ("x.w_norm", "diff", "x"),
        ("diffusion_model.x.weight.lora_down", "down", "x"),
        ("x.lora_up", "up", "x"),
        ("x.base_layer.weight", None, "x.weight"),
    ],
)
def test_roles(name, role, layer):
    found, stem = role_of(name)
    assert (found, layer_of(stem)) == (role, layer)


def test_alpha_is_that_of_the_model_which_is_changed(joint, tmp_path):
    """A header may speak of several models: two transformers, a text encoder."""
    a, b = factors(joint.video.model)["blocks.0.attn1.to_q"]
    told = {"transformer_2.lora_alpha": 99, "transformer.lora_alpha": 6, "text_encoder.lora_alpha": 50}
    for said in (told, dict(reversed(told.items())), {"lora_alpha": 6}, {"x.lora_alpha": 3, "unet.lora_alpha": 6}):
        ranks = {f"{name.rpartition('.')[0]}.r".lstrip("."): RANK for name in said}
        names = {f"transformer.blocks.0.attn1.to_q.lora_{x}.weight": t for x, t in (("A", a), ("B", b))}
        save_file(names, tmp_path / "x.safetensors", metadata={"lora_adapter_metadata": json.dumps(said | ranks)})
        change = read_lora(tmp_path / "x.safetensors").change("blocks.0.attn1.to_q")
        torch.testing.assert_close(change.form.dense(), b @ a * (6 / RANK), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("said", ["[1]", "7", "{", '"text"'])
def test_a_configuration_of_another_kind_is_a_sentence(joint, tmp_path, said):
    a, b = factors(joint.video.model)["blocks.0.attn1.to_q"]
    save_file(
        {f"base_model.model.blocks.0.attn1.to_q.lora_{x}.weight": t for x, t in (("A", a), ("B", b))},
        tmp_path / "adapter_model.safetensors",
    )
    (tmp_path / "adapter_config.json").write_text(said)
    with pytest.raises(CorruptWeightsError, match="configuration cannot be read"):
        read_lora(tmp_path)


def test_factors_without_numbers_are_refused(joint, tmp_path):
    a, b = factors(joint.video.model)["blocks.0.attn1.to_q"]
    save_file(
        {"blocks.0.attn1.to_q.lora_A.weight": a[:0], "blocks.0.attn1.to_q.lora_B.weight": b[:, :0].contiguous()},
        tmp_path / "x.safetensors",
    )
    with pytest.raises(CorruptWeightsError, match="no numbers in them"):
        with_lora(joint, read_lora(tmp_path / "x.safetensors"))


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32, torch.bool])
def test_packed_factors_are_refused(joint, tmp_path, dtype):
    a, b = factors(joint.video.model)["blocks.0.attn1.to_q"]
    names = {"blocks.0.attn1.to_q.lora_A.weight": (a * 100).to(dtype), "blocks.0.attn1.to_q.lora_B.weight": b}
    save_file(names, tmp_path / "x.safetensors")
    with pytest.raises(IncompatibleWeightsError, match=r"packed in a way that cannot be undone here: got .*lora_A"):
        with_lora(joint, read_lora(tmp_path / "x.safetensors"))


def test_unknown_words_of_a_lora_do_not_make_it_look_like_one_and_be_none(tmp_path):
    save_file({"blocks.0.self_attn.q.lora_left.weight": torch.zeros(2, 2)}, tmp_path / "x.safetensors")
    with pytest.raises(IncompatibleWeightsError, match=r"names are not known here: got .* with blocks\.0.*lora_left"):
        read_lora(tmp_path / "x.safetensors")
