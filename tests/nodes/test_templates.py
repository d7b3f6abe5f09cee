"""Shipped workflows: the page's format and its API twin say the same; together they use every node that they can."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from small_models import write_alignment, write_pav_dit_folder
from sounding_video.headless.graph import node_classes, plan, read_workflow
from sounding_video.headless.runner import run_workflow
from sounding_video.media.probe import probe, read_clip
from sounding_video.models.bridge_use import settings_for
from sounding_video.models.own import own_settings
from sounding_video.models.weights._bridge_choice import use_of
from sounding_video.models.weights.download import DOWNLOADS
from sounding_video.models.weights.find import pocket_folder
from sounding_video.nodes.options import later_inputs

_spec = importlib.util.spec_from_file_location("templates", Path(__file__).parents[2] / "benchmarks" / "templates.py")
templates = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(templates)

WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
# What needs files, models or an edit of one's own.
NOT_IN_A_TEMPLATE = {
    "T2SVEditAnchors",
    "T2SVCaptionVideo",
    "T2SVLoadLora",
    "T2SVNativeSampler",
}
# Of those that begin with a clip: the sampler's task, and which side of the file is the clip's own.
OWN_CLIP = {
    "sound_for_a_video_pocket": ("sound for the picture", "images"),
    "sound_for_a_video_avlink_pocket": ("sound for the picture", "images"),
    "picture_for_a_sound_pocket": ("picture for the sound", "audio"),
    "extend_a_clip_pocket": ("both", None),
    "first_frame_pocket": ("both", None),
}
# Its sampler has what the bridge file asks for.
AVLINK = "sound_for_a_video_avlink_pocket"
# Frames and samples of a small run. Of the clip that goes on five frames are known, and four are put behind it.
LENGTHS = {"extend_a_clip_pocket": (13, 6933)}
# Its sampler makes windows.
LONG = "long_clip_pocket"
POCKET = (
    "text_to_sounding_video_pocket",
    LONG,
    "expand_prompt_pocket",
    "separate_captions_pocket",
    "compare_bridges_pocket",
    "sync_report_pocket",
    "cascade_pocket",
    "there_and_back_pocket",
    *OWN_CLIP,
)
# Needs a folder that somebody trained; length and size are its own.
PLANES = "text_to_sounding_video_pav_dit"
NAMES = (*POCKET, PLANES, "text_to_sounding_video_wan_1.3b")
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
    models = shutil.copytree(small_models_dir, tmp_path / "models", copy_function=os.link)
    write_alignment(models / "alignment.safetensors", reads=("video", "audio"))
    report = run_workflow(made_small(api), models_dir=models, output_dir=tmp_path / "made", device="cpu")
    wanted = [node for node in api.values() if node["class_type"] in ("T2SVMux", "T2SVSyncReport")]
    assert len(report.files) == len(wanted)
    for path in report.files:
        if path.suffix == ".mp4":
            assert (probe(path).num_frames, probe(path).num_samples) == LENGTHS.get(name, (9, 4800))
        else:
            assert Image.open(path).width == 1200


def test_the_template_of_planes_makes_a_clip_of_the_model_s_own_size(root, tmp_path):
    _, api = both(root, PLANES)
    (loader,) = (node["inputs"] for node in api.values() if node["class_type"] == "T2SVLoadPavDit")
    models = write_pav_dit_folder(tmp_path / "models" / loader["pav_dit_model"], trained=True).parent
    report = run_workflow(api, models_dir=models, output_dir=tmp_path / "made", device="cpu")
    (found,) = map(probe, report.files)
    assert (found.width, found.height, found.num_frames) == (24, 16, 8) and found.num_samples
    asked = [node["inputs"]["defaults"] for node in api.values() if "num_frames" in node["inputs"] or is_sampler(node)]
    assert asked == ["from the model"] * 2
    note = templates.NOTES[PLANES]
    assert "benchmarks/pocket/pav_dit.py train" in note and "models/sounding_video/pav_dit" in note


def made_small(api):
    small = {
        "T2SVLoadWanTower": {"video_model": "wan"},
        "T2SVLoadStableAudioTower": {"audio_model": "stable_audio"},
        "T2SVLoadBridge": {"bridge_file": "bridge.safetensors"},
        "T2SVLoadAlignment": {"alignment_file": "alignment.safetensors"},
        "T2SVEmptyAVLatent": {"width": 32, "height": 32, "num_frames": 9},
        "T2SVEncodeClip": {"width": 32, "height": 32, "num_frames": 9},
        "T2SVJointSampler": {"steps": 2},
    }
    for node in api.values():
        is_still = node["inputs"].get("num_frames") == 1
        node["inputs"] |= small.get(node["class_type"], {}) | ({"num_frames": 1} if is_still else {})
    return api


def only(graph, kind):
    (found,) = (key for key, node in graph.items() if node["class_type"] == kind)
    return found


@pytest.mark.parametrize("name", OWN_CLIP)
def test_a_clip_of_one_s_own_goes_where_the_made_one_goes(root, name):
    """One group holds the stand-in and nothing else; its sides go to Encode Clip, and to the file as they are."""
    page, api = both(root, name)
    encode, mux = (api[only(api, kind)]["inputs"] for kind in ("T2SVEncodeClip", "T2SVMux"))
    given = {side: encode[side] for side in ("images", "audio") if side in encode}
    (source,) = {link[0] for link in given.values()}
    task, own = OWN_CLIP[name]
    made, wanted = (
        {node["inputs"]["task"] for node in api.values() if is_sampler(node) and feeds(api, node, source) is before}
        for before in (True, False)
    )
    assert (made, wanted) == ({"both"}, {task})
    assert {side for side in ("images", "audio") if mux[side][0] == source} == ({own} if own else set())
    assert encode["after_the_end"] == ("hold and silence" if own else "leave to generate")
    (group,) = (group for group in page["groups"] if group["title"] == "Your clip")
    inside = {str(node["id"]) for node in page["nodes"] if overlap(box(node), group["bounding"])}
    assert inside == {
        key for key, node in api.items() if feeds(api, node, source) and "Load" not in node["class_type"]
    } - {only(api, "T2SVJoinTowers")}


def is_sampler(node):
    return node["class_type"] == "T2SVJointSampler"


def feeds(graph, node, target):
    """Whether a node is the target or what it needs."""
    if graph[target] is node:
        return True
    links = (value[0] for value in graph[target]["inputs"].values() if isinstance(value, list))
    return any(feeds(graph, node, source) for source in links)


@pytest.mark.parametrize("name", [name for name, (_, own) in OWN_CLIP.items() if own])
def test_the_clip_s_own_side_reaches_the_file_as_it_is(root, small_models_dir, tmp_path, name):
    """Beside the template's file another of the stand-in alone, both without loss; and the other side is there."""
    api = made_small(both(root, name)[1])
    source, own = api[only(api, "T2SVEncodeClip")]["inputs"], OWN_CLIP[name][1]
    mux = api[only(api, "T2SVMux")]
    mux["inputs"] |= {"format": "mkv", "codec": "ffv1"}
    plain = {key: value for key, value in mux["inputs"].items() if key not in ("images", "audio")}
    plain |= {own: source[own], "filename_prefix": "plain", "fps": source["fps"]}
    if own == "audio":
        plain["codec"] = "auto"
    api["99"] = {"class_type": "T2SVMux", "inputs": plain}
    report = run_workflow(api, models_dir=small_models_dir, output_dir=tmp_path, device="cpu")
    clips = {path.stem.startswith("plain"): read_clip(path) for path in report.files}
    whole, alone = clips[False], clips[True]
    assert whole.video is not None and bool(whole.audio.waveform.any())
    if own == "images":
        assert alone.audio is None and torch.equal(whole.video.frames, alone.video.frames)
    else:
        assert alone.video is None
        kept = alone.audio.waveform.shape[-1] - 1000  # what ends before the picture does fades
        assert torch.equal(whole.audio.waveform[:, :kept], alone.audio.waveform[:, :kept])


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
    if name == PLANES:
        return
    scale, flow_shift, push = (3.0, 1.0, 3.0) if name in POCKET else (6.0, 3.0, 1.0)
    rest = ["lockstep", "diffusers-0.36", "auto", flow_shift, True, 1.0, push, "as set here"]
    own = {"windows": "blended"} if name == LONG else {}
    later = [own.get(port.id, port.options["default"]) for port in later_inputs()]
    tasks = set()
    samplers = [node["widgets_values"] for node in page["nodes"] if node["type"] == "T2SVJointSampler"]
    for seed, *values in samplers:
        task = values.pop(len(rest) + 4)
        tasks.add(task)
        if name == AVLINK and task != "both":
            continue
        assert values == ["fixed", 50, scale, scale, *rest, *later]
        assert seed == 7 or name in OWN_CLIP
    assert tasks == ({"both", OWN_CLIP[name][0]} if name in OWN_CLIP else {"both"})


