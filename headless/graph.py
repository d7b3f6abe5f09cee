"""Reading and checking API-format workflows before anything runs.

API format: ``{"7": {"class_type": "T2SVJointSampler", "inputs": {"steps": 50, "model": ["4", 0]}}}``, with an optional
title under ``_meta``. What a ComfyUI server takes is taken, and read as it reads it; everything else that can be known
beforehand is refused with a sentence.
"""

from __future__ import annotations

import copy
import difflib
import functools
import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..core.errors import WorkflowError
from ..core.json_text import read_json
from ..nodes import NODES
from ..nodes.host.folders import MODEL_INPUTS
from ..nodes.host.io import ComfyNode, Schema
from ..nodes.host.prefixes import title_of
from .native_nodes import NATIVE_NODES
from .values import WIDGETS, from_text, read_value

log = logging.getLogger(__name__)

PLACE_INPUT = "filename_prefix"  # whether it can be written is for the machine to say that runs the workflow
_EXPORT = "In ComfyUI choose Workflow > Export (API), or use the file of the same name in workflows/api."


@dataclass(frozen=True)
class Step:
    """One node, checked and ready to run.

    Args:
        node_id: Its id in the file.
        node_class: The class that runs.
        schema: The class's schema.
        literals: Inputs given as values.
        links: Inputs given as ``(node id, output index)``.
    """

    node_id: str
    node_class: type[ComfyNode]
    schema: Schema
    literals: dict[str, Any]
    links: dict[str, tuple[str, int]]

    @property
    def label(self) -> str:
        """How messages name the node."""
        return f"node {self.node_id} ({self.schema.node_id})"


@functools.cache
def node_classes() -> dict[str, type[ComfyNode]]:
    """Our nodes by id."""
    return {node.GET_SCHEMA().node_id: node for node in NODES}


def runnable_classes() -> dict[str, type[ComfyNode]]:
    """What runs without a server: our nodes, and those of ComfyUI's own that give them files."""
    return node_classes() | _native_classes()


@functools.cache
def _native_classes() -> dict[str, type[ComfyNode]]:
    return {node.GET_SCHEMA().node_id: node for node in NATIVE_NODES}


def read_workflow(path: str | Path) -> dict[str, Any]:
    """Read a workflow file.

    Raises:
        WorkflowError: no such file, or not JSON.
    """
    told = {"what": "the workflow file", "expected": "a workflow file"}
    return read_json(path, **told, error=WorkflowError, nan_is_null=True)


def check_format(graph: Any) -> None:
    """Refuse what is not an API-format workflow, and say what it is.

    Raises:
        WorkflowError: the page's format, an empty graph, or something else.
    """
    if isinstance(graph, dict) and isinstance(graph.get("nodes"), list):
        raise WorkflowError("this is a workflow in the page's (UI) format", expected="the API format", remedy=_EXPORT)
    if isinstance(graph, dict) and isinstance(graph.get("prompt"), dict) and "class_type" not in graph["prompt"]:
        raise WorkflowError("this is a queue request, not a workflow", expected="only the value under its key 'prompt'")
    if not isinstance(graph, dict) or not graph:
        kind = "an empty file" if graph in ({}, [], None) else type(graph).__name__
        raise WorkflowError("this is not a workflow", got=kind, expected="a JSON object of nodes", remedy=_EXPORT)
    for node_id, node in graph.items():
        if (
            not isinstance(node, dict)
            or not isinstance(node.get("class_type"), str)
            or not isinstance(node.get("inputs", {}), dict)
        ):
            raise WorkflowError(
                f"node {node_id} is not a node", got=repr(node)[:80], expected="an object with class_type and inputs"
            )


