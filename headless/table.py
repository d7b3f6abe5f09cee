"""A table of prompts as a batch: one workflow, one run a row, columns named after inputs."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.dialect import escaped
from ..core.errors import InputError, SoundingVideoError, WorkflowError
from ..core.json_text import read_text
from ..models.weights.find import POCKET
from .graph import apply_overrides, node_classes

NAME, PROMPT = "name", "prompt"
CAPTIONS = ("video_caption", "audio_caption")
# All are read and expanded before the first one runs.
MOST_ROWS = 10_000


def read_table(path: str | Path) -> list[dict[str, str]]:
    """Rows of a CSV file by column; commas, semicolons or tabs, as the first line has them.

    Raises:
        InputError: it cannot be read, has no rows or too many, a column without a name or twice, or a row of another
            length.
    """
    expected = "a CSV file in UTF-8"
    text = read_text(path, what="the table", error=InputError, expected=expected).replace("\r\n", "\n")
    head = text.partition("\n")[0]
    separator = max(",;\t", key=head.count)
    lines: list[list[str]] = []
    try:
        for line in csv.reader(io.StringIO(text, newline=""), delimiter=separator):
            lines += [line] if any(line) else []
            if len(lines) > MOST_ROWS + 1:
                raise InputError(
                    "the table has more rows than a batch takes",
                    got=path,
                    expected=f"at most {MOST_ROWS}",
                    remedy="Split it into several.",
                )
    except csv.Error as error:
        raise InputError("the table cannot be read", got=f"{path} ({error})", expected=expected) from error
    columns = [cell.strip() for cell in lines[0]] if lines else []
    if len(lines) < 2 or not all(columns) or len(set(columns)) != len(columns):
        raise InputError(
            "the table has no usable head or no rows",
            got=f"{path} with columns {', '.join(map(repr, columns)) or 'none'} and {max(0, len(lines) - 1)} rows",
            expected="a first line of different names, for example prompt,seed, and a line for each run",
        )
    for number, line in enumerate(lines[1:], start=1):
        if len(line) != len(columns):
            raise InputError(
                f"row {number} of the table has another length",
                got=f"{len(line)} cells",
                expected=f"{len(columns)}: {', '.join(columns)}",
                remedy="Put texts with a comma in them into double quotes.",
            )
    return [dict(zip(columns, line, strict=True)) for line in lines[1:]]


def row_graph(graph: Mapping[str, Any], row: Mapping[str, str]) -> dict[str, Any]:
    """The workflow with one row's values.

    Args:
        graph: API format.
        row: Column to text. A column is ``NODE.INPUT``, or the name of an input that one node has; ``prompt`` is
            expanded into both captions by rules where no node takes a prompt; ``name`` only names the run. An empty
            cell leaves the workflow's value.

    Raises:
        WorkflowError: a column that names no input, or several; a value that cannot be read.
    """
    overrides: dict[str, str] = {}
    for column, value in row.items():
        if column == NAME or not value.strip():
            continue
        if "." in column:
            overrides[column] = value
            continue
        owners = _owners(graph, column)
        if column == PROMPT and not owners:
            overrides |= _expanded(graph, value)
        elif len(owners) != 1:
            raise _not_one(graph, column, owners)
        else:
            overrides[f"{owners[0]}.{column}"] = value
    return apply_overrides(graph, overrides)


def checked_rows(graph: Mapping[str, Any], rows: list[dict[str, str]]) -> list[dict[str, Any]]:
    """The workflow once a row; every row is read before anything runs.

    Raises:
        WorkflowError: as :func:`row_graph`, and says which row.
    """
    graphs = []
    for number, row in enumerate(rows, start=1):
        try:
            graphs.append(row_graph(graph, row))
        except SoundingVideoError as error:
            raise WorkflowError(f"row {number} of the table: {str(error).rstrip('.')}") from error
    return graphs


def _owners(graph: Mapping[str, Any], name: str) -> list[str]:
    """Nodes with an input of that name that is not linked."""
    found = []
    for node_id, node in graph.items():
        inputs = node.get("inputs", {})
        ours = node_classes().get(node["class_type"])
        known = name in inputs or (ours is not None and ours.GET_SCHEMA().input(name) is not None)
        if known and not isinstance(inputs.get(name), list):
            found.append(node_id)
    return found


def _expanded(graph: Mapping[str, Any], prompt: str) -> dict[str, str]:
    """Both captions of a prompt, by rules, for the one node that takes them."""
    from ..captions.backends import DEFAULT_BACKEND, open_backend
    from ..captions.crr import expand

    owners = [_owners(graph, name) for name in CAPTIONS]
    for name, nodes in zip(CAPTIONS, owners, strict=True):
        if len(nodes) != 1:
            raise _not_one(graph, name, nodes)
    chosen = [value for node in graph.values() for value in node.get("inputs", {}).values()]
    profile = "short" if POCKET in chosen else "bridgedit"  # the lengths each model was trained on
    with open_backend(DEFAULT_BACKEND) as backend:
        captions = expand(prompt, backend=backend, profile=profile).captions
    return {
        f"{nodes[0]}.{name}": escaped(text)
        for name, nodes, text in zip(CAPTIONS, owners, (captions.video, captions.audio), strict=True)
    }


def _not_one(graph: Mapping[str, Any], name: str, owners: list[str]) -> WorkflowError:
    """No node or several have the input."""
    if owners:
        nodes = " or ".join(f"{node_id}.{name} ({graph[node_id]['class_type']})" for node_id in owners)
        return WorkflowError(f"several nodes have an input {name!r}", expected=nodes)
    inputs = [item for node in graph.values() for item in node.get("inputs", {}).items()]
    free = sorted({port for port, value in inputs if not isinstance(value, list)})
    return WorkflowError(f"no node has an unlinked input {name!r}", expected="one of " + ", ".join(free))
