"""Can a result be written where it should go? Asked before minutes of sampling, not after them."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from ...media.files import require_place as _require_place
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
    _require_place(output.absolute() / PurePosixPath(name))
