"""A PAV-DiT folder among ComfyUI's models: it is listed, runs through the queue, and another extent is refused."""

from __future__ import annotations

import json
import urllib.request

import pytest
from small_models import pav_dit_graph, write_pav_dit_folder
from sounding_video.core.errors import ServerError
from sounding_video.headless.client import queue_workflow
from sounding_video.headless.graph import read_workflow
from sounding_video.media.probe import probe


@pytest.fixture(scope="module")
def with_planes(comfyui):
    if not (comfyui.models / "planes").exists():
        write_pav_dit_folder(comfyui.models / "planes")
    return comfyui


def test_it_is_listed_by_the_node(with_planes):
    with urllib.request.urlopen(f"{with_planes.url}/object_info/T2SVLoadPavDit", timeout=60) as answer:
        inputs = json.load(answer)["T2SVLoadPavDit"]["input"]["required"]
    assert "planes" in inputs["pav_dit_model"][1]["options"] and "attention" in inputs


def test_a_text_a_picture_and_a_sound_become_clips_through_the_queue(with_planes, tmp_path):
    report = queue_workflow(with_planes.url, pav_dit_graph(), output_dir=tmp_path)
    assert len(report.files) == 3
    for file in report.files:
        found = probe(file)
        assert (found.width, found.height, found.num_frames) == (24, 16, 8) and found.num_samples


def test_the_template_runs_with_the_folder_that_its_note_names(comfyui, root, tmp_path):
    write_pav_dit_folder(comfyui.models / "pav_dit", trained=True)
    graph = read_workflow(root / "workflows" / "api" / "text_to_sounding_video_pav_dit.json")
    report = queue_workflow(comfyui.url, graph, output_dir=tmp_path)
    assert [probe(file).num_frames for file in report.files] == [8]


def test_another_extent_is_refused_by_a_sentence(with_planes, tmp_path):
    graph = pav_dit_graph()
    graph["2"]["inputs"] |= {"defaults": "as set here", "width": 64, "height": 64, "num_frames": 33}
    with pytest.raises(ServerError, match="got 33 frames of 64×64; expected 8 frames of 24×16"):
        queue_workflow(with_planes.url, graph, output_dir=tmp_path)


def test_a_model_that_is_not_there_is_refused_before_the_run(with_planes, tmp_path):
    graph = pav_dit_graph()
    graph["1"]["inputs"]["pav_dit_model"] = "gone"
    with pytest.raises(ServerError, match="no PAV-DiT model of that name was found"):
        queue_workflow(with_planes.url, graph, output_dir=tmp_path)
