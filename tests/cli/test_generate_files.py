"""What ``generate`` writes: several clips, codecs and qualities, the sound alone."""

from __future__ import annotations

import json
import os
import re
import signal
import time

import pytest
import torch
from sounding_video import pipeline
from sounding_video.cli import clips
from sounding_video.cli.clips import wanted_clips
from sounding_video.headless.runner import run_workflow
from sounding_video.media.probe import probe, read_clip
from sounding_video.models import encoding
from sounding_video.models.codecs.wan_vae import WanVAECodec
from sounding_video.pipeline import SamplingOptions


@pytest.fixture
def counted(monkeypatch) -> dict[str, int]:
    """How often models were loaded and texts encoded."""
    counts = {"load": 0, "encode": 0}

    def counting(name, module, function):
        real = getattr(module, function)

        def count(*args, **kwargs):
            counts[name] += 1
            return real(*args, **kwargs)

        monkeypatch.setattr(module, function, count)

    counting("load", pipeline, "load_models")
    counting("encode", encoding, "_encode")
    encoding_cache = pipeline.REMEMBERED
    encoding_cache.clear()
    return counts


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_several_clips_from_one_model_and_one_encoding(generate, counted, tmp_path):
    outcome = generate("a dog barks", "-n", 3, "--seed", 7)
    assert outcome.code == 0, outcome.err
    assert counted == {"load": 1, "encode": 2}  # a text encoder for each tower
    assert names(tmp_path) == ["clip_1.mp4", "clip_2.mp4", "clip_3.mp4"]
    lines = outcome.out.splitlines()
    assert [f"clip_{n}.mp4" in line and f"; seed {6 + n};" in line for n, line in enumerate(lines[:3], 1)] == [True] * 3
    assert lines[3].startswith("model: ") and len(lines) == 4
    assert outcome.err.count("plan: ") <= 1
    assert "clip 2 of 3, sampling: 2/2" in outcome.err and "clip 3 of 3, writing: 5/5" in outcome.err
    generate("a dog barks", "--seed", 8)
    alone, second = read_clip(tmp_path / "clip.mp4"), read_clip(tmp_path / "clip_2.mp4")
    assert torch.equal(alone.video.frames, second.video.frames)
    assert torch.equal(alone.audio.waveform, second.audio.waveform)
    tags = [json.loads(probe(tmp_path / f"clip_{n}.mp4").tags["sounding_video"]) for n in (1, 2, 3)]
    assert [tag["seed"] for tag in tags] == [7, 8, 9]


def test_what_a_run_tells_is_told_of_several_clips_too(generate):
    outcome = generate("a dog barks", "-n", 2, "--step-cache", "fast", "--steps", 12)
    assert outcome.code == 0 and "step cache: 6 of 12 steps computed" in outcome.err, outcome.err


def test_json_names_all_of_them(generate, tmp_path):
    outcome = generate("a dog barks", "-n", 2, "--json", "--seed", 5)
    values = outcome.json
    assert outcome.err == "" and set(values) == {"clips", "wall_seconds"}
    assert [clip["path"] for clip in values["clips"]] == [str(tmp_path / f"clip_{n}.mp4") for n in (1, 2)]
    assert [clip["seed"] for clip in values["clips"]] == [5, 6]
    assert all(clip["num_frames"] == 5 and "plan" in clip for clip in values["clips"])


def test_nothing_is_overwritten(generate, tmp_path):
    for name in ("clip_2.mp4", "clip_7.MP4", "clip_9.webm", "clip_x.mp4", "other_30.mp4", "clip_1_2.mp4"):
        (tmp_path / name).write_bytes(b"mine")
    before = set(names(tmp_path))
    assert generate("a dog barks", "-n", 2).code == 0
    assert set(names(tmp_path)) - before == {"clip_8.mp4", "clip_9.mp4"}
    assert {(tmp_path / name).read_bytes() for name in before} == {b"mine"}


def test_a_name_that_is_taken_while_sampling_is_not_overwritten(generate, tmp_path, monkeypatch):
    real = pipeline.sample_latents

    def sample(*args, **kwargs):
        (tmp_path / "clip_1.mp4").write_bytes(b"another run's")
        return real(*args, **kwargs)

    monkeypatch.setattr(pipeline, "sample_latents", sample)
    outcome = generate("a dog barks", "-n", 2, "--json")
    assert [clip["path"] for clip in outcome.json["clips"]] == [str(tmp_path / f"clip_{n}.mp4") for n in (2, 3)]
    assert (tmp_path / "clip_1.mp4").read_bytes() == b"another run's"


@pytest.mark.parametrize("as_json", [False, True])
def test_a_stop_leaves_what_is_finished_and_names_it(generate, tmp_path, monkeypatch, as_json):
    real, calls = pipeline.sample_latents, []

    def sample(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return real(*args, **kwargs)

    monkeypatch.setattr(pipeline, "sample_latents", sample)
    outcome = generate("a dog barks", "-n", 4, *(["--json"] if as_json else []))
    assert outcome.code == 130 and "Traceback" not in outcome.err
    assert names(tmp_path) == ["clip_1.mp4"] and probe(tmp_path / "clip_1.mp4").num_frames == 5
    assert f"1 of 4 clips are finished: {tmp_path / 'clip_1.mp4'}" in outcome.err
    assert not as_json or outcome.json["error"]["type"] == "Cancelled"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("-n", 0), "the number of clips cannot be used: got 0; expected a whole number from 1"),
        (("-n", -2), "the number of clips cannot be used"),
        (("-n", 2, "--seed", 2**64 - 1), "18446744073709551616"),
        (("-n", "two"), "the number of clips cannot be used: got two"),
        (("--codec", "vp9"), "mp4 cannot hold this codec: got 'vp9'; expected one of auto, h264, hevc, av1"),
        (("--crf", 52), "h264 knows no such quality"),
        (("--codec", "hevc", "--writer", "moviepy"), "moviepy writer encodes H.264 only"),
    ],
)
def test_what_cannot_be_is_refused_before_loading(generate, tmp_path, arguments, sentence):
    outcome = generate("a dog barks", *arguments)
    assert outcome.code == 2 and sentence in outcome.err, outcome.err
    assert "loading" not in outcome.err and list(tmp_path.iterdir()) == []


