"""What the metadata of our own weight files share: how entries are read, and how those that cannot be are refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import CorruptWeightsError, IncompatibleWeightsError
from ...core.json_text import parse_json

VERSION = "1"
TRUTHS = {"true": True, "false": False}


@dataclass(frozen=True)
class OwnMetadata:
    """Entries of one file.

    Args:
        title: What the file is, for messages.
        writer: The function that writes such files.
        entries: Free text by name; entries of others are left alone.
        path: For messages.
    """

    title: str
    writer: str
    entries: Mapping[str, str]
    path: Path

    def require_version(self) -> None:
        """Refuse another version than ours.

        Raises:
            IncompatibleWeightsError: it is one.
        """
        if self.entries.get("version", VERSION) != VERSION:
            raise IncompatibleWeightsError(
                f"the {self.title} is of another version",
                got=f"{self.entries['version']!r:.40} in {self.path}",
                expected=VERSION,
                remedy="Update the package, or write the file again.",
            )

    def trained(self) -> bool:
        """Whether the weights were trained, which is so where nothing is said.

        Raises:
            CorruptWeightsError: neither true nor false.
        """
        text = self.entries.get("trained", "true")
        if text not in TRUTHS:
            raise self.unreadable("trained", text, "it is neither true nor false")
        return TRUTHS[text]

    def json(self, name: str) -> Any:
        """The value of an entry that is there.

        Raises:
            CorruptWeightsError: it is no JSON.
        """
        told = f"the {self.title}'s metadata {name!r}"
        rest = {"error": CorruptWeightsError, "expected": f"what {self.writer} writes"}
        return parse_json(self.entries[name], what=told, where=self.path, **rest)

    def unreadable(self, name: str, text: str, problem: str) -> CorruptWeightsError:
        """The error for an entry."""
        return CorruptWeightsError(
            f"the {self.title}'s metadata {name!r} cannot be read",
            got=f"{text[:80]} in {self.path} ({problem})",
            expected=f"what {self.writer} writes",
        )
