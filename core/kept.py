"""What is kept on this machine for later runs: JSON files in the user's cache, by the hash of what they depend on."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from .disk import is_file
from .errors import OutputError, TextError
from .json_text import read_json
from .new_files import made_folder, remove, remove_abandoned, scratch_path

_log = logging.getLogger(__name__)


def user_folder(name: str, what: str) -> Path:
    """A folder in the user's cache, where this system keeps it; never the package's own folder.

    Args:
        name: Of the folder.
        what: Is kept there, for the message.

    Raises:
        OutputError: the user has no home folder.
    """
    try:
        folder = user_cache_path("sounding_video", appauthor=False) / name
    except RuntimeError:  # newer platformdirs; older ones give a folder that is really called ~
        folder = Path("~")
    if not folder.is_absolute():
        raise OutputError(f"there is no home folder in which {what} can be kept", expected="HOME or XDG_CACHE_HOME set")
    return folder


class KeptJson:
    """One JSON file an entry.

    Args:
        folder: Made when the first entry is written.
        what: Is kept there, for messages.
        most: Entries; beyond it the oldest go.
    """

    def __init__(self, folder: Path, what: str, most: int | None = None) -> None:
        self.folder, self._what, self._most = Path(folder), what, most

    @staticmethod
    def key(parts: Mapping[str, Any]) -> str:
        """The hash of what an entry depends on."""
        text = json.dumps(parts, sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    def load(self, key: str) -> dict[str, Any] | None:
        """The entry, None when there is none; one that cannot be read counts as none and is named in the log."""
        path = self.folder / f"{key}.json"
        if not is_file(path):
            return None
        try:
            value = read_json(path, what=f"the file that keeps {self._what}")
        except TextError as error:
            _log.warning("%s They are made anew.", error)
            return None
        return value if isinstance(value, dict) else None

    def store(self, key: str, value: Mapping[str, Any]) -> None:
        """Write the entry whole or not at all.

        Raises:
            OutputError: the folder cannot be written.
        """
        path = self.folder / f"{key}.json"
        try:
            with made_folder(self.folder):
                remove_abandoned(self.folder)
                self._make_room()
                part = scratch_path(path)
                try:
                    part.write_text(json.dumps(value, ensure_ascii=True), encoding="utf-8")
                    part.replace(path)
                finally:
                    remove(part)
        except OSError as error:
            raise OutputError(
                f"{self._what} cannot be kept in the cache",
                got=self.folder,
                expected="a folder that can be made and written",
                remedy=str(error),
            ) from error

    def _make_room(self) -> None:
        """For one entry; another process may remove the same."""
        if self._most is not None:
            entries = sorted(self.folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
            for path in entries[: max(0, len(entries) + 1 - self._most)]:
                path.unlink(missing_ok=True)


def user_store(name: str, what: str, most: int | None = None) -> KeptJson | None:
    """What this user keeps in a folder of that name, see :class:`KeptJson`; None for one without a home folder."""
    try:
        return KeptJson(user_folder(name, what), what, most)
    except OutputError:
        return None