def test_av_link_s_sampler_stands_as_its_bridges_were_trained(root):
    _, api = both(root, AVLINK)
    nodes = {(node["class_type"], node["inputs"].get("task")): node["inputs"] for node in api.values()}
    file = root / "models" / nodes["T2SVLoadBridge", None]["bridge_file"]
    asked = settings_for(own_settings(pocket_folder() / "wan"), use_of(file), "v2a")
    sampler = nodes["T2SVJointSampler", "sound for the picture"]
    fields = {"num_steps": "steps", **{key: key for key in ("schedule", "solver", "unconditional", "given_how")}}
    fields |= {key: key for key in ("audio_guidance_scale", "audio_modality_scale", "flow_shift")}
    assert {name: getattr(asked, name) for name in fields} == {name: sampler[key] for name, key in fields.items()}
    assert sampler["defaults"] == "from the model"


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
    assert first == ("Prompt" if name in (*POCKET, PLANES) else "Get the models")
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
    values = {str(value) for node in api.values() for value in node["inputs"].values()}
    named = {value for value in values if value.endswith(".safetensors") and not value.startswith("pocket/")}
    told = {file["name"]: file for node in page["nodes"] for file in node["properties"].get("models", ())}
    assert named <= set(told)
    if name in (*POCKET, PLANES):
        assert not told
        return
    assert len(told) == 5
    notes = " ".join(node["widgets_values"][0] for node in page["nodes"] if node["type"] == "MarkdownNote")
    for file in told.values():
        assert set(file) - {"hash", "hash_type"} == {"name", "url", "directory"}
        if "hash" in file:  # ComfyUI's own templates give none for some
            assert file["hash_type"] == "SHA256" and re.fullmatch("[0-9a-f]{64}", file["hash"])
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
