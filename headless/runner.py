"""Runs workflows of our nodes without a server, through the standalone host."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..core.progress import SILENT, Progress
from ..nodes.host.io import FolderType, Hidden, HiddenValues, NodeOutput
from ..nodes.host.standalone import Session, default_model_roots, session
from .from_page import Converted
from .graph import Step, apply_overrides, plan
from .report import RunReport
from .ui_format import ui_workflow
from .workflow_file import to_prompt, understood

log = logging.getLogger(__name__)
Values = dict[str, list[list[Any]]]


def run_workflow(
    graph: Mapping[str, Any] | Converted,
    *,
    overrides: Mapping[str, Any] | None = None,
    output_dir: str | Path = "output",
    progress: Progress = SILENT,
    models_dir: str | Path | None = None,
    device: str = "auto",
    embed_metadata: bool = True,
    extra_pnginfo: Mapping[str, Any] | None = None,
    input_dir: str | Path = "input",
) -> RunReport:
    """Check a workflow, then run it.

    Args:
        graph: A workflow in any form that :func:`~.workflow_file.understood` takes, or what became of one.
        overrides: ``{"NODE.INPUT": value}``, see :func:`~.graph.apply_overrides`.
        output_dir: Where results go; made when it is missing.
        progress: Told by the nodes; asked before every node whether to stop.
        models_dir: Folder that is searched for models; None reads SOUNDING_VIDEO_MODELS.
        device: A torch device, or "auto".
        embed_metadata: Whether result files carry the workflow.
        extra_pnginfo: What goes into the files beside the prompt, as a page would send it; its ``workflow`` is laid out
            here when it is missing, and when an override has made it untrue.
        input_dir: Where the files lie that ComfyUI's own Load nodes name, beside what they name as a path.

    Returns:
        What the output nodes show, and the files they wrote.

    Raises:
        WorkflowError: the workflow cannot run; nothing was run.
        SoundingVideoError: what a node raised.
    """
    started = time.monotonic()
    roots = (Path(models_dir),) if models_dir is not None else default_model_roots()
    previews = Path(tempfile.gettempdir()) / f"sounding-video-{uuid.uuid4().hex}"
    here = Session(
        roots, Path(output_dir), progress, embed_metadata, device, temporary_dir=previews, input_dir=Path(input_dir)
    )
    try:
        with session(here), torch.inference_mode():
            given = graph if isinstance(graph, Converted) else to_prompt(understood(graph))
            graph = apply_overrides(given.graph, overrides or {})
            steps = plan(graph, gaps=given.gaps)
            told = dict(extra_pnginfo or {})
            if overrides or "workflow" not in told:
                told["workflow"] = ui_workflow(graph)
            hidden = {Hidden.prompt.name: graph, Hidden.extra_pnginfo.name: told}
            outputs = _execute(steps, hidden, progress)
    finally:
        shutil.rmtree(previews, ignore_errors=True)  # nobody looks at them here
    return RunReport(outputs, _files(outputs, Path(output_dir)), time.monotonic() - started)


def _execute(steps: list[Step], hidden: Mapping[str, Any], progress: Progress) -> dict[str, dict[str, Any]]:
    """Run the steps in order; a value is dropped after its last reader, because frames and latents are large."""
    last_reader = {source: step.node_id for step in steps for source, _ in step.links.values()}
    values: Values = {}
    shown: dict[str, dict[str, Any]] = {}
    for step in steps:
        progress.check_cancelled()
        log.info("running %s", step.label)
        results = _run_node(step, values, {**hidden, Hidden.unique_id.name: step.node_id})
        values[step.node_id] = _collect(step, results)
        given = [result.ui for result in results if result.ui is not None]
        ui = [part if isinstance(part, dict) else part.as_dict() for part in given]
        if ui:
            shown[step.node_id] = {key: [item for part in ui for item in part[key]] for key in ui[0]}
        for source in [source for source, reader in last_reader.items() if reader == step.node_id]:
            values.pop(source)
    return shown


def _run_node(step: Step, values: Values, hidden: Mapping[str, Any]) -> list[NodeOutput]:
    """Run a node once for each item of its longest input list; shorter lists repeat their last item, as in ComfyUI."""
    inputs = {name: [value] for name, value in step.literals.items()}
    inputs |= {name: values[source][slot] for name, (source, slot) in step.links.items()}
    asked = {name.name: hidden[name.name] for name in step.schema.hidden}
    node = type(step.node_class.__name__, (step.node_class,), {"hidden": HiddenValues(asked)})
    calls = max((len(items) for items in inputs.values()), default=1)
    return [
        node.execute(**{name: items[min(index, len(items) - 1)] for name, items in inputs.items()})
        for index in range(calls)
    ]


def _collect(step: Step, results: list[NodeOutput]) -> list[list[Any]]:
    """Per output, the list of values over the node's calls."""
    collected = []
    for slot, output in enumerate(step.schema.outputs):
        given = [result.args[slot] for result in results]
        collected.append([item for items in given for item in items] if output.is_output_list else given)
    return collected


def _files(outputs: Mapping[str, Mapping[str, Any]], output_dir: Path) -> list[Path]:
    shown = [item for ui in outputs.values() for items in ui.values() for item in items]
    return [
        output_dir / item["subfolder"] / item["filename"]
        for item in shown
        if isinstance(item, dict) and "filename" in item and item.get("type") != FolderType.temp.value
    ]
