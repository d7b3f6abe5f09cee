"""Workflows of the page with everything in them that only the page knows, beside the prompts that it sends for them.

Each case changes the pocket template and its API twin. ``tests/nodes`` compares the conversion with the twin,
``tests/browser`` compares the twin with what a real page sends.
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable
from typing import Any

CASES: dict[str, Callable[[Page, dict[str, Any]], None]] = {}
MUTE, BYPASS = 2, 4
WAN, AUDIO, BRIDGE, JOIN, LATENT, ENCODE, SAMPLER, DECODE, MUX = range(1, 10)


def case(change: Callable[[Page, dict[str, Any]], None]) -> Callable[[Page, dict[str, Any]], None]:
    CASES[change.__name__] = change
    return change


class Page:
    """A graph that can be changed by hand as on the page."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = copy.deepcopy(content)
        self.last = max(node["id"] for node in self.nodes)

    @property
    def nodes(self) -> list[dict[str, Any]]:
        return self.content["nodes"]

    def __getitem__(self, number: int) -> dict[str, Any]:
        return next(node for node in self.nodes if node["id"] == number)

    def input(self, number: int, name: str) -> dict[str, Any]:
        return next(entry for entry in self[number]["inputs"] if entry["name"] == name)

    def slot(self, number: int, name: str) -> int:
        return self[number]["inputs"].index(self.input(number, name))

    def add(self, kind: str, inputs: dict[str, str], outputs: list[str], values: list[Any], **more: Any) -> int:
        number = self.content["last_node_id"] = self.last = self.last + 1
        node = {
            "id": number, "type": kind, "pos": [0, 900 + 100 * number], "size": [200, 60], "flags": {}, "order": 0,
            "mode": 0,
            "inputs": [{"name": name, "type": io_type, "link": None} for name, io_type in inputs.items()],
            "outputs": [{"name": io_type, "type": io_type, "links": None} for io_type in outputs],
            "properties": {"Node name for S&R": kind}, "widgets_values": values, **more,
        }  # fmt: skip
        self.nodes.append(node)
        return number

    def cut(self, number: int, name: str) -> None:
        link = self.input(number, name)["link"]
        self.input(number, name)["link"] = None
        self.content["links"] = [each for each in self.content["links"] if each[0] != link]
        for node in self.nodes:
            for output in node["outputs"]:
                output["links"] = [each for each in output["links"] or () if each != link] or None

    def connect(self, source: int, slot: int, target: int, name: str) -> None:
        if self.input(target, name)["link"] is not None:
            self.cut(target, name)
        number = self.content["last_link_id"] = self.content["last_link_id"] + 1
        output, entry = self[source]["outputs"][slot], self.input(target, name)
        output["links"] = [*(output["links"] or ()), number]
        entry["link"] = number
        self.content["links"].append([number, source, slot, target, self.slot(target, name), output["type"]])

    def between(self, kind: str, target: int, name: str, io_type: str, **more: Any) -> int:
        """A node with one input and one output on a connection."""
        link = next(each for each in self.content["links"] if each[0] == self.input(target, name)["link"])
        number = self.add(
            kind, more.pop("inputs", {"": io_type}), more.pop("outputs", [io_type]), more.pop("values", []), **more
        )
        self.connect(link[1], link[2], number, self[number]["inputs"][0]["name"])
        self.connect(number, 0, target, name)
        return number

    def enclose(self, numbers: list[int], **more: Any) -> int:
        """Put nodes into a sub-graph with whatever leads in and out on its border."""
        inner = [node for node in self.nodes if node["id"] in numbers]
        self.content["nodes"] = [node for node in self.nodes if node["id"] not in numbers]
        links, inputs, outputs, ends = [], [], [], {}
        into = [each for each in self.content["links"] if each[3] in numbers and each[1] not in numbers]
        out = [each for each in self.content["links"] if each[1] in numbers and each[3] not in numbers]
        for number, source, slot, target, target_slot, io_type in self.content["links"]:
            if source in numbers and target in numbers:
                links.append(_as_object(number, source, slot, target, target_slot, io_type))
        for number, source, slot, target, target_slot, io_type in into:
            if (source, slot) not in ends:
                ends[source, slot] = len(inputs)
                inputs.append({"id": str(uuid.uuid4()), "name": f"in {len(inputs)}", "type": io_type, "linkIds": []})
            inputs[ends[source, slot]]["linkIds"].append(number)
            links.append(_as_object(number, -10, ends[source, slot], target, target_slot, io_type))
        fresh, given = self.content["last_link_id"], []
        for _, source, slot, target, target_slot, io_type in out:
            if (source, slot) not in ends:
                ends[source, slot] = len(outputs)
                fresh += 1
                outputs.append(
                    {"id": str(uuid.uuid4()), "name": f"out {len(outputs)}", "type": io_type, "linkIds": [fresh]}
                )
                links.append(_as_object(fresh, source, slot, -20, ends[source, slot], io_type))
                node = next(node for node in inner if node["id"] == source)
                node["outputs"][slot]["links"] = [*(node["outputs"][slot]["links"] or ()), fresh]
            given.append((ends[source, slot], target, target_slot))
        self.content["last_link_id"] = fresh
        definition = {
            "id": str(uuid.uuid4()), "version": 1, "revision": 0, "config": {}, "name": "Enclosed", "groups": [],
            "extra": {},
            "state": {"lastGroupId": 0, "lastNodeId": 50, "lastLinkId": fresh, "lastRerouteId": 0}, "widgets": [],
            "inputNode": {"id": -10, "bounding": [-300, 0, 120, 60]},
            "outputNode": {"id": -20, "bounding": [900, 0, 120, 60]},
            "inputs": inputs, "outputs": outputs, "nodes": inner, "links": links,
        }  # fmt: skip
        self.content.setdefault("definitions", {"subgraphs": []})["subgraphs"].append(definition)
        crossing = {each[0] for each in (*into, *out)}
        self.content["links"] = [
            each for each in self.content["links"] if each[0] not in crossing | {link["id"] for link in links}
        ]
        for node in self.nodes:
            for output in node["outputs"]:
                output["links"] = [each for each in output["links"] or () if each not in crossing] or None
            for entry in node["inputs"]:
                entry["link"] = None if entry["link"] in crossing else entry["link"]
        host = self.add(
            definition["id"],
            {entry["name"]: entry["type"] for entry in inputs},
            [entry["type"] for entry in outputs],
            [],
            **more,
        )
        for (source, slot), index in ends.items():
            if source not in numbers:
                self.connect(source, slot, host, inputs[index]["name"])
        for slot, target, target_slot in given:
            self.connect(host, slot, target, self[target]["inputs"][target_slot]["name"])
        return host

    @property
    def definition(self) -> dict[str, Any]:
        """The sub-graph that was made last."""
        return self.content["definitions"]["subgraphs"][-1]

    def show(self, host: int, inner: int, widget: str, value: Any) -> None:
        """Let a sub-graph node show an inner widget through an input of its own, as newer pages do."""
        definition = next(each for each in self.content["definitions"]["subgraphs"] if each["id"] == self[host]["type"])
        node = next(node for node in definition["nodes"] if node["id"] == inner)
        entry = next(entry for entry in node["inputs"] if entry["name"] == widget)
        number = definition["state"]["lastLinkId"] = definition["state"]["lastLinkId"] + 1
        entry["link"] = number
        slot = node["inputs"].index(entry)
        border = {"id": str(uuid.uuid4()), "name": widget, "type": entry["type"], "linkIds": [number]}
        definition["inputs"].append(border)
        at = len(definition["inputs"]) - 1
        definition["links"].append(_as_object(number, -10, at, inner, slot, entry["type"]))
        self[host]["inputs"].append({"name": widget, "type": entry["type"], "link": None, "widget": {"name": widget}})
        self[host]["widgets_values"].append(value)


