"""The pack in the real ComfyUI: it loads, describes itself as the stand-in does, runs, caches, refuses and stops."""

from __future__ import annotations

import copy
import json
import time
import urllib.request

import pytest
import torch
from comfyui_server import PACK, serving
from PIL import Image
from sounding_video.core.errors import Cancelled, ServerError
from sounding_video.core.progress import Progress
from sounding_video.headless.client import queue_workflow
from sounding_video.headless.graph import node_classes, read_workflow
from sounding_video.media.probe import probe, read_clip
from sounding_video.nodes import NODES
from sounding_video.nodes.encode import EncodeClip
from sounding_video.nodes.host import standalone

SMALL = {
    "1": {"video_model": "wan"},
    "2": {"audio_model": "stable_audio"},
    "3": {"bridge_file": "bridge.safetensors"},
    "5": {"width": 32, "height": 32, "num_frames": 9},
    "7": {"steps": 2},
}


def get_json(url: str):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)


@pytest.fixture(scope="module")
def template(root):
    return read_workflow(root / "workflows" / "api" / "text_to_sounding_video_pocket.json")


@pytest.fixture
def small(template):
    """The template on the small random models: a second a run."""
    return changed(template, SMALL)


def changed(graph, inputs):
    graph = copy.deepcopy(graph)
    for node_id, values in inputs.items():
        graph[node_id]["inputs"].update(values)
    return graph


def test_the_pack_loads_with_every_node(comfyui):
    info = get_json(f"{comfyui.url}/object_info")
    assert [name for name in node_classes() if name not in info] == []
    # of the start alone: a run that another file expects to be refused is told with a traceback by ComfyUI itself
    log = comfyui.log.read_text().partition("got prompt")[0]
    assert "IMPORT FAILED" not in log
    assert "Traceback" not in log


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
def test_the_stand_in_describes_every_node_as_comfyui_does(comfyui, node):
    roots = (comfyui.models, comfyui.base / "models" / "diffusers")
    with standalone.session(standalone.Session(roots)):
        ours = json.loads(json.dumps(node.GET_NODE_INFO_V1()))
    theirs = get_json(f"{comfyui.url}/object_info/{ours['name']}")[ours["name"]]
    # The module a class came from is the one thing that must differ.
    del ours["python_module"], theirs["python_module"]
    # What only newer versions know is missing in older ones, and what we do not use stands empty in newer ones.
    for name in {"dev_only", "search_aliases", "essentials_category", "has_intermediate_output"} - set(theirs):
        del ours[name]
    ports = [port for side in ("required", "optional") for port in theirs["input"].get(side, {}).values()]
    if not any("advanced" in options for _, options in ports):
        for side in ("required", "optional"):
            for _, options in ours["input"].get(side, {}).values():
                options.pop("advanced", None)
    assert [name for name in set(theirs) - set(ours) if theirs[name]] == []
    assert {name: theirs[name] for name in ours} == ours


def test_pages_and_templates_are_served(comfyui, root):
    with urllib.request.urlopen(f"{comfyui.url}/extensions/{PACK}/docs/T2SVMux.md", timeout=30) as answer:
        assert answer.status == 200
    templates = get_json(f"{comfyui.url}/workflow_templates")[PACK]
    assert sorted(templates) == sorted(path.stem for path in (root / "workflows").glob("*.json"))
    for name in templates:
        for suffix in (".json", ".jpg"):
            address = f"{comfyui.url}/api/workflow_templates/{PACK}/{name}{suffix}"
            with urllib.request.urlopen(address, timeout=30) as answer:
                assert answer.status == 200
                assert answer.read() == (root / "workflows" / f"{name}{suffix}").read_bytes()


def test_the_texts_of_six_languages_are_served(comfyui, root):
    spoken = get_json(f"{comfyui.url}/i18n")
    titles = {language: texts["nodeDefs"]["T2SVMux"]["display_name"] for language, texts in spoken.items()}
    assert set(titles) == {folder.name for folder in (root / "locales").iterdir()}
    assert len(titles) == 6
    assert len(set(titles.values())) > 3, titles


