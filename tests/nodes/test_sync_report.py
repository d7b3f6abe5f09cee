"""The sync report: a picture on disk and in the graph, and the metric's own numbers."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest
import torch
from PIL import Image
from sounding_video.core.types import AudioClip, AVClip, VideoClip
from sounding_video.evaluation.sample import Sample
from sounding_video.media.timeline import timeline
from sounding_video.nodes import evaluation
from sounding_video.nodes.evaluation import SyncReport, measured
from sounding_video.nodes.host import io, standalone

RATE, FPS = 16_000, 15


def knocking(times, *, shifted=0.0):
    """A square that jumps at the given times, and a knock at each of them, or a little later."""
    frames, sound = torch.zeros(45, 64, 64, 3), torch.zeros(1, 3 * RATE)
    for index in range(45):
        jumps = sum(time <= index / FPS + 1e-6 for time in times)
        frames[index, 20:44, 4 + 9 * (jumps % 5) : 20 + 9 * (jumps % 5)] = 1.0
    ring = torch.exp(-torch.arange(2000) / 300) * torch.sin(torch.arange(2000) * 0.3)
    for time in times:
        start = round((time + shifted) * RATE)
        sound[0, start : start + 2000] += ring * 0.8
    return AVClip(VideoClip(frames, Fraction(FPS)), AudioClip(sound, RATE))


@pytest.fixture
def run(tmp_path):
    def start(clip, *, hidden=None, embed_metadata=True, **options):
        values = {"fps": 15.0, "filename_prefix": "sync/clip", "width": 800, **options}
        audio = {"waveform": clip.audio.waveform[None], "sample_rate": RATE}
        node = type("Run", (SyncReport,), {"hidden": io.HiddenValues(hidden)})  # as the runner does
        with standalone.session(standalone.Session(output_dir=tmp_path, embed_metadata=embed_metadata)):
            return node.execute(images=clip.video.frames, audio=audio, **values)

    return start


def test_the_picture_is_saved_shown_and_handed_on(run, tmp_path):
    result = run(knocking([0.6, 1.4, 2.2]))
    picture, report = result.args
    (saved,) = result.ui["images"]
    assert saved == {"filename": "clip_00001_.png", "subfolder": "sync", "type": "output"}
    with Image.open(tmp_path / "sync" / "clip_00001_.png") as file:
        assert picture.shape == (1, file.height, file.width, 3) == (1, file.height, 800, 3)
    assert picture.min() >= 0 and picture.max() <= 1
    assert json.loads(report)["seconds"] == 3.0
    assert result.ui["sounding_video_report"] == [json.loads(report)["summary"]]


def test_the_picture_carries_prompt_and_workflow_as_comfyui_s_own_do(run, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "available", lambda name: False)  # nothing is measured here
    hidden = {"prompt": {"1": {"class_type": "Ü"}}, "extra_pnginfo": {"workflow": {"nodes": []}}}
    for given, embed in ((hidden, True), (hidden, False), ({"prompt": hidden["prompt"], "extra_pnginfo": None}, True)):
        run(knocking([0.6]), hidden=given, embed_metadata=embed)
    texts = []
    for number in (1, 2, 3):
        with Image.open(tmp_path / "sync" / f"clip_0000{number}_.png") as picture:
            texts.append({name: json.loads(text) for name, text in picture.text.items()})
    whole = {"prompt": hidden["prompt"], "workflow": {"nodes": []}}
    assert texts == [whole, {}, {"prompt": hidden["prompt"]}]


def test_what_belongs_together_scores_higher_than_what_does_not():
    pytest.importorskip("cv2")
    times = [0.6, 1.2, 1.8, 2.4]
    together, apart = measured(knocking(times)), measured(knocking(times, shifted=0.3))
    assert together["av_align"] > max(0.5, apart["av_align"] + 0.3)
    # A knock may be marked twice, a frame of the detector's own apart.
    found = together["onsets_seconds"]
    assert all(min(abs(time - onset) for onset in found) < 0.07 for time in times)
    assert all(min(abs(time - onset) for time in times) < 0.07 for onset in found)


def test_without_opencv_there_are_the_same_onsets_and_a_pip_line(monkeypatch):
    clip = knocking([0.6, 1.4, 2.2])
    whole = measured(clip)
    monkeypatch.setattr(evaluation, "available", lambda name: name != "cv2")
    found = measured(clip)
    assert (found["av_align"], found["motion_peaks_seconds"]) == (None, None)
    assert found["onsets_seconds"] == whole["onsets_seconds"]
    assert all(min(abs(time - onset) for onset in found["onsets_seconds"]) < 0.07 for time in (0.6, 1.4, 2.2))
    assert "pip install opencv-python-headless" in found["summary"]


def test_report_player_and_probe_show_the_same_moments(run):
    """One clip, three places: what Sync Report lists, what AV Mux draws, what ``probe --picture`` marks."""
    pytest.importorskip("cv2")
    clip = knocking([0.6, 1.2, 1.8, 2.4], shifted=0.11)
    report = json.loads(run(clip).args[1])
    drawn, sample = timeline(clip), Sample(clip)
    assert [round(time, 3) for time in report["onsets_seconds"]] == drawn["onsets"]
    assert [round(time, 3) for time in report["motion_peaks_seconds"]] == drawn["peaks"]
    assert [round(time, 3) for time in sample.onsets] == drawn["onsets"] != []
    assert [round(time, 3) for time in sample.flow_peaks] == drawn["peaks"] != []


def test_the_picture_marks_the_motion_s_peaks(run, tmp_path, monkeypatch):
    pytest.importorskip("cv2")
    arrow = (240, 150, 40)
    clip = knocking([0.6, 1.4])
    run(clip)
    with Image.open(tmp_path / "sync" / "clip_00001_.png") as picture:
        columns = {x for x in range(picture.width) for y in range(picture.height) if picture.getpixel((x, y)) == arrow}
    for time in (0.6, 1.4):
        assert 58 + round(time / 3 * (800 - 58 - 16)) in columns
    monkeypatch.setattr(evaluation, "available", lambda name: name != "cv2")
    run(clip)
    with Image.open(tmp_path / "sync" / "clip_00002_.png") as picture:
        assert arrow not in {colour for _, colour in picture.convert("RGB").getcolors(1 << 24)}


def test_a_bad_name_is_refused_before_anything_runs():
    assert "does not name a file inside the output folder" in SyncReport.validate_inputs(filename_prefix="../x")
    assert SyncReport.validate_inputs(filename_prefix="a/b") is True
