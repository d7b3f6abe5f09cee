"""The save node: what it writes where, what it shows, and what it refuses before anything runs."""

from __future__ import annotations

import json
import re
import tempfile

import pytest
import torch
from sounding_video.core.errors import InputError
from sounding_video.headless.runner import run_workflow
from sounding_video.media.codecs import CODECS
from sounding_video.media.probe import probe, read_clip
from sounding_video.media.writers.base import CONTAINERS
from sounding_video.nodes import output
from sounding_video.nodes.host import io, standalone
from sounding_video.nodes.output import CODEC_NAMES, FORMATS, SOUND_FORMATS, Mux

FRAMES = torch.rand(9, 1, 1, 3, generator=torch.Generator().manual_seed(1)).expand(9, 32, 48, 3)


def sound(channels=2, samples=26_460):
    return {"waveform": torch.full((1, channels, samples), 0.25), "sample_rate": 44_100}


@pytest.fixture
def mux(tmp_path):
    """Run the node; files are saved in "out" and previews in "temp"."""

    def start(*, images=FRAMES, audio=None, **options):
        values = {"fps": 15.0, "filename_prefix": "a/clip", "format": "mp4", "writer": "pyav", **options}
        node = type("Run", (Mux,), {"hidden": io.HiddenValues({"prompt": {"1": {}}, "extra_pnginfo": None})})
        here = standalone.Session(output_dir=tmp_path / "out", temporary_dir=tmp_path / "temp")
        with standalone.session(here):
            return node.execute(images=images, audio=sound() if audio is None else audio, **values)

    return start


def test_the_choices_are_those_of_the_writers():
    assert [f".{name}" for name in FORMATS] == [
        *(suffix for suffix in CONTAINERS if suffix not in (".m4a", ".flac", ".wav")), ".wav", ".flac", ".m4a"
    ]  # fmt: skip
    assert {f".{name}" for name in SOUND_FORMATS} == {
        suffix for suffix, container in CONTAINERS.items() if container.video_codec is None
    }
    assert set(CODEC_NAMES) == {"auto", *CODECS}


def test_an_old_prompt_gives_what_it_gave(mux, tmp_path):
    """Without the new inputs: the file in the output folder, the same ui keys, and a report with nothing in it."""
    result = mux()
    shown = {"filename": "clip_00001_.mp4", "subfolder": "a", "type": "output"}
    assert result.ui["images"] == [shown] and result.ui["animated"] == (True,) and "audio" not in result.ui
    assert result.ui["sounding_video_report"] == []
    assert probe(tmp_path / "out" / "a" / "clip_00001_.mp4").video_codec == "h264"
    assert not (tmp_path / "temp").exists()


@pytest.mark.parametrize("looking", [False, True])
def test_motion_is_measured_for_those_who_look(mux, monkeypatch, looking):
    pytest.importorskip("cv2")
    monkeypatch.setattr(output, "shows_previews", lambda: looking)
    assert mux().ui["sounding_video_timeline"][0]["peaks"] == ([] if looking else None)


@pytest.mark.parametrize("format", SOUND_FORMATS)
def test_sound_alone_is_as_long_as_the_picture_and_shown_as_sound(mux, tmp_path, format):
    result = mux(format=format, audio=sound(1, 26_000))
    assert result.ui["audio"] == [{"filename": f"clip_00001_.{format}", "subfolder": "a", "type": "output"}]
    assert "images" not in result.ui and result.ui["sounding_video_timeline"][0]["fps"] is None
    info = probe(tmp_path / "out" / "a" / f"clip_00001_.{format}")
    assert (info.num_frames, info.num_channels, info.num_samples) == (None, 1, 26_460)
    assert json.loads(info.tags["prompt"]) == {"1": {}}
    assert [text for text in result.ui["sounding_video_report"] if "picture was left out" in text]
    assert probe(mux(images=None, format=format).args[0].path).num_samples == 26_460


def test_a_preview_leaves_nothing_in_the_output_folder(mux, tmp_path):
    for options in ({}, {"format": "flac"}):
        result = mux(save="preview only", **options)
        (shown,) = result.ui.get("images") or result.ui["audio"]
        assert (shown["type"], shown["subfolder"]) == ("temp", "a")
        assert result.ui["sounding_video_report"][-1] == "A preview: nothing was saved."
        assert (tmp_path / "temp" / "a" / shown["filename"]).is_file()
        assert str(result.args[0].get_stream_source()) == str(tmp_path / "temp" / "a" / shown["filename"])
    assert not (tmp_path / "out").exists()
    names = {mux(save="preview only").ui["images"][0]["filename"].rpartition("_0")[0] for _ in range(3)}
    assert len(names) == 3  # a page that remembers one of them does not show it for another


