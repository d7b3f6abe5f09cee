"""What the page saves is converted into what the page sends; the cases are compared with a real page in ``browser``."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from sounding_video.core.errors import WorkflowError
from sounding_video.headless import graph as graph_module
from sounding_video.headless.from_page import prompt_of
from sounding_video.headless.graph import foreign_nodes, plan, read_workflow
from sounding_video.headless.page_widgets import sent_values, widget_values
from sounding_video.headless.workflow_file import our_descriptions, to_prompt, understood

TEMPLATE = "text_to_sounding_video_pocket.json"


def part(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


page_cases, native_nodes = part("page_cases"), part("native_nodes")


@pytest.fixture
def page(root):
    return read_workflow(root / "workflows" / TEMPLATE)


@pytest.fixture
def api(root):
    return read_workflow(root / "workflows" / "api" / TEMPLATE)


def built(name, page, api):
    return page_cases.built(name, page, api, our_descriptions(list(graph_module.node_classes())))


def bare(graph):
    return {node_id: (node["class_type"], node["inputs"]) for node_id, node in graph.items()}


def converted(content, describe=our_descriptions):
    return prompt_of(content, describe, foreign_nodes)


def test_every_template_is_sent_as_its_twin(root):
    def describe(types):
        return {**our_descriptions(types), **native_nodes.described()}

    paths = sorted((root / "workflows").glob("*.json"))
    assert len(paths) > 6
    for path in paths:
        twin = read_workflow(path.parent / "api" / path.name)
        made = converted(read_workflow(path), describe)
        wanted = page_cases.filled(twin, describe([node["class_type"] for node in twin.values()]))
        assert bare(made.graph) == bare(wanted), path.name
        assert made.gaps == {}
        titles = {node_id: node["_meta"]["title"] for node_id, node in twin.items() if "_meta" in node}
        assert {node_id: made.graph[node_id]["_meta"]["title"] for node_id in titles} == titles


@pytest.mark.parametrize("name", page_cases.CASES)
def test_what_only_the_page_knows_is_resolved(page, api, name):
    content, twin = built(name, page, api)
    before = json.dumps(content)
    made = converted(content)
    assert bare(made.graph) == bare(twin)
    assert json.dumps(content) == before, "the caller's workflow was changed"


def test_titles_are_kept_for_set(page, api):
    content, _ = built("titles_and_colours", page, api)
    titles = [node["_meta"]["title"] for node in converted(content).graph.values()]
    assert "My sampler" in titles and "AV Mux" in titles


def test_what_hangs_on_a_muted_node_is_told(page, api, caplog):
    content, _ = built("a_muted_tower", page, api)
    to_prompt(understood(content))
    assert (
        "node 4 (T2SVJoinTowers), input audio_tower: it hangs on node 2 (T2SVLoadStableAudioTower), which is muted. "
        "Disconnect it, or un-mute the node." in caplog.text
    )
    content, _ = built("a_muted_node_behind_a_reroute", page, api)
    assert list(converted(content).gaps) == [("4", "bridge")]
    content, _ = built("a_bypassed_node_hands_on_its_input", page, api)
    assert converted(content).gaps == {}


def test_a_required_input_that_hangs_on_a_muted_node_is_refused_with_the_reason(page):
    next(node for node in page["nodes"] if node["id"] == 4)["mode"] = 2
    made = converted(page)
    with pytest.raises(WorkflowError, match=r"node 7 .*lacks required input: model.* hangs on node 4 .*is muted"):
        plan(made.graph, check_options=False, gaps=made.gaps)


def test_nodes_of_other_packs_are_refused_by_name(page):
    page["nodes"][0]["type"] = "UNETLoader"
    page["nodes"][1]["type"] = "CLIPLoader"
    with pytest.raises(WorkflowError) as caught:
        converted(page)
    assert "nodes 1, 2 are of kinds that cannot run without a ComfyUI server: got UNETLoader, CLIPLoader" in str(
        caught.value
    )
    for node in page["nodes"][:2]:
        node["mode"] = 2
    converted(page)


def test_labels_and_switches_of_other_packs_are_left_out(page, api):
    content = page_cases.Page(page)
    content.add("Label (rgthree)", {}, [], [])
    content.add("Fast Groups Bypasser (rgthree)", {}, ["*"], [])
    content.between("Reroute (rgthree)", page_cases.SAMPLER, "model", "*")
    assert bare(converted(content.content).graph) == bare(built("untouched", page, api)[1])


def test_set_and_get_nodes_are_wires(page, api):
    content = page_cases.Page(page)
    setter = content.add("SetNode", {"T2SV_MODEL": "T2SV_MODEL"}, ["*"], ["model"])
    content.connect(page_cases.JOIN, 0, setter, "T2SV_MODEL")
    getter = content.add("GetNode", {}, ["T2SV_MODEL"], ["model"])
    content.connect(getter, 0, page_cases.SAMPLER, "model")
    assert bare(converted(content.content).graph) == bare(built("untouched", page, api)[1])


def test_group_nodes_of_old_pages_are_refused(page):
    content = page_cases.Page(page)
    content.between("workflow>mine", page_cases.SAMPLER, "model", "T2SV_MODEL")
    with pytest.raises(WorkflowError, match=r"group nodes of an old page: got workflow>mine.* Convert them"):
        converted(content.content)


def test_what_cannot_be_followed_is_refused(page):
    content = page_cases.Page(page)
    first = content.between("Reroute", page_cases.SAMPLER, "model", "*")
    second = content.between("Reroute", page_cases.SAMPLER, "model", "*")
    content.connect(second, 0, first, "")
    with pytest.raises(WorkflowError, match="the links of the workflow form a circle"):
        converted(content.content)
    content = page_cases.Page(page)
    content.enclose([page_cases.SAMPLER])
    content.definition["nodes"][0]["type"] = content.definition["id"]
    with pytest.raises(WorkflowError, match="a sub-graph contains itself: got Enclosed"):
        converted(content.content)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda page: page["nodes"].append(5), "this is not a node of a page's workflow: got 5"),
        (lambda page: page["nodes"].append({"id": 50}), "this is not a node"),
        (lambda page: page["links"].append([1, 2]), "this is not a link of a page's workflow"),
        (lambda page: page["links"].append({"id": 3}), "this is not a link"),
        (lambda page: page["nodes"].clear(), "no node that would run"),
        (lambda page: page["nodes"].append(dict(page["nodes"][0])), "two nodes of the workflow have one id: got 1"),
        (lambda page: page.update(links=5), "the links of the workflow are damaged: got 5"),
        (lambda page: page.update(links="x"), "the links of the workflow are damaged: got 'x'"),
        (lambda page: page.update(definitions="x"), "the sub-graphs of the workflow are damaged"),
        (lambda page: page.update(definitions={"subgraphs": [5]}), "the sub-graphs of the workflow are damaged"),
        (lambda page: page.update(definitions={"subgraphs": {"a": 1}}), "the sub-graphs of the workflow are damaged"),
        (lambda page: page["nodes"][0].update(inputs="abc"), "node 1 .* is damaged: got inputs 'abc'"),
        (lambda page: page["nodes"][0].update(inputs=[{"link": 3}]), "node 1 .* is damaged: got inputs"),
        (lambda page: page["nodes"][0].update(outputs=3), "node 1 .* is damaged: got outputs 3"),
        (lambda page: page["nodes"][0].update(widgets_values=5), "node 1 .* is damaged: got widgets_values 5"),
        (lambda page: page["nodes"][0].update(properties="x"), "node 1 .* is damaged: got properties 'x'"),
    ],
)
def test_a_damaged_workflow_is_refused(page, change, words):
    change(page)
    with pytest.raises(WorkflowError, match=words):
        to_prompt(understood(page))


def test_what_a_sub_graph_shows_must_be_readable(page):
    content = page_cases.Page(page)
    host = content.enclose([page_cases.SAMPLER])
    content[host]["properties"]["proxyWidgets"] = "{"
    with pytest.raises(WorkflowError, match="what a sub-graph shows cannot be read"):
        converted(content.content)


def test_links_that_lead_nowhere_are_open(page, api):
    """As on the page: files that were mended by hand have them."""
    page["links"] = [link for link in page["links"] if link[0] != 3] + [None]
    page["nodes"][0]["inputs"].append({"name": "old", "type": "IMAGE", "link": 77})
    del api["4"]["inputs"]["bridge"]
    assert bare(converted(page).graph) == bare(built("untouched", page, api)[1])


def node(values, **more):
    return {"id": 1, "type": "X", "widgets_values": values, **more}


def described(required, optional=None):
    return {"input": {"required": required, "optional": optional or {}}}


def test_values_are_dealt_out_in_the_order_of_the_page():
    info = described(
        {
            "model": ["MODEL"],
            "seed": ["INT", {}],
            "mode": [["a", "b"]],
            "other_seed": ["INT", {"control_after_generate": True}],
            "pick": ["COMBO", {"options": ["x"], "control_after_generate": True}],
            "forced": ["INT", {"forceInput": True}],
            "last": ["FLOAT", {"default": 0.5}],
        },
        {"more": ["STRING", {}], "flag": ["BOOLEAN", {"default": True}]},
    )
    given = [1, "fixed", "b", 2, "randomize", "x", "fixed", "", 0.25, "text", False]
    wanted = {"seed": 1, "mode": "b", "other_seed": 2, "pick": "x", "last": 0.25, "more": "text", "flag": False}
    assert widget_values(node(given), info) == wanted
    assert widget_values(node(given[:4]), info) | {"other_seed": 2} == {
        "seed": 1, "mode": "b", "other_seed": 2, "pick": "x", "last": 0.5, "more": "", "flag": True,
    }  # fmt: skip
    assert widget_values(node({"seed": 7, "mode": "a", "videopreview": {}}), info)["seed"] == 7
    assert widget_values(node(None, widgets_values_named={"seed": 8}), info)["seed"] == 8
    info["input_order"] = {"required": ["mode", "seed"]}
    assert widget_values(node(["b", 1, "fixed"]), info)["mode"] == "b"
    info = described({"seed": ["INT", {"control_after_generate": False}], "steps": ["INT", {}]})
    assert widget_values(node([1, 2]), info) == {"seed": 1, "steps": 2}


def test_a_dynamic_choice_brings_its_own_widgets():
    codec = {"required": {"crf": ["INT", {"default": 19}], "seed": ["INT", {}]}}
    options = [{"key": "mp4", "inputs": codec}, {"key": "gif", "inputs": {"required": {}}}]
    info = described({"format": ["COMFY_DYNAMICCOMBO_V3", {"options": options}], "name": ["STRING", {}]})
    assert widget_values(node(["mp4", 30, 5, "clip"]), info) == {
        "format": "mp4", "format.crf": 30, "format.seed": 5, "name": "clip",
    }  # fmt: skip
    assert widget_values(node(["gif", "clip"]), info) == {"format": "gif", "name": "clip"}
    assert widget_values(node([]), info)["format.crf"] == 19


def test_a_value_for_what_is_a_socket_by_now_is_passed_over():
    info = described({"width": ["INT", {"forceInput": True}], "height": ["INT", {}]})
    assert widget_values(node([640, 480]), info) == {"height": 480}
    assert widget_values(node([480]), info) == {"height": 480}


@pytest.mark.parametrize(
    ("text", "possible"),
    [
        ("a {red|blue} ball", {"a red ball", "a blue ball"}),
        ("{a|{b|c}}d", {"ad", "bd", "cd"}),
        (r"\{a|b\} {c\|d}", {"{a|b} c|d"}),
        ("one // two\nthree /* four\nfive */ six", {"one \nthree  six"}),
        ("{}", {""}),
        ("{open|end", {"open", "end"}),
    ],
)
def test_the_page_s_choices_in_texts_are_made(text, possible):
    info = described({"text": ["STRING", {"dynamicPrompts": True}], "plain": ["STRING", {}]})
    made = [sent_values(node([text, text]), info) for _ in range(40)]
    assert {values["text"] for values in made} == possible
    assert {values["plain"] for values in made} == {text}


def test_lists_are_wrapped(page):
    page["nodes"][0]["widgets_values"][0] = ["a", "b"]
    assert converted(page).graph["1"]["inputs"]["video_model"] == {"__value__": ["a", "b"]}


def test_a_converted_workflow_runs_by_its_own_rules(page, small_models_dir):
    from sounding_video.nodes.host import standalone

    assert graph_module.node_classes()
    with standalone.session(standalone.Session((small_models_dir,))):
        assert len(plan(converted(page).graph, check_options=False)) == 9