def test_what_nodes_say_comes_back_on_a_cached_run(comfyui, small, tmp_path):
    """A page that was reloaded asks for the same run again; nothing runs, and its panels are filled all the same."""
    if "has_intermediate_output" not in get_json(f"{comfyui.url}/object_info/T2SVJoinTowers")["T2SVJoinTowers"]:
        pytest.skip("this ComfyUI sends results of output nodes only")
    graph = changed(small, {"9": {"filename_prefix": "again"}})
    first, second = (queue_workflow(comfyui.url, graph, output_dir=tmp_path) for _ in range(2))
    assert set(second.cached) == set(graph)
    for node in ("3", "4"):
        assert second.outputs[node] == first.outputs[node] and first.outputs[node], node


def test_picture_and_sound_travel_on_one_socket(comfyui, small, tmp_path):
    """Through ComfyUI's own nodes for such latents where it has them; the decoded frames are those of two sockets."""
    two = changed(small, {"9": {"filename_prefix": "two"}})
    one = changed(small, {"9": {"filename_prefix": "one"}})
    for name in ("video_latent", "audio_latent"):
        del one["7"]["inputs"][name]
    for name in ("video_samples", "audio_samples"):
        del one["8"]["inputs"][name]
    one["7"]["inputs"]["av_latent"] = ["5", 4]
    one["8"]["inputs"]["av_samples"] = ["7", 2]
    if "LTXVSeparateAVLatent" in get_json(f"{comfyui.url}/object_info"):
        inputs = {"video_latent": ["5", 0], "audio_latent": ["5", 1]}
        one["20"] = {"class_type": "LTXVConcatAVLatent", "inputs": inputs}
        one["7"]["inputs"]["av_latent"] = ["20", 0]
        one["21"] = {"class_type": "LTXVSeparateAVLatent", "inputs": {"av_latent": ["7", 2]}}
        del one["8"]["inputs"]["av_samples"]
        one["8"]["inputs"] |= {"video_samples": ["21", 0], "audio_samples": ["21", 1]}
    clips = [read_clip(queue_workflow(comfyui.url, graph, output_dir=tmp_path).files[0]) for graph in (two, one)]
    assert torch.equal(clips[0].video.frames, clips[1].video.frames)
    assert torch.equal(clips[0].audio.waveform, clips[1].audio.waveform)


def test_a_clip_is_encoded_and_what_was_done_comes_back(comfyui, small, tmp_path):
    """ComfyUI's own still and its own video nodes' values in, the fitted clip out, with a mask on one socket."""
    codecs = {name: small["8"]["inputs"][name] for name in ("video_codec", "audio_codec")}
    ports = EncodeClip.GET_SCHEMA().inputs
    values = {port.id: port.options["default"] for port in ports if "default" in port.options}
    values |= {"width": 32, "height": 32, "num_frames": 9, "defaults": "as set here", **codecs}
    graph = changed(small, {"9": {"filename_prefix": "encoded"}})
    graph["19"] = {"class_type": "EmptyImage", "inputs": {"width": 96, "height": 54, "batch_size": 1, "color": 255}}
    still = {"class_type": "T2SVEncodeClip", "inputs": {**values, "images": ["19", 0]}}
    graph["18"] = changed({"18": still}, {"18": {"after_the_end": "leave to generate"}})["18"]
    graph["7"]["inputs"] |= {"av_latent": ["18", 2]}
    for name in ("video_latent", "audio_latent"):
        del graph["7"]["inputs"][name]
    graph["20"] = {
        "class_type": "T2SVEncodeClip",
        "inputs": {**values, "images": ["8", 0], "audio": ["8", 1], "fps": 29.97},
    }
    graph["21"] = {
        "class_type": "T2SVDecodeAV",
        "inputs": {"av_samples": ["20", 2], "fps": ["20", 3], "tiling": "auto", **codecs},
    }
    graph["9"]["inputs"] |= {"images": ["21", 0], "audio": ["21", 1]}
    report = queue_workflow(comfyui.url, graph, output_dir=tmp_path)
    info = probe(report.files[0])
    assert (info.num_frames, info.width, info.num_samples) == (9, 32, 4800)
    if "20" in report.outputs:  # older servers send what output nodes say only
        assert any("29.97 frames a second" in line for line in report.outputs["20"]["sounding_video_report"])


