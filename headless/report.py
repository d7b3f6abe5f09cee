"""What a headless run gives back, whoever executed it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import TextError
from ..core.json_text import parse_json
from ..nodes.telling import CAPTIONS_KEY, REPORT_KEY
from .answers import listed


@dataclass(frozen=True)
class RunReport:
    """Result of one workflow.

    Args:
        outputs: By node id, what the output node shows: ComfyUI's ``ui`` dict, e.g. ``{"images": [{"filename": …}]}``.
        files: The files that were written here, in the order of ``outputs``.
        seconds: How long it took.
        cached: Ids of nodes that were not run again (server only).
    """

    outputs: dict[str, dict[str, Any]]
    files: list[Path]
    seconds: float
    cached: tuple[str, ...] = ()

    @property
    def sentences(self) -> tuple[str, ...]:
        """What the nodes say of their run and of the captions that they wrote, each once."""
        said: list[str] = []
        for shown in self.outputs.values():
            values = shown if isinstance(shown, dict) else {}
            said += listed(values.get(REPORT_KEY))
            for parts in listed(values.get(CAPTIONS_KEY)):
                said += _notes(parts)
        return tuple(dict.fromkeys(sentence for sentence in said if isinstance(sentence, str)))


def _notes(parts: Any) -> list[Any]:
    """What a node's report on captions notes; nothing where another server says something else."""
    try:
        report = parse_json(parts["report"]) if isinstance(parts["report"], str) else None
    except (TypeError, LookupError, TextError):
        return []
    return listed(report.get("notes")) if isinstance(report, dict) else []
