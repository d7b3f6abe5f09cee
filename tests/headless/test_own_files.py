"""A user's own files through ComfyUI's own nodes, without a server."""

from __future__ import annotations

import json

import pytest
import torch
import user_files
from PIL import Image
from sounding_video.core.errors import WorkflowError
from sounding_video.core.types import AudioClip, AVClip, VideoClip
from sounding_video.headless.native_nodes import NATIVE_NODES
from sounding_video.headless.runner import run_workflow
from sounding_video.media.mux import write_clip
from sounding_video.media.probe import probe, read_clip

AUTO = {"dtype": "float32", "attention": "auto", "offload": "none"}
LOADERS = {
    "1": {"class_type": "T2SVLoadWanTower", "inputs": {"video_model": "wan", **AUTO}},
    "2": {"class_type": "T2SVLoadStableAudioTower", "inputs": {"audio_model": "stable_audio", **AUTO}},
}


@pytest.fixture
def folder(tmp_path):
    """A video of 20 frames with its sound, a sound and pictures."""
    here = tmp_path / "mine"
    here.mkdir()
    frames = torch.linspace(0, 1, 20)[:, None, None, None].expand(20, 48, 64, 3).clone()
    sound = AudioClip(torch.rand(2, 16_000) - 0.5, 8000)
    write_clip(AVClip(VideoClip(frames, 10), sound), here / "clip.mkv")
    write_clip(AVClip(audio=sound), here / "sound.wav")
    Image.new("RGBA", (40, 30), (255, 0, 0, 51)).save(here / "clear.png")
    turned = Image.new("RGB", (40, 30), (0, 255, 0))
    turned.save(here / "turned.jpg", exif=_turned())
    return here


def _turned():
    exif = Image.Exif()
    exif[274] = 6  # a quarter turn
    return exif


def _graph(**nodes):
    return {name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in nodes.items()}


def _save(**links):
    values = {"fps": 10.0, "filename_prefix": "out", "format": "mkv", "writer": "pyav", "codec": "auto"}
    return "T2SVMux", {**values, **links}


def test_a_video_s_frames_and_sound_reach_the_file(folder, tmp_path):
    graph = _graph(
        a=("LoadVideo", {"file": "clip.mkv"}),
        b=("GetVideoComponents", {"video": ["a", 0]}),
        c=_save(images=["b", 0], audio=["b", 1], fps=["b", 2]),
    )
    report = run_workflow(graph, output_dir=tmp_path / "out", input_dir=folder)
    made, own = read_clip(report.files[0]), read_clip(folder / "clip.mkv")
    assert torch.allclose(made.video.frames, own.video.frames, atol=0.02)
    assert torch.equal(made.audio.waveform, own.audio.waveform) and made.video.fps == 10
    again = run_workflow(graph, overrides={"a.file": str(report.files[0])}, output_dir=tmp_path / "2")
    assert probe(again.files[0]).num_frames == 20


def test_a_phone_s_video_is_put_upright_once(tmp_path):
    path = user_files.write_file(tmp_path / "turned.mp4", rotation=90)
    graph = _graph(
        a=("LoadVideo", {"file": str(path)}),
        b=("GetVideoComponents", {"video": ["a", 0]}),
        c=_save(images=["b", 0], codec="ffv1"),
    )
    made = read_clip(run_workflow(graph, output_dir=tmp_path / "out").files[0]).video.frames
    assert torch.allclose(made, read_clip(path).video.frames, atol=0.02)
    assert made.shape[1] == user_files.WIDTH and made.shape[2] == user_files.HEIGHT


def test_encode_clip_takes_them(folder, tmp_path, small_models_dir):
    """Sound for a video of one's own, by the template's nodes."""
    graph = LOADERS | _graph(
        a=("LoadVideo", {"file": str(folder / "clip.mkv")}),
        b=("GetVideoComponents", {"video": ["a", 0]}),
        c=(
            "T2SVEncodeClip",
            {
                **{"images": ["b", 0], "fps": ["b", 2], "video_codec": ["1", 2], "audio_codec": ["2", 2]},
                **{"start": 0.0, "after_the_end": "hold and silence", "width": 32, "height": 32, "num_frames": 9},
                **{"model_fps": 15.0, "batch_size": 1, "tiling": "auto"},
            },
        ),
        d=(
            "T2SVDecodeAV",
            {
                **{"video_codec": ["1", 2], "audio_codec": ["2", 2], "video_samples": ["c", 0]},
                **{"audio_samples": ["c", 1], "fps": ["c", 3], "tiling": "auto"},
            },
        ),
        e=_save(images=["d", 0], audio=["d", 1], fps=["c", 3]),
    )
    report = run_workflow(graph, models_dir=small_models_dir, output_dir=tmp_path / "out", device="cpu")
    assert probe(report.files[0]).num_frames == 9


