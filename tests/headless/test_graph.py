"""Workflows that cannot run are refused before anything runs, each with its sentence."""

from __future__ import annotations

import json

import pytest
from sounding_video.core.errors import WorkflowError
from sounding_video.headless.graph import apply_overrides, check_format, plan, read_workflow
from sounding_video.nodes.host import standalone


@pytest.fixture(autouse=True)
def small_models(small_models_dir):
    with standalone.session(standalone.Session((small_models_dir,))):
        yield


def refusal(graph) -> str:
    with pytest.raises(WorkflowError) as caught:
        plan(graph)
    return str(caught.value)


def test_the_order_puts_every_node_after_its_sources(graph):
    order = [step.node_id for step in plan(dict(reversed(graph.items())))]
    assert sorted(order) == sorted(graph)
    for step in plan(graph):
        assert all(order.index(source) < order.index(step.node_id) for source, _ in step.links.values())


def test_nodes_that_no_result_needs_are_neither_checked_nor_run(graph):
    """A server takes them too."""
    graph["99"] = {"class_type": "T2SVLoadBridge", "inputs": {"bridge_file": "pocket", "fusion": "nonsense"}}
    graph["98"] = {"class_type": "T2SVJointSampler", "inputs": {"model": ["97", 0]}}
    assert not {"98", "99"} & {step.node_id for step in plan(graph)}


@pytest.mark.parametrize(
    ("node", "name", "value", "taken"),
    [
        ("7", "steps", 7.0, 7),
        ("7", "steps", "7", 7),
        ("7", "steps", " 7 ", 7),
        ("7", "steps", True, 1),
        ("7", "steps", {"__value__": 7.0}, 7),
        ("7", "seed", "18446744073709551615", 18446744073709551615),
        ("7", "flow_shift", 3, 3.0),
        ("7", "flow_shift", "3.5", 3.5),
        ("7", "preview", 0, False),
        ("7", "preview", "true", True),
        ("7", "preview", "", False),
        ("6", "video_caption", 5, "5"),
        ("6", "video_caption", 1.5, "1.5"),
        ("6", "video_caption", {"__value__": "a dog"}, "a dog"),
    ],
)
def test_a_value_is_read_as_a_server_reads_it(graph, caplog, node, name, value, taken):
    graph[node]["inputs"][name] = value
    step = next(step for step in plan(graph) if step.node_id == node)
    assert (step.literals[name], type(step.literals[name])) == (taken, type(taken))
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("name", "value", "taken"), [("steps", 2.5, "2"), ("preview", "false", "True"), ("preview", "0", "True")]
)
def test_a_reading_that_is_hardly_meant_is_told(graph, caplog, name, value, taken):
    graph["7"]["inputs"][name] = value
    plan(graph)
    assert f"node 7 (T2SVJointSampler), input {name}: {value!r} counts as {taken}" in caplog.text


def test_unknown_inputs_are_ignored_and_near_misses_told(graph, caplog):
    graph["7"]["inputs"] |= {"stops": 5, "audioUI": "", "link": ["99", 0]}
    plan(graph)
    assert "node 7 (T2SVJointSampler) has no input stops (perhaps steps): it is ignored" in caplog.text
    assert "audioUI" not in caplog.text and "link" not in caplog.text


def test_an_open_socket_may_be_written_as_null(graph):
    graph["4"]["inputs"]["bridge"] = None
    assert "3" not in [step.node_id for step in plan(graph)]


