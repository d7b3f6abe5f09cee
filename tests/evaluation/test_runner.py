"""A folder of clips measured: counts, files written, broken clips named, pictures, and the law over every metric."""

from __future__ import annotations

import importlib
import json
import math

import pytest
import torch
from evaluation_clips import RATE, make_av, make_picture, make_sound
from PIL import Image
from sounding_video.core.errors import Cancelled, InputError, MissingPackageError, NonFiniteError, OutputError
from sounding_video.core.progress import Progress
from sounding_video.core.types import AudioClip, AVClip, VideoClip
from sounding_video.evaluation.metrics import METRICS
from sounding_video.evaluation.metrics.base import Measurement
from sounding_video.evaluation.report import clip_picture, summary_table
from sounding_video.evaluation.runner import evaluate_folder
from sounding_video.evaluation.sample import Sample, Truth, read_manifest
from sounding_video.media.mux import write_clip

TIMES = [0.43, 0.9, 1.5]
SILENCE = AudioClip(torch.zeros(2, 97_020), RATE)
DEGENERATE = {
    "usual": make_av(TIMES, TIMES),
    "silent": AVClip(make_picture(TIMES), SILENCE),
    "still": AVClip(make_picture([]), make_sound(TIMES)),
    "still and silent": AVClip(make_picture([]), SILENCE),
    "black": AVClip(VideoClip(torch.zeros(33, 32, 32, 3), 15), SILENCE),
    "picture only": AVClip(make_picture(TIMES)),
    "sound only": AVClip(None, make_sound(TIMES)),
    "one frame": AVClip(make_picture([], num_frames=1), make_sound([0.02], seconds=1 / 15)),
    "one sample": AVClip(make_picture([], num_frames=1), AudioClip(torch.ones(1, 1), RATE)),
    "tiny picture": AVClip(VideoClip(torch.rand(5, 2, 2, 3), 15), make_sound([0.1], seconds=1 / 3)),
    "low rate": AVClip(make_picture(TIMES), make_sound(TIMES, rate=8000)),
}
TRUTHS = {
    "no truth": None,
    "truth": Truth(scene="ball", events_seconds=tuple(TIMES)),
    "prompted": Truth(scene="rain", num_events=0),
}


@pytest.mark.filterwarnings("ignore:n_fft")
@pytest.mark.parametrize("truth", TRUTHS.values(), ids=TRUTHS)
@pytest.mark.parametrize("clip", DEGENERATE.values(), ids=DEGENERATE)
@pytest.mark.parametrize("name", METRICS.names())
def test_every_metric_gives_numbers_or_a_reason(name, clip, truth):
    metric = METRICS.get(name)()
    measured = metric.measure(Sample(clip, truth))
    assert tuple(measured.values) == metric.values
    for key, value in measured.values.items():
        assert 0 <= value <= 1 if value is not None else len(measured.reasons[key]) > 10
    summary = metric.summarise([measured, measured])
    assert set(metric.values) <= set(summary)
    assert all(value is None or math.isfinite(value) for value in summary.values())
    assert summary["num_measured"] == (0 if measured.values[metric.values[0]] is None else 2)
    assert metric.summarise([])["num_measured"] == 0
    json.dumps([measured.values, measured.details, summary])


def test_a_metric_cannot_hide_what_it_did_not_measure():
    with pytest.raises(InputError, match="each value that is None needs a reason"):
        Measurement({"score": None})
    with pytest.raises(NonFiniteError, match="'score' is not a number: got nan"):
        Measurement({"score": math.nan})


