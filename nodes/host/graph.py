"""Reading and checking API-format workflows before anything runs.

API format: ``{"7": {"class_type": "T2SVJointSampler", "inputs": {"steps": 50, "model": ["4", 0]}}}``, with an optional
title under ``_meta``. ComfyUI checks much of this too, but leaves combo values, unknown inputs and fractions for whole
numbers unchecked; here everything that can be known beforehand is refused with a sentence.
"""

from __future__ import annotations

import copy
import difflib
import functools
import inspect
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import WorkflowError
from .. import NODES
from .folders import MODEL_INPUTS, why_unusable
from .io import ComfyNode, Input, Schema

_EXPORT = "In ComfyUI choose Workflow > Export (API), or use the file of the same name in workflows/api."
_WIDGETS = {
    "INT": "a whole number",
    "FLOAT": "a number",
    "STRING": "text",
    "BOOLEAN": "true or false",
    "COMBO": "one of its options",
}


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


def read_workflow(path: str | Path) -> dict[str, Any]:
    """Read a workflow file.

    Raises:
        WorkflowError: no such file, or not JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WorkflowError(
            "the workflow file cannot be read",
            got=path,
            expected="an API-format .json file",
            remedy=f"{error.strerror}.",
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise WorkflowError(
            "the workflow file is not JSON", got=f"{path} ({error})", expected="an API-format .json file"
        ) from error


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
    changed = copy.deepcopy(dict(graph))
    for target, value in overrides.items():
        name, dot, port_name = target.rpartition(".")
        if not dot or not name:
            raise WorkflowError(
                "this does not name an input",
                got=repr(target),
                expected="NODE.INPUT, for example T2SVJointSampler.steps",
            )
        node_id = _find_node(changed, name)
        inputs = changed[node_id].setdefault("inputs", {})
        inputs[port_name] = _replacement(node_id, changed[node_id]["class_type"], inputs, port_name, value)
    return changed


def plan(graph: Mapping[str, Any], *, check_options: bool = True) -> list[Step]:
    """Check a whole workflow and put the nodes its results need in running order.

    Args:
        graph: API-format workflow.
        check_options: Whether a value must be on the list of its input. False where the lists are another machine's.

    Raises:
        WorkflowError: see the module's text; the message names node, input, value and what would be right.
    """
    check_format(graph)
    steps = {node_id: _step(node_id, node, graph, check_options) for node_id, node in graph.items()}
    ends = [node_id for node_id, step in steps.items() if step.schema.is_output_node]
    if not ends:
        raise WorkflowError(
            "the workflow has no output node", expected="a node that writes a result, for example T2SVMux"
        )
    for step in steps.values():
        for name, (source, slot) in step.links.items():
            _check_link(step, name, steps[source], slot)
    order: dict[str, Step] = {}
    for end in ends:
        _visit(end, steps, order, ())
    return list(order.values())


def _step(node_id: str, node: Mapping[str, Any], graph: Mapping[str, Any], check_options: bool) -> Step:
    node_class = _node_class(node_id, node["class_type"])
    schema = node_class.GET_SCHEMA()
    label = f"node {node_id} ({schema.node_id})"
    literals, links = {}, {}
    for name, value in node.get("inputs", {}).items():
        port = schema.input(name)
        if port is None:
            raise _unknown_input(label, name, [port.id for port in schema.inputs])
        if isinstance(value, list):
            links[name] = _read_link(f"{label}, input {name}", value, graph)
        else:
            literals[name] = _check_literal(f"{label}, input {name}", port, value, check_options)
    missing = [port for port in schema.inputs if not port.optional and port.id not in literals and port.id not in links]
    if missing:
        raise WorkflowError(
            f"{label} lacks required input: {', '.join(port.id for port in missing)}",
            expected=", ".join(
                f"{port.id}: {_WIDGETS.get(port.io_type, f'a link from a {port.io_type} output')}" for port in missing
            ),
        )
    wanted = [name for name in inspect.signature(node_class.validate_inputs).parameters if name in literals]
    wanted = [name for name in wanted if check_options or name not in MODEL_INPUTS]
    verdict = node_class.validate_inputs(**{name: literals[name] for name in wanted})
    if verdict is not True:
        raise WorkflowError(f"{label}: {verdict}".rstrip("."))
    return Step(node_id, node_class, schema, literals, links)


def _node_class(node_id: str, name: str) -> type[ComfyNode]:
    classes = node_classes()
    if name in classes:
        return classes[name]
    near = difflib.get_close_matches(name, classes, n=3)
    raise WorkflowError(
        f"node {node_id} is of a kind that cannot run without a ComfyUI server",
        got=name,
        expected=("perhaps " + " or ".join(near)) if near else "one of " + ", ".join(sorted(classes)),
        remedy="" if near else "Workflows with other nodes run on a server: sounding-video queue.",
    )


def _unknown_input(label: str, name: str, names: list[str]) -> WorkflowError:
    near = difflib.get_close_matches(name, names, n=2)
    return WorkflowError(
        f"{label} has no such input",
        got=name,
        expected=("perhaps " + " or ".join(near)) if near else "one of " + ", ".join(names),
    )


def _find_node(graph: Mapping[str, Any], name: str) -> str:
    if name in graph:
        return name
    titles = {node_id: (node["class_type"], (node.get("_meta") or {}).get("title")) for node_id, node in graph.items()}
    matches = [node_id for node_id, names in titles.items() if name in names]
    if len(matches) == 1:
        return matches[0]
    known = ", ".join(f"{node_id} ({class_type})" for node_id, (class_type, _) in titles.items())
    if matches:
        raise WorkflowError("several nodes have this name", got=name, expected="an id: " + " or ".join(matches))
    raise WorkflowError("the workflow has no such node", got=name, expected="one of " + known)


def _replacement(node_id: str, class_type: str, inputs: Mapping[str, Any], name: str, value: Any) -> Any:
    """The value for an input, read as the input's type; a node we do not know tells it by the value it has."""
    node_class = node_classes().get(class_type)
    if node_class is not None:
        schema = node_class.GET_SCHEMA()
        port = schema.input(name)
        if port is None:
            raise _unknown_input(f"node {node_id} ({class_type})", name, [port.id for port in schema.inputs])
        return _from_text(port.io_type, value, f"{node_id}.{name}")
    if name not in inputs:
        raise _unknown_input(f"node {node_id} ({class_type})", name, list(inputs))
    # bool before int: a bool is an int to Python
    kinds = {bool: "BOOLEAN", int: "INT", float: "FLOAT"}
    return _from_text(kinds.get(type(inputs[name]), "STRING"), value, f"{node_id}.{name}")