def test_the_pocket_template_runs_and_its_file_carries_the_workflow(comfyui, template, tmp_path):
    seen = []
    progress = Progress(report=lambda stage, done, total, preview=None: seen.append((stage, done, total)))
    graph = changed(template, {"7": {"steps": 3}})
    report = queue_workflow(comfyui.url, graph, output_dir=tmp_path, progress=progress)
    (path,) = report.files
    assert path.is_relative_to(tmp_path / "sounding_video")
    info = probe(path)
    assert (info.width, info.height, info.num_frames, info.video_codec, info.audio_codec) == (
        64,
        64,
        33,
        "h264",
        "aac",
    )
    assert info.num_samples == 97_020  # 33 frames at 15 fps = 2.2 s, at 44 100 Hz
    assert json.loads(info.tags["prompt"])["7"]["inputs"]["steps"] == 3
    page = json.loads(info.tags["workflow"])
    assert sorted(node["type"] for node in page["nodes"]) == sorted(node["class_type"] for node in graph.values())
    assert [step for step in seen if step[0] == "T2SVJointSampler"][-1][1:] == (3, 3)


@pytest.mark.parametrize(
    ("inputs", "suffix", "codecs"),
    [
        ({"format": "flac"}, ".flac", (None, "flac")),
        ({"format": "wav", "codec": "pcm_s16"}, ".wav", (None, "pcm_s16le")),
        ({"format": "mkv", "codec": "ffv1"}, ".mkv", ("ffv1", "flac")),
        ({"codec": "av1", "quality": 40}, ".mp4", ("av1", "aac")),
    ],
)
def test_other_formats_codecs_and_qualities(comfyui, small, tmp_path, inputs, suffix, codecs):
    report = queue_workflow(comfyui.url, changed(small, {"9": inputs}), output_dir=tmp_path)
    (path,) = report.files
    info = probe(path)
    assert (path.suffix, info.video_codec, info.audio_codec, info.num_samples) == (suffix, *codecs, 4800)
    assert json.loads(info.tags["prompt"])["9"]["inputs"]["format"] == suffix.removeprefix(".")


def test_a_preview_stays_in_the_temporary_folder(comfyui, small, tmp_path):
    report = queue_workflow(comfyui.url, changed(small, {"9": {"save": "preview only"}}), output_dir=tmp_path)
    (shown,) = report.outputs["9"]["images"]
    assert (report.files, shown["type"]) == ([], "temp")
    assert list((comfyui.base / "temp").rglob(shown["filename"]))
    assert not list((comfyui.base / "output").rglob(shown["filename"]))
    assert report.outputs["9"]["sounding_video_report"][-1] == "A preview: nothing was saved."


def test_a_prompt_of_before_the_save_node_s_new_settings_still_runs(comfyui, small, tmp_path):
    old = changed(small, {"9": {"filename_prefix": "old"}})
    for name in ("codec", "quality", "save"):
        del old["9"]["inputs"][name]
    new = changed(small, {"9": {"filename_prefix": "new"}})
    clips = [read_clip(queue_workflow(comfyui.url, graph, output_dir=tmp_path).files[0]) for graph in (old, new)]
    assert torch.equal(clips[0].video.frames, clips[1].video.frames)


