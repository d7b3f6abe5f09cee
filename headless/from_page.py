"""From the page's (UI) format to the prompt that the page itself would send for it.

Muted nodes are left out, and what hangs on them is not connected; a bypassed node hands on its input of the same type;
sub-graphs are opened; reroutes, primitives and notes exist on the page only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..core.errors import WorkflowError
from .page_graph import (
    BYPASSED,
    INPUT_BORDER,
    MUTED,
    OUTPUT_BORDER,
    Level,
    Node,
    border_name,
    border_targets,
    definitions,
    inside,
    socket_type,
    sockets,
    top_level,
)
from .page_widgets import sent_values, widget_values
from .values import WRAPPED

REROUTES = ("Reroute", "Reroute (rgthree)")
PRIMITIVE, GETTER, SETTER = "PrimitiveNode", "GetNode", "SetNode"
NOTES = ("Note", "MarkdownNote")
GROUP = re.compile(r"workflow[>/]")
Describe = Callable[[list[str]], Mapping[str, Mapping[str, Any]]]
Refuse = Callable[[Mapping[str, str]], WorkflowError]


class Given(NamedTuple):
    """An input that gets a value."""

    value: Any


class Linked(NamedTuple):
    """An input that gets another node's output."""

    node_id: str
    slot: int


@dataclass(frozen=True)
class Converted:
    """A prompt made from the page's format.

    Args:
        graph: API format.
        gaps: By node and input, a sentence for each that is open because what it hangs on is muted or bypassed.
    """

    graph: dict[str, Any]
    gaps: Mapping[tuple[str, str], str] = field(default_factory=dict)


def prompt_of(page: Mapping[str, Any], describe: Describe, refuse: Refuse) -> Converted:
    """Convert a workflow of the page.

    Args:
        page: Version 0.4 or 1 of the format.
        describe: Gives the entries of ``/object_info`` for classes of nodes; what it does not know it leaves out.
        refuse: Makes the refusal of nodes that are not known, from their ids and classes.

    Raises:
        WorkflowError: unknown nodes, old group nodes, links in a circle, or a file that is damaged.
    """
    walk = _Walk(definitions(page))
    found = list(walk.active(top_level(page)))
    types = sorted({node["type"] for _, node in found})
    known = walk.known = describe(types)
    unknown = {
        level.name(node): node["type"] for level, node in found if node["type"] not in known and _is_linked(node)
    }
    if unknown:
        groups = [kind for kind in unknown.values() if GROUP.match(kind)]
        if groups:
            raise WorkflowError(
                "the workflow has group nodes of an old page",
                got=", ".join(groups),
                remedy="Convert them to sub-graphs on the page, or export the API format.",
            )
        raise refuse(unknown)
    graph = {
        level.name(node): _api_node(walk, level, node, known[node["type"]])
        for level, node in found
        if node["type"] in known
    }
    return Converted(graph, walk.gaps)


def _is_linked(node: Node) -> bool:
    """Whether the node has a link; other packs have labels, bookmarks and switches that only the page knows."""
    outputs = [entry for entry in node.get("outputs") or () if entry.get("links")]
    return bool(outputs) or any(entry.get("link") is not None for entry in sockets(node))


def _api_node(walk: _Walk, level: Level, node: Node, info: Mapping[str, Any]) -> dict[str, Any]:
    inputs = {}
    for name, value in sent_values(node, info).items():
        inputs[name] = _wrapped(level.promoted.get((str(node["id"]), name), value))
    for index, entry in enumerate(sockets(node)):
        walk.stopped = None
        found = walk.source(level, node, index)
        if isinstance(found, Linked):
            inputs[entry["name"]] = list(found)
        elif found is not None:
            inputs[entry["name"]] = _wrapped(found.value)
        elif walk.stopped is not None:
            walk.gaps[level.name(node), entry["name"]] = _gap(_label(level, node), entry["name"], *walk.stopped)
    title = node.get("title") or info.get("display_name") or node["type"]
    return {"inputs": inputs, "class_type": node["type"], "_meta": {"title": title}}


def _wrapped(value: Any) -> Any:
    """A list is wrapped, because the API format reads a bare list as a link."""
    return {WRAPPED: value} if isinstance(value, list) else value


def _gap(label: str, name: str, origin: str, mode: int) -> str:
    """An input that is open because of a mode, and what to do."""
    is_what, undo = (
        ("muted", "un-mute") if mode == MUTED else ("bypassed and has nothing of this type to hand on", "un-bypass")
    )
    return f"{label}, input {name}: it hangs on {origin}, which is {is_what}. Disconnect it, or {undo} the node."


