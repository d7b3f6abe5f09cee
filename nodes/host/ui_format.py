"""From the API format to the page's format, so that headless results open in ComfyUI as a laid-out graph.

It knows widgets from schemas alone, hence only graphs of our own nodes.
"""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Mapping
from typing import Any

from .graph import Step, plan

_WIDGET_TYPES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
_OPTIONAL_SHAPE = 7  # LiteGraph's hollow circle, which the page draws for optional sockets
_COLUMN_GAP, _ROW_GAP, _LEFT, _TOP = 60, 50, 60, 120
_WIDTH, _WIDE = 320, 420
# Room below the widgets for what appears while a node runs: the page's own player, and our panels of web/js.
_FILE_ROOM = 320
_ROOM = {
    "T2SVMux": 430,
    "T2SVJoinTowers": 220,
    "T2SVJointSampler": 300,
    "T2SVNativeSampler": 300,
    "T2SVExpandPrompt": 310,
    "T2SVEditAnchors": 650,
    "T2SVCaptionVideo": 310,
}


def ui_workflow(graph: Mapping[str, Any]) -> dict[str, Any]:
    """Lay out an API-format graph of our nodes as a workflow for ComfyUI's page.

    Columns follow the longest way from a source; nodes are numbered as in the graph when its ids are whole numbers.

    Raises:
        WorkflowError: the graph is not valid; values of lists are taken as they are.
    """
    steps = plan(graph, check_options=False)
    numbers = {
        step.node_id: int(step.node_id) if all(key.isdecimal() for key in graph) else index
        for index, step in enumerate(steps, 1)
    }
    links, incoming, outgoing = _links(steps, numbers)
    places = _layout(steps)
    nodes = [
        _node(step, graph[step.node_id], numbers, incoming, outgoing, places, order) for order, step in enumerate(steps)
    ]
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, repr(sorted(graph)))),
        "revision": 0,
        "last_node_id": max(numbers.values()),
        "last_link_id": len(links),
        "nodes": nodes,
        "links": links,
        "groups": [],
        "config": {},
        "extra": {},
        "version": 0.4,
    }


def _ports(step: Step) -> tuple[list[Any], list[Any]]:
    """Sockets and widgets, each in the page's order: required before optional."""
    ordered = sorted(step.schema.inputs, key=lambda port: port.optional)
    widgets = [port for port in ordered if port.io_type in _WIDGET_TYPES and not port.options.get("forceInput")]
    return [port for port in ordered if port not in widgets], widgets


def _links(steps: list[Step], numbers: Mapping[str, int]) -> tuple[list[list[Any]], dict, dict]:
    """The page's link table, and its numbers by ``(node, input name)`` and by ``(node, output index)``."""
    table: list[list[Any]] = []
    incoming: dict[tuple[str, str], int] = {}
    outgoing: dict[tuple[str, int], list[int]] = {}
    for step in steps:
        names = [port.id for group in _ports(step) for port in group]
        for name in sorted(step.links, key=names.index):
            source, slot = step.links[name]
            number = len(table) + 1
            table.append(
                [
                    number,
                    numbers[source],
                    slot,
                    numbers[step.node_id],
                    names.index(name),
                    step.schema.input(name).io_type,
                ]
            )
            incoming[step.node_id, name] = number
            outgoing.setdefault((source, slot), []).append(number)
    return table, incoming, outgoing


def _size(step: Step) -> list[int]:
    """A node's size on the page, measured as the page does: title, sockets, widgets, a large field for long texts."""
    sockets, widgets = _ports(step)
    long_texts = sum(bool(port.options.get("multiline")) for port in widgets)
    seeds = sum(bool(port.options.get("control_after_generate")) for port in widgets)
    height = 40 + 20 * max(len(sockets), len(step.schema.outputs)) + 24 * (len(widgets) + seeds) + 76 * long_texts
    room = _ROOM.get(step.schema.node_id, _FILE_ROOM if step.schema.is_output_node else 0)
    return [_WIDE if long_texts or room else _WIDTH, height + room]


def _layout(steps: list[Step]) -> dict[str, tuple[list[int], list[int]]]:
    """Position and size of each node: columns by depth, rows below one another."""
    depth: dict[str, int] = {}
    for step in steps:
        depth[step.node_id] = max((depth[source] + 1 for source, _ in step.links.values()), default=0)
    places: dict[str, tuple[list[int], list[int]]] = {}
    left = _LEFT
    for column in range(max(depth.values()) + 1):
        members = [step for step in steps if depth[step.node_id] == column]
        top = _TOP
        for step in members:
            size = _size(step)
            places[step.node_id] = ([left, top], size)
            top += size[1] + _ROW_GAP
        left += max(places[step.node_id][1][0] for step in members) + _COLUMN_GAP
    return places


def _when_absent(step: Step, port: Any) -> Any:
    """What a workflow without the input means: for an appended one that is not always the choice of a new node."""
    parameter = inspect.signature(step.node_class.execute).parameters.get(port.id)
    chosen = parameter is not None and parameter.default is not parameter.empty and port.optional
    return parameter.default if chosen else port.options.get("default")


def _node(
    step: Step,
    source: Mapping[str, Any],
    numbers: Mapping[str, int],
    incoming: Mapping[tuple[str, str], int],
    outgoing: Mapping[tuple[str, int], list[int]],
    places: Mapping[str, tuple[list[int], list[int]]],
    order: int,
) -> dict[str, Any]:
    sockets, widgets = _ports(step)
    inputs = []
    for port in (*sockets, *widgets):
        entry: dict[str, Any] = {"name": port.id, "type": port.io_type, "link": incoming.get((step.node_id, port.id))}
        if port.optional:
            entry["shape"] = _OPTIONAL_SHAPE
        if port in widgets:
            entry["widget"] = {"name": port.id}
        inputs.append(entry)
    values: list[Any] = []
    for port in widgets:
        values.append(step.literals.get(port.id, _when_absent(step, port)))
        if port.options.get("control_after_generate"):
            values.append("fixed")
    position, size = places[step.node_id]
    title = (source.get("_meta") or {}).get("title")
    return {
        "id": numbers[step.node_id],
        "type": step.schema.node_id,
        **({"title": title} if title and title != step.schema.display_name else {}),
        "pos": position,
        "size": size,
        "flags": {},
        "order": order,
        "mode": 0,
        "inputs": inputs,
        "outputs": [
            {
                "name": output.display_name or output.io_type,
                "type": output.io_type,
                "links": outgoing.get((step.node_id, slot)),
            }
            | ({"shape": 6} if output.is_output_list else {})  # LiteGraph's grid, which the page draws for lists
            for slot, output in enumerate(step.schema.outputs)
        ],
        "properties": {"Node name for S&R": step.schema.node_id},
        "widgets_values": values,
    }
