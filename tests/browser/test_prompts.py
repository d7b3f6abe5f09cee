"""What the page sends for a workflow is what ``run`` and ``queue`` make of it: the cases of ``tests/nodes``."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from sounding_video.headless.graph import node_classes, read_workflow
from sounding_video.headless.workflow_file import our_descriptions

_spec = importlib.util.spec_from_file_location("page_cases", Path(__file__).parents[1] / "headless" / "page_cases.py")
page_cases = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(page_cases)
TEMPLATE = "text_to_sounding_video_pocket.json"
# What pages of the time of ComfyUI 0.3.64 did otherwise, or not at all.
NEWER = {
    "a_widget_keeps_its_value_when_its_source_is_muted",
    "a_muted_subgraph",
    "a_bypassed_subgraph_hands_on_its_inputs",
    "a_subgraph_shows_widgets_by_proxy",
    "one_subgraph_twice_with_other_values",
    "proxies_through_two_subgraphs",
    "proxies_beside_inputs",
    "reroute_and_primitive_inside_a_subgraph",
}
SINCE = (1, 45)
# Pages from ComfyUI 0.18 to 0.27 send what stands inside a subgraph, whatever the subgraph's node shows; newer do not.
INSIDE = {
    "a_subgraph_shows_widgets_by_proxy",
    "a_subgraph_shows_widgets_through_its_inputs",
    "one_subgraph_twice_with_other_values",
    "proxies_beside_inputs",
    "proxies_through_two_subgraphs",
    "widgets_shown_through_two_subgraphs",
}


def twin_of(root, name):
    api = read_workflow(root / "workflows" / "api" / name)
    return page_cases.filled(api, our_descriptions([node["class_type"] for node in api.values()]))


def test_the_page_sends_what_the_conversion_makes(page, root):
    workflow = read_workflow(root / "workflows" / TEMPLATE)
    api = read_workflow(root / "workflows" / "api" / TEMPLATE)
    other = (NEWER if page.version < SINCE else set()) | (INSIDE if (1, 41) <= page.version < (1, 46) else set())
    wrong = []
    for name in page_cases.CASES:
        if name in other:
            continue
        content, twin = page_cases.built(name, workflow, api, our_descriptions(list(node_classes())))
        page.load(content)
        sent = page.prompt()
        if sent != {node_id: {key: node[key] for key in ("class_type", "inputs")} for node_id, node in twin.items()}:
            wrong.append(name)
    assert wrong == []


@pytest.mark.parametrize("name", ["text_to_sounding_video_pocket", "compare_bridges_pocket", "sync_report_pocket"])
def test_the_page_sends_the_template_s_twin(page, root, name):
    page.load(read_workflow(root / "workflows" / f"{name}.json"))
    twin = twin_of(root, f"{name}.json")
    for node in twin.values():
        node.pop("_meta", None)
    assert page.prompt() == twin
