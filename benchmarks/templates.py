"""Lay the templates of the page out anew from their API twins, with their notes, and the blueprint from the first.

    .venv/bin/python benchmarks/templates.py

Files go to ``workflows/`` and ``subgraphs/``; ComfyUI's own nodes are known from ``tests/nodes``.
"""

from __future__ import annotations

import importlib.util
import json
import re
import uuid
from pathlib import Path
from typing import Any

from sounding_video.headless.graph import node_classes, read_workflow
from sounding_video.headless.known_files import known_file
from sounding_video.headless.ui_format import ui_workflow

ROOT = Path(__file__).parents[1]
BRIDGES = """For the bridges, switch `download_now` on below and press Run; then press R and choose the file in *Load
Bridge*. Those of the folder `bicross` need the fusion `dual_cross`."""
FILES = (
    "wan2.1_t2v_1.3B_fp16.safetensors",
    "umt5_xxl_fp8_e4m3fn_scaled.safetensors",
    "wan_2.1_vae.safetensors",
    "stable-audio-open-1.0.safetensors",
    "t5-base.safetensors",
)
LINKS = "\n".join(f"- {file['directory']}/[{file['name']}]({file['url']})" for file in map(known_file, FILES))
NOTES = {
    "text_to_sounding_video_pocket": """## Press Run
A clip of 64×64 pixels with its sound appears on the right in about 20 seconds.

The bundled model is small and knows ten scenes: anvil, bouncing ball, beacon, drum, water drops, engine, fireworks,
knocking, pendulum, rain. Describe one of them, once for the eye and once for the ear.""",
    "sound_for_a_video_pocket": """## Sound for a video
Press Run: the silent picture that the group *Your clip* makes gets a sound that fits it. The frames go into the file
as they are.

For a video of your own, put *Load Video* and *Get Video Components* in place of that group: `images` and `fps` go to
*Encode Clip* and to *AV Mux*. Say in *Encode Captions* what is seen and what is heard. The pocket model knows ten
kinds of scenes and hears the first 2.2 seconds; silence follows.""",
    "sound_for_a_video_avlink_pocket": """## Sound for a video, by bridges that learned it
As *sound_for_a_video*, with bridges that were trained as AV-Link's: they look at the whole picture, nearly clear, from
the first step on. *Joint Sampler* takes steps, solver, guidance and the picture's noise from the bridge file.

For a video of your own, put *Load Video* and *Get Video Components* in place of the group *Your clip*: `images` and
`fps` go to *Encode Clip* and to *AV Mux*. Say in *Encode Captions* what is seen and what is heard.""",
    "picture_for_a_sound_pocket": """## A picture for a sound
Press Run: the sound that the group *Your clip* makes gets a picture that fits it. The sound goes into the file as it
is.

For a sound of your own, put *Load Audio* in place of that group: `AUDIO` goes to *Encode Clip* and to *AV Mux*. Say
in *Encode Captions* what is seen and what is heard. The pocket model paints ten kinds of scenes, for the first 2.2
seconds: there the file ends.""",
    "extend_a_clip_pocket": """## Extend a clip
Press Run: the last second of the clip that the group *Your clip* makes goes on for another second. *Encode Clip*
begins there (`start` is below zero) and leaves what follows to the sampler; *Join Clips* puts it behind the clip.

For a clip of your own, put *Load Video* and *Get Video Components* in place of that group: `images`, `audio` and
`fps` go to *Encode Clip* and to *Join Clips*. Say in *Encode Captions* what is seen and heard.""",
    "first_frame_pocket": """## From a first frame
Press Run: the picture that the group *Your clip* makes becomes the first frame of a clip with sound.

For a picture of your own, put *Load Image* in place of that group: `IMAGE` goes to *Encode Clip*, which keeps its
first frame and leaves what follows to the sampler. Say in *Encode Captions* what is seen and heard.""",
    "long_clip_pocket": """## A longer clip
Press Run: 6.5 seconds from a model that makes 2.2 at once. *Joint Sampler* makes them in windows that share a second
(`windows`, `window_seconds`, `overlap_seconds`); the memory is that of one window. *Empty AV Latent* sets the length.

Captions may change with time: `[0] a hammer strikes an anvil [3] rain falls`, the same times for the eye and the ear
or others.""",
    "cascade_pocket": """## One side after the other
Press Run: the picture is made from its caption, then its sound is told what the picture shows. Half the memory, since
one tower is there at a time; and a finished picture stays as it is while sounds are tried: change the seed of the
second *Joint Sampler*.

*Load Alignment* reads what picture and sound share (SAVA). `strength` is how much the sound is told.""",
    "there_and_back_pocket": """## There and back
Press Run: the picture, then its sound, then the picture again, which is told what the sound says. The sound is that of
*cascade*, to the bit.""",
    "text_to_sounding_video_pav_dit": """## One transformer for both sides
PAV-DiT: picture and sound are six planes of one model. Nobody has published weights; train a small one with
`python benchmarks/pocket/pav_dit.py train` (three hours on two cores) or your own with `sounding-video train pav_dit`,
and copy the folder `model` to `models/sounding_video/pav_dit`. Press R and choose it in *Load PAV-DiT*.

Length, size, rate, steps and guidance are the model's own; a small one knows the ten scenes of the bundled model.""",
    "text_to_sounding_video_wan_1.3b": f"""## The real models
Five files, 15 GB, in ComfyUI's folder `models`. Others of the same models do as well: choose yours in the loaders.
{LINKS}

{BRIDGES}""",
    "text_to_sounding_video_native": f"""## ComfyUI's own models
Five files, 15 GB, in ComfyUI's folder `models`. Any loader, LoRA or patch that gives a MODEL may stand here instead.
{LINKS}

{BRIDGES}""",
}


