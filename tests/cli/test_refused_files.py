"""The file is there, but: each way in which a file cannot be used is said where the model is missed.

And kinds are told by the whole beginning of a file: no single byte makes a pickle of a good one.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from sounding_video.cli.models import choose_models
from sounding_video.core.device import resolve_placement
from sounding_video.core.errors import MissingModelError, SoundingVideoError
from sounding_video.models.weights._header import open_weights
from sounding_video.models.weights.bridges import load_bridges
from sounding_video.models.weights.files import file_format
from sounding_video.models.weights.find import find_bridges, find_files, find_models, inspect
from sounding_video.models.weights.load import load_wan
from sounding_video.models.weights.refused import MOST_CHARACTERS, MOST_SENTENCES
from sounding_video.nodes.host import standalone
from sounding_video.nodes.host.folders import resolve_model
from sounding_video.nodes.loaders import LoadBridge, LoadStableAudioTower, LoadWanTower

_spec = importlib.util.spec_from_file_location("single_files", Path(__file__).parents[1] / "models" / "single_files.py")
single = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(single)

CPU = resolve_placement(device="cpu")


@pytest.fixture(autouse=True)
def no_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sounding_video.models.weights.hub.hub_cache", lambda: tmp_path / "hub")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return single.write_folders(tmp_path_factory.mktemp("folders"))


@pytest.fixture
def models(folders: Path, tmp_path: Path) -> Path:
    """A ComfyUI models folder with all parts of both towers."""
    root = tmp_path / "models"
    wan, audio = folders / "wan", folders / "stable_audio"
    single.save(root / "diffusion_models" / "wan.safetensors", single.wan_original(wan))
    single.save(root / "vae" / "vae.safetensors", single.vae_original(wan))
    single.save(root / "text_encoders" / "umt5.safetensors", single.part(wan / "text_encoder"))
    single.save(root / "text_encoders" / "t5.safetensors", single.part(audio / "text_encoder"))
    single.save(root / "checkpoints" / "audio.safetensors", single.stable_audio_original(audio))
    for name, folder in (("umt5", wan), ("t5", audio)):
        shutil.copytree(folder / "tokenizer", root / "text_encoders" / f"{name} tokenizer")
    return root


def with_header_length(path: Path, length: int) -> Path:
    """The same safetensors file with blanks behind its header, as the format allows, up to a length."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    assert size <= length, "the header is longer already"
    path.write_bytes(struct.pack("<Q", length) + data[8 : 8 + size].ljust(length) + data[8 + size :])
    assert load_file(path)
    return path


