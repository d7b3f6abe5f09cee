"""Shipped workflows: the page's format and its API twin say the same; together they use every node that they can."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from PIL import Image
from sounding_video.headless.graph import node_classes, plan, read_workflow
from sounding_video.headless.runner import run_workflow
from sounding_video.media.probe import probe
from sounding_video.models.weights.download import DOWNLOADS
from sounding_video.nodes.options import later_inputs

_spec = importlib.util.spec_from_file_location("templates", Path(__file__).parents[2] / "benchmarks" / "templates.py")
templates = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(templates)

WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
# What needs files, models or an edit of one's own.
NOT_IN_A_TEMPLATE = {
    "T2SVEncodeClip",
    "T2SVEditAnchors",
    "T2SVCaptionVideo",
    "T2SVLoadLora",
    "T2SVNativeSampler",
}
POCKET = (
    "text_to_sounding_video_pocket",
    "expand_prompt_pocket",
    "separate_captions_pocket",
    "compare_bridges_pocket",
    "sync_report_pocket",
)
NAMES = (*POCKET, "text_to_sounding_video_wan_1.3b")
ELSEWHERE = ("text_to_sounding_video_native",)  # has ComfyUI's own nodes: test_native_template.py


TITLE = 30  # of a node, above its place
SCREEN = (1440, 800)  # of a small laptop, without the browser's bars


def box(node):
    return (*node["pos"], *node["size"])


def overlap(one, other):
    (x, y, width, height), (left, top, broad, tall) = one, other
    return x < left + broad and left < x + width and y < top + tall and top < y + height


def both(root, name):
    return (
        read_workflow(root / "workflows" / f"{name}.json"),
        read_workflow(root / "workflows" / "api" / f"{name}.json"),
    )


def test_every_template_is_tested(root):
    assert sorted(path.stem for path in (root / "workflows").glob("*.json")) == sorted(NAMES + ELSEWHERE)
    assert sorted(path.stem for path in (root / "workflows" / "api").glob("*.json")) == sorted(NAMES + ELSEWHERE)


@pytest.mark.parametrize("name", NAMES)
def test_the_two_formats_agree(root, name):
    page, _ = both(root, name)
    assert page == json.loads(json.dumps(templates.page_format(name))), "run benchmarks/templates.py"


@pytest.mark.parametrize("name", NAMES)
def test_every_link_and_value_is_checked(root, name):
    _, api = both(root, name)
    # Model names of the last template stand for folders the user puts there.
    assert len(plan(api, check_options=name in POCKET)) == len(api)


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_written_out(root, name):
    """The page queues all of them; and a default that changes must not change what a template makes."""
    _, api = both(root, name)
    for node_id, node in api.items():
        ports = node_classes()[node["class_type"]].GET_SCHEMA().inputs
        wanted = {port.id for port in ports if port.io_type in WIDGETS and not port.options.get("forceInput")}
        assert wanted - set(node["inputs"]) == set(), f"node {node_id} of {name}"


def test_together_they_use_every_node(root):
    used = {node["class_type"] for name in NAMES for node in both(root, name)[1].values()}
    assert used == set(node_classes()) - NOT_IN_A_TEMPLATE


@pytest.mark.parametrize("name", NAMES)
def test_every_template_has_a_thumbnail(root, name):
    with Image.open(root / "workflows" / f"{name}.jpg") as picture:
        picture.load()
        assert picture.format == "JPEG"
    assert (root / "workflows" / f"{name}.jpg").stat().st_size < 150_000


@pytest.mark.parametrize("name", POCKET)
def test_a_pocket_template_runs_without_a_server(root, small_models_dir, tmp_path, name):
    """On the small random models of the same classes, at a small size."""
    _, api = both(root, name)
    report = run_workflow(made_small(api), models_dir=small_models_dir, output_dir=tmp_path, device="cpu")
    wanted = [node for node in api.values() if node["class_type"] in ("T2SVMux", "T2SVSyncReport")]
    assert len(report.files) == len(wanted)
    for path in report.files:
        if path.suffix == ".mp4":
            assert (probe(path).num_frames, probe(path).num_samples) == (9, 4800)
        else:
            assert Image.open(path).width == 1200


def made_small(api):
    small = {
        "T2SVLoadWanTower": {"video_model": "wan"},
        "T2SVLoadStableAudioTower": {"audio_model": "stable_audio"},
        "T2SVLoadBridge": {"bridge_file": "bridge.safetensors"},
        "T2SVEmptyAVLatent": {"width": 32, "height": 32, "num_frames": 9},
        "T2SVJointSampler": {"steps": 2},
    }
    for node in api.values():
        node["inputs"] |= small.get(node["class_type"], {})
    return api


def test_the_real_models_open_with_what_a_small_card_survives(root):
    """UMT5 alone takes 11.8 GB whole: it must be streamed where it does not fit, and not be kept in memory."""
    _, api = both(root, "text_to_sounding_video_wan_1.3b")
    loaders = [node["inputs"] for node in api.values() if node["class_type"].endswith("Tower")]
    assert len(loaders) == 2
    for inputs in loaders:
        assert (inputs["offload"], inputs["text_encoder"]) == ("auto", "free after use")
    for loader in ("T2SVLoadWanTower", "T2SVLoadStableAudioTower"):
        assert node_classes()[loader].GET_SCHEMA().input("offload").options["default"] == "auto"


def test_comparing_bridges_differs_in_nothing_but_the_bridges(root):
    _, api = both(root, "compare_bridges_pocket")
    samplers = [node["inputs"] for node in api.values() if node["class_type"] == "T2SVJointSampler"]
    joins = [node["inputs"] for node in api.values() if node["class_type"] == "T2SVJoinTowers"]
    assert len(samplers) == len(joins) == 2
    assert {key for key in samplers[0] if samplers[0][key] != samplers[1][key]} == {"model"}
    assert sorted(join.get("bridge") is not None for join in joins) == [False, True]
    assert joins[0]["video_tower"] == joins[1]["video_tower"]


@pytest.mark.parametrize("name", NAMES)
def test_the_page_s_layout_is_tidy_and_its_links_consistent(root, name):
    page, api = both(root, name)
    nodes = {node["id"]: node for node in page["nodes"]}
    boxes = [(x, y - TITLE, width, height + TITLE) for x, y, width, height in map(box, page["nodes"])]
    assert not any(overlap(one, other) for index, one in enumerate(boxes) for other in boxes[index + 1 :])
    for number, source, slot, target, target_slot, kind in page["links"]:
        assert number in nodes[source]["outputs"][slot]["links"]
        assert nodes[source]["outputs"][slot]["type"] == kind == nodes[target]["inputs"][target_slot]["type"]
        assert nodes[target]["inputs"][target_slot]["link"] == number
        assert api[str(target)]["inputs"][nodes[target]["inputs"][target_slot]["name"]] == [str(source), slot]
    sampler = next(node for node in page["nodes"] if node["type"] == "T2SVJointSampler")
    scale, flow_shift, push = (3.0, 1.0, 3.0) if name in POCKET else (6.0, 3.0, 1.0)
    rest = ["lockstep", "diffusers-0.36", "auto", flow_shift, True, 1.0, push, "as set here"]
    later = ["both", *(port.options["default"] for port in later_inputs())]
    assert sampler["widgets_values"] == [7, "fixed", 50, scale, scale, *rest, *later]


@pytest.mark.parametrize("name", NAMES + ELSEWHERE)
def test_it_opens_with_the_prompt_in_sight_and_everything_in_a_group(root, name):
    page, _ = both(root, name)
    groups = {group["title"]: tuple(group["bounding"]) for group in page["groups"]}
    for node in page["nodes"]:
        x, y, width, height = box(node)
        inside = [
            title
            for title, (left, top, broad, tall) in groups.items()
            if left <= x and x + width <= left + broad and top <= y - TITLE and y + height <= top + tall
        ]
        assert len(inside) == 1, node["type"]
    assert not any(overlap(groups[one], groups[other]) for one in groups for other in groups if one < other)
    first = min(groups, key=lambda title: groups[title][:2])
    assert first == ("Prompt" if name in POCKET else "Get the models")
    # Texts below a scale of 0.6 are not drawn on the canvas.
    scale, (shift_x, shift_y) = page["extra"]["ds"]["scale"], page["extra"]["ds"]["offset"]
    assert scale >= 0.65
    left, top, width, height = groups["Prompt"]
    seen = ((left + width + shift_x) * scale, (top + shift_y) * scale)
    assert seen[0] <= SCREEN[0] and 0 < seen[1] < SCREEN[1] / 4


@pytest.mark.parametrize("name", NAMES + ELSEWHERE)
def test_a_file_that_is_missing_comes_with_its_address(root, name):
    """The page reads ``models`` of a node's properties; the note names what no field does."""
    page, api = both(root, name)
    named = {value for node in api.values() for value in node["inputs"].values() if str(value).endswith(".safetensors")}
    told = {file["name"]: file for node in page["nodes"] for file in node["properties"].get("models", ())}
    assert named <= set(told)
    if name in POCKET:
        assert not told
        return
    assert len(told) == 5
    notes = " ".join(node["widgets_values"][0] for node in page["nodes"] if node["type"] == "MarkdownNote")
    for file in told.values():
        assert set(file) == {"name", "url", "directory"}  # a hash that nobody has computed is left out
        assert file["url"].startswith("https://huggingface.co/") and file["url"].endswith(f"/{file['name']}")
        assert file["directory"] in {"diffusion_models", "text_encoders", "vae", "checkpoints"}
        assert file["url"] in notes
    assert [node["inputs"]["what"] for node in api.values() if node["class_type"] == "T2SVDownloadModels"] == ["bridge"]


