"""A family that is added as a file is listed by the commands, planned, and makes clips."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest
import torch
from sounding_video.core.types import AVClip, VideoClip
from sounding_video.media.mux import write_clip
from sounding_video.media.tag_reader import read_tags

ASKED = ("a dog", "--no-expand", "--steps", 2)


def test_models_and_doctor_list_it_and_none_of_its_files_beside_it(command, throw_away_family):
    above = throw_away_family.parent
    report = command("models", "--models", above, "--json").json
    [row] = [row for row in report["found"] if row["kind"] == "throw_away"]
    assert (row["name"], row["path"], row["dtype"]) == ("odd", str(throw_away_family), "float32")
    assert row["title"] == "one throw-away transformer" and row["bytes"] > 1000
    inside = [each["path"] for each in report["others"] if str(throw_away_family) in each["path"]]
    assert inside == [] and not any(str(throw_away_family) in sentence for sentence in report["refused"])
    text = command("models", "--models", above).out
    assert "one throw-away transformer: diffusers folder, float32" in text and str(throw_away_family) in text


def test_generate_makes_a_clip_of_its_own_extent(command, throw_away_family, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    ask = ("--models", throw_away_family, "-o", tmp_path / "clip.mp4", "--cache-captions", "--json")
    outcome = command("generate", *ASKED, *ask)
    assert outcome.code == 0, outcome.err
    assert (outcome.json["num_frames"], outcome.json["width"], outcome.json["sample_rate"]) == (5, 16, 8000)
    assert outcome.json["model"] == "odd (throw-away); UNTRAINED weights" and outcome.json["bridges"] is None
    assert "no workflow: no node loads odd (one throw-away transformer)" in outcome.err
    tags = read_tags(tmp_path / "clip.mp4")
    assert "workflow" not in tags and json.loads(tags["sounding_video"])["models"] == {"model": "odd"}


def test_its_memory_is_planned(command, throw_away_family):
    ask = ("--frames", 5, "--width", 16, "--height", 16, "--memory", "4GB", "--json")
    outcome = command("doctor", "--plan", "--models", throw_away_family, *ask)
    assert outcome.code == 0, outcome.err
    assert set(outcome.json["weights_bytes"]) == {"transformer", "text", "autoencoder"}
    assert [plan["offload"] for plan in outcome.json["plans"]] == ["none", "model"]
    assert command("doctor", "--plan", "--models", throw_away_family, *ask[:-1]).out.startswith("odd, 5 frames")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--bridge", "some.safetensors"), "has no bridges"),
        (("--fusion", "full"), "has no bridges"),
        (("--lora", "some.safetensors"), "takes no LoRA"),
        (("--free-text-encoders",), "keeps its text encoders"),
        (("--storage", "fp8"), "cannot keep its weights so"),
        (("--offload", "sequential"), "cannot be moved so"),
        (("--frames", "9"), "clips of one extent"),
        (("--solver", "cosine_dpm"), "does not walk the process flow"),
        (("--wan", "some"), "has no towers to choose"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_what_it_cannot_do_is_refused_by_a_sentence(command, throw_away_family, tmp_path, arguments, sentence):
    outcome = command("generate", *ASKED, "--models", throw_away_family, "-o", tmp_path / "clip.mp4", *arguments)
    assert outcome.code != 0 and sentence in outcome.err and not (tmp_path / "clip.mp4").exists()


def picture(path, frames):
    """A silent video."""
    return write_clip(AVClip(VideoClip(torch.rand(frames, 16, 16, 3), Fraction(15))), path).path


@pytest.mark.parametrize(
    ("arguments", "frames"), [(("generate", "--first-frame"), 5), (("generate", "--continue"), 5), (("sound",), 20)]
)
def test_a_part_of_a_clip_cannot_be_known_to_it(command, throw_away_family, tmp_path, arguments, frames):
    name, *option = arguments
    ask = (picture(tmp_path / "given.mp4", frames), "a dog", "--no-expand", "--steps", 2)
    outcome = command(name, *option, *ask, "--models", throw_away_family, "-o", tmp_path / "made.mp4")
    assert outcome.code != 0 and "hold a clip as a whole: got a part of one; expected a clip of" in outcome.err
    assert not (tmp_path / "made.mp4").exists()


def test_the_sound_of_a_picture_is_made_by_it(command, throw_away_family, tmp_path):
    silent = picture(tmp_path / "silent.mp4", 5)
    ask = ("--models", throw_away_family, "--steps", 2, "--no-expand", "-o", tmp_path / "sounding.mp4", "--json")
    outcome = command("sound", silent, "a dog", *ask)
    assert outcome.code == 0, outcome.err
    assert outcome.json["clips"][0]["sample_rate"] == 8000
