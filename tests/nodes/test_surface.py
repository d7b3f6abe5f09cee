"""What users' saved workflows depend on is frozen: ids, inputs, their order, types, ranges, defaults, and outputs.

To extend a node, append an *optional* input, an output, or a choice to a list, and add the same line to
``tests/surface.json`` by hand. Anything else breaks workflow files that people already have; then make a new node
instead.
"""

from __future__ import annotations

import json

import pytest
from sounding_video.nodes import NODES
from sounding_video.nodes.host import standalone

# Lists of files differ from machine to machine; of the others every frozen choice must stay.
FILE_LISTS = {"video_model", "audio_model", "bridge_file", "lora_file", "pav_dit_model", "alignment_file"}
NONE_BUNDLED = {"pav_dit_model", "alignment_file"}  # starts with the first that lies there
FROZEN_OPTIONS = ("default", "min", "max", "multiline", "control_after_generate", "options")
HELP = "Only optional inputs and outputs may be appended: see the text at the top of this test."


def surface(node) -> dict:
    schema = node.GET_SCHEMA()
    inputs = []
    for port in schema.inputs:
        options = {key: port.options[key] for key in FROZEN_OPTIONS if key in port.options}
        if port.id in FILE_LISTS:
            options.pop("options")
        if port.id in NONE_BUNDLED:
            options.pop("default")
        inputs.append({"id": port.id, "type": port.io_type, "optional": port.optional, **options})
    return {
        "display_name": schema.display_name,
        "category": schema.category,
        "output_node": schema.is_output_node,
        "inputs": inputs,
        "outputs": [
            {"id": port.id, "type": port.io_type, "name": port.display_name, "list": port.is_output_list}
            for port in schema.outputs
        ],
    }


@pytest.fixture(scope="module")
def frozen(root):
    return json.loads((root / "tests" / "surface.json").read_text(encoding="utf-8"))


def test_no_node_appeared_or_vanished(frozen):
    assert [node.GET_SCHEMA().node_id for node in NODES] == list(frozen), HELP


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
def test_the_surface_is_the_frozen_one(frozen, node):
    now, then = surface(node), frozen[node.GET_SCHEMA().node_id]
    for ours, theirs in zip(now["inputs"], then["inputs"], strict=False):
        missing = set(theirs.pop("options", ())) - set(ours.pop("options", ()))
        assert not missing, f"{ours['id']} lost the choices {missing}. {HELP}"
    appended = now["inputs"][len(then["inputs"]) :]
    assert now["inputs"][: len(then["inputs"])] == then["inputs"], HELP
    assert [port["id"] for port in appended] == [], f"Add the appended inputs to surface.json. {HELP}"
    assert {key: now[key] for key in now if key != "inputs"} == {key: then[key] for key in then if key != "inputs"}, (
        HELP
    )


def test_the_file_lists_start_with_the_bundled_model(tmp_path, small_models_dir):
    with standalone.session(standalone.Session((small_models_dir, tmp_path / "absent"))):
        lists = {
            port.id: port.options["options"]
            for node in NODES
            for port in node.GET_SCHEMA().inputs
            if port.id in FILE_LISTS
        }
    assert lists == {
        "video_model": ["pocket", "wan"],
        "audio_model": ["pocket", "stable_audio"],
        "bridge_file": [
            "pocket",
            "bridge.safetensors",
            *(f"pocket/bridge_{name}.safetensors" for name in ("adaptor", "v2a")),
        ],
        "lora_file": ["none"],
        "pav_dit_model": ["none found"],
        "alignment_file": ["pocket"],
    }
