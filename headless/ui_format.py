"""From the API format to the page's format, so that headless results open in ComfyUI as a laid-out graph.

It knows widgets from schemas alone, hence only graphs of our own nodes.
"""

from __future__ import annotations

import inspect
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from ..nodes.host.prefixes import title_of
from .graph import Step, plan
from .known_files import known_files
from .layout import Place, laid_out, ports_on_page

_OPTIONAL_SHAPE = 7  # LiteGraph's hollow circle, which the page draws for optional sockets


def ui_workflow(graph: Mapping[str, Any], notes: Sequence[str] = ()) -> dict[str, Any]:
    """Lay out an API-format graph of our nodes as a workflow for ComfyUI's page.

    Nodes are numbered as in the graph when its ids are whole numbers.

    Args:
        graph: API-format workflow.
        notes: Texts in Markdown that stand beside the nodes.

    Raises:
        WorkflowError: the graph is not valid; values of lists are taken as they are.
    """
    steps = plan(graph, check_options=False)
    numbers = {
        step.node_id: int(step.node_id) if all(key.isdecimal() for key in graph) else index
        for index, step in enumerate(steps, 1)
    }
    links, incoming, outgoing = _links(steps, numbers)
    last = max(numbers.values())
    written = {f"note {index}": text for index, text in enumerate(notes, 1)}
    places, groups, view = laid_out(steps, {name: _note_size(text) for name, text in written.items()})
    nodes = [
        _node(step, graph[step.node_id], numbers, incoming, outgoing, places, order) for order, step in enumerate(steps)
    ]
    for name, text in written.items():
        nodes.append(_note(last + 1 + len(nodes) - len(steps), text, places[name], len(nodes)))
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, repr(sorted(graph)))),
        "revision": 0,
        "last_node_id": last + len(notes),
        "last_link_id": len(links),
        "nodes": nodes,
        "links": links,
        "groups": groups,
        "config": {},
        "extra": view,
        "version": 0.4,
    }


def _links(steps: list[Step], numbers: Mapping[str, int]) -> tuple[list[list[Any]], dict, dict]:
    """The page's link table, and its numbers by ``(node, input name)`` and by ``(node, output index)``."""
    table: list[list[Any]] = []
    incoming: dict[tuple[str, str], int] = {}
    outgoing: dict[tuple[str, int], list[int]] = {}
    for step in steps:
        names = [port.id for group in ports_on_page(step) for port in group]
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


def _note_size(text: str) -> tuple[int, int]:
    """Width and height that a note's text takes, about."""
    seen = re.sub(r"\]\([^)]*\)", "]", text)  # without the addresses of links
    lines = sum(1 + len(line) // 58 for line in seen.splitlines())
    return 420, 60 + 20 * lines


def _note(number: int, text: str, place: Place, order: int) -> dict[str, Any]:
    position, size = place
    return {
        "id": number,
        "type": "MarkdownNote",
        "pos": position,
        "size": size,
        "flags": {},
        "order": order,
        "mode": 0,
        "inputs": [],
        "outputs": [],
        "properties": {},
        "widgets_values": [text],
        "color": "#432",
        "bgcolor": "#3a2e22",  # the light theme makes it lighter by half: its text can be read in both
    }


def _models(step: Step) -> dict[str, Any]:
    """What the page offers to fetch where a file that the node names is not there."""
    files = known_files(step.schema.node_id, step.literals.values())
    return {"models": files} if files else {}


def _when_absent(step: Step, port: Any) -> Any:
    """The value that a workflow without this input stands for; an appended input may have another in a new node."""
    parameter = inspect.signature(step.node_class.execute).parameters.get(port.id)
    chosen = parameter is not None and parameter.default is not parameter.empty and port.optional
    return parameter.default if chosen else port.options.get("default")


def _node(
    step: Step,
    source: Mapping[str, Any],
    numbers: Mapping[str, int],
    incoming: Mapping[tuple[str, str], int],
    outgoing: Mapping[tuple[str, int], list[int]],
    places: Mapping[str, Place],
    order: int,
) -> dict[str, Any]:
    sockets, widgets = ports_on_page(step)
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
    title = title_of(source)
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
        "properties": {"Node name for S&R": step.schema.node_id} | _models(step),
        "widgets_values": values,
    }