def header_lengths(path: Path) -> list[int]:
    """Lengths whose first bytes are those of a pickle (128, then the protocol) and of a zip archive ("PK")."""
    size = struct.unpack("<Q", path.read_bytes()[:8])[0]
    step = lambda start, modulus: start + modulus * max(0, -(-(size - start) // modulus))  # noqa: E731
    return [step(0x80, 256), step(0x280, 65536), step(0x480, 65536), step(0x4B50, 65536)]


@pytest.mark.parametrize("which", range(4))
def test_one_byte_of_a_header_s_length_makes_no_pickle(which, models, small_models_dir, command) -> None:
    files = list(models.rglob("*.safetensors"))
    bridge = models / "bridge.safetensors"
    shutil.copy(small_models_dir / "bridge.safetensors", bridge)
    for path in (*files, bridge):
        length = header_lengths(path)[which]
        with_header_length(path, length)
        assert path.read_bytes()[:1] == (b"P" if which == 3 else b"\x80")
        assert file_format(path) == "safetensors"
        assert inspect(path).layout, path
    found = find_models(models)
    assert (found.video.main, found.bridge) == (models / "diffusion_models/wan.safetensors", bridge)
    assert find_models(models, video=str(found.video.main)).video == found.video
    assert load_wan(found.video, CPU).trained
    assert load_bridges(bridge).stack
    assert not command("models", "--models", models, "--json").json["refused"]


def test_pickles_are_still_told_by_their_beginning(tmp_path) -> None:
    for name, how in (("zip", {}), ("pickle", {"_use_new_zipfile_serialization": False})):
        torch.save({"a": torch.zeros(2)}, tmp_path / name, **how)
        assert file_format(tmp_path / name) == name
    (tmp_path / "x").write_bytes(b"GGUF" + bytes(20))
    assert file_format(tmp_path / "x") == "gguf"
    for data in (b"", b"\x80", b"{}", b"PK", bytes(64)):
        (tmp_path / "x").write_bytes(data)
        assert file_format(tmp_path / "x") in ("", "pickle")
        with pytest.raises(SoundingVideoError):
            open_weights(tmp_path / "x")


def cut(path: Path, keep: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])


def as_torch(path: Path, *, old: bool) -> Path:
    torch.save(load_file(path), path.with_suffix(".ckpt"), _use_new_zipfile_serialization=not old)
    path.unlink()
    return path.with_suffix(".ckpt")


BRIDGE_FAULTS: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: cut(path, 0.9),
    "cut within its header": lambda path: path.write_bytes(path.read_bytes()[:600]),
    "spare bytes": lambda path: path.write_bytes(path.read_bytes() + b"\n"),
    "empty": lambda path: path.write_bytes(b""),
    "five bytes": lambda path: path.write_bytes(b"\x80\x00\x00\x00\x00"),
    "a web page": lambda path: path.write_text("<!DOCTYPE html>"),
    "a checkpoint cut short": lambda path: cut(as_torch(path, old=False), 0.9),
    "an old checkpoint cut short": lambda path: cut(as_torch(path, old=True), 0.9),
}


@pytest.mark.parametrize("fault", BRIDGE_FAULTS)
@pytest.mark.parametrize("name", ["bridge", "bicross-1.3B/epoch=0", "other"])
def test_a_bridge_that_is_there_and_cannot_be_read_ends_the_run(name, fault, small_models_dir, tmp_path, command):
    """Told by its names, which stand at the beginning; or by its own name where nothing can be read."""
    root = shutil.copytree(small_models_dir, tmp_path / "models")
    path = root / f"{name}.safetensors"
    path.parent.mkdir(exist_ok=True)
    (root / "bridge.safetensors").rename(path)
    BRIDGE_FAULTS[fault](path)
    if name == "other" and fault in ("empty", "five bytes", "a web page"):
        assert find_models(root).bridge is None
        assert "cannot be read" in find_models(root).bridge_note
        return
    found = find_models(root).bridge
    assert found.stem == path.stem
    with pytest.raises(SoundingVideoError, match=re.escape(path.stem)):
        load_bridges(found)
    if fault == "cut":
        outcome = command("generate", "x", "--models", root, "-o", tmp_path / "x.mp4", "--no-expand", "--frames", 5)
        assert (outcome.code, path.stem in outcome.err) == (2, True), outcome.err
        assert not (tmp_path / "x.mp4").exists()


@pytest.mark.parametrize("name", ["x.safetensors.part", "bridge.safetensors.crdownload", "bicross/e.ckpt.incomplete"])
def test_half_a_download_of_a_bridge_ends_the_run(name, small_models_dir, tmp_path) -> None:
    root = shutil.copytree(small_models_dir, tmp_path / "models")
    half = root / name
    half.parent.mkdir(exist_ok=True)
    (root / "bridge.safetensors").rename(half)
    cut(half, 0.7)
    assert find_models(root).bridge == half
    with pytest.raises(SoundingVideoError, match="half a download"):
        load_bridges(half)


