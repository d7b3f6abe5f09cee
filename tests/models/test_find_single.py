"""Finding single files: in folders of any name, in a whole ComfyUI models folder, in Hugging Face's cache."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest
import torch
from sounding_video.core.device import resolve_placement
from sounding_video.core.errors import IncompatibleWeightsError, InputError, MissingModelError
from sounding_video.models.weights.find import (
    find_bridges,
    find_downloaded,
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


@pytest.fixture(autouse=True)
def no_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine's Hugging Face cache holds is no matter of these tests."""
    monkeypatch.setattr("sounding_video.models.weights.hub.hub_cache", lambda: tmp_path / "no hub cache")


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
    assert found.bridge is None, "a file that cannot be read is spoken of, not taken"
    assert found.notes == ()
    assert "no bridge was found" in found.bridge_note and "cut.safetensors cannot be read" in found.bridge_note
    model = load_models(comfy_models, placement=CPU)
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
    assert find_bridges(tmp_path) == [], "a .pth is a bridge only if it says so"
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


def test_a_bridge_is_taken_by_its_header_and_not_by_its_place(comfy_models, small_models_dir) -> None:
    """Embeddings and other pickles come first by name; a bridge is what says that it is one."""
    embeddings = comfy_models / "embeddings"
    embeddings.mkdir()
    torch.save({"emb": torch.zeros(2)}, embeddings / "old.pt", _use_new_zipfile_serialization=False)
    torch.save({"module": torch.nn.Linear(2, 2)}, embeddings / "unsafe.ckpt")
    (embeddings / "half.bin").write_bytes(b"PK\x03\x04 and no more")
    bridge = comfy_models / "sounding_video" / "bicross" / "b.safetensors"
    bridge.parent.mkdir(parents=True)
    shutil.copy(small_models_dir / "bridge.safetensors", bridge)
    found = find_models(comfy_models)
    assert (found.bridge, found.bridge_note) == (bridge, "")
    listed = {file.name for file in find_bridges(comfy_models)}
    assert listed == {"old.pt", "unsafe.ckpt", "half.bin", "cut.safetensors", "b.safetensors"}, "all can be chosen"
    whole = bridge.read_bytes()
    bridge.write_bytes(whole[:-100])
    assert find_models(comfy_models).bridge == bridge, "cut short it still says what it is, and loading refuses it"
    second = shutil.copy(small_models_dir / "bridge.safetensors", comfy_models / "sounding_video" / "other.safetensors")
    found = find_models(comfy_models)
    assert found.bridge == Path(second), "a whole one goes first"
    assert found.bridge_note == f"the bridge is {second}; --bridge chooses another: {bridge}"


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


