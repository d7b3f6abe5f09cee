"""A models folder as people have it, on a real server: lists come up, and a name that is not on them says why."""

from __future__ import annotations

import json
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from sounding_video.headless.graph import read_workflow


@pytest.fixture
def hostile(comfyui) -> Iterator[Path]:
    """A pipe, a loop of links, a link to nothing and a transformer cut short beside the small models."""
    folder = comfyui.models / "hostile"
    folder.mkdir()
    os.mkfifo(folder / "bridge.ckpt")
    (folder / "self").symlink_to(folder / "self")
    (folder / "around").symlink_to(comfyui.models)
    (folder / "gone.safetensors").symlink_to(folder / "nowhere")
    whole = (comfyui.models / "wan" / "transformer" / "diffusion_pytorch_model.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[:-100])
    yield folder
    shutil.rmtree(folder)


def test_lists_come_up_and_a_refused_model_says_why(comfyui, hostile, root) -> None:
    for node, port in (("T2SVLoadWanTower", "video_model"), ("T2SVLoadBridge", "bridge_file")):
        with urllib.request.urlopen(f"{comfyui.url}/object_info/{node}", timeout=60) as answer:
            listed = json.dumps(json.load(answer)[node]["input"]["required"][port])
        assert "pocket" in listed and "hostile/around" not in listed
    graph = read_workflow(root / "workflows" / "api" / "text_to_sounding_video_pocket.json")
    graph["1"]["inputs"]["video_model"] = "hostile/cut.safetensors"
    body = json.dumps({"prompt": graph}).encode()
    request = urllib.request.Request(f"{comfyui.url}/prompt", body, {"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=60)
    (error,) = json.loads(caught.value.read())["node_errors"]["1"]["errors"]
    assert "no Wan 2.1 of that name was found: got 'hostile/cut.safetensors'" in error["details"]
    assert "the weight file is cut short" in error["details"]
