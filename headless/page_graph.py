"""The page's own (UI) format, as it stands in files: both versions of it folded into one form that is easy to walk.

Version 0.4 writes links as lists and keeps sub-graphs' links as objects; version 1 writes objects everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, NamedTuple

from ..core.errors import TextError, WorkflowError
from ..core.json_text import parse_json

# Ids under which a sub-graph's links name its own border.
INPUT_BORDER, OUTPUT_BORDER = "-10", "-20"
MUTED, BYPASSED = 2, 4
Node = Mapping[str, Any]
# Parts of a node that are walked, and their types; each may be left out.
NODE_PARTS = {
    "inputs": (list,), "outputs": (list,), "widgets_values": (list, Mapping), "widgets_values_named": (Mapping,),
    "properties": (Mapping,),
}  # fmt: skip


class Link(NamedTuple):
    """Where a connection starts and ends."""

    source: str
    slot: int
    target: str
    target_slot: int


@dataclass(frozen=True)
class Level:
    """The whole graph, or the inside of one sub-graph node.

    Args:
        nodes: By id.
        links: By id.
        path: Ids of the sub-graph nodes around it, outermost first.
        definition: The sub-graph's definition, None for the whole graph.
        host: The sub-graph node on the level outside, None for the whole graph.
        outer: That level.
        promoted: Values that the sub-graph node shows for inner widgets, by inner node and widget.
        inputs: Values that it shows for its own inputs.
    """

    nodes: Mapping[str, Node]
    links: Mapping[str, Link]
    path: tuple[str, ...] = ()
    definition: Mapping[str, Any] | None = None
    host: Node | None = None
    outer: Level | None = None
    promoted: Mapping[tuple[str, str], Any] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)

    def name(self, node: Node) -> str:
        """The node's id in the API format: with those of the sub-graph nodes around it."""
        return ":".join((*self.path, str(node["id"])))


def is_page_format(content: Any) -> bool:
    """Whether this is a workflow of the page."""
    return isinstance(content, Mapping) and isinstance(content.get("nodes"), list)


def top_level(page: Mapping[str, Any]) -> Level:
    """The whole graph.

    Raises:
        WorkflowError: its nodes or links have not the form that they should have.
    """
    return Level(_nodes(page), _links(page))