def _as_object(number: int, source: int, slot: int, target: int, target_slot: int, io_type: str) -> dict[str, Any]:
    return {
        "id": number, "origin_id": source, "origin_slot": slot, "target_id": target, "target_slot": target_slot,
        "type": io_type,
    }  # fmt: skip


def moved(api: dict[str, Any], numbers: list[int], host: str) -> None:
    """The same nodes under the ids that they have inside a sub-graph."""
    names = {str(number): f"{host}:{number}" for number in numbers}
    for node_id in list(names):
        api[names[node_id]] = api.pop(node_id)
    for node in api.values():
        for name, value in node["inputs"].items():
            if isinstance(value, list) and value[0] in names:
                node["inputs"][name] = [names[value[0]], value[1]]


def with_lora(page: Page, **more: Any) -> int:
    return page.between(
        "T2SVLoadLora", SAMPLER, "model", "T2SV_MODEL",
        inputs={"model": "T2SV_MODEL"}, outputs=["T2SV_MODEL", "STRING"], values=["none", 0.5, "from file"], **more,
    )  # fmt: skip


@case
def untouched(page: Page, api: dict[str, Any]) -> None:
    """The template itself."""


@case
def a_muted_tower(page: Page, api: dict[str, Any]) -> None:
    page[AUDIO]["mode"] = MUTE
    del api["2"]
    for node, name in (("4", "audio_tower"), ("5", "audio_codec"), ("6", "audio_text_encoder"), ("8", "audio_codec")):
        del api[node]["inputs"][name]