@pytest.mark.parametrize("name", ["Bridge.SAFETENSORS", "bridge.sft", "bridge.Pth", "bicross/EPOCH.CKPT"])
def test_a_bridge_under_any_suffix_of_weights_is_found(name, small_models_dir, tmp_path) -> None:
    root = shutil.copytree(small_models_dir, tmp_path / "models")
    path = root / name
    path.parent.mkdir(exist_ok=True)
    (root / "bridge.safetensors").rename(path)
    assert find_models(root).bridge == path
    assert load_bridges(path).stack


def test_suffixes_in_capitals_are_suffixes(models, tmp_path) -> None:
    """Some systems and programs write them so."""
    for path in [*models.rglob("*.safetensors")]:
        path.rename(path.with_suffix(".SAFETENSORS"))
    found = find_models(models)
    assert found.video.main == models / "diffusion_models" / "wan.SAFETENSORS"
    assert load_wan(found.video, CPU).trained
    cut(found.video.main, 0.5)
    with pytest.raises(MissingModelError, match="cut short"):
        find_models(models)
    found.video.main.rename(f"{found.video.main}.PART")
    with pytest.raises(MissingModelError, match="half a download"):
        find_models(models)


def test_what_other_systems_hide_beside_files_is_nothing(small_models_dir, models, folders) -> None:
    """Copied from a Mac: a few kilobytes of another kind beside every file, under its name."""
    root = shutil.copytree(small_models_dir, models / "mine")
    for path in [*models.rglob("*.safetensors")]:
        path.with_name(f"._{path.name}").write_bytes(b"\x00\x05\x16\x07" + bytes(4096))
    found = find_models(root)
    assert (found.video, found.bridge) == (root / "wan", root / "bridge.safetensors")
    assert load_wan(root / "wan", CPU).trained
    (root / "bridge.safetensors").unlink()
    assert find_models(root).bridge is None
    assert not [file for file in find_files([models]) if file.problem]


def test_an_old_checkpoint_of_bridges_is_told_and_loads(small_models_dir, tmp_path) -> None:
    root = shutil.copytree(small_models_dir, tmp_path / "models")
    (root / "bicross").mkdir()
    path = as_torch((root / "bridge.safetensors").rename(root / "bicross" / "x.safetensors"), old=True)
    assert find_models(root).bridge == path
    (root / "embeddings").mkdir()
    torch.save({"emb": torch.zeros(2)}, root / "embeddings" / "a.pt", _use_new_zipfile_serialization=False)
    assert find_models(root).bridge == path
    assert root / "embeddings" / "a.pt" in find_bridges(root), "it may be chosen"
    assert not inspect(root / "embeddings" / "a.pt").is_refused, "nothing says that it is one of ours"


def shards(path: Path) -> None:
    index = single.save_sharded(path.parent, "wan", load_file(path))
    path.unlink()
    next(index.parent.glob("*00002-of*")).unlink()


FILE_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut": (lambda path: cut(path, 0.5), r"cut short: got .* bytes; expected \d+ bytes.*Download or copy it again"),
    "spare": (lambda path: path.write_bytes(path.read_bytes() + b"x"), "spare bytes behind its end"),
    "cut header": (lambda path: path.write_bytes(path.read_bytes()[:2000]), r"cannot be read: got .*Download or copy"),
    "empty": (lambda path: path.write_bytes(b""), "the weight file is empty"),
    "pointer": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "Git LFS pointer"),
    "page": (lambda path: path.write_text("<html>gated</html>"), r"a web page.*accepted licence"),
    "gguf": (lambda path: path.write_bytes(b"GGUF" + bytes(60)), "pip install gguf"),
    "half": (lambda path: path.rename(f"{path}.part"), "is half a download"),
    "aria2": (lambda path: Path(f"{path}.aria2").touch(), "is half a download"),
    "no tensors": (lambda path: single.save(path, {}), "holds no tensors"),
    "nested": (
        lambda path: path.write_bytes(struct.pack("<Q", 200_000) + b'{"a":' + b"[" * 199_995),
        "deeper than 100 levels",
    ),
    "shard": (shards, r"part of the sharded model was not found: got .*00002-of-00002"),
}


