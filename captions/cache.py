"""Expansions on disk, by the hash of everything that they depend on. The folder is the caller's choice."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from ..core.disk import is_file
from ..core.errors import OutputError, TextError
from ..core.json_text import read_json
from ..core.new_files import made_folder, remove, remove_abandoned, scratch_path

LOGGER = logging.getLogger(__name__)


def default_cache_folder() -> Path:
    """A folder in the user's cache, where this system keeps it; never the package's own folder.

    Raises:
        OutputError: the user has no home folder.
    """
    try:
        folder = user_cache_path("sounding_video", appauthor=False) / "captions"
    except RuntimeError:  # newer platformdirs; older ones give a folder that is really called ~
        folder = Path("~")
    if not folder.is_absolute():
        raise OutputError(
            "there is no home folder in which captions can be kept", expected="HOME or XDG_CACHE_HOME set"
        )
    return folder


def default_cache() -> CaptionCache | None:
    """The cache of this user; None for one without a home folder."""
    try:
        return CaptionCache(default_cache_folder())
    except OutputError:
        return None


class CaptionCache:
    """One JSON file an entry.

    Args:
        folder: Made when the first entry is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

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
            value = read_json(path, what="the cached captions' file")
        except TextError as error:
            LOGGER.warning("%s They are made anew.", error)
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
                part = scratch_path(path)
                try:
                    part.write_text(json.dumps(value, ensure_ascii=True), encoding="utf-8")
                    part.replace(path)
                finally:
                    remove(part)
        except OSError as error:
            raise OutputError(
                "the captions cannot be kept in the cache",
                got=self.folder,
                expected="a folder that can be made and written",
                remedy=str(error),
            ) from error
