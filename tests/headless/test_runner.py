"""The template runs without a server, on small random models of the real classes."""

from __future__ import annotations

import json

import pytest
from sounding_video.core.errors import (
    Cancelled,
    IncompatibleWeightsError,
    InputError,
    PlacementError,
    WorkflowError,
)
from sounding_video.core.progress import Progress
from sounding_video.headless.runner import run_workflow
from sounding_video.headless.ui_format import ui_workflow
from sounding_video.media.probe import probe


@pytest.fixture
def run(small_models_dir, tmp_path):
    def start(graph, **options):
        return run_workflow(graph, models_dir=small_models_dir, output_dir=tmp_path / "out", device="cpu", **options)

    return start


def test_the_template_gives_a_file_with_picture_sound_and_workflow(run, graph, tmp_path):
    report = run(graph, overrides={"T2SVJointSampler.seed": "5"})
    assert report.files == [tmp_path / "out" / "sounding_video" / "pocket_00001_.mp4"]
    assert report.outputs["9"]["images"] == [
        {"filename": "pocket_00001_.mp4", "subfolder": "sounding_video", "type": "output"}
    ]
    info = probe(report.files[0])
    assert (info.width, info.height, info.num_frames, info.fps) == (32, 32, 9, 15)
    assert (info.sample_rate, info.num_samples) == (8000, 4800)  # 9 frames at 15 fps = 0.6 s
    prompt = json.loads(info.tags["prompt"])
    assert prompt["7"]["inputs"]["seed"] == 5
    assert json.loads(info.tags["workflow"]) == ui_workflow(prompt)


def test_the_same_seed_gives_the_same_file_under_the_next_number(run, graph):
    first, second = run(graph, embed_metadata=False), run(graph, embed_metadata=False)
    other = run(graph, embed_metadata=False, overrides={"7.seed": 8})
    assert [report.files[0].name for report in (first, second, other)] == [f"pocket_0000{n}_.mp4" for n in (1, 2, 3)]
    assert first.files[0].read_bytes() == second.files[0].read_bytes() != other.files[0].read_bytes()
    assert probe(first.files[0]).tags == {}


def test_a_batch_gives_one_file_a_clip(run, graph):
    report = run(graph, overrides={"5.batch_size": 2})
    assert [path.name for path in report.files] == ["pocket_00001_.mp4", "pocket_00002_.mp4"]
    assert [(probe(path).num_frames, probe(path).num_samples) for path in report.files] == [(9, 4800)] * 2
    assert report.files[0].read_bytes() != report.files[1].read_bytes()


def test_bridges_change_the_result(run, graph):
    joined = run(graph, embed_metadata=False).files[0].read_bytes()
    del graph["4"]["inputs"]["bridge"]
    assert run(graph, embed_metadata=False).files[0].read_bytes() != joined


def without(graph, modality):
    """Take one modality's nodes and links out of the template."""
    loader = {"video": "1", "audio": "2"}[modality]
    del graph[loader], graph["3"], graph["4"]["inputs"]["bridge"]
    for node in graph.values():
        node["inputs"] = {
            name: value for name, value in node["inputs"].items() if not isinstance(value, list) or value[0] != loader
        }
    del graph["7"]["inputs"][f"{modality}_latent"], graph["8"]["inputs"][f"{modality}_samples"]
    del graph["9"]["inputs"]["images" if modality == "video" else "audio"]
    return graph


def test_a_silent_video(run, graph):
    info = probe(run(without(graph, "audio")).files[0])
    assert (info.num_frames, info.audio_codec) == (9, None)


def test_sound_alone(run, graph):
    info = probe(run(without(graph, "video")).files[0])
    assert (info.video_codec, info.sample_rate) == (None, 8000)


def test_progress_names_the_stages_and_cancel_stops_at_once(run, graph, tmp_path):
    stages = []

    def report(stage, done, total, preview=None):
        stages.append((stage, done, total))

    def check_cancelled():
        if stages and stages[-1][0] == "sample":
            raise Cancelled

    with pytest.raises(Cancelled):
        run(graph, overrides={"7.steps": 50}, progress=Progress(report, check_cancelled))
    assert stages[-1] == ("sample", 1, 50)
    assert not (tmp_path / "out").exists()


def test_nothing_runs_when_the_workflow_is_wrong(run, graph, tmp_path):
    stages = []
    graph["9"]["inputs"]["fps"] = 0.0
    with pytest.raises(WorkflowError, match="input fps: out of range"):
        run(graph, progress=Progress(lambda *given, **named: stages.append(given)))
    assert stages == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("override", "error", "words"),
    [
        ({"5.num_frames": 10}, InputError, "number of frames does not fit .* 9 or 13"),
        ({"5.width": 40}, InputError, "width does not fit .* multiple of 16"),
        ({"6.video_caption": " "}, InputError, "the video caption is empty"),
        (
            {"9.filename_prefix": "../clip"},
            WorkflowError,
            "does not name a file inside the output folder: got '../clip'",
        ),
        ({"9.filename_prefix": "/clip"}, WorkflowError, "does not name a file inside the output folder"),
        ({"9.filename_prefix": "C:\\clip"}, WorkflowError, "does not name a file inside the output folder"),
        ({"9.filename_prefix": "clips/"}, WorkflowError, "does not name a file inside the output folder"),
        ({"9.filename_prefix": ""}, WorkflowError, "does not name a file inside the output folder"),
        ({"2.dtype": "bfloat16"}, InputError, "the two towers were loaded differently"),
        ({"1.attention": "xformers"}, PlacementError, "attention kernel 'xformers' does not run here"),
        ({"3.fusion": "full"}, IncompatibleWeightsError, "got full for a file that is dual_cross"),
    ],
)
def test_a_node_s_own_refusal_comes_through(run, graph, override, error, words):
    with pytest.raises(error, match=words):
        run(graph, overrides=override)


