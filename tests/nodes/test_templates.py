"""Shipped workflows: the page's format and its API twin say the same and use every node."""

from __future__ import annotations

import json

import pytest
from sounding_video.nodes.host.graph import node_classes, plan, read_workflow
from sounding_video.nodes.host.ui_format import ui_workflow

CAPTION_NODES = {"T2SVExpandPrompt", "T2SVEditAnchors", "T2SVCaptionVideo"}  # optional beside the captions one types
NAMES = ("text_to_sounding_video_pocket", "text_to_sounding_video_wan_1.3b")


def both(root, name):
    return (
        read_workflow(root / "workflows" / f"{name}.json"),
        read_workflow(root / "workflows" / "api" / f"{name}.json"),
    )


def test_every_template_is_tested(root):
    assert sorted(path.stem for path in (root / "workflows").glob("*.json")) == sorted(NAMES)
    assert sorted(path.stem for path in (root / "workflows" / "api").glob("*.json")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_two_formats_agree(root, name):
    page, api = both(root, name)
    assert page == json.loads(json.dumps(ui_workflow(api)))


@pytest.mark.parametrize("name", NAMES)
def test_every_node_is_used_and_every_link_checked(root, name):
    _, api = both(root, name)
    # Model names of the second template stand for folders the user puts there.
    used = {step.schema.node_id for step in plan(api, check_options=name.endswith("pocket"))}
    assert used == set(node_classes()) - CAPTION_NODES


@pytest.mark.parametrize("name", NAMES)
def test_the_page_s_layout_is_tidy_and_its_links_consistent(root, name):
    page, api = both(root, name)
    nodes = {node["id"]: node for node in page["nodes"]}
    boxes = [(*node["pos"], *node["size"]) for node in page["nodes"]]
    for index, (x, y, width, height) in enumerate(boxes):
        for other_x, other_y, other_width, other_height in boxes[index + 1 :]:
            assert (
                x + width <= other_x
                or other_x + other_width <= x
                or y + height <= other_y
                or other_y + other_height <= y
            )
    for number, source, slot, target, target_slot, kind in page["links"]:
        assert number in nodes[source]["outputs"][slot]["links"]
        assert nodes[source]["outputs"][slot]["type"] == kind == nodes[target]["inputs"][target_slot]["type"]
        assert nodes[target]["inputs"][target_slot]["link"] == number
        assert api[str(target)]["inputs"][nodes[target]["inputs"][target_slot]["name"]] == [str(source), slot]
    sampler = next(node for node in page["nodes"] if node["type"] == "T2SVJointSampler")
    assert sampler["widgets_values"] == [7, "fixed", 50, 6.0, 6.0, "lockstep", "diffusers-0.36", "auto", 3.0]
