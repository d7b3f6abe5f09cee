"""Loading diffusers folders: strict, from safetensors only, with a sentence for whatever is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from sounding_video.core.device import resolve_placement
from sounding_video.core.errors import (
    CorruptWeightsError,
    IncompatibleWeightsError,
    MissingModelError,
    PlacementError,
    UnsafeWeightsError,
)
from sounding_video.models.weights.find import find_bridges, find_folders, find_models, tower_kind
from sounding_video.models.weights.load import load_stable_audio, load_wan

CPU = resolve_placement(device="cpu")
TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture(autouse=True)
def no_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine's Hugging Face cache holds is no matter of these tests."""
    monkeypatch.setattr("sounding_video.models.weights.hub.hub_cache", lambda: tmp_path / "no hub cache")


@pytest.fixture
def wan_copy(small_models_dir: Path, tmp_path: Path) -> Path:
    return shutil.copytree(small_models_dir / "wan", tmp_path / "wan")


def test_both_sides_load_whole(small_models_dir) -> None:
    video, audio = load_wan(small_models_dir / "wan", CPU), load_stable_audio(small_models_dir / "stable_audio", CPU)
    stored = load_file(small_models_dir / "wan" / TRANSFORMER)
    for name, parameter in video.tower.model.named_parameters():
        assert torch.equal(parameter, stored[name])
    assert not any(p.requires_grad for p in video.tower.parameters())
    assert not video.tower.training
    assert video.text.encode(["a dog"]).shape[1] == 1024
    assert audio.text.encode(["a dog barks"]).shape[0] == 1
    assert video.trained
    assert (video.codec.latent_channels, audio.codec.hop) == (4, 16)


def test_dtype_keeps_what_diffusers_keeps_in_float32_unless_the_official_rounding_is_asked_for(
    small_models_dir,
) -> None:
    mixed = load_wan(small_models_dir / "wan", resolve_placement(device="cpu", dtype="bfloat16")).tower.model
    assert mixed.blocks[0].attn1.to_q.weight.dtype == torch.bfloat16
    assert mixed.scale_shift_table.dtype == torch.float32
    official = load_wan(small_models_dir / "wan", resolve_placement(device="cpu", dtype="official-bf16")).tower.model
    assert {p.dtype for p in official.parameters()} == {torch.bfloat16}


def test_finding_by_configuration_not_by_name(small_models_dir, tmp_path) -> None:
    root = tmp_path / "my models"
    shutil.copytree(small_models_dir / "wan", root / "Stable Audio (really a video model)")
    shutil.copytree(small_models_dir / "stable_audio", root / "deep" / "er")
    (root / "bridges" / "bicross-1.3B").mkdir(parents=True)
    shutil.copy(small_models_dir / "bridge.safetensors", root / "bridges" / "bicross-1.3B" / "b.safetensors")
    found = find_models(root)
    assert found.video.name == "Stable Audio (really a video model)"
    assert found.audio.name == "er"
    assert found.bridge.name == "b.safetensors"
    assert find_bridges(root) == [found.bridge], "weights inside tower folders are not bridges"
    assert tower_kind(tmp_path) is None
    assert find_folders(tmp_path / "nowhere", "wan") == []
    with pytest.raises(MissingModelError, match="no Stable Audio Open model was found"):
        find_models(root / "Stable Audio (really a video model)")
    with pytest.raises(MissingModelError, match="model folder was not found"):
        find_models(tmp_path / "nowhere")


def test_missing_folders_and_parts(wan_copy, tmp_path) -> None:
    with pytest.raises(MissingModelError, match=r"the Wan 2.1 folder was not found"):
        load_wan(tmp_path / "nowhere", CPU)
    shutil.rmtree(wan_copy / "vae")
    with pytest.raises(MissingModelError, match=r"incomplete: got .* without vae"):
        load_wan(wan_copy, CPU)


def test_the_wrong_model_is_named(small_models_dir, wan_copy) -> None:
    with pytest.raises(IncompatibleWeightsError, match=r"not a Wan 2\.1 model: .*Stable Audio Open"):
        load_wan(small_models_dir / "stable_audio", CPU)
    (wan_copy / "transformer" / "config.json").write_text("{")
    with pytest.raises(IncompatibleWeightsError, match=r"not a Wan 2.1 model"):
        load_wan(wan_copy, CPU)


def test_truncated_weights(wan_copy) -> None:
    for part in (TRANSFORMER, "vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"):
        file = wan_copy / part
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) * 2 // 3])
        with pytest.raises(CorruptWeightsError, match="the weight file is cut short"):
            load_wan(wan_copy, CPU)
        file.write_bytes(whole)
    load_wan(wan_copy, CPU)


def test_a_pickle_where_weights_are_expected(wan_copy) -> None:
    state = load_file(wan_copy / TRANSFORMER)
    (wan_copy / TRANSFORMER).unlink()
    with pytest.raises(MissingModelError, match="a model part has no weights"):
        load_wan(wan_copy, CPU)
    torch.save(state, wan_copy / "transformer" / "diffusion_pytorch_model.bin")
    with pytest.raises(UnsafeWeightsError, match=r"the weights are a pickle.*safetensors version"):
        load_wan(wan_copy, CPU)


@pytest.mark.parametrize("part", ["transformer/diffusion_pytorch_model", "text_encoder/model"])
def test_missing_and_surplus_keys_are_named(wan_copy, part) -> None:
    file = wan_copy / f"{part}.safetensors"
    state = load_file(file)
    lost = next(name for name in sorted(state) if name.endswith("weight") and "shared" not in name)
    save_file({n: t for n, t in state.items() if n != lost}, file, metadata={"format": "pt"})
    with pytest.raises(IncompatibleWeightsError, match=f"1 missing .{lost}"):
        load_wan(wan_copy, CPU)
    save_file({**state, "stray.weight": torch.zeros(2)}, file, metadata={"format": "pt"})
    with pytest.raises(IncompatibleWeightsError, match=r"1 unexpected .stray.weight"):
        load_wan(wan_copy, CPU)


def test_weights_of_another_size(wan_copy) -> None:
    config = wan_copy / "transformer" / "config.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps({**values, "ffn_dim": 64}))
    with pytest.raises(IncompatibleWeightsError, match="transformer"):
        load_wan(wan_copy, CPU)


def test_an_explicit_kernel_runs_or_is_refused(small_models_dir) -> None:
    load_wan(small_models_dir / "wan", resolve_placement(device="cpu", attention="sdpa"))
    with pytest.raises(
        PlacementError,
        match=r"the attention kernel 'flash' does not run here: got cpu.*Choose attention 'auto' or 'sdpa'",
    ):
        load_wan(small_models_dir / "wan", resolve_placement(device="cpu", attention="flash"))