@case
def a_bypassed_tower_has_nothing_to_hand_on(page: Page, api: dict[str, Any]) -> None:
    a_muted_tower(page, api)
    page[AUDIO]["mode"] = BYPASS


@case
def a_bypassed_node_hands_on_its_input(page: Page, api: dict[str, Any]) -> None:
    with_lora(page, mode=BYPASS)


@case
def a_bypassed_sampler_hands_on_the_first_latent_of_two(page: Page, api: dict[str, Any]) -> None:
    """The slot beside the output has another type, so the first input of the type is taken for both outputs."""
    page[SAMPLER]["mode"] = BYPASS
    del api["7"]
    api["8"]["inputs"] |= {"video_samples": ["5", 0], "audio_samples": ["5", 0]}


@case
def a_bypassed_node_behind_a_bypassed_node(page: Page, api: dict[str, Any]) -> None:
    with_lora(page, mode=BYPASS)
    with_lora(page, mode=BYPASS)


@case
def a_muted_node_behind_a_reroute(page: Page, api: dict[str, Any]) -> None:
    page.between("Reroute", JOIN, "bridge", "*")
    page[BRIDGE]["mode"] = MUTE
    del api["3"], api["4"]["inputs"]["bridge"]


@case
def reroutes_in_a_row(page: Page, api: dict[str, Any]) -> None:
    page.between("Reroute", SAMPLER, "model", "*")
    page.between("Reroute", SAMPLER, "model", "*")
    page.between("Reroute", MUX, "fps", "*")


@case
def a_reroute_that_leads_nowhere(page: Page, api: dict[str, Any]) -> None:
    number = page.add("Reroute", {"": "*"}, ["*"], [])
    page.connect(number, 0, JOIN, "bridge")
    del api["4"]["inputs"]["bridge"]


@case
def primitives_set_what_they_are_linked_to(page: Page, api: dict[str, Any]) -> None:
    number = page.add("PrimitiveNode", {}, ["INT"], [99, "randomize"])
    page[number]["outputs"][0] |= {"name": "connect to widget input", "widget": {"name": "seed"}}
    page.connect(number, 0, SAMPLER, "seed")
    number = page.add("PrimitiveNode", {}, ["STRING"], ["A gull."])
    page[number]["outputs"][0] |= {"name": "connect to widget input", "widget": {"name": "video_caption"}}
    page.connect(number, 0, ENCODE, "video_caption")
    page.connect(number, 0, ENCODE, "audio_caption")
    api["7"]["inputs"]["seed"] = 99
    api["6"]["inputs"] |= {"video_caption": "A gull.", "audio_caption": "A gull."}


