"""LoRAs of step distillation: told by their names, loaded to the last tensor, and sampled as they were made for."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import small_models as small
import torch
from lora_files import original
from safetensors.torch import save_file
from sounding_video.models.lora.apply import with_lora
from sounding_video.models.lora.distilled import Distilled, asked_otherwise, distilled, settings_with, strongest
from sounding_video.models.lora.files import read_lora
from sounding_video.models.own import PUBLISHED
from torch import Tensor, nn

RANK = 2
NAMES = {
    "Wan21_T2V_14B_lightx2v_cfg_step_distill_lora_rank32": ("LightX2V", 4, 5.0),
    "lightx2v_T2V_14B_cfg_step_distill_v2_lora_rank64_bf16": ("LightX2V", 4, 5.0),
    "wan2.1_t2v_14b_lora_rank64_lightx2v_4step": ("LightX2V", 4, 5.0),
    "Wan2.1-T2V-14B-StepDistill-CfgDistill-lora": ("step distillation", 4, 5.0),
    "Wan21_CausVid_14B_T2V_lora_rank32_v2": ("CausVid", 8, 8.0),
    "Wan21_CausVid_bidirect2_T2V_1_3B_lora_rank32": ("CausVid", 8, 8.0),
    "Wan21_AccVid_T2V_14B_lora_rank32_fp16": ("AccVideo", 10, None),
    "Wan2.1_T2V_14B_FusionX_LoRA": ("FusionX", 8, None),
    "Wan2.1-T2V-1.3B-Self-Forcing-DMD-FP16-LoRA-Rank32": ("Self Forcing", 4, 5.0),
    "FastWan_T2V_14B_480p_lora_rank_128_bf16": ("FastWan", 3, 8.0),
    "Wan_2_1_T2V_1_3B_rCM_lora_average_rank_83_bf16": ("rCM", 4, None),
    "Wan2.2-Lightning_T2V-A14B-4steps-lora_HIGH_fp16": ("step distillation", 4, None),
    "wan_turbo_8-steps": ("TurboDiffusion", 8, None),
    "my wan lcm 6 steps": ("step distillation", 6, None),
}
STYLES = (
    "wan_style", "lightning_storm_v2", "turbo_car", "hyper_real", "distilled_whisky", "style_2000_steps",
    "rain-10steps",    "turbo_2000steps", "few_flowers", "step_00001500", "causal_look", "fusion_food",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_people_s_names_say_what_a_file_was_made_for(name):
    assert distilled(Path(f"/loras/{name}.safetensors"), {}) == Distilled(*NAMES[name])
    assert distilled(Path(f"/{name}/wan.safetensors"), {}) is None, "of other files in a folder its name says nothing"


@pytest.mark.parametrize("name", STYLES)
def test_a_style_is_not_taken_for_one(name):
    assert distilled(Path(f"/causvid/{name}.safetensors"), {"modelspec.title": name}) is None


def test_the_header_s_title_and_the_folder_of_an_adapter_count_too():
    for key in ("ss_output_name", "modelspec.title"):
        assert distilled(Path("/x/my.safetensors"), {key: "CausVid 14B, 6 steps"}) == Distilled("CausVid", 6, 8.0)
    for name in ("adapter_model", "pytorch_lora_weights"):
        assert distilled(Path(f"/wan_causvid/{name}.safetensors"), {}) == Distilled("CausVid", 8, 8.0)
    assert distilled(Path("/x/my.safetensors"), {"ss_training_comment": "for use beside CausVid"}) is None


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return 0.3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed + 7 * sum(shape)))


def published(model: nn.Module, path: Path, prefix: str = "diffusion_model.") -> tuple[Path, nn.Module]:
    """A file of the form of the published ones, and the tower with its changes in the weights.

    Low rank of every linear layer with whole differences of its bias; differences of all norms, of the patch embedding
    and of the modulation; fp16 factors and an alpha here and there.
    """
    twin, tensors = copy.deepcopy(model), {}
    for number, (name, layer) in enumerate(model.named_modules()):
        if not any(True for _ in layer.parameters(recurse=False)):
            continue
        changed = twin.get_submodule(name)
        stem = prefix + _wan(name)
        if isinstance(layer, nn.Linear):
            down, up = numbers(RANK, layer.in_features, seed=number), numbers(layer.out_features, RANK, seed=number)
            down, up = down.half(), up.half()
            tensors |= {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up}
            scale = 1.0
            if number % 2:
                tensors[f"{stem}.alpha"], scale = torch.tensor(1.0), 1.0 / RANK
            changed.weight.data += scale * up.float() @ down.float()
        elif hasattr(layer, "weight"):
            tensors[f"{stem}.diff"] = numbers(*layer.weight.shape, seed=number)
            changed.weight.data += tensors[f"{stem}.diff"]
        else:  # a block's or the head's modulation
            modulation = numbers(*layer.scale_shift_table.shape, seed=number)
            tensors[f"{prefix}{_wan(name) or 'head'}.diff_m"] = modulation
            changed.scale_shift_table.data += modulation
        if getattr(layer, "bias", None) is not None:
            tensors[f"{stem}.diff_b"] = numbers(*layer.bias.shape, seed=number + 1)
            changed.bias.data += tensors[f"{stem}.diff_b"]
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path, twin


def _wan(name: str) -> str:
    for theirs, ours in ((".attn1.norm", ".self_attn.norm"), (".attn2.norm", ".cross_attn.norm"), (".norm2", ".norm3")):
        if theirs in name:
            return name.replace(theirs, ours)
    return name if name in ("", "patch_embedding") or name.split(".")[-1].isdigit() else original(name)


@pytest.mark.parametrize("prefix", ["diffusion_model.", "model.diffusion_model.", ""])
@torch.no_grad()
def test_a_file_of_the_published_form_loads_to_the_last_tensor(joint, inputs, tmp_path, prefix):
    path, twin = published(joint.video.model, tmp_path / "Wan21_T2V_lightx2v_rank2.safetensors", prefix)
    lora = read_lora(path)
    changed, report = with_lora(joint, lora)
    assert report.unmatched == () and report.distilled == Distilled("LightX2V", 4, 5.0)
    assert {"LoRA", "norm", "modulation", "whole difference"} <= set(report.kinds)
    assert len(report.matched) == len(lora.layers) == sum(report.kinds.values())
    assert report.summary().endswith(
        "; LightX2V, step-distilled: made for 4 steps, no guidance of the picture (scale 1), shift 5"
    )
    old = joint.video(inputs["video"])
    swapped = copy.deepcopy(joint)
    swapped.video.model = twin
    torch.testing.assert_close(changed.video(inputs["video"]), swapped.video(inputs["video"]), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(old, changed.video(inputs["video"]), atol=1e-2)


@pytest.mark.parametrize(("strength", "told"), [(0.5, True), (0.0, False), (-1.0, False)])
def test_only_one_that_acts_on_the_picture_counts(joint, tmp_path, strength, told):
    path, _ = published(joint.video.model, tmp_path / "causvid.safetensors")
    assert (with_lora(joint, read_lora(path), strength)[1].distilled is not None) == told


def test_a_lora_of_the_sound_called_so_counts_for_nothing(joint, tmp_path):
    layer = next(name for name, each in joint.audio.model.named_modules() if name.endswith("attn1.to_q"))
    width = small.AUDIO_WIDTH
    pair = {"A": numbers(RANK, width), "B": numbers(width, RANK)}
    save_file({f"transformer.{layer}.lora_{x}.weight": t for x, t in pair.items()}, tmp_path / "causvid.safetensors")
    report = with_lora(joint, read_lora(tmp_path / "causvid.safetensors"))[1]
    assert (report.part, report.distilled) == ("audio", None)


LIGHT, CAUS = Distilled("LightX2V", 4, 5.0), Distilled("CausVid", 8, None)


def test_the_model_s_own_settings_become_the_lora_s_and_the_sound_keeps_its_guidance():
    made = settings_with(PUBLISHED, [None, LIGHT], "joint")
    assert (made.num_steps, made.video_guidance_scale, made.video_modality_scale, made.flow_shift) == (4, 1, 1, 5)
    assert (made.audio_guidance_scale, made.audio_modality_scale) == (6.0, 1.0)
    assert settings_with(PUBLISHED, [LIGHT, CAUS], "a2v").num_steps == 8
    assert settings_with(PUBLISHED, [LIGHT, CAUS], "joint").flow_shift == PUBLISHED.flow_shift
    assert settings_with(PUBLISHED, [LIGHT], "v2a") is PUBLISHED
    assert settings_with(PUBLISHED, [None], "joint") is PUBLISHED
    assert strongest([]) is None


@pytest.mark.parametrize(
    ("steps", "scale", "told"),
    [
        (4, 1.0, ""), (8, 1.0, ""), (50, 1.0, "50 steps"), (1, 1.0, "1 steps"), (4, 6.0, "scale 6"),
        (50, 6.0, "50 steps, guidance scale 6"),
    ],
)  # fmt: skip
def test_what_was_asked_otherwise_is_told_with_what_to_set(steps, scale, told):
    sentence = asked_otherwise(LIGHT, steps, scale)
    assert bool(sentence) == bool(told)
    if told:
        assert told in sentence and "4 steps, no guidance of the picture (scale 1), shift 5" in sentence