@pytest.mark.parametrize(
    ("node", "name", "value", "words"),
    [
        ("7", "steps", 0, "node 7 (T2SVJointSampler), input steps: out of range: got 0; expected 1 to 1000"),
        ("7", "video_guidance_scale", 100.5, "input video_guidance_scale: out of range: got 100.5; expected 0.0 to 100.0"),  # noqa: E501
        ("7", "video_guidance_scale", float("nan"), "out of range: got nan"),
        ("7", "seed", -1, "input seed: out of range: got -1; expected 0 to 18446744073709551615"),
        ("7", "steps", "eight", "input steps: wrong type: got 'eight' (str); expected a whole number"),
        ("7", "steps", "7.0", "input steps: wrong type: got '7.0' (str); expected a whole number"),
        ("7", "steps", None, "input steps: wrong type: got None (NoneType); expected a whole number"),
        ("7", "steps", float("inf"), "input steps: wrong type: got inf (float); expected a whole number"),
        ("7", "steps", {"__value__": "many"}, "input steps: wrong type: got 'many' (str); expected a whole number"),
        ("7", "steps", [7], "input steps: this is not a link: got [7]"),
        ("5", "fps", "fast", "input fps: wrong type: got 'fast' (str); expected a number"),
        ("7", "schedule", 7, "input schedule: not among its options: got 7; expected one of coupled, "),
        ("7", "model", None, "input model takes no value: got None; expected a link from a T2SV_MODEL output"),
        ("7", "schedule", "lockstap", "input schedule: not among its options: got 'lockstap'; expected one of coupled, "),  # noqa: E501
        ("1", "video_model", "absent", "input video_model: not among its options: got 'absent'; expected one of pocket, wan"),  # noqa: E501
        ("7", "model", "x", "node 7 (T2SVJointSampler), input model takes no value: got 'x'; expected a link from a T2SV_MODEL output"),  # noqa: E501
        ("7", "model", ["1", 0], "input model: wrong link type: got T2SV_VIDEO_TOWER from output 0 (video_tower) of node 1 (T2SVLoadWanTower); expected T2SV_MODEL"),  # noqa: E501
        ("7", "model", ["4", 3], "input model: node 4 (T2SVJoinTowers) has no output 3; expected 0 (model)"),
        ("7", "model", ["4", -1], "has no output -1"),
        ("7", "model", ["40", 0], "input model: linked to a node that is not there: got 40; expected one of 1, 2, 3"),
        ("7", "model", ["4"], "input model: this is not a link: got ['4']; expected [\"node id\", output index]"),
    ],
)  # fmt: skip
def test_a_wrong_input_is_refused(graph, node, name, value, words):
    graph[node]["inputs"][name] = value
    assert words in refusal(graph)


def test_an_unknown_node_is_refused_with_near_names(graph):
    graph["7"]["class_type"] = "T2SVJoinSampler"
    assert (
        "node 7 is of a kind that cannot run without a ComfyUI server: got T2SVJoinSampler; expected perhaps T2SVJointSampler"  # noqa: E501
        in refusal(graph)
    )
    graph["7"]["class_type"] = "KSampler"
    text = refusal(graph)
    assert "got KSampler" in text
    assert "run on a server: sounding-video queue" in text
    graph["6"]["class_type"] = "CLIPTextEncode"
    assert "nodes 6, 7 are of kinds that cannot run without a ComfyUI server: got CLIPTextEncode, KSampler" in refusal(
        graph
    )


def test_a_missing_required_input_is_refused(graph):
    del graph["7"]["inputs"]["model"], graph["7"]["inputs"]["steps"]
    text = refusal(graph)
    assert "node 7 (T2SVJointSampler) lacks required input: model, steps" in text
    assert "model: a link from a T2SV_MODEL output, steps: a whole number" in text


def test_a_missing_optional_input_is_fine(graph):
    del graph["4"]["inputs"]["bridge"]
    assert "3" not in [step.node_id for step in plan(graph)]


def test_a_circle_is_refused(graph):
    graph["5"]["inputs"]["fps"] = ["5", 2]
    assert "the links of the workflow form a circle: got 5 <- 5" in refusal(graph)
    graph["5"]["inputs"]["fps"] = 15.0
    graph["10"] = {**graph["5"], "inputs": {**graph["5"]["inputs"], "fps": ["5", 2]}}
    graph["5"]["inputs"]["fps"] = ["10", 2]
    assert "form a circle: got 5 <- 10 <- 5" in refusal(graph)


def test_a_workflow_without_a_result_is_refused(graph):
    del graph["9"]
    assert "the workflow has no output node" in refusal(graph)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "this is not a workflow: got an empty file"),
        ({}, "this is not a workflow: got an empty file"),
        ([1], "this is not a workflow: got list"),
        ({"1": {"inputs": {}}}, "node 1 is not a node"),
        ({"1": 5}, "node 1 is not a node: got 5"),
        ({"1": {"class_type": "T2SVMux", "inputs": []}}, "node 1 is not a node"),
        ({"prompt": {"1": {}}, "client_id": "x"}, "this is a queue request, not a workflow"),
    ],
)
def test_what_is_not_a_workflow_is_refused(content, words):
    with pytest.raises(WorkflowError) as caught:
        check_format(content)
    assert words in str(caught.value)


def test_the_page_format_is_recognised_and_the_way_out_named(root):
    page = read_workflow(root / "workflows" / "text_to_sounding_video_pocket.json")
    with pytest.raises(
        WorkflowError,
        match=r"in the page's \(UI\) format; expected the API format\. In ComfyUI choose Workflow > Export \(API\)",
    ):
        plan(page)