def use_cache(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr("sounding_video.models.weights.hub.hub_cache", lambda: cache)


WAN_ID = "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"


@pytest.fixture
def both_cached(hub_cache: Path, folders: Path, small_models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache with both towers and a bridge."""
    for repository, source in (("stabilityai--stable-audio-open-1.0", folders / "stable_audio"), ("me--bridge", None)):
        snapshot = hub_cache / f"models--{repository}" / "snapshots" / ("d" * 40)
        if source:
            shutil.copytree(source, snapshot)
        else:
            (snapshot / "bicross").mkdir(parents=True)
            shutil.copy(small_models_dir / "bridge.safetensors", snapshot / "bicross")
    use_cache(monkeypatch, hub_cache)
    return hub_cache


def test_hub_ids_and_the_cache_itself_are_places(both_cached, tmp_path, monkeypatch) -> None:
    snapshots = hub_snapshots()
    wanted = (snapshots[WAN_ID], snapshots["stabilityai/stable-audio-open-1.0"])
    bridge = snapshots["me/bridge"] / "bicross" / "bridge.safetensors"
    for place in (WAN_ID, both_cached, str(both_cached)):
        found = find_models(place)
        assert (found.video, found.audio, found.bridge) == (*wanted, bridge), place
        assert found.name == f"{WAN_ID} + stabilityai/stable-audio-open-1.0"
    whole = find_downloaded(tmp_path / "nothing downloaded")
    assert (whole.video, whole.audio, whole.bridge) == (*wanted, bridge)
    use_cache(monkeypatch, tmp_path / "no cache")
    assert find_models(both_cached).video == wanted[0], "a cache that is not the user's"
    home = tmp_path / "huggingface"
    home.mkdir()
    both_cached.rename(home / "hub")
    assert find_models(home).video.name == "b" * 40, "the folder around a cache"
    with pytest.raises(MissingModelError, match=r"model folder was not found.*id of a model in Hugging Face's cache"):
        find_models(WAN_ID)


def test_what_a_folder_lacks_comes_from_the_cache_and_is_said(both_cached, folders, tmp_path) -> None:
    root = tmp_path / "mine"
    shutil.copytree(folders / "wan", root / "wan")
    found = find_models(root)
    assert found.video == root / "wan"
    assert found.audio == hub_snapshots()["stabilityai/stable-audio-open-1.0"]
    assert found.notes == ("Stable Audio Open is stabilityai/stable-audio-open-1.0 of Hugging Face's cache",)
    assert found.bridge is None, "a bridge belongs to what was named"
    shutil.rmtree(root / "wan" / "vae")
    assert find_models(root).video == root / "wan", "half a folder is named, and loading says what is missing"
    with pytest.raises(MissingModelError, match=r"incomplete: got .* without vae"):
        load_wan(find_models(root).video, CPU)


def test_half_a_download_is_passed_over_where_nothing_was_named(both_cached, tmp_path) -> None:
    shutil.rmtree(hub_snapshots()[WAN_ID] / "text_encoder")
    with pytest.raises(MissingModelError, match=r"no Wan 2\.1 model was found"):
        find_downloaded(tmp_path)


def test_a_tower_is_chosen_by_name_id_or_path(both_cached, comfy_models, folders, small_models_dir, tmp_path) -> None:
    for name in ("a", "b"):
        shutil.copytree(folders / "wan", comfy_models / "diffusers" / f"wan {name}")
    file = comfy_models / "diffusion_models" / "video" / "mine.safetensors"
    found = find_models(comfy_models)
    assert found.video == comfy_models / "diffusers" / "wan a"
    assert (
        "Wan 2.1 is diffusers/wan a; --wan chooses another: diffusers/wan b, diffusion_models/video/mine.safetensors"
        in (found.notes)
    )
    chosen = {
        "diffusers/wan b": comfy_models / "diffusers" / "wan b",
        "wan b": comfy_models / "diffusers" / "wan b",
        "diffusion_models/video/mine.safetensors": file,
        "mine": file,
        WAN_ID: hub_snapshots()[WAN_ID],
        str(folders / "wan"): folders / "wan",
        str(folders): folders / "wan",
        str(file): file,
    }
    for choice, path in chosen.items():
        found = find_models(comfy_models, video=choice)
        assert found.video_path == path, choice
        assert found.audio_path == comfy_models / "checkpoints" / "audio.safetensors"
    alone = find_models(small_models_dir, video=str(file))
    assert (alone.video.vae, alone.audio.parent) == (comfy_models / "vae" / "sdxl_vae.safetensors", small_models_dir)
    audio = find_models(comfy_models, audio="stabilityai/stable-audio-open-1.0").audio
    assert audio == hub_snapshots()["stabilityai/stable-audio-open-1.0"]


def test_a_choice_that_is_not_there_or_not_one_is_refused(
    both_cached, comfy_models, folders, small_models_dir, tmp_path
) -> None:
    for name in ("x", "y"):
        shutil.copytree(folders / "wan", comfy_models / name / "wan")
    refused = [
        (
            {"video": "wan 2.1"},
            MissingModelError,
            r"no Wan 2\.1 of that name was found: got 'wan 2.1'; expected one of .*mine",
        ),
        ({"video": str(small_models_dir / "stable_audio")}, MissingModelError, r"no Wan 2\.1 model was found"),
        (
            {"video": "wan"},
            InputError,
            r"several models have that name: got wan; expected one of x/wan, y/wan",
        ),
        ({"audio": str(folders / "wan")}, MissingModelError, "no Stable Audio Open model was found"),
        (
            {"audio": str(comfy_models / "vae/sdxl_vae.safetensors")},
            IncompatibleWeightsError,
            r"not a Stable Audio .*VAE",
        ),
    ]
    for choice, error, words in refused:
        with pytest.raises(error, match=words):
            find_models(comfy_models, **choice)
    with pytest.raises(InputError, match="the bundled model has towers of its own: got wan beside it; expected pocket"):
        find_models("pocket", video="wan")
    alone = single.save(tmp_path / "alone" / "w.safetensors", single.wan_original(folders / "wan"))
    with pytest.raises(
        MissingModelError, match=r"w\.safetensors without a Wan 2\.1 VAE and a UMT5 text encoder that fits"
    ):
        find_models(folders, video=str(alone))


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
