"""Finding single files: in folders of any name, in a whole ComfyUI models folder, in Hugging Face's cache."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest
import torch
from sounding_video.core.device import resolve_placement
from sounding_video.core.errors import MissingModelError
from sounding_video.models.weights.find import (
    find_bridges,
    find_file_sets,
    find_files,
    find_models,
    hub_snapshots,
    inspect,
)
from sounding_video.models.weights.layouts import StableAudioFiles, WanFiles
from sounding_video.models.weights.load import load_wan
from sounding_video.nodes.host import standalone
from sounding_video.nodes.host.folders import list_models, resolve_model
from sounding_video.pipeline import load_models

_spec = importlib.util.spec_from_file_location("single_files", Path(__file__).with_name("single_files.py"))
single = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(single)

CPU = resolve_placement(device="cpu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return single.write_folders(tmp_path_factory.mktemp("folders"))


@pytest.fixture
def comfy_models(folders: Path, tmp_path: Path) -> Path:
    """A ComfyUI models folder: the right files under misleading names, and other models beside them."""
    root = tmp_path / "models"
    wan, audio = folders / "wan", folders / "stable_audio"
    fp16 = single.cast(single.wan_original(wan), torch.float16)
    single.save(root / "diffusion_models" / "video" / "mine.safetensors", fp16)
    single.save(root / "vae" / "sdxl_vae.safetensors", single.vae_original(wan))
    single.save(root / "text_encoders" / "clip_l.safetensors", single.part(wan / "text_encoder"))
    single.save(root / "text_encoders" / "fp8.safetensors", single.scaled_fp8(single.part(wan / "text_encoder"))[0])
    single.save(root / "text_encoders" / "t5-base.safetensors", single.part(audio / "text_encoder"))
    single.save(root / "text_encoders" / "t5xxl.safetensors", _wider(single.part(audio / "text_encoder")))
    single.save(root / "checkpoints" / "audio.safetensors", single.stable_audio_original(audio))
    single.save(root / "checkpoints" / "sdxl.safetensors", {"conditioner.embedders.1.x": torch.zeros(2)})
    single.save(root / "loras" / "wan.safetensors", {"blocks.0.lora_A.weight": torch.zeros(2, 2)})
    (root / "checkpoints" / "cut.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{")
    for name, folder in (("umt5", wan), ("t5", audio)):
        shutil.copytree(folder / "tokenizer", root / "text_encoders" / f"{name} tokenizer")
    return root


def _wider(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return state | {"shared.weight": torch.zeros(259, 64)}


def test_a_comfyui_models_folder_works_as_it_is(comfy_models) -> None:
    found = find_models(comfy_models)
    text = comfy_models / "text_encoders"
    assert found.video == WanFiles(
        comfy_models / "diffusion_models/video/mine.safetensors",
        comfy_models / "vae/sdxl_vae.safetensors",
        text / "clip_l.safetensors",
    ), "the exact text encoder and not the fp8 one"
    assert found.audio == StableAudioFiles(comfy_models / "checkpoints/audio.safetensors", text / "t5-base.safetensors")
    assert found.video_path.name == "mine.safetensors"
    assert found.bridge == comfy_models / "checkpoints/cut.safetensors", "an unreadable file may be a bridge"
    model = load_models(comfy_models, placement=CPU, bridge="none")
    assert (model.video.name, model.audio.name) == ("mine", "audio")
    assert model.trained


def test_every_file_is_told_by_its_header(comfy_models) -> None:
    found = {file.path.name: file for file in find_files([comfy_models])}
    kinds = {name: file.layout.kind for name, file in found.items() if file.layout}
    assert kinds == {
        "mine.safetensors": "wan",
        "sdxl_vae.safetensors": "wan_vae",
        "clip_l.safetensors": "umt5",
        "fp8.safetensors": "umt5",
        "t5-base.safetensors": "t5",
        "t5xxl.safetensors": "t5",
        "audio.safetensors": "stable_audio",
    }
    assert found["mine.safetensors"].layout.description == (
        "Wan 2.1 transformer of width 256, original names, float16 safetensors"
    )
    assert "Stable Diffusion XL" in found["sdxl.safetensors"].problem
    assert found["sdxl.safetensors"].is_foreign
    assert "cannot be read" in found["cut.safetensors"].problem
    assert not found["cut.safetensors"].is_foreign


def test_a_changed_file_is_looked_at_again(folders, tmp_path) -> None:
    file = single.save(tmp_path / "x.safetensors", single.vae_original(folders / "wan"))
    assert inspect(file).layout.kind == "wan_vae"
    single.save(file, {"lora_up": torch.zeros(3)})
    assert inspect(file).is_foreign


def test_torch_files_of_the_old_format_are_listed_but_not_read(folders, tmp_path) -> None:
    old, new = tmp_path / "old.pth", tmp_path / "new.pth"
    torch.save(single.vae_original(folders / "wan"), old, _use_new_zipfile_serialization=False)
    torch.save(single.vae_original(folders / "wan"), new)
    assert "not looked into" in inspect(old).problem
    assert find_bridges(tmp_path) == [], "only .safetensors, .ckpt, .pt and .bin may be bridges"
    old.rename(tmp_path / "old.ckpt")
    assert [file.name for file in find_bridges(tmp_path)] == ["old.ckpt"]
    assert inspect(new).layout.kind == "wan_vae"


def test_what_is_missing_beside_a_tower_is_named(comfy_models) -> None:
    (comfy_models / "vae" / "sdxl_vae.safetensors").unlink()
    with pytest.raises(MissingModelError, match=r"mine\.safetensors without a Wan 2\.1 VAE that fits.*wan_2\.1_vae"):
        find_models(comfy_models)
    shutil.rmtree(comfy_models / "diffusion_models")
    with pytest.raises(MissingModelError, match=r"no Wan 2\.1 model was found"):
        find_models(comfy_models)


def test_wan_s_own_repository_loads_as_a_folder(folders, tmp_path) -> None:
    """Sharded transformer, pickled VAE and text encoder, tokenizer two levels down: as Wan published it."""
    wan, root = folders / "wan", tmp_path / "Wan2.1-T2V-14B"
    root.mkdir()
    single.save_sharded(root, "diffusion_pytorch_model", single.wan_original(wan))
    torch.save(single.vae_original(wan), root / "Wan2.1_VAE.pth")
    torch.save(single.umt5_original(wan), root / "models_t5_umt5-xxl-enc-bf16.pth")
    shutil.copytree(wan / "tokenizer", root / "google" / "umt5-xxl")
    (sets,) = find_file_sets([root], "wan")
    assert sets.transformer.name.endswith(".index.json")
    loaded = load_wan(root, CPU)
    assert loaded.name == "diffusion_pytorch_model"
    wanted = load_wan(wan, CPU).tower.model.state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in loaded.tower.model.state_dict().items())


def test_files_of_other_models_are_not_bridges(comfy_models, small_models_dir) -> None:
    shutil.copy(small_models_dir / "bridge.safetensors", comfy_models / "loras" / "b.safetensors")
    assert [file.name for file in find_bridges(comfy_models)] == ["cut.safetensors", "b.safetensors"]


@pytest.fixture
def hub_cache(folders: Path, tmp_path: Path) -> Path:
    """Hugging Face's cache with two snapshots of Wan, a half downloaded file, and another model."""
    cache = tmp_path / "hub"
    for number, commit in enumerate(("a" * 40, "b" * 40)):
        snapshot = cache / "models--Wan-AI--Wan2.1-T2V-1.3B-Diffusers" / "snapshots" / commit
        shutil.copytree(folders / "wan", snapshot)
        for file in snapshot.rglob("*.*"):
            import os

            os.utime(file, (1e9 + number, 1e9 + number))
    (cache / "models--Wan-AI--Wan2.1-T2V-1.3B-Diffusers" / "blobs").mkdir()
    (cache / "models--Wan-AI--Wan2.1-T2V-1.3B-Diffusers" / "blobs" / "0123.incomplete").write_bytes(b"x")
    for folder in ("refs", "blobs"):
        (cache / "models--someone--else" / folder).mkdir(parents=True)
    single.save(cache / "models--someone--else" / "snapshots" / ("c" * 40) / "x.safetensors", {"a": torch.zeros(1)})
    return cache


