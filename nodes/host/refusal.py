"""What ComfyUI says of a workflow it does not take, as one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def refusal(answer: Mapping[str, Any], graph: Mapping[str, Any]) -> str:
    """ComfyUI's error object as one line: what, then every node with its inputs' faults."""
    error = answer.get("error") or {}
    lines = [
        f"{error.get('message', '')} {error.get('details', '')}".strip() if isinstance(error, dict) else str(error)
    ]
    for node_id, node in (answer.get("node_errors") or {}).items():
        name = f"node {node_id} ({node.get('class_type') or graph.get(node_id, {}).get('class_type')})"
        lines += [_fault(name, fault) for fault in node.get("errors", ())]
    return "; ".join(dict.fromkeys(line for line in lines if line))


def _fault(node: str, fault: Mapping[str, Any]) -> str:
    """One entry of ``node_errors``."""
    port, details = (fault.get("extra_info") or {}).get("input_name"), fault.get("details") or ""
    if fault.get("type") == "custom_validation_failed":
        # A node's own verdict comes once for every input it looked at, as "input - verdict".
        return f"{node}: {details.partition(' - ')[2].rstrip('.')}"
    if str(fault.get("type")).startswith("exception_during"):  # how our nodes give a verdict, so that it comes once
        return f"{node}: {details.rstrip('.')}"
    return f"{node}, input {port}: {fault.get('message')}" + (f" ({details})" if details not in ("", port) else "")