@pytest.mark.parametrize(
    ("node", "missing", "words"),
    [
        ("6", ("video_text_encoder", "audio_text_encoder"), "no caption encoder is connected"),
        ("4", ("video_tower", "audio_tower", "bridge"), "there is nothing to join"),
        ("8", ("video_codec",), "there are video samples but no video codec"),
        ("8", ("video_samples", "audio_samples"), "both latents are absent"),
        ("9", ("images", "audio"), "a clip needs a picture, a sound or both"),
        ("7", ("video_latent", "audio_latent"), "no shape|nothing to generate|both latents are absent"),
    ],
)
def test_a_node_with_nothing_to_do_says_so(run, graph, node, missing, words):
    for name in missing:
        del graph[node]["inputs"][name]
    with pytest.raises(InputError, match=words):
        run(graph)


def muted(graph, *gone):
    """Without nodes and without what hangs on them, as the page sends a graph in which they are muted."""
    for node_id in gone:
        del graph[node_id]
    for node in graph.values():
        links = {name: value for name, value in node["inputs"].items() if isinstance(value, list)}
        for name in (name for name, value in links.items() if value[0] in gone):
            del node["inputs"][name]
            node["inputs"] |= {name: 1.0} if name in ("fps", "seconds") else {}  # widgets keep values of their own
    return graph


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        (
            "1",
            r"a video latent but no video tower .* Disconnect video_latent of this sampler, or connect Load Wan Tower",
        ),
        ("2", r"an audio latent but no audio tower .* Disconnect audio_latent .* or connect Load Stable Audio Tower"),
        ("5", r"both latents are absent\. Connect video_latent, audio_latent or both to Empty AV Latent; a node"),
        (
            "7",
            r"nothing to decode: both latents are absent\. Connect video_samples, .* to a Joint Sampler; .* be muted",
        ),
        ("8", r"a clip needs a picture, a sound or both\. Connect images, audio or both to Decode AV"),
    ],
)
def test_a_muted_node_s_absence_is_told_with_what_to_disconnect(run, graph, gone, words):
    with pytest.raises(InputError, match=words):
        run(muted(graph, gone))


def test_what_is_said_to_disconnect_is_enough(run, graph):
    muted(graph, "2")
    del graph["7"]["inputs"]["audio_latent"]
    report = run(graph)
    assert (probe(report.files[0]).num_frames, probe(report.files[0]).audio_codec) == (9, None)
    (sentence,) = report.outputs["4"]["sounding_video_report"]
    assert sentence.startswith(
        "The bridge is not used, because there is no audio tower: disconnect it, or connect Load"
    )


def test_towers_without_a_caption_or_with_the_other_s_latent_are_refused(run, graph):
    del graph["6"]["inputs"]["audio_text_encoder"]
    with pytest.raises(InputError, match=r"no encoded audio caption\. Disconnect audio_latent .* to Encode Captions"):
        run(graph)
    graph["7"]["inputs"]["audio_latent"] = ["5", 0]
    with pytest.raises(
        InputError, match=r"audio_latent holds no audio latent: got shape \(1, .*\)\. Disconnect audio_lat"
    ):
        run(graph)
    graph["8"]["inputs"] |= {"video_samples": ["5", 0], "audio_samples": ["5", 0]}
    del graph["7"]
    with pytest.raises(InputError, match="audio_samples holds no audio latent"):
        run(graph)


def test_prefixes_are_filled_in(run, graph):
    report = run(graph, overrides={"9.filename_prefix": "a/%width%x%height%/clip", "9.format": "mkv"})
    assert report.files[0].parts[-4:] == ("out", "a", "32x32", "clip_00001_.mkv")
    steps = graph["7"]["inputs"]["steps"]
    again = run(graph, overrides={"9.filename_prefix": "b: c/%T2SVJointSampler.steps% %Nope.x%"})
    assert again.files[0].parts[-3:] == ("out", "b_ c", f"{steps} %Nope.x%_00001_.mp4")
    assert again.files[0].is_file()


def test_an_output_folder_that_is_a_file_is_refused(graph, small_models_dir, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(WorkflowError, match=r"node 9 \(T2SVMux\): a part of the path is a file, not a folder"):
        run_workflow(graph, models_dir=small_models_dir, output_dir=tmp_path / "file", device="cpu")
