"""What newer ComfyUIs let a node say of itself comes through there, and does not break older ones."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from comfyui_server import python_of
from sounding_video.headless.graph import node_classes
from sounding_video.nodes.listing import ENDS, SEARCH_WORDS
from sounding_video.nodes.output import Mux


def test_what_the_running_comfyui_knows_is_said_and_nothing_else(comfyui_path, root):
    script = Path(__file__).with_name("seam_check.py")
    run = subprocess.run(
        [python_of(comfyui_path), script, comfyui_path, root],
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    told = json.loads(run.stdout.splitlines()[-1])
    known = set(told["schema_takes"])
    assert told["words"] == (list(SEARCH_WORDS["T2SVMux"]) if "search_aliases" in known else None)
    middle = sorted(set(node_classes()) - ENDS)
    assert sorted(told["comes_back"]) == (middle if "has_intermediate_output" in known else [])
    ours = [port.id for port in Mux.GET_SCHEMA().inputs if port.options.get("advanced")]
    assert told["advanced"] == (ours if "advanced" in told["input_takes"] else []) and "writer" in ours
    if (comfyui_path / "app" / "node_replace_manager.py").is_file():
        (renamed,) = told["renamed"]
        assert (renamed["old_node_id"], renamed["new_node_id"]) == ("T2SVGone", "T2SVMux")
        assert renamed["input_mapping"] == [
            {"new_id": "images", "old_id": "pictures"},
            {"new_id": "format", "set_value": "mkv"},
        ]
        assert renamed["output_mapping"] == [{"new_idx": 0, "old_idx": 1}]
    else:
        assert told["renamed"] == []