@case
def a_link_to_a_widget_wins_over_its_value(page: Page, api: dict[str, Any]) -> None:
    page.connect(LATENT, 2, SAMPLER, "flow_shift")
    api["7"]["inputs"]["flow_shift"] = ["5", 2]


@case
def a_widget_keeps_its_value_when_its_source_is_muted(page: Page, api: dict[str, Any]) -> None:
    number = page.add("T2SVEmptyAVLatent", {}, ["LATENT", "LATENT", "FLOAT", "FLOAT"], [64, 64, 33, 12.0, 1], mode=MUTE)
    page.connect(number, 2, SAMPLER, "flow_shift")
    page[SAMPLER]["widgets_values"][8] = 2.5
    api["7"]["inputs"]["flow_shift"] = 2.5


@case
def notes_and_groups_are_for_the_eye(page: Page, api: dict[str, Any]) -> None:
    page.add("Note", {}, [], ["read me"])
    page.add("MarkdownNote", {}, [], ["# read me"])
    page.content["groups"] = [{"id": 1, "title": "All", "bounding": [0, 0, 900, 900], "color": "#3f789e", "flags": {}}]


@case
def an_older_file_has_fewer_values(page: Page, api: dict[str, Any]) -> None:
    """What it has none for has its default."""
    page[SAMPLER]["widgets_values"] = page[SAMPLER]["widgets_values"][:8]
    page[AUDIO]["widgets_values"] = page[AUDIO]["widgets_values"][:4]
    for number, last in ((SAMPLER, "guidance_batching"), (AUDIO, "offload")):
        for entry in page[number]["inputs"][page.slot(number, last) + 1 :]:
            del api[str(number)]["inputs"][entry["name"]]
    api["7"]["inputs"]["defaults"] = "as set here"  # the file is older than this choice, see web/js/defaults.js


@case
def inputs_without_an_entry(page: Page, api: dict[str, Any]) -> None:
    """Older pages wrote no inputs for widgets."""
    for node in page.nodes:
        node["inputs"] = [entry for entry in node["inputs"] if "widget" not in entry or entry["link"]]
    for link in page.content["links"]:
        link[4] = next(at for at, entry in enumerate(page[link[3]]["inputs"]) if entry["link"] == link[0])


@case
def titles_and_colours(page: Page, api: dict[str, Any]) -> None:
    page[SAMPLER].update(title="My sampler", color="#322", bgcolor="#533")


@case
def a_subgraph(page: Page, api: dict[str, Any]) -> None:
    host = page.enclose([SAMPLER, DECODE])
    moved(api, [SAMPLER, DECODE], str(host))


@case
def a_subgraph_in_a_subgraph(page: Page, api: dict[str, Any]) -> None:
    inner = page.enclose([SAMPLER])
    outer = page.enclose([inner, DECODE])
    moved(api, [SAMPLER], f"{outer}:{inner}")
    moved(api, [DECODE], str(outer))


@case
def a_muted_subgraph(page: Page, api: dict[str, Any]) -> None:
    page.enclose([BRIDGE, LATENT], mode=MUTE)
    for node_id in ("3", "5"):
        del api[node_id]
    api["6"]["inputs"]["seconds"] = 5.4
    api["8"]["inputs"]["fps"] = api["9"]["inputs"]["fps"] = 15.0
    for node, name in (("4", "bridge"), ("7", "video_latent"), ("7", "audio_latent")):
        del api[node]["inputs"][name]


@case
def a_bypassed_subgraph_hands_on_its_inputs(page: Page, api: dict[str, Any]) -> None:
    lora = with_lora(page)
    page.enclose([lora], mode=BYPASS)


