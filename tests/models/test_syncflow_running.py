"""SyncFlow's bridges under everything that models run under: LoRAs, offload, small storage, 16-bit weights."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import small_models as small
import torch
from lora_files import SCALE, dotted, factors
from sounding_video.core.device import OFFLOAD_MODES, resolve_placement
from sounding_video.models.joint import JointModel
from sounding_video.models.lora.apply import with_lora
from sounding_video.models.lora.files import read_lora
from sounding_video.models.placement import running
from sounding_video.models.storage import is_stored
from sounding_video.pipeline import load_models

KINDS = ("modality_adaptor", "video_features")
CPU = resolve_placement(device="cpu")
FLOATS = ("latents", "text", "duration")


@pytest.fixture
def bridged(wan_tower, audio_tower, random_stack, bridge_config):
    def make(kind: str) -> JointModel:
        stack = random_stack(kind, replace(bridge_config, rope="time_aligned"))
        return copy.deepcopy(JointModel(wan_tower, audio_tower, stack)).eval()

    return make


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_a_lora_stands_beside_every_linear_layer(kind, bridged, inputs, tmp_path) -> None:
    joint = bridged(kind)
    pairs = factors(joint.bridges)
    names = {name.partition(".")[2] for name in pairs}
    assert {"cross.q_proj", "cross.o_proj", "audio_time_token"} <= names
    assert ({"along_time.k_proj", "to_audio"} <= names) == (kind == "modality_adaptor")
    path = dotted("base_model.model.bridges.", "lora_A", "lora_B", alpha=False)(tmp_path / "x.safetensors", pairs)
    changed, report = with_lora(joint, read_lora(path), 0.5)
    assert (report.part, set(report.matched), report.unmatched) == ("bridge", set(pairs), ())
    merged = copy.deepcopy(joint)
    for name, (down, up) in pairs.items():
        merged.bridges.get_submodule(name).weight.data += 0.5 * SCALE * (up @ down)
    got, wanted, plain = (model(**inputs) for model in (changed, merged, joint))
    torch.testing.assert_close(got[1], wanted[1], rtol=1e-3, atol=1e-3)
    assert not torch.allclose(got[1], plain[1], atol=1e-2) and torch.equal(got[0], plain[0])


@torch.no_grad()
@pytest.mark.parametrize("mode", OFFLOAD_MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_offload_mode_gives_the_same(kind, mode, bridged, inputs) -> None:
    joint = bridged(kind)
    wanted = joint(**inputs)
    with running(joint, replace(CPU, offload=mode)) as model:
        got = model(**inputs)
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_small_storage_and_16_bit_weights_are_near(kind, small_models_dir: Path, tmp_path, inputs) -> None:
    bridge = small.write_bridge(tmp_path / "b.safetensors", kind, rope="time_aligned")
    plain, stored, half = (
        load_models(small_models_dir, placement=placement, bridge=bridge)
        for placement in (CPU, replace(CPU, storage="fp8"), replace(CPU, dtype=torch.bfloat16))
    )
    assert is_stored(stored.root.bridges) and next(half.root.bridges.parameters()).dtype == torch.bfloat16
    wanted = plain.root(**inputs)
    cast = {
        name: replace(
            m, **{part: value.bfloat16() for part, value in vars(m).items() if part in FLOATS and value is not None}
        )
        for name, m in inputs.items()
    }
    for got in (stored.root(**inputs), half.root(**cast)):
        for one, two in zip(got, wanted, strict=True):
            alike = torch.nn.functional.cosine_similarity(one.float().flatten(), two.flatten(), dim=0)
            assert one.shape == two.shape and float(alike) > 0.98