def _from_text(io_type: str, value: Any, target: str) -> Any:
    """A command line gives texts; read them as the input's type."""
    if io_type in ("STRING", "COMBO") and isinstance(value, (bool, int, float)):
        return str(value)
    if not isinstance(value, str) or io_type not in ("INT", "FLOAT", "BOOLEAN"):
        return value
    try:
        if io_type == "BOOLEAN":
            return {"true": True, "false": False}[value.strip().lower()]
        return int(value) if io_type == "INT" else float(value)
    except (ValueError, KeyError) as error:
        raise WorkflowError(
            f"the value for {target} cannot be read", got=repr(value), expected=_WIDGETS[io_type]
        ) from error


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
            f"{where}: linked to a node that is not there", got=source, expected="one of " + ", ".join(graph)
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


def _check_literal(where: str, port: Input, value: Any, check_options: bool) -> Any:
    if port.io_type not in _WIDGETS:
        raise WorkflowError(
            f"{where} takes no value", got=repr(value)[:80], expected=f"a link from a {port.io_type} output"
        )
    types = {"INT": int, "FLOAT": (int, float), "STRING": str, "BOOLEAN": bool, "COMBO": str}[port.io_type]
    if not isinstance(value, types) or (isinstance(value, bool) and port.io_type != "BOOLEAN"):
        raise WorkflowError(
            f"{where}: wrong type", got=f"{value!r} ({type(value).__name__})"[:80], expected=_WIDGETS[port.io_type]
        )
    if port.io_type == "COMBO" and check_options and value not in port.options["options"]:
        raise WorkflowError(
            f"{where}: not among its options",
            got=repr(value),
            expected="one of " + ", ".join(port.options["options"]),
            remedy=" ".join(why_unusable(port.id, value)),
        )
    if port.io_type in ("INT", "FLOAT"):
        low, high = port.options.get("min", -math.inf), port.options.get("max", math.inf)
        if not low <= value <= high:
            raise WorkflowError(f"{where}: out of range", got=value, expected=f"{low} to {high}")
    return float(value) if port.io_type == "FLOAT" else value


def _visit(node_id: str, steps: Mapping[str, Step], order: dict[str, Step], path: tuple[str, ...]) -> None:
    """Depth first, so that every node comes after the nodes it reads from."""
    if node_id in path:
        circle = [*path[path.index(node_id) :], node_id]
        raise WorkflowError(
            "the links of the workflow form a circle", got=" <- ".join(circle), expected="links that lead forward"
        )
    if node_id in order:
        return
    for source, _ in steps[node_id].links.values():
        _visit(source, steps, order, (*path, node_id))
    order[node_id] = steps[node_id]
