"""Can a result be written where it should go? Asked before minutes of sampling, not after them."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path, PurePosixPath

from ...media.files import output_error
from .common import check_prefix
from .prefixes import filled_prefix

_COUNTER = "_00001_"
_SIDE = 9999  # pixels; the size is known only when there is a picture


def require_place(output: Path, prefix: str, suffix: str) -> None:
    """Refuse a file that could not be written in the end; nothing is left behind, and no folder is made.

    Args:
        output: Folder of the results.
        prefix: As the user wrote it.
        suffix: With its dot.

    Raises:
        OutputError: a name that leads out of the folder or is too long, a file where a folder should be, or a folder
            that may not be written to.
    """
    check_prefix(prefix)
    name = filled_prefix(prefix, width=_SIDE, height=_SIDE) + _COUNTER + suffix
    path = output.absolute() / PurePosixPath(name)
    folder = next(parent for parent in path.parents if os.path.lexists(parent))
    try:
        for part in path.relative_to(folder).parts:
            _look_for(folder / part)
        _look_for(path)
        with tempfile.TemporaryFile(prefix=".sounding-video-", dir=folder):
            pass
    except OSError as error:
        raise output_error(path, error) from error


def _look_for(path: Path) -> None:
    """Ask the file system for a name: one that it cannot hold is an error of its own."""
    with contextlib.suppress(FileNotFoundError):
        path.lstat()
