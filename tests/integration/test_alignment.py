"""A cascade in ComfyUI: an alignment among its models is listed, and text, picture, sound go through the queue."""

from __future__ import annotations

import copy
import json
import urllib.request

import pytest
from small_models import cascade_graph, write_alignment
from sounding_video.core.errors import ServerError
from sounding_video.core.pair import MODALITIES
from sounding_video.headless.client import queue_workflow
from sounding_video.media.probe import probe


@pytest.fixture(scope="module")
def with_alignment(comfyui):
    write_alignment(comfyui.models / "both.safetensors", reads=MODALITIES)
    yield comfyui
    (comfyui.models / "both.safetensors").unlink()


def test_it_is_listed_by_its_node_and_not_as_a_bridge(with_alignment):
    def options(node: str, port: str) -> list[str]:
        with urllib.request.urlopen(f"{with_alignment.url}/object_info/{node}", timeout=60) as answer:
            found = json.load(answer)[node]["input"]["required"][port]
        return found[1]["options"] if len(found) > 1 and "options" in found[1] else found[0]

    assert options("T2SVLoadAlignment", "alignment_file") == ["pocket", "both.safetensors"]
    assert "both.safetensors" not in options("T2SVLoadBridge", "bridge_file")


def test_one_side_after_the_other_goes_through_the_queue(with_alignment, graph, tmp_path):
    (file,) = queue_workflow(with_alignment.url, cascade_graph(graph), output_dir=tmp_path).files
    assert probe(file).num_frames == 9 and probe(file).num_samples


def test_a_model_without_the_tower_is_refused_by_a_sentence(with_alignment, graph, tmp_path):
    graph = cascade_graph(copy.deepcopy(graph))
    graph["4"]["inputs"].pop("audio_tower")
    with pytest.raises(ServerError, match="there is no audio tower in this model"):
        queue_workflow(with_alignment.url, graph, output_dir=tmp_path)