@dataclass
class _Walk:
    """Follows connections to where they really start.

    Args:
        subgraphs: Definitions by id.
        known: Entries of ``/object_info`` by class.
        gaps: By node and input, sentences for what is open because of a mode.
        stopped: The node, and its mode, at which the last search ended without a find.
    """

    subgraphs: Mapping[str, Mapping[str, Any]]
    known: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    gaps: dict[tuple[str, str], str] = field(default_factory=dict)
    stopped: tuple[str, int] | None = None
    _levels: dict[tuple[str, ...], Level] = field(default_factory=dict)

    def active(self, level: Level) -> Iterator[tuple[Level, Node]]:
        """Every node that the server is told of."""
        for node in level.nodes.values():
            if node.get("mode") in (MUTED, BYPASSED) or _is_virtual(node):
                continue
            if node["type"] in self.subgraphs:
                yield from self.active(self._inside(level, node))
            else:
                yield level, node

    def _inside(self, level: Level, host: Node) -> Level:
        path = (*level.path, str(host["id"]))
        if path not in self._levels:
            self._levels[path] = inside(level, host, self.subgraphs[host["type"]])
        return self._levels[path]

    def source(
        self, level: Level, node: Node, index: int, kind: str | None = None, seen: tuple[Any, ...] = ()
    ) -> Given | Linked | None:
        """What an input gets.

        Args:
            level: Where the node stands.
            node: The node.
            index: Which input.
            kind: Type that is looked for, the input's own when None.
            seen: Inputs on the way here.
        """
        here = (*level.path, str(node["id"]), index)
        if here in seen:
            raise WorkflowError("the links of the workflow form a circle", got=f"node {level.name(node)}")
        seen = (*seen, here)
        entries = sockets(node)
        if not 0 <= index < len(entries) or entries[index].get("link") is None:
            return None
        link = level.links.get(str(entries[index]["link"]))
        if link is None:
            return None
        if link.source == INPUT_BORDER and level.host is not None:
            return self._from_outside(level, link.slot, seen)
        origin = level.nodes.get(link.source)
        return (
            None
            if origin is None
            else self._output(level, origin, link.slot, kind or socket_type(entries[index]), seen)
        )

    def _from_outside(self, level: Level, slot: int, seen: tuple[Any, ...]) -> Given | Linked | None:
        """What the border of a sub-graph gets: its node's link, else the value that its node shows."""
        name = border_name(level.definition, slot)
        index = next((at for at, entry in enumerate(sockets(level.host)) if entry.get("name") == name), None)
        if index is not None and sockets(level.host)[index].get("link") is not None:
            return self.source(level.outer, level.host, index, None, seen)
        if name in level.inputs:
            return Given(level.inputs[name])
        target = next(border_targets(level, slot), None)
        return None if target is None else self._held(level, *target)

    def _held(self, level: Level, node: Node, entry: Mapping[str, Any]) -> Given | None:
        """The value that a widget holds by itself."""
        if node["type"] in self.subgraphs:
            inner = self._inside(level, node)
            names = [each.get("name") for each in inner.definition.get("inputs") or ()]
            if entry["name"] in inner.inputs:
                return Given(inner.inputs[entry["name"]])
            target = next(border_targets(inner, names.index(entry["name"])), None) if entry["name"] in names else None
            return None if target is None else self._held(inner, *target)
        values = widget_values(node, self.known[node["type"]]) if node["type"] in self.known else {}
        value = level.promoted.get((str(node["id"]), entry["name"]), values.get(entry["name"]))
        return None if value is None else Given(value)

    def _output(self, level: Level, node: Node, slot: int, kind: str, seen: tuple[Any, ...]) -> Given | Linked | None:
        """What an output gives."""
        if node["type"] == PRIMITIVE:  # sets its value whatever its mode
            values = node.get("widgets_values") or ()
            return Given(values[0]) if values else None
        if node.get("mode") in (MUTED, BYPASSED):
            index = None if node["mode"] == MUTED else _bypassed(node, slot, kind)
            if index is not None:
                return self.source(level, node, index, None, seen)
            self.stopped = (_label(level, node), node["mode"])
            return None
        if node["type"] in self.subgraphs:
            inner = self._inside(level, node)
            ends = [link for link in inner.links.values() if link.target == OUTPUT_BORDER and link.target_slot == slot]
            if not ends:
                return None
            if ends[0].source == INPUT_BORDER:
                return self._from_outside(inner, ends[0].slot, seen)
            return self._output(inner, inner.nodes[ends[0].source], ends[0].slot, kind, seen)
        if node["type"] in REROUTES or node["type"] == SETTER:
            return self.source(level, node, 0, kind, seen)
        if node["type"] == GETTER:
            setter = _setter(level, node)
            return None if setter is None else self.source(level, setter, 0, kind, seen)
        return None if _is_virtual(node) else Linked(level.name(node), slot)


def _label(level: Level, node: Node) -> str:
    return f"node {level.name(node)} ({node.get('title') or node['type']})"


def _is_virtual(node: Node) -> bool:
    return node["type"] in (*REROUTES, *NOTES, PRIMITIVE, GETTER, SETTER)


def _setter(level: Level, getter: Node) -> Node | None:
    """The node that keeps the value under the name that the getter asks for."""
    name = (getter.get("widgets_values") or [None])[0]
    setters = (node for node in level.nodes.values() if node["type"] == SETTER)
    return next((node for node in setters if (node.get("widgets_values") or [None])[0] == name), None)


def _bypassed(node: Node, slot: int, kind: str) -> int | None:
    """Which input a bypassed node hands on: the one beside the output if its type fits, else the first that fits."""
    kinds = [socket_type(entry) for entry in sockets(node)]
    outputs = node.get("outputs") or ()
    given = socket_type(outputs[slot]) if 0 <= slot < len(outputs) else "*"
    if kind in ("*", ""):
        return (slot if slot < len(kinds) else 0) if kinds else None
    if slot < len(kinds) and _fits(kinds[slot], given) and _fits(kinds[slot], kind):
        return slot
    if kind in kinds:
        return kinds.index(kind)
    return next((index for index, each in enumerate(kinds) if _fits(each, given) and _fits(each, kind)), None)


def _fits(first: str, second: str) -> bool:
    """Whether the page lets two types be connected."""
    if {first, second} & {"*", ""}:
        return True
    return bool({part.lower() for part in first.split(",")} & {part.lower() for part in second.split(",")})
