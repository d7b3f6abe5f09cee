"""LoRA files that do not fit or cannot be trusted: each refusal is a sentence that says what it is."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import small_models as small
import torch
from lora_files import LAYOUTS, Factors, dotted, factors
from safetensors.torch import save_file
from sounding_video.core.errors import (
    CorruptWeightsError,
    IncompatibleWeightsError,
    InputError,
    MissingModelError,
    NonFiniteError,
    UnsafeWeightsError,
)
from sounding_video.models.joint import JointModel
from sounding_video.models.lora.apply import with_lora
from sounding_video.models.lora.files import read_lora


def wide_wan(width: int) -> Factors:
    names = [f"blocks.{i}.attn1.to_{p}" for i in range(2) for p in "qkv"]
    return {name: (torch.zeros(2, width), torch.zeros(width, 2)) for name in names}


def test_a_lora_of_another_size_is_named(joint, tmp_path):
    path = LAYOUTS["original names"](tmp_path / "x.safetensors", wide_wan(5120))
    with pytest.raises(IncompatibleWeightsError) as caught:
        with_lora(joint, read_lora(path))
    for words in ("model of another size", "a LoRA for Wan 14B (width 5120)", f"({small.VIDEO_WIDTH}, ", "1.3B LoRAs"):
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("stem", "words"),
    [
        ("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q", "an image model"),
        ("lora_unet_double_blocks_0_img_attn_qkv", "an image model"),
        ("transformer.single_transformer_blocks.0.attn.to_q", "an image model"),
        ("lora_te1_text_model_encoder_layers_0_mlp_fc1", "a text encoder"),
        ("diffusion_model.layers.0.attention.qkv", "an unknown model (layers.0.attention.qkv)"),
    ],
)
def test_a_lora_of_another_model_is_named(joint, tmp_path, stem, words):
    path = tmp_path / "x.safetensors"
    save_file({f"{stem}.lora_down.weight": torch.zeros(2, 8), f"{stem}.lora_up.weight": torch.zeros(8, 2)}, path)
    with pytest.raises(IncompatibleWeightsError) as caught:
        with_lora(joint, read_lora(path))
    assert "its layers are not those of this model" in str(caught.value) and words in str(caught.value)
    assert "_te1_" in stem or stem[-11:] in str(caught.value), "what layers it has instead is told"
    assert "expected a LoRA for the video tower or the audio tower or the bridges" in str(caught.value)


def test_a_part_that_is_insisted_on_or_absent(joint, wan_tower, tmp_path):
    path = LAYOUTS["diffusers"](tmp_path / "x.safetensors", factors(joint.video.model))
    with pytest.raises(IncompatibleWeightsError, match="which fits the video tower; expected a LoRA for the audio"):
        with_lora(joint, read_lora(path), part="audio")
    audio = dotted("", "lora_A", "lora_B", alpha=False)(tmp_path / "y.safetensors", factors(joint.audio.model))
    with pytest.raises(IncompatibleWeightsError, match=r"for Stable Audio.* expected a LoRA for the video tower\."):
        with_lora(JointModel(wan_tower, None), read_lora(audio))
    with pytest.raises(InputError, match="unknown part of the model"):
        with_lora(joint, read_lora(path), part="text")


def test_a_file_that_is_no_lora_or_another_kind_is_refused(small_models_dir, tmp_path):
    with pytest.raises(IncompatibleWeightsError, match="the file is not a LoRA"):
        read_lora(small_models_dir / "wan/transformer/diffusion_pytorch_model.safetensors")
    for key, kind in (("oft_blocks", "an OFT"), ("b1.weight", "a GLoRA"), ("lora_E.default", "an AdaLoRA")):
        save_file({f"lora_unet_blocks_0_self_attn_q.{key}": torch.zeros(2, 2)}, tmp_path / "x.safetensors")
        with pytest.raises(IncompatibleWeightsError, match=kind):
            read_lora(tmp_path / "x.safetensors")


def test_bad_files_and_strengths(joint, tmp_path):
    pairs = factors(joint.video.model, only="to_q")
    path = LAYOUTS["diffusers"](tmp_path / "x.safetensors", pairs)
    whole = path.read_bytes()
    for strength in (float("nan"), float("inf")):
        with pytest.raises(InputError, match="not a finite number"):
            with_lora(joint, read_lora(path), strength)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptWeightsError):
        read_lora(path)
    with pytest.raises(MissingModelError, match="the LoRA file was not found"):
        read_lora(tmp_path / "absent.safetensors")
    (a, b) = pairs["blocks.0.attn1.to_q"]
    save_file({"blocks.0.attn1.to_q.lora_A.weight": a}, path)
    with pytest.raises(CorruptWeightsError, match=r"blocks\.0\.attn1\.to_q has only its down half"):
        with_lora(joint, read_lora(path))
    save_file({"blocks.0.attn1.to_q.lora_A.weight": a, "blocks.0.attn1.to_q.lora_B.weight": b * float("nan")}, path)
    with pytest.raises(NonFiniteError, match=r"lora_B\.weight"):
        with_lora(joint, read_lora(path))


class _Canary:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("canary"),))


def test_a_malicious_pickle_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.pt").write_bytes(pickle.dumps({"lora_A": _Canary()}))
    with pytest.raises(UnsafeWeightsError):
        read_lora(tmp_path / "x.pt")
    assert not (tmp_path / "canary").exists()