def test_surround_sound_is_mixed_down_and_told(mux, tmp_path):
    audio = sound(6)
    audio["waveform"][0, 3] = 0.9  # the sub-bass channel
    result = mux(audio=audio, format="mkv")
    (note,) = result.ui["sounding_video_report"]
    assert note.startswith("The sound has 6 channels; they were mixed down to stereo") and "sub-bass" in note
    waveform = read_clip(tmp_path / "out" / "a" / "clip_00001_.mkv").audio.waveform
    assert waveform.shape[0] == 2
    assert float(waveform.mean()) == pytest.approx(0.25 * (1 + 2 * 0.5**0.5), abs=1e-5)


def test_a_loud_mix_is_lowered_as_a_whole_and_told(mux):
    audio = {"waveform": torch.full((1, 8, 26_460), 0.9), "sample_rate": 44_100}
    notes = mux(audio=audio, format="wav").ui["sounding_video_report"]
    assert ["8 channels" in notes[0], "lowered by" in notes[1], "left out" in notes[2]] == [True] * 3


def test_a_batch_of_sounds_is_refused(mux):
    with pytest.raises(InputError, match="several clips: got a batch of 2"):
        mux(audio={"waveform": torch.zeros(2, 2, 26_460), "sample_rate": 44_100})


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"format": "webm", "codec": "h264"}, "webm cannot hold this codec"),
        ({"format": "wav", "quality": 18}, "has no quality to choose"),
        ({"format": "mp4", "quality": 60}, "h264 knows no such quality: got 60"),
        ({"format": "mp4", "codec": "divx"}, "mp4 cannot hold this codec"),
        ({"format": "mkv", "codec": "ffv1", "quality": 3}, "ffv1 has no quality to choose"),
        ({"format": "mp4", "codec": "av1", "writer": "moviepy"}, "moviepy writer makes .mp4 files with H.264 only"),
        ({"format": "flac", "writer": "moviepy"}, "moviepy writer makes .mp4 files with H.264 only"),
    ],
)
def test_what_does_not_go_together_is_refused_before_the_sampler_runs(inputs, words):
    assert words in Mux.validate_inputs(**inputs)


@pytest.mark.parametrize(
    "inputs", [{"format": "wav", "codec": "pcm_f32"}, {"format": "mkv", "codec": "ffv1", "quality": -1}, {"quality": 3}]
)
def test_what_goes_together_is_let_through(inputs):
    assert Mux.validate_inputs(**inputs) is True


def test_a_preview_without_a_page_is_not_listed_and_not_left_behind(small_models_dir, graph, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    overrides = {"T2SVMux.save": "preview only", "T2SVMux.codec": "hevc", "T2SVMux.quality": "30"}
    report = run_workflow(
        graph, overrides=overrides, models_dir=small_models_dir, output_dir=tmp_path / "out", device="cpu"
    )
    (shown,) = report.outputs["9"]["images"]
    assert (report.files, shown["type"]) == ([], "temp")
    assert not (tmp_path / "out").exists() and list((tmp_path / "temporary").iterdir()) == []
    assert report.outputs["9"]["sounding_video_report"][-1] == "A preview: nothing was saved."


def test_the_page_offers_what_the_formats_hold(root):
    """The page's own table says what the writers' does."""
    script = (root / "web" / "js" / "save.js").read_text(encoding="utf-8")
    table = re.search(r"const CODECS = (\{.*?\});", script, re.DOTALL)[1]
    worst = re.search(r"const WORST_QUALITY = (\{.*?\});", script)[1]
    as_json = [re.sub(r",(\s*\})", r"\1", re.sub(r"(\w+):", r'"\1":', text)) for text in (table, worst)]
    assert json.loads(as_json[0]) == {
        suffix.removeprefix("."): list(container.codecs) for suffix, container in CONTAINERS.items()
    }
    assert json.loads(as_json[1]) == {name: codec.crf[1] for name, codec in CODECS.items() if codec.crf}
