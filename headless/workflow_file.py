"""A workflow in any form that people have it in: API format, the page's format, a queue request, a result file.

ComfyUI and this package write the prompt and the page's workflow into the tags of what they make, so a clip or a
picture is a workflow file too.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import InputError, TextError, WorkflowError
from ..core.json_text import parse_json
from .from_page import Converted, Describe, Refuse, prompt_of
from .graph import check_format, foreign_nodes, node_classes, read_workflow, runnable_classes
from .page_graph import is_page_format
from .ui_format import ui_workflow

log = logging.getLogger(__name__)

_TEXT_SUFFIXES = (".json", ".txt", "")
_TAGS = ("prompt", "workflow")


@dataclass(frozen=True)
class Workflow:
    """What was found.

    Args:
        prompt: In API format; None where there is only the page's.
        page: In the page's format, or None.
        extra_data: What a queue request carries beside the prompt.
    """

    prompt: dict[str, Any] | None = None
    page: dict[str, Any] | None = None
    extra_data: Mapping[str, Any] = field(default_factory=dict)

    def told(self, *, changed: bool) -> dict[str, Any]:
        """What result files are to hold beside the prompt; without the page's workflow where that is not true any more.

        Args:
            changed: Whether inputs were replaced since it was found.
        """
        told = dict(_beside_prompt(self.extra_data))
        told.pop("workflow", None)
        return told if changed or self.page is None else {**told, "workflow": self.page}


def read_any(path: str | Path) -> Workflow:
    """Read a workflow file, or the workflow in a result's tags.

    Raises:
        WorkflowError: it cannot be read, is no workflow, or has none in it.
    """
    path = Path(path)
    if path.suffix.lower() in _TEXT_SUFFIXES or not path.is_file() or _looks_like_json(path):
        return understood(read_workflow(path))
    from ..media.tag_reader import read_tags

    try:
        tags = read_tags(path)
    except InputError as error:
        raise WorkflowError(error.what, got=error.got, expected=f"a workflow file, or {error.expected}") from error
    content = {name: _object(tags[name]) for name in _TAGS if name in tags}
    if is_page_format(content.get("workflow")) or _is_prompt(content.get("prompt")):
        return understood({name: value for name, value in content.items() if value is not None})
    raise WorkflowError(
        "the file holds no workflow",
        got=f"{path} with {'the tags ' + ', '.join(sorted(tags)) if tags else 'no tags'}",
        expected="a clip or picture as ComfyUI or this program wrote it, or a workflow file",
        remedy="It was written without metadata, or sites and editors have taken it out.",
    )


def understood(content: Any) -> Workflow:
    """Take a workflow out of whatever it is wrapped in.

    Args:
        content: API format, the page's format, ``{"prompt": …, "extra_data": …}``, the page's pair of ``output`` and
            ``workflow``, or an entry of a server's history.

    Raises:
        WorkflowError: it is none of them.
    """
    if isinstance(content, list) and len(content) > 3 and isinstance(content[2], Mapping):
        content = {"prompt": content}  # an entry of the queue, alone
    if is_page_format(content):
        return Workflow(page=dict(content))
    if isinstance(content, Mapping) and not _is_prompt(content):
        if len(content) == 1 and isinstance(inner := next(iter(content.values())), Mapping) and "prompt" in inner:
            content = inner  # /history/ID
        page = _object(content.get("workflow"))
        prompt = _object(content.get("prompt", content.get("output")))
        extra = content.get("extra_data") or {}
        if isinstance(prompt, list) and len(prompt) > 3:  # an entry of the queue or the history
            prompt, extra = prompt[2], prompt[3]
        extra = dict(extra) if isinstance(extra, Mapping) else {}
        page = page or _beside_prompt(extra).get("workflow")
        page = dict(page) if is_page_format(page) else None
        if isinstance(prompt, Mapping) and not is_page_format(prompt):
            check_format(prompt)
        if is_page_format(prompt):
            return Workflow(page=dict(prompt), extra_data=extra)
        if _is_prompt(prompt) or page is not None:
            return Workflow(dict(prompt) if _is_prompt(prompt) else None, page, extra)
    check_format(content)
    return Workflow(dict(content))


def our_descriptions(types: list[str]) -> dict[str, dict[str, Any]]:
    """``/object_info`` of what runs without a server."""
    classes = runnable_classes()
    return {name: classes[name].GET_NODE_INFO_V1() for name in types if name in classes}


def to_prompt(workflow: Workflow, describe: Describe = our_descriptions, refuse: Refuse = foreign_nodes) -> Converted:
    """The workflow in API format, converted where it must be; what the page leaves open is told.

    Args:
        workflow: What was found.
        describe: Entries of ``/object_info`` for classes.
        refuse: The refusal of classes that are not known.

    Raises:
        WorkflowError: see :func:`~.from_page.prompt_of`.
    """
    if workflow.prompt is not None:
        return Converted(workflow.prompt)
    converted = prompt_of(workflow.page or {}, describe, refuse)
    for sentence in converted.gaps.values():
        log.warning("%s", sentence)
    if not converted.graph:
        raise WorkflowError("the workflow has no node that would run", expected="a node that is not muted")
    return converted


def with_twin(
    graph: Mapping[str, Any], workflow: Mapping[str, Any] | None, given: Mapping[str, Any]
) -> Mapping[str, Any]:
    """What a queue request carries beside its prompt, with the page-format twin in it.

    Args:
        graph: API format.
        workflow: The twin; None takes the one that was given, else lays out a graph of our own nodes.
        given: So far.
    """
    info = _beside_prompt(given)
    workflow = workflow or info.get("workflow") or _own_layout(graph)
    return given if workflow is None else {**given, "extra_pnginfo": {**info, "workflow": workflow}}


def _beside_prompt(extra_data: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a queue request says of the page; files may hold anything there."""
    info = extra_data.get("extra_pnginfo")
    return info if isinstance(info, Mapping) else {}


def _own_layout(graph: Mapping[str, Any]) -> dict[str, Any] | None:
    """A page-format twin, for graphs of our own nodes only; a graph that the server is going to refuse has none."""
    if any(node["class_type"] not in node_classes() for node in graph.values()):
        return None
    try:
        return ui_workflow(graph)
    except WorkflowError as error:
        log.info("queued without a page layout: %s", error)
        return None


def _is_prompt(content: Any) -> bool:
    """Whether this is API format."""
    return (
        isinstance(content, Mapping)
        and bool(content)
        and all(isinstance(node, Mapping) and "class_type" in node for node in content.values())
    )


def _object(value: Any) -> Any:
    """A JSON text read; None where it is none, anything else as it is."""
    if not isinstance(value, (str, bytes)):
        return value
    try:
        return parse_json(value, nan_is_null=True)
    except TextError:
        return None


def _looks_like_json(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[")