def test_a_sound_and_pictures(folder, tmp_path):
    graph = _graph(
        a=("LoadAudio", {"audio": "sound.wav [input]", "audioUI": ""}), c=_save(audio=["a", 0], format="wav")
    )
    report = run_workflow(graph, output_dir=tmp_path / "out", input_dir=folder)
    assert probe(report.files[0]).num_samples == 16_000
    for name, size in (("clear.png", (40, 30)), ("turned.jpg", (30, 40))):
        graph = _graph(a=("LoadImage", {"image": name, "upload": "image"}), c=_save(images=["a", 0], codec="ffv1"))
        info = probe(run_workflow(graph, output_dir=tmp_path / name, input_dir=folder).files[0])
        assert (info.width, info.height, info.num_frames) == (*size, 1)


def test_transparency_is_the_mask(folder):
    from sounding_video.nodes.host import standalone

    load = NATIVE_NODES[2]
    with standalone.session(standalone.Session(input_dir=folder)):
        _, mask = load.execute(image="clear.png").args
        _, none = load.execute(image="turned.jpg").args
    assert mask.shape == (1, 30, 40) and torch.allclose(mask, torch.full_like(mask, 0.8), atol=1e-3)
    assert none.shape == (1, 64, 64) and not none.any()


@pytest.mark.parametrize("name", ["", "missing.mp4", "clip.mkv [output]", "../clip.mkv", "mine"])
def test_a_missing_file_is_told_before_anything_runs(folder, tmp_path, name):
    graph = _graph(
        a=("LoadVideo", {"file": name}), b=("GetVideoComponents", {"video": ["a", 0]}), c=_save(images=["b", 0])
    )
    with pytest.raises(WorkflowError, match=r"node a \(LoadVideo\): a file that the workflow names is not there"):
        run_workflow(graph, output_dir=tmp_path / "out", input_dir=folder)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kind", "port", "name", "words"),
    [
        ("LoadImage", "image", "sound.wav", "this picture cannot be read"),
        ("LoadAudio", "audio", "clear.png", "there is no sound in this file"),
    ],
)
def test_a_file_of_another_kind_is_a_sentence(folder, tmp_path, kind, port, name, words):
    side = "images" if port == "image" else "audio"
    graph = _graph(a=(kind, {port: name}), c=_save(**{side: ["a", 0]}))
    with pytest.raises(Exception, match=words):
        run_workflow(graph, output_dir=tmp_path / "out", input_dir=folder)


def test_the_page_s_format_with_its_upload_button(folder, tmp_path):
    """Its widget is saved beside the file's name."""
    page = {
        "nodes": [
            {
                "id": 1,
                "type": "LoadVideo",
                "outputs": [{"name": "VIDEO", "type": "VIDEO", "links": [1]}],
                "widgets_values": ["clip.mkv", "image"],
            },
            {
                "id": 2,
                "type": "GetVideoComponents",
                "inputs": [{"name": "video", "type": "VIDEO", "link": 1}],
                "outputs": [
                    {"name": "images", "type": "IMAGE", "links": [2]},
                    {"name": "audio", "type": "AUDIO", "links": [3]},
                    {"name": "fps", "type": "FLOAT", "links": []},
                ],
                "widgets_values": [],
            },
            {
                "id": 3,
                "type": "T2SVMux",
                "inputs": [
                    {"name": "images", "type": "IMAGE", "link": 2},
                    {"name": "audio", "type": "AUDIO", "link": 3},
                ],
                "widgets_values": [10.0, "out", "mkv", "pyav", "auto", -1, "output"],
            },
        ],
        "links": [[1, 1, 0, 2, 0, "VIDEO"], [2, 2, 0, 3, 0, "IMAGE"], [3, 2, 1, 3, 1, "AUDIO"]],
        "version": 0.4,
    }
    for node in page["nodes"]:
        node.setdefault("mode", 0)
    (tmp_path / "page.json").write_text(json.dumps(page))
    report = run_workflow(page, output_dir=tmp_path / "out", input_dir=folder)
    assert probe(report.files[0]).num_frames == 20
