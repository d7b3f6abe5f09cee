"""``sound``, ``picture`` and the options of ``generate`` that begin with a file."""

from __future__ import annotations

import json

import pytest
import torch
from sounding_video.media.probe import probe, read_clip

QUICK = ("--steps", 1, "--video-cfg", 1, "--audio-cfg", 1, "--models", "pocket", "--no-expand")
TEXT = "a hand knocks on a wooden door"


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    from sounding_video.cli import main

    folder = tmp_path_factory.mktemp("own")
    assert main(["synth", "-o", str(folder), "-n", "2", "--seed", "5", "--quiet"]) == 0
    return sorted(folder.glob("*.mp4"))


def test_the_picture_is_copied_and_the_sound_is_new(command, clips, tmp_path):
    outcome = command("sound", clips[0], TEXT, "-o", tmp_path / "out.mp4", *QUICK, "--json")
    assert outcome.code == 0, outcome.err
    (made,) = outcome.json["clips"]
    assert made["writer"] == "copy" and made["source"] == str(clips[0])
    old, new = read_clip(clips[0]), read_clip(tmp_path / "out.mp4")
    assert torch.equal(old.video.frames, new.video.frames)
    assert old.audio.waveform.shape[1] == new.audio.waveform.shape[1]
    assert not torch.allclose(old.audio.waveform, new.audio.waveform, atol=1e-2)


def test_a_folder_goes_into_a_folder_and_what_is_there_is_kept(command, clips, tmp_path):
    first = command("sound", clips[0].parent, "-o", tmp_path / "out", *QUICK, "--json").json
    wanted = [str(tmp_path / "out" / clip.name) for clip in clips]
    assert sorted(made["path"] for made in first["clips"]) == wanted, first
    stamp = (tmp_path / "out" / clips[0].name).stat().st_mtime_ns
    (tmp_path / "out" / clips[1].name).unlink()
    second = command("sound", clips[0].parent, "-o", tmp_path / "out", *QUICK, "--json").json
    assert [made["path"] for made in second["clips"]] == [str(tmp_path / "out" / clips[1].name)]
    assert second["kept"] == [str(tmp_path / "out" / clips[0].name)]
    assert (tmp_path / "out" / clips[0].name).stat().st_mtime_ns == stamp


def test_one_bad_file_among_several_is_told_and_the_rest_is_made(command, clips, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no film")
    outcome = command("picture", clips[0], bad, TEXT, "-o", tmp_path / "out", *QUICK, "--json")
    assert outcome.code == 2
    assert [made["source"] for made in outcome.json["clips"]] == [str(clips[0])]
    assert [one["source"] for one in outcome.json["failed"]] == [str(bad)]
    assert probe(tmp_path / "out" / clips[0].name).num_frames == 33


def test_a_clip_goes_on_and_a_clip_begins_with_a_picture(command, clips, tmp_path):
    longer = command("generate", TEXT, "--continue", clips[0], "-o", tmp_path / "long.mp4", *QUICK, "--json")
    assert longer.code == 0, longer.err
    own, info = probe(clips[0]), probe(tmp_path / "long.mp4")
    assert info.num_frames > own.num_frames
    assert (longer.json["width"], longer.json["height"]) == (info.width, info.height) == (own.width, own.height)
    settings = json.loads(info.tags["sounding_video"])
    assert settings["continue"] == clips[0].name and "num_frames" not in settings
    assert "no node for a video that goes on" in longer.err and "prompt" not in info.tags
    begun = command("generate", TEXT, "--first-frame", clips[0], "-o", tmp_path / "first.mp4", *QUICK, "--json")
    assert begun.code == 0, begun.err
    tags = probe(tmp_path / "first.mp4").tags
    assert json.loads(tags["sounding_video"])["first_frame"] == clips[0].name and "prompt" not in tags
    assert probe(tmp_path / "first.mp4").num_frames == 33


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["sound", "no.mp4", "-o", "x.mp4"], "the file was not found: got no.mp4"),
        (["sound", "rain on a roof", "-o", "x.mp4"], "no file is named"),
        (["sound", "CLIP", "-o", "CLIP"], "the result would replace its source"),
        (["sound", "CLIP", "-o", "x.mp4", "--overlap", "0"], "the overlap cannot be used: got 0"),
        (["sound", "CLIP", "-o", "x.mp4", "--given-how", "shown"], "unknown given how"),
        (["generate", "a", "-o", "x.mp4", "--first-frame", "CLIP", "--continue", "CLIP"], "one of the two"),
        (["generate", "a", "-o", "x.mp4", "--first-frame", "no.png"], "no.png"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(command, clips, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    given = [str(clips[0]) if argument == "CLIP" else argument for argument in arguments]
    outcome = command(*given, "--models", "pocket")
    assert outcome.code == 2
    assert sentence in outcome.err
    assert list(tmp_path.iterdir()) == []