def test_hub_cache_is_read_without_network(hub_cache, tmp_path) -> None:
    found = hub_snapshots(hub_cache)
    assert set(found) == {"Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "someone/else"}
    assert found["Wan-AI/Wan2.1-T2V-1.3B-Diffusers"].name == "b" * 40, "the newest snapshot"
    assert load_wan(found["Wan-AI/Wan2.1-T2V-1.3B-Diffusers"], CPU).trained
    assert hub_snapshots(tmp_path / "nowhere") == {}


def test_loader_lists_gain_single_files_and_hub_models(comfy_models, hub_cache, small_models_dir, monkeypatch) -> None:
    shutil.copytree(small_models_dir / "wan", comfy_models / "diffusers" / "small wan")
    monkeypatch.setattr("sounding_video.nodes.host.folders.hub_snapshots", lambda: hub_snapshots(hub_cache))
    with standalone.session(standalone.Session(model_roots=(comfy_models,))):
        assert list_models("wan") == [
            "pocket",
            "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
            "diffusers/small wan",
            "diffusion_models/video/mine.safetensors",
        ]
        assert list_models("stable_audio") == ["pocket", "checkpoints/audio.safetensors"]
        assert resolve_model("wan", "diffusers/small wan") == comfy_models / "diffusers/small wan"
        files = resolve_model("wan", "diffusion_models/video/mine.safetensors")
        assert load_wan(files, CPU).name == "mine"
        assert resolve_model("wan", "Wan-AI/Wan2.1-T2V-1.3B-Diffusers").name == "b" * 40
        with pytest.raises(MissingModelError, match=r"no Wan 2\.1 of that name"):
            resolve_model("wan", "mine.safetensors")
