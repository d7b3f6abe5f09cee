"""Expansions on disk, by the hash of everything that they depend on. The folder is the caller's choice."""

from __future__ import annotations

from pathlib import Path

from ..core.errors import OutputError
from ..core.kept import KeptJson, user_folder

_WHAT = "the captions"


def default_cache_folder() -> Path:
    """A folder in the user's cache, where this system keeps it; never the package's own folder.

    Raises:
        OutputError: the user has no home folder.
    """
    return user_folder("captions", _WHAT)


def default_cache() -> CaptionCache | None:
    """The cache of this user; None for one without a home folder."""
    try:
        return CaptionCache(default_cache_folder())
    except OutputError:
        return None


class CaptionCache(KeptJson):
    """One JSON file an entry.

    Args:
        folder: Made when the first entry is written.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, _WHAT)
