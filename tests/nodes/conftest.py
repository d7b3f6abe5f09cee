from __future__ import annotations

import copy
from pathlib import Path

import pytest
from sounding_video.nodes.host.graph import read_workflow

TEMPLATE = "text_to_sounding_video_pocket.json"


@pytest.fixture(scope="session")
def template(root: Path) -> dict:
    return read_workflow(root / "workflows" / "api" / TEMPLATE)


@pytest.fixture
def graph(template: dict) -> dict:
    """The pocket template, turned to the small random models: 32×32, 9 frames, 2 steps."""
    graph = copy.deepcopy(template)
    for node_id, values in {
        "1": {"video_model": "wan"},
        "2": {"audio_model": "stable_audio"},
        "3": {"bridge_file": "bridge.safetensors"},
        "5": {"width": 32, "height": 32, "num_frames": 9},
        "7": {"steps": 2},
    }.items():
        graph[node_id]["inputs"].update(values)
    return graph
