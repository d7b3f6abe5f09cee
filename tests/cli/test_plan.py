"""``doctor --plan`` answers before anything is loaded, and ``generate --offload auto`` says what it picked."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from sounding_video.cli import doctor


def test_the_published_model_is_planned_for_without_weights(command) -> None:
    outcome = command("doctor", "--plan", "--shapes", "wan-1.3b", "--memory", "7.5GB", "--json")
    assert outcome.code == 0
    report = outcome.json
    assert report["clip"] == {"frames": 81, "width": 832, "height": 480} and report["free_bytes"] == 7.5e9
    assert report["weights_bytes"]["video tower"] == pytest.approx(2 * 1_418_996_800, rel=0.01)
    assert report["problem"] is None and report["choice"].startswith("offload group")
    fits = {(row["offload"], row["text_offload"], row["tiling"]): row["fits"] for row in report["plans"]}
    assert not fits["none", "none", "off"] and not fits["model", "model", "on"] and fits["group", "group", "on"]
    for row in report["plans"]:
        assert row["peak_bytes"] == max(stage["weights_bytes"] + stage["activation_bytes"] for stage in row["stages"])
        assert row["fits"] == (row["required_bytes"] <= 7.5e9)
    text = command("doctor", "--plan", "--shapes", "wan-1.3b", "--memory", "1 GB").out
    assert "problem: no plan fits the memory of cuda: got 1.0 GB free" in text
    assert text.splitlines()[2].split()[:4] == ["offload", "texts", "weights", "picture"]


def test_models_on_disk_are_planned_for_on_this_machine(command, small_models_dir: Path) -> None:
    outcome = command(
        "doctor",
        "--plan",
        "--models",
        small_models_dir,
        "--frames",
        5,
        "--width",
        32,
        "--height",
        64,
        "--device",
        "cpu",
    )
    assert outcome.code == 0
    assert "wan + stable_audio, 5 frames of 32x64, on cpu with" in outcome.out
    assert "picked: offload none, native float32 weights" in outcome.out
    assert "device cpu:" not in outcome.out, "the plan instead of the usual report"


def test_the_bridge_that_is_named_is_planned_for(command, small_models_dir: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    bare = tmp_path / "b.safetensors"
    save_file(load_file(small_models_dir / "bridge.safetensors"), bare)  # as published ones: without metadata

    def ask(*options: object):
        small = ("--models", small_models_dir, "--frames", 5, "--width", 32, "--height", 32, "--device", "cpu")
        return command("doctor", "--plan", *small, "--json", *options)

    beside, none = (ask(*options).json["weights_bytes"] for options in ((), ("--bridge", "none")))
    assert none == {name: size for name, size in beside.items() if name != "bridges"} != beside
    assert "does not say which fusion kind" in ask("--bridge", bare).out
    assert "does not say how many heads" in ask("--bridge", bare, "--fusion", "dual_cross").out
    assert "got full for a file that is dual_cross" in ask("--fusion", "full").out
    kept, freed = (ask(*options).json["plans"][0]["host_bytes"] for options in ((), ("--free-text-encoders",)))
    assert freed < kept


def test_the_towers_that_are_named_are_planned_for(command, small_models_dir: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    for name, copied in (("wan_a", "wan"), ("wan_b", "wan"), ("stable_audio", "stable_audio")):
        (models / name).parent.mkdir(exist_ok=True)
        (models / name).symlink_to(small_models_dir / copied)
    small = ("--models", models, "--bridge", "none", "--frames", 5, "--width", 32, "--height", 32, "--device", "cpu")
    named = command("doctor", "--plan", *small, "--wan", "wan_b", "--stable-audio", "stable_audio", "--json")
    assert named.code == 0 and named.json["model"] == "wan_b + stable_audio"
    assert not [note for note in named.json["notes"] if "wan" in note], "nothing had to be picked"


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (("--bridge", "none", "--fusion", "full"), 2, "a bridge is described but none is loaded"),
        (("--shapes", "wan-1.3b", "--fusion", "full"), 2, "the published sizes come with their own"),
        (("--shapes", "wan-1.3b", "--wan", "x"), 2, "the published sizes come with their own"),
        (("--wan", "x"), 3, "no Wan 2.1 of that name was found: got 'x'; expected one of wan"),
        (("--placement", "everywhere"), 2, "everywhere"),
        (("--memory", "lots"), 2, "this is no amount of memory: got 'lots'; expected for example 8GB"),
        (("--shapes", "wan-2b"), 2, "unknown model shape: got 'wan-2b'; expected one of wan-1.3b, wan-14b"),
        (("--frames", "80"), 2, "the number of frames does not fit the video codec: got 80"),
        (("--storage", "int4"), 2, "unknown weight storage: got 'int4'; expected one of native, fp8, int8, nf4, auto"),
        (("--models", "no-such-folder"), 3, "the model folder was not found: got no-such-folder"),
    ],
)
def test_what_cannot_be_planned_for_is_refused(command, small_models_dir, options, code, sentence) -> None:
    given = ("--models", small_models_dir, *options)
    outcome = command("doctor", "--plan", *given)
    assert outcome.code == code and sentence in outcome.err


def test_doctor_names_what_packs_weights(monkeypatch) -> None:
    for name in ("torchao", "bitsandbytes"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(doctor, "REQUIRED", {})
    rows = doctor.packages()
    told = {name: (rows[name]["pip"], rows[name]["purpose"]) for name in ("torchao", "bitsandbytes")}
    assert told == {
        "torchao": ("pip install torchao", "weight storage int8"),
        "bitsandbytes": ("pip install bitsandbytes", "weight storage nf4"),
    }


def test_generate_with_auto_says_its_plan_and_gives_the_same_clip(generate, tmp_path) -> None:
    given = ("--device", "cpu", "--json", "--offload", "none", "-o", tmp_path / "usual.mp4", "a dog barks")
    usual = generate(*given)
    auto = generate(  # offload auto is the default
        "--device",
        "cpu",
        "--json",
        "--storage",
        "auto",
        "-o",
        tmp_path / "auto.mp4",
        "a dog barks",
    )
    assert usual.code == auto.code == 0, auto.err
    assert usual.json["plan"] == []
    assert auto.json["plan"][0].startswith("offload auto: offload none, native float32 weights")
    assert _pictures(tmp_path / "usual.mp4") == _pictures(tmp_path / "auto.mp4")


def test_generate_keeps_encoded_captions_on_disk_and_frees_the_encoders(generate, tmp_path, monkeypatch) -> None:
    from sounding_video.models.text import _handle

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = generate("--device", "cpu", "--cache-captions", "-o", tmp_path / "first.mp4", "a dog barks")
    assert first.code == 0, first.err
    assert len(list((tmp_path / "sounding_video" / "captions").glob("*.safetensors"))) == 2

    def never(self: object) -> None:
        raise AssertionError("a text encoder was read although the captions are known")

    monkeypatch.setattr(_handle.TextEncoderHandle, "get", never)
    second = generate("--device", "cpu", "--cache-captions", "-o", tmp_path / "second.mp4", "a dog barks")
    assert second.code == 0, second.err
    assert _pictures(tmp_path / "first.mp4") == _pictures(tmp_path / "second.mp4")


def test_the_settings_are_in_the_file(generate, tmp_path) -> None:
    from sounding_video.media.probe import probe

    outcome = generate("--device", "cpu", "--offload", "auto", "--free-text-encoders", "a dog barks")
    assert outcome.code == 0, outcome.err
    tags = probe(tmp_path / "clip.mp4").tags
    graph = tags["prompt"] if isinstance(tags["prompt"], dict) else json.loads(tags["prompt"])
    loader = next(node for node in graph.values() if node["class_type"] == "T2SVLoadWanTower")
    assert loader["inputs"]["offload"] == "auto" and loader["inputs"]["text_encoder"] == "free after use"


def _pictures(path: Path) -> bytes:
    from sounding_video.media.probe import read_clip

    return read_clip(path).video.frames.numpy().tobytes()