# Clips and pictures that each further pocket template leaves.
LEFT_BY = {
    "cascade_pocket": {".mp4": 1},
    "compare_bridges_pocket": {".mp4": 2},
    "expand_prompt_pocket": {".mp4": 1},
    "extend_a_clip_pocket": {".mp4": 1},
    "first_frame_pocket": {".mp4": 1},
    "long_clip_pocket": {".mp4": 1},
    "picture_for_a_sound_pocket": {".mp4": 1},
    "separate_captions_pocket": {".mp4": 1},
    "sound_for_a_video_avlink_pocket": {".mp4": 1},
    "sound_for_a_video_pocket": {".mp4": 1},
    "sync_report_pocket": {".mp4": 1, ".png": 1},
    "text_to_sounding_video_pocket": {".mp4": 1},
    "there_and_back_pocket": {".mp4": 1},
}


def test_every_pocket_template_is_run(root):
    assert sorted(LEFT_BY) == sorted(path.stem for path in (root / "workflows" / "api").glob("*_pocket.json"))


@pytest.mark.parametrize("name", LEFT_BY)
def test_a_pocket_template_runs_on_the_server(comfyui, root, tmp_path, name):
    graph = read_workflow(root / "workflows" / "api" / f"{name}.json")
    samplers = {key: {"steps": 2} for key, node in graph.items() if node["class_type"] == "T2SVJointSampler"}
    report = queue_workflow(comfyui.url, changed(graph, samplers), output_dir=tmp_path)
    left = [path.suffix for path in report.files]
    assert {suffix: left.count(suffix) for suffix in set(left)} == LEFT_BY[name]
    for path in report.files:
        if path.suffix == ".mp4":
            info = probe(path)
            # The clip that goes on is 33 frames long, and 16 are put behind it; the long one is made in windows.
            others = {"extend_a_clip_pocket": (49, 144_060), "long_clip_pocket": (97, 285_180)}
            assert (info.num_frames, info.num_samples) == others.get(name, (33, 97_020))
        else:
            with Image.open(path) as picture:
                assert json.loads(picture.text["prompt"]).keys() == graph.keys()
                assert len(json.loads(picture.text["workflow"])["nodes"]) == len(graph)


def test_a_second_identical_run_is_cached_and_keeps_the_first_download(comfyui, small, tmp_path):
    first = queue_workflow(comfyui.url, small, output_dir=tmp_path)
    second = queue_workflow(comfyui.url, small, output_dir=tmp_path)
    assert set(second.cached) >= {"1", "2", "7", "9"}
    assert second.outputs["9"] == first.outputs["9"]  # of nodes in the middle not every version tells a second time
    assert first.files[0] != second.files[0]
    assert first.files[0].read_bytes() == second.files[0].read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("cache", [("--cache-none",), ("--cache-lru", "2"), ("--cache-ram", "1"), ("--cache-classic",)])
def test_every_way_to_cache_keeps_what_is_still_needed(
    comfyui_path, root, small_models_dir, small, tmp_path_factory, tmp_path, cache
):
    if cache[0] not in (comfyui_path / "comfy" / "cli_args.py").read_text():
        pytest.skip(f"this ComfyUI has no {cache[0]}")
    base = tmp_path_factory.mktemp("comfyui")
    with serving(comfyui_path, root, base, small_models_dir, cache) as server:
        for seed in range(3):  # the loaders' results are used again, or made again
            report = queue_workflow(server.url, changed(small, {"7": {"seed": seed}}), output_dir=tmp_path)
            assert [path.suffix for path in report.files] == [".mp4"]
        assert "Traceback" not in server.log.read_text()


def test_a_batch_becomes_one_file_a_clip(comfyui, small, tmp_path):
    report = queue_workflow(comfyui.url, changed(small, {"5": {"batch_size": 2}}), output_dir=tmp_path)
    assert len(report.files) == 2
    assert report.files[0].read_bytes() != report.files[1].read_bytes()