def test_the_longest_of_the_names_is_tried_first(generate, tmp_path):
    name = "c" * 249 + ".mp4"  # 253 bytes; with two digits 256
    outcome = generate("a dog barks", "-o", tmp_path / name, "-n", 10)
    assert outcome.code == 2 and "loading" not in outcome.err and list(tmp_path.iterdir()) == []


def test_one_clip_keeps_its_name():
    (one,) = wanted_clips(clips.Path("x/clip.mp4"), 1, SamplingOptions(seed=4))
    assert (str(one.path), one.options.seed, one.place) == ("x/clip.mp4", 4, None)
    names = [str(each.path) for each in wanted_clips(clips.Path("a.b.tar_1.webm"), 2, SamplingOptions())]
    assert names == ["a.b.tar_1_1.webm", "a.b.tar_1_2.webm"]


def test_codec_and_quality_are_in_the_file_and_in_the_workflow_inside(generate, small_models_dir, tmp_path):
    sizes = []
    for crf in (10, 50):
        path = tmp_path / f"{crf}.mkv"
        assert generate("a dog barks", "-o", path, "--codec", "hevc", "--crf", crf, "--size", "64x64").code == 0
        info = probe(path)
        assert info.video_codec == "hevc"
        inputs = next(n for n in json.loads(info.tags["prompt"]).values() if n["class_type"] == "T2SVMux")["inputs"]
        assert (inputs["format"], inputs["codec"], inputs["quality"]) == ("mkv", "hevc", crf)
        sizes.append(path.stat().st_size)
    assert sizes[1] < sizes[0]
    report = run_workflow(
        json.loads(info.tags["prompt"]), models_dir=small_models_dir, output_dir=tmp_path / "again", device="cpu"
    )
    assert torch.equal(read_clip(report.files[0]).video.frames, read_clip(path).video.frames)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".m4a"])
def test_the_sound_alone_is_the_clip_s_own(generate, tmp_path, suffix):
    path = tmp_path / f"sound{suffix}"
    outcome = generate("a dog barks", "-o", path, "--json")
    values, info = outcome.json, probe(path)
    assert (info.video_codec, info.num_samples, info.sample_rate) == (None, 2667, 8000)
    assert [values[name] for name in ("num_frames", "width", "fps", "num_samples")] == [None, None, None, 2667]
    assert {"prompt", "workflow", "sounding_video"} <= set(info.tags)
    if suffix != ".m4a":
        generate("a dog barks", "-o", tmp_path / "clip.mkv")
        whole = read_clip(tmp_path / "clip.mkv").audio.waveform
        assert float((read_clip(path).audio.waveform - whole).abs().max()) < 2**-22


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".m4a"])
def test_a_sound_runs_again_from_its_own_file(generate, command, small_models_dir, tmp_path, suffix):
    path = tmp_path / f"sound{suffix}"
    assert generate("a dog barks", "-o", path).code == 0
    again = command("run", path, "--models", small_models_dir, "--output-dir", tmp_path / "again", "--json")
    assert again.code == 0, again.err
    (made,) = again.json["files"]
    assert made.endswith(suffix) and probe(made).num_samples == 2667
    assert torch.equal(read_clip(made).audio.waveform, read_clip(path).audio.waveform)


def test_no_picture_is_decoded_for_a_sound(generate, tmp_path, monkeypatch):
    """And one is for a clip, so that the watch is seen to see."""
    real, seen = WanVAECodec.decode, []
    monkeypatch.setattr(WanVAECodec, "decode", lambda self, *args, **more: seen.append(1) or real(self, *args, **more))
    outcome = generate("a dog barks", "-o", tmp_path / "a.flac", "-n", 2)
    assert outcome.code == 0 and seen == []
    assert "frames" not in outcome.out and "2667 samples at 8000 Hz; seed 0" in outcome.out
    assert generate("a dog barks", "-o", tmp_path / "a.mp4").code == 0 and seen == [1]


def test_a_date_in_the_name_is_filled_in(generate, tmp_path):
    """As in prefixes of nodes; a colon of the time would be no name on Windows."""
    before = time.strftime("%Y-%m-%d")
    outcome = generate("x", "-o", tmp_path / "%date:yyyy-MM-dd%" / "clip %date:hh:mm%.mp4", "--json")
    assert outcome.code == 0, outcome.err
    (file,) = tmp_path.rglob("*.mp4")
    assert file.parent.name in (before, time.strftime("%Y-%m-%d"))
    assert re.fullmatch(r"clip \d\d_\d\d\.mp4", file.name)
    assert outcome.json["path"] == str(file)