def apply_overrides(graph: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a graph with inputs replaced.

    Args:
        graph: API-format workflow.
        overrides: ``{"NODE.INPUT": value}``. NODE is an id, or a class or title that only one node has. Texts are read
            as the input's type, for nodes that are not ours as the type of the value they replace.

    Raises:
        WorkflowError: a target that is not there or not unique, or a text that cannot be read.
    """
    check_format(graph)
    changed, schema_of = copy.deepcopy(dict(graph)), functools.cache(_schema_of)
    for target, value in overrides.items():
        name, port_name = _split_target(changed, target)
        node_id = _find_node(changed, name)
        inputs = changed[node_id].setdefault("inputs", {})
        schema = schema_of(changed[node_id]["class_type"])
        inputs[port_name] = _replacement(node_id, changed[node_id]["class_type"], schema, inputs, port_name, value)
    return changed


def plan(
    graph: Mapping[str, Any],
    *,
    check_options: bool = True,
    gaps: Mapping[tuple[str, str], str] = MappingProxyType({}),
) -> list[Step]:
    """Check a whole workflow and put the nodes its results need in running order.

    Args:
        graph: API-format workflow.
        check_options: Whether a value must be on the list of its input. False where the lists are another machine's.
        gaps: By node and input, a sentence on why it is open; told where it must not be.

    Raises:
        WorkflowError: see the module's text; the message names node, input, value and what would be right.
    """
    check_format(graph)
    schemas = _schemas(graph)
    ends = [node_id for node_id, node in graph.items() if schemas[node["class_type"]].is_output_node]
    if not ends:
        raise WorkflowError(
            "the workflow has no output node", expected="a node that writes a result, for example T2SVMux"
        )
    order: dict[str, Step] = {}
    for end in ends:
        _visit(end, lambda node_id: _step(node_id, graph, schemas, check_options, gaps), order, ())
    for step in order.values():
        for name, (source, slot) in step.links.items():
            _check_link(step, name, order[source], slot)
    return list(order.values())


def _schemas(graph: Mapping[str, Any]) -> dict[str, Schema]:
    """One schema a class, because listing files costs time."""
    classes = runnable_classes()
    foreign = {node_id: node["class_type"] for node_id, node in graph.items() if node["class_type"] not in classes}
    if foreign:
        raise foreign_nodes(foreign)
    return {name: classes[name].GET_SCHEMA() for name in {node["class_type"] for node in graph.values()}}


def _step(
    node_id: str,
    graph: Mapping[str, Any],
    schemas: Mapping[str, Schema],
    check_options: bool,
    gaps: Mapping[tuple[str, str], str],
) -> Step:
    node = graph[node_id]
    node_class, schema = runnable_classes()[node["class_type"]], schemas[node["class_type"]]
    label = f"node {node_id} ({schema.node_id})"
    literals, links = {}, {}
    for name, value in node.get("inputs", {}).items():
        port = schema.input(name)
        if port is None:
            if check_options:
                _tell_ignored(label, name, [port.id for port in schema.inputs])
        elif isinstance(value, list):
            links[name] = _read_link(f"{label}, input {name}", value, graph)
        elif value is not None or port.io_type in WIDGETS or not port.optional:
            literals[name] = read_value(f"{label}, input {name}", port, value, check_options)
    missing = [port for port in schema.inputs if not port.optional and port.id not in literals and port.id not in links]
    if missing:
        raise WorkflowError(
            f"{label} lacks required input: {', '.join(port.id for port in missing)}",
            expected=", ".join(
                f"{port.id}: {WIDGETS.get(port.io_type, f'a link from a {port.io_type} output')}" for port in missing
            ),
            remedy=" ".join(gaps[node_id, port.id] for port in missing if (node_id, port.id) in gaps),
        )
    wanted = [name for name in inspect.signature(node_class.validate_inputs).parameters if name in literals]
    wanted = [name for name in wanted if check_options or name not in (*MODEL_INPUTS, PLACE_INPUT)]
    verdict = node_class.validate_inputs(**{name: literals[name] for name in wanted})
    if verdict is not True:
        raise WorkflowError(f"{label}: {verdict}".rstrip("."))
    return Step(node_id, node_class, schema, literals, links)


def _tell_ignored(label: str, name: str, names: list[str]) -> None:
    near = difflib.get_close_matches(name, names, n=2)
    level = logging.WARNING if near else logging.INFO
    meant = f" (perhaps {' or '.join(near)})" if near else ""
    log.log(level, "%s has no input %s%s: it is ignored, as on a ComfyUI server", label, name, meant)


def foreign_nodes(foreign: Mapping[str, str]) -> WorkflowError:
    """The refusal of nodes that are not ours.

    Args:
        foreign: Node id to class; at least one.
    """
    classes = node_classes()
    (first, *more), names = foreign, ", ".join(dict.fromkeys(foreign.values()))
    near = [] if more else difflib.get_close_matches(names, classes, n=3)
    what = f"nodes {', '.join(foreign)} are of kinds" if more else f"node {first} is of a kind"
    return WorkflowError(
        f"{what} that cannot run without a ComfyUI server",
        got=names,
        expected=("perhaps " + " or ".join(near)) if near else "one of " + ", ".join(sorted(classes)),
        remedy="" if near else "Workflows with other nodes run on a server: sounding-video queue.",
    )


def _unknown_input(label: str, name: str, names: list[str]) -> WorkflowError:
    near = difflib.get_close_matches(name, names, n=2)
    meant = f"perhaps {' or '.join(near)}, " if near else ""
    return WorkflowError(f"{label} has no such input", got=name, expected=f"{meant}one of {', '.join(names)}")


def _split_target(graph: Mapping[str, Any], target: str) -> tuple[str, str]:
    """Node and input of ``NODE.INPUT``; both may have dots in them, a title and an input of a dynamic choice."""
    parts = target.split(".")
    splits = [(".".join(parts[:at]), ".".join(parts[at:])) for at in range(len(parts) - 1, 0, -1)]
    splits = [(name, port) for name, port in splits if name and port]
    if not splits:
        raise WorkflowError(
            "this does not name an input",
            got=repr(target),
            expected="NODE.INPUT, for example T2SVJointSampler.steps",
        )
    names = {name for node_id, node in graph.items() for name in (node_id, *_names(node))}
    return next((split for split in splits if split[0] in names), splits[0])


def _names(node: Mapping[str, Any]) -> tuple[str, ...]:
    """Class and title."""
    title = title_of(node)
    return (node["class_type"], *([title] if title else []))


def _find_node(graph: Mapping[str, Any], name: str) -> str:
    if name in graph:
        return name
    matches = [node_id for node_id, node in graph.items() if name in _names(node)]
    if len(matches) == 1:
        return matches[0]
    known = ", ".join(f"{node_id} ({node['class_type']})" for node_id, node in graph.items())
    if matches:
        raise WorkflowError("several nodes have this name", got=name, expected="an id: " + " or ".join(matches))
    raise WorkflowError("the workflow has no such node", got=name, expected="one of " + known)


def _schema_of(class_type: str) -> Schema | None:
    """None for a node that is not ours."""
    node_class = node_classes().get(class_type)
    return None if node_class is None else node_class.GET_SCHEMA()


def _replacement(
    node_id: str, class_type: str, schema: Schema | None, inputs: Mapping[str, Any], name: str, value: Any
) -> Any:
    """The value for an input, read as the input's type; a node we do not know tells it by the value it has."""
    if schema is not None:
        port = schema.input(name)
        if port is None:
            raise _unknown_input(f"node {node_id} ({class_type})", name, [port.id for port in schema.inputs])
        return from_text(port.io_type, value, f"{node_id}.{name}")
    if name not in inputs:
        raise _unknown_input(f"node {node_id} ({class_type})", name, list(inputs))
    # bool before int: a bool is an int to Python
    kinds = {bool: "BOOLEAN", int: "INT", float: "FLOAT"}
    return from_text(kinds.get(type(inputs[name]), "STRING"), value, f"{node_id}.{name}")


def _read_link(where: str, value: list[Any], graph: Mapping[str, Any]) -> tuple[str, int]:
    if (
        len(value) != 2
        or not isinstance(value[0], (str, int))
        or isinstance(value[1], bool)
        or not isinstance(value[1], int)
    ):
        raise WorkflowError(f"{where}: this is not a link", got=repr(value)[:80], expected='["node id", output index]')
    source = str(value[0])
    if source not in graph:
        raise WorkflowError(
            f"{where}: linked to a node that is not there",
            got=source,
            expected="one of " + ", ".join(graph),
            remedy="Disconnect the input, that is leave it out, or put the node back.",
        )
    return source, value[1]


def _check_link(step: Step, name: str, source: Step, slot: int) -> None:
    where = f"{step.label}, input {name}"
    outputs = source.schema.outputs
    if not 0 <= slot < len(outputs):
        known = ", ".join(f"{index} ({output.display_name})" for index, output in enumerate(outputs))
        raise WorkflowError(f"{where}: {source.label} has no output {slot}", expected=known)
    wanted, given = step.schema.input(name).io_type, outputs[slot].io_type
    if wanted != given:
        raise WorkflowError(
            f"{where}: wrong link type",
            got=f"{given} from output {slot} ({outputs[slot].display_name}) of {source.label}",
            expected=wanted,
        )


def _visit(node_id: str, make: Callable[[str], Step], order: dict[str, Step], path: tuple[str, ...]) -> None:
    """Depth first, so that every node comes after the nodes it reads from.

    graphlib sorts by levels: it would load and sample for every result before the first is saved, and the page's order
    of nodes, which templates are laid out by, would be another.
    """
    if node_id in path:
        circle = [*path[path.index(node_id) :], node_id]
        raise WorkflowError(
            "the links of the workflow form a circle", got=" <- ".join(circle), expected="links that lead forward"
        )
    if node_id in order:
        return
    step = make(node_id)
    for source, _ in step.links.values():
        _visit(source, make, order, (*path, node_id))
    order[node_id] = step
