"""``generate --seconds``: longer clips in windows, shorter ones at once; what is written, tagged and refused."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest
import torch
from PIL import Image
from small_models import write_pav_dit_folder
from sounding_video.cli import build_parser
from sounding_video.cli.extent import extent_at_once, extent_of, settle_windows
from sounding_video.media.probe import probe, read_clip
from sounding_video.models.own import OwnSettings

SCRIPT = "[0] rain on a roof [1] a drum"


@pytest.mark.parametrize("way", ["given", "blended"])
def test_a_longer_clip_is_made_in_windows_and_again_from_its_own_tags(
    generate, command, small_models_dir, tmp_path, way
):
    first = tmp_path / "first.mkv"
    options = ["--seconds", 1.5, "--frames", 13, "--overlap", 0.4, "--windows", way, "--steps", 1, "--seed", 5]
    made = generate(SCRIPT, "-o", first, *options)
    assert made.code == 0, made.err
    assert "made in 4 windows of 0.8667 s" in made.err or "made in 3 windows of 0.8667 s" in made.err
    info = probe(first)
    assert (info.num_frames, info.num_samples) == (21, 11_200)
    settings = json.loads(info.tags["sounding_video"])
    assert (settings["windows"], settings["overlap_seconds"], settings["num_frames"]) == (way, 0.4, 21)
    assert settings["captions"]["video"] == SCRIPT
    (tmp_path / "again.json").write_text(info.tags["prompt"])
    outcome = command(
        "run", tmp_path / "again.json", "--models", small_models_dir, "--output-dir", tmp_path / "out", "--json"
    )
    assert outcome.code == 0, outcome.err
    clips = [read_clip(path) for path in (first, outcome.json["files"][0])]
    torch.testing.assert_close(clips[1].video.frames, clips[0].video.frames, atol=0, rtol=0)
    torch.testing.assert_close(clips[1].audio.waveform, clips[0].audio.waveform, atol=0, rtol=0)


@pytest.mark.parametrize(("seconds", "frames"), [(0.01, 1), (0.3, 5), (0.33, 5), (0.5, 9)])
def test_lengths_go_to_the_nearest_whole_latents(generate, tmp_path, seconds, frames):
    made = generate("rain", "--seconds", seconds, "--frames", 9, "--steps", 1)
    assert made.code == 0, made.err
    assert probe(tmp_path / "clip.mp4").num_frames == frames
    assert ("nearest whole latents" in made.err) == (abs(seconds * 15 - frames) >= 1)
    assert "windows" not in made.err


def test_all_at_once_where_that_is_asked_for(generate, tmp_path):
    made = generate("rain", "--seconds", 1.4, "--frames", 9, "--windows", "off", "--steps", 1)
    assert made.code == 0 and "windows" not in made.err
    assert probe(tmp_path / "clip.mp4").num_frames == 21


def test_a_longer_clip_begins_with_a_picture(generate, tmp_path):
    picture = Image.new("RGB", (32, 32), (200, 40, 10))
    picture.save(tmp_path / "first.png")
    options = ["--seconds", 1.4, "--frames", 9, "--overlap", 0.3, "--steps", 1, "-o", tmp_path / "clip.mkv"]
    made = generate("rain", "--first-frame", tmp_path / "first.png", "--codec", "ffv1", *options)
    assert made.code == 0, made.err
    frames = read_clip(tmp_path / "clip.mkv").video.frames
    assert len(frames) == 21
    assert float((frames[0].mean((0, 1)) - torch.tensor([200, 40, 10]) / 255).abs().max()) < 0.02


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["rain", "--seconds", 0], "the length in seconds cannot be used: got 0"),
        (["rain", "--seconds", -3], "the length in seconds cannot be used"),
        (["rain", "--seconds", "1e9"], "the length in seconds cannot be used"),
        (["rain", "--seconds", "nan"], "the length in seconds cannot be used"),
        (["rain", "--seconds", 2, "--overlap", 0], "overlap seconds cannot be used"),
        (["rain", "--seconds", 2, "--overlap", 61], "overlap seconds cannot be used"),
        (["rain", "--seconds", 2, "--windows", "glued"], "got 'glued'"),
        (["rain", "--seconds", 2, "--window-seconds", 601], "window seconds cannot be used"),
        (["rain", "--seconds", 2, "--frames", 5, "--steps", 1], "the windows are too short"),
        (["[3] rain", "--seconds", 2], "does not begin with the clip"),
        (["[0] rain [0] snow", "--seconds", 2], "do not rise"),
        (["[0] rain [1]", "--seconds", 2], "has no words"),
        (["rain", "--continue", "x.mp4", "--seconds", 2], "goes on by half"),
        (["rain", "--continue", "x.mp4", "--frames", 5], "keeps its size and rate"),
        (["rain", "--continue", "x.mp4", "--size", "32x32"], "and --size; expected --continue alone"),
        (["rain", "--continue", "x.mp4", "--fps", 24], "and --fps; expected --continue alone"),
    ],
)
def test_what_cannot_be_is_one_sentence(generate, tmp_path, arguments, sentence):
    outcome = generate(*arguments)
    assert outcome.code != 0 and sentence in outcome.err
    assert not list(tmp_path.glob("*.mp4"))


@pytest.mark.parametrize("way", ["given", "blended"])
def test_a_model_that_makes_clips_as_a_whole_makes_its_own_length_and_refuses_another(command, tmp_path, way):
    folder = write_pav_dit_folder(tmp_path / "models" / "planes")
    ask = ("generate", "a dog", "--no-expand", "--models", folder, "--steps", 1, "--windows", way, "--json")
    made = command(*ask, "-o", tmp_path / "own.mp4", "--seconds", 1)
    assert made.code == 0 and made.json["num_frames"] == 8, made.err
    longer = command(*ask, "-o", tmp_path / "longer.mp4", "--seconds", 5)
    assert longer.code == 2 and longer.json["error"]["expected"].startswith("8 frames")
    assert not (tmp_path / "longer.mp4").exists()


@pytest.mark.parametrize(
    ("options", "frames"),
    [
        ([], 33),
        (["--seconds", "20"], 33),
        (["--seconds", "20", "--window-seconds", "1"], 13),
        (["--seconds", "20", "--windows", "off"], 301),
        (["--seconds", "20", "--frames", "17"], 17),
    ],
)
def test_the_way_to_keep_weights_is_decided_for_what_is_made_at_once(options, frames):
    args = build_parser().parse_args(["generate", "rain", "-o", "x.mp4", *options])
    extent = extent_of(args, OwnSettings(num_frames=33, fps=Fraction(15), width=64, height=64))
    settle_windows(args, extent)
    assert extent_at_once(args, extent)["num_frames"] == frames