def test_unreadable_files_are_refused(tmp_path):
    with pytest.raises(WorkflowError, match=r"cannot be read: got .*absent\.json"):
        read_workflow(tmp_path / "absent.json")
    (tmp_path / "cut.json").write_text('{"1": {')
    with pytest.raises(WorkflowError, match="is not JSON"):
        read_workflow(tmp_path / "cut.json")
    (tmp_path / "empty.json").write_bytes(b"")
    with pytest.raises(WorkflowError, match="is not JSON"):
        read_workflow(tmp_path / "empty.json")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(WorkflowError, match="is not JSON"):
        read_workflow(tmp_path / "bytes.json")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_read_over(graph, tmp_path, encoding):
    graph["6"]["inputs"]["video_caption"] = "Möwen über dem Meer"
    (tmp_path / "marked.json").write_text(json.dumps(graph, ensure_ascii=False), encoding=encoding)
    assert read_workflow(tmp_path / "marked.json") == graph


def test_overrides_reach_nodes_by_id_class_and_title(graph):
    graph["6"]["_meta"] = {"title": "My captions v1.5"}
    changed = apply_overrides(
        graph,
        {"7.steps": "3", "T2SVMux.format": "mkv", "My captions v1.5.video_caption": 42, "T2SVEmptyAVLatent.fps": "24"},
    )
    assert (changed["7"]["inputs"]["steps"], changed["9"]["inputs"]["format"]) == (3, "mkv")
    assert (changed["6"]["inputs"]["video_caption"], changed["5"]["inputs"]["fps"]) == ("42", 24.0)
    assert graph["7"]["inputs"]["steps"] == 2, "the caller's graph was changed"


@pytest.mark.parametrize(
    ("target", "value", "words"),
    [
        ("steps", 3, "this does not name an input: got 'steps'; expected NODE.INPUT"),
        ("77.steps", 3, "the workflow has no such node: got 77; expected one of 1 (T2SVLoadWanTower), 2"),
        ("7.step", 3, "node 7 (T2SVJointSampler) has no such input: got step; expected perhaps steps"),
        ("7.steps", "many", "the value for 7.steps cannot be read: got 'many'; expected a whole number"),
        (
            "7.video_guidance_scale",
            "6,0",
            "the value for 7.video_guidance_scale cannot be read: got '6,0'; expected a number",
        ),
    ],
)
def test_a_wrong_override_is_refused(graph, target, value, words):
    with pytest.raises(WorkflowError) as caught:
        apply_overrides(graph, {target: value})
    assert words in str(caught.value)


def test_node_and_input_may_have_dots_in_them(graph):
    graph["20"] = {"class_type": "Resize", "inputs": {"type.width": 4}, "_meta": {"title": "v1.5"}}
    assert apply_overrides(graph, {"20.type.width": "8"})["20"]["inputs"] == {"type.width": 8}
    assert apply_overrides(graph, {"v1.5.type.width": "9"})["20"]["inputs"] == {"type.width": 9}


@pytest.mark.parametrize(
    ("target", "text", "value"),
    [
        ("7.steps", "7.0", 7),
        ("7.seed", str(2**64 - 1), 2**64 - 1),
        ("7.preview", "no", False),
        ("7.preview", "ON", True),
    ],
)
def test_override_texts_are_read_generously(graph, target, text, value):
    name = target.partition(".")[2]
    assert apply_overrides(graph, {target: text})["7"]["inputs"][name] == value


def test_overrides_of_foreign_nodes_follow_the_value_they_replace(graph):
    graph["20"] = {"class_type": "KSampler", "inputs": {"steps": 4, "cfg": 6.0, "name": "a", "tiled": True}}
    changed = apply_overrides(graph, {"20.steps": "9", "20.cfg": "7", "KSampler.name": "5", "20.tiled": "false"})
    assert changed["20"]["inputs"] == {"steps": 9, "cfg": 7.0, "name": "5", "tiled": False}
    with pytest.raises(
        WorkflowError, match=r"node 20 \(KSampler\) has no such input: got step; expected perhaps steps"
    ):
        apply_overrides(graph, {"20.step": "9"})


def test_a_class_that_two_nodes_have_is_no_name(graph):
    graph["10"] = graph["9"]
    with pytest.raises(WorkflowError, match="several nodes have this name: got T2SVMux; expected an id: 9 or 10"):
        apply_overrides(graph, {"T2SVMux.format": "mkv"})


@pytest.mark.parametrize("meta", [["a"], "a", 5, {"title": ["a"]}, {"title": 5}, None, {}])
def test_a_note_beside_a_node_that_is_none_is_left_aside(graph, meta):
    """Pages and tools write a title there, and strangers anything."""
    from sounding_video.headless.ui_format import ui_workflow

    graph["7"]["_meta"] = meta
    assert ui_workflow(graph)["nodes"]
    assert apply_overrides(graph, {"T2SVJointSampler.steps": "3"})["7"]["inputs"]["steps"] == 3
