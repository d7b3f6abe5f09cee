"""The template of ComfyUI's own models: checked against descriptions of ComfyUI's nodes, not run (real weights)."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from PIL import Image
from sounding_video.core.errors import InputError, WorkflowError
from sounding_video.headless.graph import plan, read_workflow
from sounding_video.headless.ui_format import ui_workflow
from sounding_video.models.weights.layouts import GET
from sounding_video.nodes.native import NativeSampler

_spec = importlib.util.spec_from_file_location("native_nodes", Path(__file__).with_name("native_nodes.py"))
native_nodes = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(native_nodes)

NAME = "text_to_sounding_video_native"


@pytest.fixture
def api(root):
    return read_workflow(root / "workflows" / "api" / f"{NAME}.json")


def test_every_link_and_choice_fits(api):
    with native_nodes.known():
        steps = plan(api, check_options=False)
    assert len(steps) == len(api)
    assert {step.schema.node_id for step in steps} >= {"T2SVNativeSampler", "UNETLoader", "VAEDecodeAudio"}
    clip_types = native_nodes.described()["CLIPLoader"]["input"]["required"]["type"][0]
    used = [node["inputs"]["type"] for node in api.values() if node["class_type"] == "CLIPLoader"]
    assert set(used) == {"wan", "stable_audio"} <= set(clip_types)


def test_the_page_says_the_same(root, api):
    page = read_workflow(root / "workflows" / f"{NAME}.json")
    notes = [node["widgets_values"][0] for node in page["nodes"] if node["type"] == "MarkdownNote"]
    with native_nodes.known():
        assert page == json.loads(json.dumps(ui_workflow(api, notes)))
    with Image.open(root / "workflows" / f"{NAME}.jpg") as picture:
        picture.load()
        assert (picture.format, picture.width) == ("JPEG", 1100)


def test_its_files_are_those_the_messages_recommend(api):
    named = {value for node in api.values() for value in node["inputs"].values() if str(value).endswith(".safetensors")}
    advice = " ".join(GET.values())
    assert len(named) == 5
    assert [name for name in named if name not in advice] == []


def test_it_needs_a_server(api):
    with pytest.raises(WorkflowError, match="cannot run without a ComfyUI server: got UNETLoader"):
        plan(api)


def test_what_is_half_connected_is_refused():
    settings = {"text": "official", "seconds": 0.0, "preview": False, "seed": 0, "steps": 1}
    with pytest.raises(InputError, match="no model is connected"):
        NativeSampler.execute(**settings)
    with pytest.raises(InputError, match="the video side is only half connected: got no positive, no latent"):
        NativeSampler.execute(wan_model=object(), **settings)
    with pytest.raises(InputError, match="the audio side is only half connected: got no model"):
        NativeSampler.execute(
            wan_model=object(),
            video_positive=[],
            video_latent={},
            audio_positive=[],
            audio_latent={},
            **settings,
        )
    with pytest.raises(InputError, match="unknown text: got 'loud'; expected one of official, native"):
        NativeSampler.execute(wan_model=object(), video_positive=[], video_latent={}, **{**settings, "text": "loud"})