def test_native_latents_and_native_video_nodes_fit(comfyui, template, tmp_path):
    """Native empty latents set the size; the native save node takes our video, the native reader gives frames back."""
    graph = changed(template, {"7": {"steps": 1, "video_latent": ["20", 0], "audio_latent": ["21", 0]}})
    graph["20"] = {
        "class_type": "EmptyHunyuanLatentVideo",
        "inputs": {"width": 64, "height": 32, "length": 9, "batch_size": 1},
    }
    graph["21"] = {"class_type": "EmptyLatentAudio", "inputs": {"seconds": 1.0, "batch_size": 1}}
    graph["22"] = {
        "class_type": "SaveVideo",
        "inputs": {"video": ["9", 0], "filename_prefix": "native/clip", "format": "auto", "codec": "auto"},
    }
    graph["23"] = {"class_type": "GetVideoComponents", "inputs": {"video": ["9", 0]}}
    graph["24"] = {"class_type": "PreviewImage", "inputs": {"images": ["23", 0]}}
    graph["6"]["inputs"]["seconds"] = 0.6
    graph["8"]["inputs"]["fps"] = graph["9"]["inputs"]["fps"] = 15.0
    del graph["5"]
    report = queue_workflow(comfyui.url, graph, output_dir=tmp_path)
    ours = probe(next(path for path in report.files if "sounding_video" in path.parts))
    native = probe(next(path for path in report.files if "native" in path.parts))
    assert (ours.width, ours.height, ours.num_frames) == (64, 32, 9)
    assert (native.width, native.height, native.num_frames) == (64, 32, 9)
    assert len(report.outputs["24"]["images"]) == 9


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"7": {"steps": 0}}, ("node 7 (T2SVJointSampler), input steps", "smaller than min of 1")),
        ({"7": {"model": ["1", 0]}}, ("node 7 (T2SVJointSampler), input model", "T2SV_VIDEO_TOWER", "T2SV_MODEL")),
        ({"7": {"schedule": "nonsense"}}, ("T2SVJointSampler", "nonsense")),
        ({"5": {"num_frames": 10}}, ("node 5 (T2SVEmptyAVLatent) failed", "number of frames does not fit", "9 or 13")),
        ({"1": {"video_model": "missing"}}, ("T2SVLoadWanTower", "missing")),
        ({"6": {"audio_caption": " "}}, ("node 6 (T2SVEncodeCaptions) failed", "audio caption is empty")),
        ({"9": {"filename_prefix": "../out"}}, ("node 9 (T2SVMux): the file name prefix does not name", "got '../out'")),  # noqa: E501
    ],
)  # fmt: skip
def test_what_the_server_refuses_comes_back_as_a_sentence(comfyui, small, tmp_path, change, words):
    with pytest.raises(ServerError) as caught:
        queue_workflow(comfyui.url, changed(small, change), output_dir=tmp_path)
    assert [word for word in words if word not in str(caught.value)] == []


def test_an_unknown_node_is_named(comfyui, small, tmp_path):
    small["9"]["class_type"] = "NoSuchNode"
    with pytest.raises(ServerError, match="NoSuchNode"):
        queue_workflow(comfyui.url, small, output_dir=tmp_path)


def test_cancelling_here_stops_the_sampler_there(comfyui, small, tmp_path):
    steps = []

    def report(stage, done, total, preview=None):
        if stage == "T2SVJointSampler":
            steps.append(done)

    def check_cancelled():
        if steps and steps[-1] >= 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        queue_workflow(
            comfyui.url,
            changed(small, {"7": {"steps": 1000, "seed": 99}}),
            output_dir=tmp_path,
            progress=Progress(report, check_cancelled),
        )
    deadline = time.monotonic() + 20
    while get_json(f"{comfyui.url}/queue")["queue_running"]:
        assert time.monotonic() < deadline, "the server still runs what was cancelled"
        time.sleep(0.2)
    assert steps[-1] < 1000
    last = list(get_json(f"{comfyui.url}/history").values())[-1]
    assert "execution_interrupted" in [message[0] for message in last["status"]["messages"]]
