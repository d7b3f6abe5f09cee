"""Values both hosts share: where a result goes, and what may be asked for as a file name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from ...core.errors import OutputError


@dataclass(frozen=True)
class SavePlace:
    """Where one result file goes.

    Args:
        path: The file to write; its folder exists.
        subfolder: Its folder, relative to the output folder; empty at the top.
    """

    path: Path
    subfolder: str


def check_prefix(prefix: str) -> None:
    """Refuse a file name prefix that is empty or leaves the output folder.

    Raises:
        OutputError: with the prefix as given.
    """
    parts = PurePosixPath(prefix.replace("\\", "/")).parts
    absolute = (
        PurePosixPath(prefix).is_absolute()
        or PureWindowsPath(prefix).is_absolute()
        or bool(PureWindowsPath(prefix).drive)
    )
    if absolute or ".." in parts or not parts or prefix.endswith(("/", "\\")):
        raise OutputError(
            "the file name prefix does not name a file inside the output folder",
            got=repr(prefix),
            expected="a relative name, for example sounding_video/clip",
        )
    if "\0" in prefix:
        raise OutputError("the file name prefix holds a zero byte", got=repr(prefix), expected="a plain name")