def test_the_bridge_has_one_name_everywhere(root):
    used = {
        node["inputs"]["bridge_file"]
        for name in ("text_to_sounding_video_wan_1.3b", *ELSEWHERE)
        for node in both(root, name)[1].values()
        if node["class_type"] == "T2SVLoadBridge"
    }
    (bridge,) = used
    assert bridge in DOWNLOADS["bridge"].title
    assert bridge.startswith(DOWNLOADS["bridge"].folder + "/")
    readme = (root / "README.md").read_text(encoding="utf-8")
    assert f"`{bridge}`" in readme
    tree = [
        line.strip("│├└─ ").split("  ")[0]
        for line in readme.splitlines()
        if line.startswith(("└", "    └", "        └"))
    ]
    assert "".join(tree[-3:]) == bridge


@pytest.fixture(scope="module")
def blueprint(root):
    return json.loads((root / "subgraphs" / f"{templates.BLUEPRINT}.json").read_text(encoding="utf-8"))


def test_the_blueprint_is_the_template_as_one_node(blueprint):
    assert blueprint == json.loads(json.dumps(templates.blueprint())), "run benchmarks/templates.py"
    (node,), (inside,) = blueprint["nodes"], blueprint["definitions"]["subgraphs"]
    assert node["type"] == inside["id"]
    assert [port["name"] for port in node["inputs"]] == [name for name, *_ in templates.TAKES]
    assert [(port["name"], port["type"]) for port in node["outputs"]] == [
        ("video", "VIDEO"), ("images", "IMAGE"), ("audio", "AUDIO"),
    ]  # fmt: skip
    assert {each["type"] for each in inside["nodes"]} <= set(node_classes())


