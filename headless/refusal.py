"""What ComfyUI says of a workflow that it refuses, as one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .answers import listed


def refusal(answer: Mapping[str, Any], graph: Mapping[str, Any]) -> str:
    """ComfyUI's error object as one line: what, then every node with its inputs' faults."""
    error = answer.get("error") or {}
    lines = [
        f"{error.get('message', '')} {error.get('details', '')}".strip() if isinstance(error, dict) else str(error)
    ]
    gone = _gone(graph)
    for node_id, node in _object(answer.get("node_errors")).items():
        class_type = _object(node).get("class_type") or graph.get(node_id, {}).get("class_type")
        faults = [_object(fault) for fault in listed(_object(node).get("errors"))]
        lines += [_fault(f"node {node_id} ({class_type})", fault) for fault in faults if not _is_key(fault, gone)]
    lines += gone.values()
    return "; ".join(dict.fromkeys(line for line in lines if line))


def _object(value: Any) -> dict[str, Any]:
    """An object of a server's answer; nothing where it is none."""
    return value if isinstance(value, dict) else {}


def _gone(graph: Mapping[str, Any]) -> dict[str, str]:
    """What to disconnect, by the id of each missing node that links name: ComfyUI says only the id."""
    found: dict[str, list[str]] = {}
    for node_id, node in graph.items():
        for port, value in node.get("inputs", {}).items():
            if isinstance(value, list) and len(value) == 2 and str(value[0]) not in graph:
                found.setdefault(str(value[0]), []).append(f"node {node_id} ({node.get('class_type')}), input {port}")
    return {
        gone: f"{' and '.join(ports)}: linked to node {gone}, which is not there: disconnect that, or put the node back"
        for gone, ports in found.items()
    }


def _is_key(fault: Mapping[str, Any], gone: Mapping[str, str]) -> bool:
    """Whether the fault is ComfyUI's look-up of a node that is not there."""
    return str(fault.get("type")).startswith("exception_during") and str(fault.get("details")).strip("'\"") in gone


def _fault(node: str, fault: Mapping[str, Any]) -> str:
    """One entry of ``node_errors``."""
    port, details = _object(fault.get("extra_info")).get("input_name"), str(fault.get("details") or "")
    if fault.get("type") == "custom_validation_failed":
        # A node's own verdict comes once for every input it looked at, as "input - verdict".
        return f"{node}: {details.partition(' - ')[2].rstrip('.')}"
    if str(fault.get("type")).startswith("exception_during"):  # how our nodes give a verdict, so that it comes once
        return f"{node}: {details.rstrip('.')}"
    return f"{node}, input {port}: {fault.get('message')}" + (f" ({details})" if details not in ("", port) else "")