@case
def muted_and_bypassed_inside_a_subgraph(page: Page, api: dict[str, Any]) -> None:
    lora = with_lora(page, mode=BYPASS)
    host = page.enclose([lora, BRIDGE, JOIN])
    next(node for node in page.definition["nodes"] if node["id"] == BRIDGE)["mode"] = MUTE
    del api["3"], api["4"]["inputs"]["bridge"]
    moved(api, [JOIN], str(host))


@case
def a_subgraph_shows_widgets_through_its_inputs(page: Page, api: dict[str, Any]) -> None:
    host = page.enclose([SAMPLER])
    page.show(host, SAMPLER, "seed", 1234)
    page.show(host, SAMPLER, "schedule", "coupled")
    moved(api, [SAMPLER], str(host))
    api[f"{host}:7"]["inputs"] |= {"seed": 1234, "schedule": "coupled"}


@case
def a_subgraph_shows_widgets_by_proxy(page: Page, api: dict[str, Any]) -> None:
    host = page.enclose([SAMPLER, ENCODE])
    page[host]["properties"]["proxyWidgets"] = [["7", "steps"], ["6", "video_caption"], ["7", "preview"]]
    page[host]["widgets_values"] = [3, "A gull.", False]
    moved(api, [SAMPLER, ENCODE], str(host))
    api[f"{host}:7"]["inputs"] |= {"steps": 3, "preview": False}
    api[f"{host}:6"]["inputs"]["video_caption"] = "A gull."


@case
def proxies_without_values_show_what_is_inside(page: Page, api: dict[str, Any]) -> None:
    host = page.enclose([SAMPLER])
    page[host]["properties"]["proxyWidgets"] = [["7", "steps"], ["7", "seed"]]
    moved(api, [SAMPLER], str(host))


@case
def a_shown_widget_that_is_linked(page: Page, api: dict[str, Any]) -> None:
    host = page.enclose([SAMPLER])
    page.show(host, SAMPLER, "flow_shift", 9.0)
    page.connect(LATENT, 2, host, "flow_shift")
    moved(api, [SAMPLER], str(host))
    api[f"{host}:7"]["inputs"]["flow_shift"] = ["5", 2]


@case
def one_subgraph_twice_with_other_values(page: Page, api: dict[str, Any]) -> None:
    first = page.enclose([ENCODE])
    page.show(first, ENCODE, "video_caption", "one")
    page[first]["widgets_values"] = [1.5, "one"]  # the linked seconds are a widget inside, and so have a value here
    second = page.add(
        page[first]["type"],
        {entry["name"]: entry["type"] for entry in page[first]["inputs"]},
        [entry["type"] for entry in page[first]["outputs"]],
        [2.5, "another"],
    )
    page[second]["inputs"][-1]["widget"] = {"name": "video_caption"}
    moved(api, [ENCODE], str(first))
    api[f"{first}:6"]["inputs"]["video_caption"] = "one"
    twin = copy.deepcopy(api[f"{first}:6"])
    for name in [name for name, value in twin["inputs"].items() if isinstance(value, list) and name != "seconds"]:
        del twin["inputs"][name]
    twin["inputs"] |= {"video_caption": "another", "seconds": 2.5}
    api[f"{second}:6"] = twin


@case
def widgets_shown_through_two_subgraphs(page: Page, api: dict[str, Any]) -> None:
    inner = page.enclose([SAMPLER])
    page.show(inner, SAMPLER, "seed", 11)
    page.show(inner, SAMPLER, "steps", 12)
    outer = page.enclose([inner])
    page.show(outer, inner, "steps", 13)
    moved(api, [SAMPLER], f"{outer}:{inner}")
    api[f"{outer}:{inner}:7"]["inputs"] |= {"seed": 11, "steps": 13}