def test_every_link_of_the_blueprint_has_both_ends(blueprint):
    (inside,) = blueprint["definitions"]["subgraphs"]
    nodes = {node["id"]: node for node in inside["nodes"]}
    assert [link["id"] for link in inside["links"]] == list(range(1, len(inside["links"]) + 1))
    for link in inside["links"]:
        if link["origin_id"] == templates._INSIDE:
            source = inside["inputs"][link["origin_slot"]]
            assert source["linkIds"] == [link["id"]]
        else:
            source = nodes[link["origin_id"]]["outputs"][link["origin_slot"]]
            assert link["id"] in source["links"]
        if link["target_id"] == templates._OUTSIDE:
            target = inside["outputs"][link["target_slot"]]
            assert target["linkIds"] == [link["id"]]
        else:
            target = nodes[link["target_id"]]["inputs"][link["target_slot"]]
            assert target["link"] == link["id"]
        assert source["type"] == target["type"] == link["type"]


def test_the_blueprint_follows_the_models_that_are_chosen(blueprint):
    (inside,) = blueprint["definitions"]["subgraphs"]
    values = {node["type"]: node["widgets_values"] for node in inside["nodes"]}
    for kind in ("T2SVEmptyAVLatent", "T2SVEncodeCaptions", "T2SVJointSampler"):
        assert values[kind].count("from the model") == 1
    assert values["T2SVEmptyAVLatent"][:4] == [832, 480, 81, 15.0]  # a default of its node is what follows