def test_clips_that_cannot_be_measured_are_refused():
    with pytest.raises(NonFiniteError, match="the frames tensor contains NaN"):
        Sample(AVClip(VideoClip(torch.full((3, 8, 8, 3), math.nan), 15)))
    with pytest.raises(InputError, match="the sound is empty: got 0 samples"):
        Sample(AVClip(None, AudioClip(torch.zeros(1, 0), RATE)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three clips in three containers, one of them out of step, a broken one, and a manifest that names a lost one."""
    where = tmp_path_factory.mktemp("clips")
    write_clip(make_av(TIMES, TIMES), where / "a.mp4")
    write_clip(make_av(TIMES, [time + 0.3 for time in TIMES]), where / "b.webm")
    write_clip(make_av(TIMES, TIMES), where / "c.mkv")
    (where / "d.mp4").write_bytes((where / "a.mp4").read_bytes()[:2000])
    (where / "notes.txt").write_text("not a clip")
    rows = [{"file": name, "scene": "ball", "events": TIMES, "seed": 1} for name in ("a.mp4", "b.webm", "lost.mp4")]
    (where / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return where


EVENTS = ["av_align", "event_f1", "onset_accuracy"]


def test_a_folder_is_measured_whole(folder, tmp_path):
    seen = []
    progress = Progress(report=lambda stage, done, total, preview=None: seen.append((stage, done, total)))
    result = evaluate_folder(folder, metrics=EVENTS, pictures=tmp_path / "png", progress=progress)
    assert [clip.file for clip in result.clips] == ["a.mp4", "b.webm", "c.mkv", "d.mp4", "lost.mp4"]
    assert seen == [("evaluate", done, 5) for done in range(6)]
    assert [clip.file for clip in result.broken] == ["d.mp4", "lost.mp4"]
    assert "there is no such file" in result.clips[4].error and "d.mp4" in result.clips[3].error
    f1 = [clip.measurements["event_f1"].values["f1_2_frames"] for clip in result.clips[:3]]
    assert f1[0] == f1[2] == 1 and f1[1] == 0
    assert result.summary["event_f1"]["f1_2_frames"] == pytest.approx(2 / 3)
    assert result.summary["event_f1"]["picture_f1_2_frames"] == 1
    assert result.clips[2].measurements["event_f1"].values["picture_f1_2_frames"] is None  # not in the manifest
    for clip in result.clips[:3]:
        with Image.open(clip.picture) as picture:
            assert picture.width > 900 and len(picture.convert("RGB").getcolors(1 << 20)) > 100


def test_the_result_is_written(folder, tmp_path):
    result = evaluate_folder(folder, metrics=EVENTS)
    rows_file, whole_file = result.write(tmp_path / "new" / "folder")
    rows = [json.loads(line) for line in rows_file.read_text().splitlines()]
    assert [row["file"] for row in rows] == [clip.file for clip in result.clips]
    assert rows[0]["av_align"]["av_align"] == 1 and "error" in rows[4]
    assert rows[2]["event_f1"]["reasons"]["picture_f1_2_frames"] == "the manifest gives no event times"
    whole = json.loads(whole_file.read_text())
    assert (whole["num_clips"], whole["num_broken"], whole["num_in_manifest"]) == (5, 2, 3)
    assert set(whole["broken"]) == {"d.mp4", "lost.mp4"}
    assert set(whole["versions"]) >= {"sounding-video", "python", "torch", "opencv-python-headless"}
    assert whole["settings"]["metrics"] == EVENTS
    table = summary_table(result)
    assert "5 clips, 2 broken, 3 in the manifest" in table and "f1_2_frames" in table and "0.667" in table


def test_of_a_result_both_files_are_written_or_none(folder, tmp_path):
    result = evaluate_folder(folder, metrics=EVENTS)
    (tmp_path / "out" / "summary.json").mkdir(parents=True)
    with pytest.raises(OutputError):
        result.write(tmp_path / "out")
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["summary.json"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"folder": "nowhere"}, "there is no such folder"),
        ({"folder": "empty"}, "there are no clips in this folder"),
        ({"metrics": ["av_aline"]}, "unknown metric: got 'av_aline'; expected one of av_align, event_f1"),
        ({"metrics": ["event_f1", "event_f1"]}, "each metric can be asked for once"),
        ({"metrics": []}, "each metric can be asked for once"),
        ({"manifest": "nothing.jsonl"}, "there is no such manifest"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(folder, tmp_path, options, sentence):
    (tmp_path / "empty").mkdir()
    where = tmp_path / options.pop("folder") if "folder" in options else folder
    with pytest.raises(InputError) as caught:
        evaluate_folder(where, **options)
    assert sentence in str(caught.value)


def test_a_folder_of_broken_clips_is_an_error(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"not one of the clips can be read: got .*\(1 clips\)"):
        evaluate_folder(tmp_path, metrics=["event_f1"])


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{not json", "manifest.jsonl, line 2 (column 2: "),
        ('{"scene": "ball"}', "a line of the manifest names no file: got manifest.jsonl, line 2"),
        ('{"file": "a.mp4"}', "the manifest names a file twice: got a.mp4"),
        ('{"file": "b.mp4", "events": [2, 1]}', "in rising order"),
        ('{"file": "b.mp4", "events": ["soon"]}', "a line of the manifest cannot be used: got manifest.jsonl, line 2"),
        ('{"file": "b.mp4", "events": 3}', "a line of the manifest cannot be used"),
        ('{"file": "b.mp4", "num_events": -1}', "the number of events is not usable: got -1"),
    ],
)
def test_a_manifest_that_cannot_be_used(tmp_path, line, sentence):
    (tmp_path / "manifest.jsonl").write_text('{"file": "a.mp4"}\n' + line + "\n")
    with pytest.raises(InputError) as caught:
        read_manifest(tmp_path / "manifest.jsonl")
    assert sentence in str(caught.value)


def test_a_manifest_without_times_still_counts(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"file": "a.mp4", "num_events": 3}\n\n{"file": "b.mp4", "events": [0.5]}\n')
    rows = read_manifest(tmp_path / "m.jsonl")
    assert rows == {"a.mp4": Truth(num_events=3), "b.mp4": Truth(events_seconds=(0.5,), num_events=1)}


def test_the_user_can_stop(folder):
    def stop():
        raise Cancelled

    with pytest.raises(Cancelled):
        evaluate_folder(folder, metrics=["event_f1"], progress=Progress(check_cancelled=stop))


@pytest.mark.parametrize("package", ["cv2", "matplotlib"])
def test_a_missing_package_is_named_before_the_first_clip(folder, tmp_path, monkeypatch, package):
    real = importlib.import_module

    def without(name, *arguments):
        if name.split(".")[0] == package:
            raise ImportError(f"No module named {name!r}")
        return real(name, *arguments)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(MissingPackageError) as caught:
        evaluate_folder(folder, metrics=["av_align"], pictures=tmp_path / "png")
    pip_name = {"cv2": "opencv-python-headless"}.get(package, package)
    assert f"Install it with: pip install {pip_name}" in str(caught.value)
    assert not (tmp_path / "png").exists()


@pytest.mark.filterwarnings("ignore:n_fft")
@pytest.mark.parametrize("name", ["picture only", "sound only", "one frame", "one sample", "still and silent"])
def test_every_clip_can_be_drawn(name, tmp_path):
    clip_picture(Sample(DEGENERATE[name], TRUTHS["truth"]), tmp_path / "clip.png")
    with Image.open(tmp_path / "clip.png") as picture:
        assert picture.format == "PNG" and picture.width > 900