@pytest.mark.parametrize("fault", FILE_FAULTS)
@pytest.mark.parametrize("part", ["diffusion_models/wan", "vae/vae", "text_encoders/umt5", "checkpoints/audio"])
def test_what_was_found_and_refused_is_said_where_it_is_missed(part, fault, models, command, monkeypatch) -> None:
    if fault == "shard" and not part.startswith("diffusion"):
        pytest.skip("the same for every part")
    if fault == "gguf":
        monkeypatch.setitem(sys.modules, "gguf", None)
    change, words = FILE_FAULTS[fault]
    change(models / f"{part}.safetensors")
    with pytest.raises(MissingModelError, match=rf"(no .* model was found|is incomplete).*not usable: .*{words}"):
        find_models(models)
    outcome = command("generate", "x", "--models", models, "-o", "never.mp4")
    assert (outcome.code, "Found, but not usable: " in outcome.err) == (3, True), outcome.err
    report = command("models", "--models", models, "--json").json
    assert len(report["refused"]) == 1 and part.split("/")[1] in report["refused"][0]
    assert "found, but not usable:" in command("models", "--models", models).out
    assert report["refused"][0] in command("doctor", "--models", models, "--json").json["problems"]


def test_the_bundled_model_is_taken_with_the_reason(models, monkeypatch) -> None:
    cut(models / "diffusion_models" / "wan.safetensors", 0.5)
    monkeypatch.delenv("SOUNDING_VIDEO_MODELS", raising=False)
    monkeypatch.setattr("sounding_video.cli.models.DOWNLOADED", models)
    notes = choose_models(None).notes
    assert "the bundled small model is used, since no Wan 2.1 model was found" in notes[0]
    assert "cut short" in notes[1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda wan: (wan / "transformer" / "config.json").write_text("{"), r"config\.json cannot be read: "),
        (lambda wan: (wan / "transformer" / "config.json").write_bytes(b"\xff\xfe"), r"config\.json cannot be read: "),
        (lambda wan: (wan / "transformer" / "config.json").write_text("[]"), r"config\.json cannot be read: "),
        (lambda wan: (wan / "transformer" / "config.json").unlink(), r"transformer has no config\.json"),
        (lambda wan: (wan / "transformer" / "config.json").write_text("[" * 99_999), r"config\.json cannot be read: "),
    ],
)
def test_a_folder_whose_configuration_cannot_be_read(change, words, small_models_dir, tmp_path, command) -> None:
    root = shutil.copytree(small_models_dir, tmp_path / "models")
    change(root / "wan")
    (told,) = command("models", "--models", root, "--json").json["refused"]
    assert re.search(words, told)
    (root / "wan" / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(MissingModelError, match=rf"the Wan 2\.1 model is incomplete: .*not usable: .*{words}"):
        find_models(root)


def test_a_configuration_with_a_byte_order_mark(small_models_dir, tmp_path) -> None:
    root = shutil.copytree(small_models_dir, tmp_path / "models")
    config = root / "wan" / "transformer" / "config.json"
    config.write_bytes(b"\xef\xbb\xbf" + config.read_bytes())
    assert find_models(root).video == root / "wan"


def test_half_a_folder_is_passed_over_where_another_is_whole(small_models_dir, tmp_path, command) -> None:
    root = shutil.copytree(small_models_dir, tmp_path / "models")
    shutil.copytree(root / "wan", root / "a wan")
    cut(root / "a wan" / "vae" / "diffusion_pytorch_model.safetensors", 0.5)
    assert find_models(root).video == root / "wan"
    report = command("models", "--models", root, "--json").json
    assert [("a wan" in text, "cut short" in text) for text in report["refused"]] == [(True, True)]
    shutil.rmtree(root / "wan")
    outcome = command("generate", "x", "--models", root, "-o", "never.mp4", "--no-expand", "--frames", 5)
    assert (outcome.code, "cut short" in outcome.err) == (2, True), outcome.err


def test_the_message_is_bounded(models) -> None:
    cut(models / "diffusion_models" / "wan.safetensors", 0.5)
    for number in range(30):
        (models / "diffusion_models" / f"{number}.safetensors").touch()
    with pytest.raises(MissingModelError, match=r"wan\.safetensors of .*sounding-video models lists 27 more") as caught:
        find_models(models)
    assert len(caught.value.refused) == MOST_SENTENCES + 1
    assert all(len(text) <= MOST_CHARACTERS + 1 for text in caught.value.refused)


def test_a_relative_of_the_model_is_named(models, folders) -> None:
    file = models / "diffusion_models" / "wan.safetensors"
    single.save(file, single.wan_original(folders / "wan") | {"img_emb.proj.0.weight": torch.zeros(4)})
    with pytest.raises(MissingModelError, match=r"not usable: .*wan\.safetensors, which looks like Wan image to video"):
        find_models(models)


def test_loaders_say_why_a_name_is_not_on_their_lists(models, small_models_dir, command) -> None:
    wan = models / "diffusion_models" / "wan.safetensors"
    cut(wan, 0.5)
    shutil.copy(small_models_dir / "bridge.safetensors", models)
    name = wan.relative_to(models).as_posix()
    with standalone.session(standalone.Session((models,))):
        assert LoadWanTower.validate_inputs(video_model="pocket") is True
        assert LoadWanTower.validate_inputs() is True
        verdict = LoadWanTower.validate_inputs(video_model=name)
        assert verdict.startswith(f"no Wan 2.1 of that name was found: got '{name}'; expected one of pocket.")
        assert verdict.count("cut short") == 1
        with pytest.raises(MissingModelError, match="cut short"):
            resolve_model("wan", name)
        assert "cut short" in LoadWanTower.validate_inputs(video_model="another"), "it may be what was meant"
        assert LoadStableAudioTower.validate_inputs(audio_model="checkpoints/audio.safetensors") is True
        assert LoadBridge.validate_inputs(bridge_file="bridge.safetensors") is True
        gone = LoadBridge.validate_inputs(bridge_file="../bridge.safetensors")
        assert "no bridge of that name was found" in gone and "not usable" not in gone


def test_a_tower_chosen_by_name_that_cannot_be_used(models, command) -> None:
    cut(models / "diffusion_models" / "wan.safetensors", 0.5)
    (models / "diffusion_models" / "other.safetensors").touch()
    for name in ("wan", "wan.safetensors", "diffusion_models/wan.safetensors"):
        outcome = command("generate", "x", "--models", models, "--wan", name, "-o", "never.mp4")
        assert outcome.code == 3
        assert f"no Wan 2.1 of that name was found: got '{name}'" in outcome.err
        assert "cut short" in outcome.err and "other.safetensors" not in outcome.err
    outcome = command("generate", "x", "--models", models, "--wan", "nothing", "-o", "never.mp4")
    assert "cut short" in outcome.err, "it may be what was meant"


def test_run_says_it_too_and_queue_leaves_it_to_the_server(models, root, tmp_path, command) -> None:
    cut(models / "diffusion_models" / "wan.safetensors", 0.5)
    template = root / "workflows" / "api" / "text_to_sounding_video_pocket.json"
    graph = json.loads(template.read_text(encoding="utf-8"))
    loader = next(node for node in graph.values() if node["class_type"] == "T2SVLoadWanTower")
    loader["inputs"]["video_model"] = "diffusion_models/wan.safetensors"
    file = tmp_path / "w.json"
    file.write_text(json.dumps(graph))
    outcome = command("run", file, "--models", models)
    assert (outcome.code, "cut short" in outcome.err) == (2, True), outcome.err
    refused = command("queue", file, "--server", "http://127.0.0.1:9")
    assert (refused.code, "wan.safetensors" in refused.err) == (1, False), refused.err