def definitions(page: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Sub-graphs by id, also those that are defined inside others.

    Raises:
        WorkflowError: they have not the form that they should have.
    """
    found: dict[str, Mapping[str, Any]] = {}
    waiting = [page]
    while waiting:
        known = waiting.pop().get("definitions") or {}
        inside = (known.get("subgraphs") or []) if isinstance(known, Mapping) else known
        if not isinstance(inside, list) or not all(isinstance(each, Mapping) for each in inside):
            raise WorkflowError("the sub-graphs of the workflow are damaged", got=repr(known)[:80], expected="a list")
        for each in inside:
            found[str(each.get("id"))] = each
            waiting.append(each)
    return found


def inside(level: Level, host: Node, definition: Mapping[str, Any]) -> Level:
    """The inside of a sub-graph node.

    Raises:
        WorkflowError: the sub-graph contains itself, or is damaged.
    """
    around: Level | None = level
    while around is not None:
        if around.definition is not None and around.definition.get("id") == definition.get("id"):
            raise WorkflowError("a sub-graph contains itself", got=definition.get("name") or definition.get("id"))
        around = around.outer
    promoted, inputs = _shown_values(level, host, definition)
    path = (*level.path, str(host["id"]))
    return Level(_nodes(definition), _links(definition), path, definition, host, level, promoted, inputs)


def sockets(node: Node) -> list[Mapping[str, Any]]:
    """The node's inputs."""
    return [entry for entry in node.get("inputs") or () if isinstance(entry, Mapping)]


def border_name(definition: Mapping[str, Any], slot: int) -> str | None:
    """The name of an input of a sub-graph's border; the node's own inputs may be fewer and in another order."""
    border = definition.get("inputs") or ()
    return border[slot].get("name") if 0 <= slot < len(border) else None


def border_targets(level: Level, slot: int) -> Iterator[tuple[Node, Mapping[str, Any]]]:
    """Widgets that an input of the border leads to, as node and input, in the border's order."""
    border = (level.definition or {}).get("inputs") or ()
    order = [str(number) for number in (border[slot].get("linkIds") or ())] if 0 <= slot < len(border) else []
    for number in dict.fromkeys([*order, *level.links]):
        link = level.links.get(number)
        if link is not None and (link.source, link.slot) == (INPUT_BORDER, slot) and link.target in level.nodes:
            node = level.nodes[link.target]
            if _is_widget(node, link.target_slot):
                yield node, sockets(node)[link.target_slot]


def socket_type(entry: Mapping[str, Any]) -> str:
    """The type of an input or output; a list of choices is one type."""
    kind = entry.get("type", "*")
    return kind if isinstance(kind, str) else "COMBO" if isinstance(kind, list) else str(kind)


def _nodes(graph: Mapping[str, Any]) -> dict[str, Node]:
    nodes: dict[str, Node] = {}
    for node in graph.get("nodes") or ():
        if not isinstance(node, Mapping) or "id" not in node or not isinstance(node.get("type"), str):
            raise WorkflowError("this is not a node of a page's workflow", got=repr(node)[:80], expected="id and type")
        wrong = next(
            (key for key, kinds in NODE_PARTS.items() if not isinstance(node.get(key), (*kinds, NoneType))), ""
        )
        if not wrong and not all(isinstance(entry.get("name"), str) for entry in sockets(node)):
            wrong = "inputs"
        if not wrong and not all(isinstance(entry, Mapping) for entry in node.get("outputs") or ()):
            wrong = "outputs"
        if wrong:
            raise WorkflowError(
                f"node {node['id']} ({node['type']}) of the workflow is damaged",
                got=f"{wrong} {node[wrong]!r}"[:80],
                expected="the form in which the page saves it",
            )
        if str(node["id"]) in nodes:
            raise WorkflowError("two nodes of the workflow have one id", got=node["id"], expected="an id for each")
        nodes[str(node["id"])] = node
    return nodes


def _links(graph: Mapping[str, Any]) -> dict[str, Link]:
    found: dict[str, Link] = {}
    links = graph.get("links") or []
    if not isinstance(links, (list, Mapping)):
        raise WorkflowError("the links of the workflow are damaged", got=repr(links)[:80], expected="a list of links")
    for link in links.values() if isinstance(links, Mapping) else links:
        try:
            if isinstance(link, Mapping):
                number, *ends = (link[key] for key in ("id", "origin_id", "origin_slot", "target_id", "target_slot"))
            elif link is None:
                continue
            else:
                number, *ends = link[:5]
            found[str(number)] = Link(str(ends[0]), int(ends[1]), str(ends[2]), int(ends[3]))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise WorkflowError("this is not a link of a page's workflow", got=repr(link)[:80]) from error
    return found


def _shown_values(
    level: Level, host: Node, definition: Mapping[str, Any]
) -> tuple[dict[tuple[str, str], Any], dict[str, Any]]:
    """What a sub-graph node shows of its inside: values for inner widgets, and for its own inputs."""
    promoted: dict[tuple[str, str], Any] = {}
    inputs: dict[str, Any] = {}
    for (node_id, name), value in _paired(host, definition):
        # What the level outside shows for this node comes first: a sub-graph in a sub-graph.
        value = level.promoted.get((str(host["id"]), name), value)
        if value is None:
            continue
        if node_id == "-1":
            inputs[name] = value
        else:
            promoted[node_id, name] = value
    return promoted, inputs


def _paired(host: Node, definition: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], Any]]:
    """Names of what a sub-graph node shows, with the values it holds; the widgets of its inputs stand under -1."""
    proxies = (host.get("properties") or {}).get("proxyWidgets")
    if isinstance(proxies, str):
        try:
            proxies = parse_json(proxies)
        except TextError as error:
            raise WorkflowError("what a sub-graph shows cannot be read", got=repr(proxies)[:80]) from error
    names = [_proxied(*entry[:2]) for entry in proxies or () if isinstance(entry, list) and len(entry) >= 2]
    if not names:
        names = [("-1", name) for name in _widget_inputs(definition)]
    values = host.get("widgets_values") or []
    if isinstance(values, Mapping):
        yield from ((key, values.get(key[1])) for key in names)
    else:
        yield from zip(names, [*values, *[None] * len(names)], strict=False)


def _widget_inputs(definition: Mapping[str, Any]) -> Iterator[str]:
    """Border inputs that lead to a widget inside; the sub-graph's node has a widget for each."""
    nodes, links = _nodes(definition), _links(definition)
    ends = {
        link.slot
        for link in links.values()
        if link.source == INPUT_BORDER and link.target in nodes and _is_widget(nodes[link.target], link.target_slot)
    }
    yield from (entry["name"] for slot, entry in enumerate(definition.get("inputs") or ()) if slot in ends)


def _is_widget(node: Node, slot: int) -> bool:
    entries = sockets(node)
    return 0 <= slot < len(entries) and bool(entries[slot].get("widget"))


def _proxied(node_id: Any, name: str) -> tuple[str, str]:
    """Older pages write the inner node's id before the widget's name as well: ``7: steps``."""
    prefix, colon, rest = name.partition(": ")
    return str(node_id), rest if colon and prefix.isdecimal() else name
