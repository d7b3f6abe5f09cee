"""Names of result files on a real server: filled in by us as by ComfyUI's page, fetched, refused once."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request

import pytest
from sounding_video.headless.client import queue_workflow
from sounding_video.headless.graph import read_workflow


@pytest.fixture
def small(root):
    """The template on the small random models: a second a run."""
    graph = read_workflow(root / "workflows" / "api" / "text_to_sounding_video_pocket.json")
    inputs = {
        "1": {"video_model": "wan"},
        "2": {"audio_model": "stable_audio"},
        "3": {"bridge_file": "bridge.safetensors"},
    }
    inputs |= {"5": {"width": 32, "height": 32, "num_frames": 9}, "7": {"steps": 2, "seed": 42}}
    for node_id, values in inputs.items():
        graph[node_id]["inputs"].update(values)
    return graph


def test_words_are_filled_in_and_forbidden_characters_replaced(comfyui, small, tmp_path):
    small["7"]["_meta"] = {"title": "My sampler"}
    prefix = "take: one/%date:yyyy%/%width%x%height% %T2SVJointSampler.seed% %My sampler.steps% %Nope.x%"
    small["9"]["inputs"]["filename_prefix"] = prefix
    before = time.localtime().tm_year
    report = queue_workflow(comfyui.url, small, output_dir=tmp_path)
    (path,) = report.files
    assert path.relative_to(tmp_path).parts in {
        ("take_ one", str(year), "32x32 42 2 %Nope.x%_00001_.mp4") for year in (before, time.localtime().tm_year)
    }
    assert path.stat().st_size > 0


def test_a_file_that_the_server_names_with_a_colon_is_fetched(comfyui, small, tmp_path):
    """ComfyUI's own saver lets colons through where the file system does."""
    small["20"] = {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "native/a: b?"}}
    report = queue_workflow(comfyui.url, small, output_dir=tmp_path)
    pictures = [path for path in report.files if path.suffix == ".png"]
    assert len(pictures) == 9 and all(path.name.startswith("a_ b__0") and path.is_file() for path in pictures)


@pytest.mark.parametrize(
    ("node", "inputs"),
    [("9", {"filename_prefix": "../out"}), ("9", {"format": "mp4", "codec": "pcm_s16"}), ("9", {"codec": "nonsense"})],
)
def test_one_bad_input_is_one_error(comfyui, small, node, inputs):
    small[node]["inputs"].update(inputs)
    body = json.dumps({"prompt": small}).encode()
    request = urllib.request.Request(f"{comfyui.url}/prompt", body, {"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=30)
    errors = json.load(caught.value)["node_errors"]
    assert list(errors) == [node] and len(errors[node]["errors"]) == 1
    assert str(next(iter(inputs.values())) if len(inputs) == 1 else "pcm_s16") in errors[node]["errors"][0]["details"]
