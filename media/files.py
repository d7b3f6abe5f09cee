"""A file appears under its name only when it is whole: temporary name in the same folder, then one rename."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..core.errors import OutputError

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS}


def output_error(path: Path, error: OSError) -> OutputError:
    """The operating system's complaint about ``path`` as a sentence that names the cause and the remedy."""
    # moviepy passes on what ffmpeg printed and loses the error number
    if error.errno in _DISK_FULL or "No space left on device" in str(error):
        return OutputError(
            "the disk is full",
            got=f"{path} could not be written to its end",
            expected="enough free space",
            remedy="Free some space or choose another folder; nothing half-written was left behind.",
        )
    if error.errno in _NOT_ALLOWED:
        what, expected = "this folder may not be written to", "a folder with permission to write"
    elif error.errno in (errno.ENOTDIR, errno.EEXIST):
        what, expected = "a part of the path is a file, not a folder", "a path whose parents are folders"
    else:
        what, expected = f"the file cannot be written ({error.strerror or error})", "a writable path"
    return OutputError(what, got=path, expected=expected, remedy="Choose another folder or name for the output.")


@contextmanager
def new_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it to ``path`` when the block ends well, remove it otherwise.

    Missing parent folders are created. An existing file is replaced in one step and only at the end.

    Args:
        path: Where the file goes.

    Yields:
        The temporary path, hidden, in the same folder and with the same suffix.

    Raises:
        OutputError: the target is a folder, cannot be written, or the disk is full.
    """
    path = Path(path)
    # no part of the final name: a name that just fits the file system's limit must stay writable
    part = path.parent / f".sounding-video-{uuid.uuid4().hex}.part{path.suffix}"
    try:
        if path.is_dir():
            raise OutputError(
                "the output is a folder", got=path, expected="the name of a file", remedy="Add a file name."
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        if os.path.lexists(part):
            part.unlink()