@case
def proxies_through_two_subgraphs(page: Page, api: dict[str, Any]) -> None:
    inner = page.enclose([SAMPLER])
    page[inner]["properties"]["proxyWidgets"] = [["7", "seed"], ["7", "steps"]]
    page[inner]["widgets_values"] = [11, 12]
    outer = page.enclose([inner])
    page[outer]["properties"]["proxyWidgets"] = [[str(inner), "steps"]]
    page[outer]["widgets_values"] = [13]
    moved(api, [SAMPLER], f"{outer}:{inner}")
    api[f"{outer}:{inner}:7"]["inputs"] |= {"seed": 11, "steps": 13}


@case
def proxies_beside_inputs(page: Page, api: dict[str, Any]) -> None:
    host = page.enclose([SAMPLER])
    page.show(host, SAMPLER, "seed", 21)
    page[host]["properties"]["proxyWidgets"] = [["7", "steps"], ["-1", "seed"]]
    page[host]["widgets_values"] = [22, 21]
    moved(api, [SAMPLER], str(host))
    api[f"{host}:7"]["inputs"] |= {"seed": 21, "steps": 22}


@case
def reroute_and_primitive_inside_a_subgraph(page: Page, api: dict[str, Any]) -> None:
    reroute = page.between("Reroute", DECODE, "video_samples", "*")
    number = page.add("PrimitiveNode", {}, ["INT"], [5, "fixed"])
    page[number]["outputs"][0] |= {"name": "connect to widget input", "widget": {"name": "steps"}}
    page.connect(number, 0, SAMPLER, "steps")
    host = page.enclose([SAMPLER, DECODE, reroute, number])
    moved(api, [SAMPLER, DECODE], str(host))
    api[f"{host}:7"]["inputs"]["steps"] = 5


@case
def a_reroute_at_the_border_of_a_subgraph(page: Page, api: dict[str, Any]) -> None:
    first = page.between("Reroute", DECODE, "video_samples", "*")
    second = page.between("Reroute", SAMPLER, "model", "*")
    host = page.enclose([SAMPLER, first, second])
    moved(api, [SAMPLER], str(host))


@case
def links_as_objects(page: Page, api: dict[str, Any]) -> None:
    """Version 1 of the format."""
    page.content["links"] = [_as_object(*link) for link in page.content["links"]]
    page.content |= {
        "version": 1,
        "state": {"lastGroupId": 0, "lastNodeId": 9, "lastLinkId": page.content["last_link_id"], "lastRerouteId": 0},
    }
    del page.content["last_link_id"], page.content["last_node_id"]


@case
def native_reroutes_only_bend_the_line(page: Page, api: dict[str, Any]) -> None:
    number = page.content["links"][8][0]
    page.content["extra"] = {
        "reroutes": [{"id": 1, "pos": [10, 10], "linkIds": [number]}],
        "linkExtensions": [{"id": number, "parentId": 1}],
    }


@case
def an_end_that_is_muted(page: Page, api: dict[str, Any]) -> None:
    number = page.add(
        "T2SVMux", {"images": "IMAGE"}, ["VIDEO"], [15, "second", "mkv", "pyav"], title="Second", mode=MUTE
    )
    page.connect(DECODE, 0, number, "images")


def filled(api: dict[str, Any], described: dict[str, Any]) -> dict[str, Any]:
    """A prompt with the defaults of widgets that it does not name: the page sends every widget."""
    full = copy.deepcopy(api)
    for node in full.values():
        for ports in described[node["class_type"]]["input"].values():
            for name, spec in ports.items():
                if len(spec) > 1 and isinstance(spec[1], dict) and "default" in spec[1]:
                    node["inputs"].setdefault(name, spec[1]["default"])
    return full


def built(
    name: str, page: dict[str, Any], api: dict[str, Any], described: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A case's page workflow, and the prompt that belongs to it."""
    changed, twin = Page(page), copy.deepcopy(api)
    CASES[name](changed, twin)
    return changed.content, filled(twin, described)
