"""``sounding-video synth``: clips, manifest, resuming, refusals."""

from __future__ import annotations

import errno
import json
import signal
import time
from pathlib import Path

import pytest
from sounding_video.core.clock import Timeline
from sounding_video.media.probe import read_clip
from sounding_video.world.synth import make_clip

SMALL = ("--size", "32x32", "--frames", "17")


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]


def test_clips_and_manifest_tell_the_same(command, tmp_path):
    outcome = command("synth", "-n", 3, "-o", tmp_path, "--split", "test", "--seed", 40, *SMALL, "--json")
    assert outcome.code == 0
    manifest = str(tmp_path / "manifest.jsonl")
    assert outcome.json == {"folder": str(tmp_path), "manifest": manifest, "made": 3, "kept": 0}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["manifest.jsonl", *(row["file"] for row in rows(tmp_path))]
    )
    for row in rows(tmp_path):
        timeline = Timeline(num_frames=17, fps=15, width=32, height=32)
        made = make_clip(row["scene"], row["seed"], timeline=timeline, split="test")
        assert (row["prompt"], row["video_caption"], row["audio_caption"]) == (
            made.prompt,
            made.captions.video,
            made.captions.audio,
        )
        assert row["events"] == list(made.events) and row["parameters"] == made.parameters
        clip = read_clip(tmp_path / row["file"])
        assert clip.video.frames.shape == made.clip.video.frames.shape
        assert (clip.video.frames - made.clip.video.frames).abs().mean() < 0.05  # H.264 at half the colour resolution
        assert clip.audio.waveform.shape == made.clip.audio.waveform.shape


def test_existing_clips_are_kept(command, tmp_path):
    ball = ("-o", tmp_path, "--scene", "ball", *SMALL)
    assert command("synth", "-n", 2, *ball).code == 0
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.mp4")}
    (tmp_path / "train-ball-000001.mp4").unlink()
    with (tmp_path / "manifest.jsonl").open("a", encoding="utf-8") as manifest:
        manifest.write('{"file": "train-ball-0000')  # as a crash leaves it
    outcome = command("synth", "-n", 3, *ball, "--json")
    assert (outcome.json["made"], outcome.json["kept"]) == (2, 1)
    assert (tmp_path / "train-ball-000000.mp4").stat().st_mtime_ns == before["train-ball-000000.mp4"]
    assert sorted(row["seed"] for row in rows(tmp_path)) == [0, 1, 2]


def test_other_settings_replace_a_clip(command, tmp_path):
    ball = ("-n", 1, "-o", tmp_path, "--scene", "ball", "--frames", 17)
    command("synth", *ball, "--size", "32x32")
    outcome = command("synth", *ball, "--size", "48x32", "--json")
    assert outcome.json["made"] == 1
    assert [(row["width"], row["height"]) for row in rows(tmp_path)] == [(48, 32)]
    assert read_clip(tmp_path / "train-ball-000000.mp4").video.frames.shape[1:3] == (32, 48)


def test_interrupting_leaves_whole_files_only(python_with_package, tmp_path):
    code = "from sounding_video.cli import main; sys.exit(main(sys.argv[1:]))"
    process = python_with_package(code, ["synth", "-n", "5000", "-o", str(tmp_path), *SMALL])
    limit = time.monotonic() + 60
    while len(list(tmp_path.glob("train-*.mp4"))) < 3 and time.monotonic() < limit:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    files = [path for path in tmp_path.iterdir() if path.suffix == ".mp4"]
    assert all(path.name.startswith("train-") for path in files)  # no temporary file
    for path in files:
        assert read_clip(path).video.frames.shape == (17, 32, 32, 3)
    assert {row["file"] for row in rows(tmp_path)} <= {path.name for path in files}
    assert len(files) - len(rows(tmp_path)) <= 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-n", 0], "the number of clips cannot be used: got 0; expected a whole number from 1 to"),
        (["-n", 1, "--scene", "trumpet"], "unknown scene: got 'trumpet'; expected one of anvil"),
        (["-n", 1, "--split", "dev"], "unknown split: got 'dev'"),
        (["-n", 1, "--frames", 18], "the number of frames does not fit the video codec: got 18"),
        (["-n", 1, "--seed", -4], "the seed cannot be used: got -4"),
        (["-n", 1, "--fps", "fast"], "the frame rate is not a number"),
        (["-n", 1, "--frames", 100_001], "the memory cannot hold a clip of 100001 frames of 128×128 pixels"),
        (["-n", 1, "--size", "8192x8192", "--frames", 4001], "the memory cannot hold a clip of 4001 frames"),
        (["-n", 1, "--frames", 5, "--fps", "1/86400"], "the memory cannot hold a sound of 432000 s"),
        (["-n", 1_000_000, "--size", "2048x2048"], "there is too little room on the disk for 1000000 clips"),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(command, tmp_path, arguments, sentence):
    outcome = command("synth", *arguments, "-o", tmp_path / "new")
    assert outcome.code == 2
    assert sentence in outcome.err
    assert not (tmp_path / "new").exists()


def test_twenty_files_from_one_seed_are_the_same_bytes_again(command, tmp_path):
    for folder in ("a", "b"):
        assert command("synth", "-n", 20, "-o", tmp_path / folder, *SMALL).code == 0
    files = {folder: {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()} for folder in ("a", "b")}
    assert len(files["a"]) == 21
    assert files["a"] == files["b"]


def test_what_fails_leaves_neither_folder_nor_manifest(command, tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sounding_video.media.mux.write_clip", full)
    outcome = command("synth", "-n", 1, "-o", tmp_path / "new" / "w", *SMALL)
    assert (outcome.code, "the disk is full" in outcome.err) == (2, True), outcome.err
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert command("synth", "-n", 1, "-o", tmp_path / "w", *SMALL).code == 0
    before = (tmp_path / "w" / "manifest.jsonl").read_bytes()
    monkeypatch.setattr("sounding_video.media.mux.write_clip", full)
    assert command("synth", "-n", 2, "-o", tmp_path / "w", *SMALL).code == 2
    assert (tmp_path / "w" / "manifest.jsonl").read_bytes() == before, "what was made stays"


def test_a_foreign_manifest_is_left_alone(command, tmp_path):
    (tmp_path / "manifest.jsonl").write_text("my notes\n", encoding="utf-8")
    outcome = command("synth", "-n", 1, "-o", tmp_path, *SMALL)
    assert outcome.code == 2
    assert "a line of the manifest in this folder is not JSON" in outcome.err
    assert (tmp_path / "manifest.jsonl").read_text(encoding="utf-8") == "my notes\n"
    assert list(tmp_path.glob("*.mp4")) == []