def known_natives() -> Any:
    """The module of the tests that describes ComfyUI's own nodes."""
    spec = importlib.util.spec_from_file_location("native_nodes", ROOT / "tests" / "headless" / "native_nodes.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def page_format(name: str) -> dict[str, Any]:
    """A template as the page has it."""
    note = NOTES.get(name)
    with known_natives().known():
        graph = read_workflow(ROOT / "workflows" / "api" / f"{name}.json")
        return ui_workflow(graph, notes=() if note is None else (_flowing(note),))


def _flowing(text: str) -> str:
    """A note without the line breaks of this file; a note keeps every one."""
    return re.sub(r"(?<=[^\n])\n(?=[^\n#-])", " ", text.replace("\n", "\n\n", 1))


BLUEPRINT = "Text to Sounding Video"
ONE_PROMPT = "expand_prompt_pocket"
# Socket of the one node, and whose input it is inside: ids of the template.
TAKES = (
    ("prompt", "10", "prompt"),
    ("video_model", "1", "video_model"),
    ("audio_model", "2", "audio_model"),
    ("bridge_file", "3", "bridge_file"),
    ("seed", "7", "seed"),
)
GIVES = (("video", "9", 0), ("images", "8", 0), ("audio", "8", 1))
WORDS = ["sound", "sounding video", "video with sound", "text to video with sound", "audio video", "wan audio", "foley"]
LINK = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
_INSIDE, _OUTSIDE = -10, -20  # the page's numbers for what leads in and out


def blueprint() -> dict[str, Any]:
    """The whole way as one node, which the page offers beside its own blueprints."""
    inside = ui_workflow(_following_the_models(ONE_PROMPT))
    nodes = {str(node["id"]): node for node in inside["nodes"]}
    links = [dict(zip(LINK, link, strict=True)) for link in inside["links"]]
    ports: dict[str, list[dict[str, Any]]] = {"inputs": [], "outputs": []}
    for slot, (name, node, target) in enumerate(TAKES):
        index = next(i for i, port in enumerate(nodes[node]["inputs"]) if port["name"] == target)
        port = nodes[node]["inputs"][index]
        port["link"] = len(links) + 1
        links.append(_link(port["link"], (_INSIDE, slot), (int(node), index), port["type"]))
        ports["inputs"].append(_port(name, port["type"], port["link"]))
    for slot, (name, node, index) in enumerate(GIVES):
        port = nodes[node]["outputs"][index]
        port["links"] = [*(port["links"] or ()), len(links) + 1]
        links.append(_link(len(links) + 1, (int(node), index), (_OUTSIDE, slot), port["type"]))
        ports["outputs"].append(_port(name, port["type"], len(links)))
    right = max(node["pos"][0] + node["size"][0] for node in inside["nodes"])
    numbers = {"lastGroupId": 6, "lastNodeId": inside["last_node_id"], "lastLinkId": len(links), "lastRerouteId": 0}
    return _as_one_node(
        {
            "id": _number(BLUEPRINT),
            "version": 1,
            "state": numbers,
            "revision": 0,
            "config": {},
            "name": BLUEPRINT,
            "description": "A video with the sound that belongs to it, from one prompt.",
            "category": "Video generation and editing/Text to video",
            "essentials_category": "Video Generation",
            "inputNode": {"id": _INSIDE, "bounding": [-180, 400, 120, 40 + 20 * len(TAKES)]},
            "outputNode": {"id": _OUTSIDE, "bounding": [right + 80, 400, 120, 40 + 20 * len(GIVES)]},
            "widgets": [],
            **ports,
            "nodes": inside["nodes"],
            "groups": inside["groups"],
            "links": links,
            "extra": {},
        }
    )


def _following_the_models(name: str) -> dict[str, Any]:
    """A template's graph with sizes, steps and scales at their nodes' defaults, which then follow the chosen models."""
    graph = read_workflow(ROOT / "workflows" / "api" / f"{name}.json")
    for node in graph.values():
        ports = {port.id: port.options for port in node_classes()[node["class_type"]].GET_SCHEMA().inputs}
        for key, value in node["inputs"].items():
            if "defaults" in ports and "default" in ports[key] and not isinstance(value, list):
                node["inputs"][key] = ports[key]["default"]
        if "filename_prefix" in ports:
            node["inputs"]["filename_prefix"] = ports["filename_prefix"]["default"]
    return graph


def _as_one_node(subgraph: dict[str, Any]) -> dict[str, Any]:
    """A workflow of nothing but one node that holds the subgraph."""
    ports = [{"name": port["name"], "type": port["type"]} for port in subgraph["inputs"]]
    node = {
        "id": 1,
        "type": subgraph["id"],
        "title": subgraph["name"],
        "pos": [60, 120],
        "size": [420, 320],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": [{**port, "widget": {"name": port["name"]}, "link": None} for port in ports],
        "outputs": [{"name": port["name"], "type": port["type"], "links": []} for port in subgraph["outputs"]],
        "properties": {},
        "widgets_values": [],
    }
    return {
        "id": _number(f"{BLUEPRINT} alone"),
        "revision": 0,
        "last_node_id": 1,
        "last_link_id": 0,
        "nodes": [node],
        "links": [],
        "groups": [],
        "config": {},
        "definitions": {"subgraphs": [subgraph]},
        "extra": {"BlueprintSearchAliases": WORDS},
        "version": 0.4,
    }


def _link(number: int, origin: tuple[int, int], target: tuple[int, int], kind: str) -> dict[str, Any]:
    return dict(zip(LINK, (number, *origin, *target, kind), strict=True))


def _port(name: str, kind: str, link: int) -> dict[str, Any]:
    """A socket of the frame that leads in or out."""
    return {"id": _number(f"{BLUEPRINT} {name}"), "name": name, "type": kind, "linkIds": [link]}


def _number(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, name))


def write(path: Path, value: dict[str, Any]) -> None:
    """As the other files of the folder stand there."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    for file in sorted((ROOT / "workflows" / "api").glob("*.json")):
        write(ROOT / "workflows" / file.name, page_format(file.stem))
    write(ROOT / "subgraphs" / f"{BLUEPRINT}.json", blueprint())
