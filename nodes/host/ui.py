"""Stand-in for the part of ComfyUI's V3 ``ui`` that our nodes use, under the same names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .io import FolderType


class SavedResult(dict):
    """One file on disk, as ComfyUI's page and queue clients name it."""

    def __init__(self, filename: str, subfolder: str, type: FolderType) -> None:
        super().__init__(filename=filename, subfolder=subfolder, type=type.value)


class PreviewVideo:
    """Show saved videos on the node."""

    def __init__(self, values: Sequence[SavedResult]) -> None:
        self.values = list(values)

    def as_dict(self) -> dict[str, Any]:
        """The form that a host records for the node."""
        return {"images": self.values, "animated": (True,)}


class PreviewText:
    """Show a text on the node."""

    def __init__(self, value: str) -> None:
        self.value = value

    def as_dict(self) -> dict[str, Any]:
        """The form that a host records for the node."""
        return {"text": (self.value,)}
