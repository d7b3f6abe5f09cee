"""A file appears under its name only when it is whole: temporary name in the same folder, then one rename."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..core.disk import SPECIAL, is_dir, what_is_there
from ..core.errors import OutputError
from ..core.new_files import made_folder, remove, remove_abandoned, scratch_path

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


def require_place(path: Path) -> None:
    """Refuse a file that could not be written in the end; nothing is left behind, and no folder is made.

    Raises:
        OutputError: a folder or a device of that name, a name that is too long, a file where a folder should be, or a
            folder that may not be written to.
    """
    require_no_folder(path)
    _require_no_device(path, "the name of a file")
    path = path.absolute()
    _require_room_below(path.parent, path)


def require_no_folder(path: Path) -> None:
    """Refuse a folder as the name of a file.

    Raises:
        OutputError: a folder is there.
    """
    if is_dir(path):
        raise OutputError("the output is a folder", got=path, expected="the name of a file", remedy="Add a file name.")


def require_folder_place(path: Path) -> None:
    """Refuse a folder that could not be made or written to; nothing is left behind, and it is not made.

    Raises:
        OutputError: see :func:`require_place`.
    """
    _require_no_device(path, "the name of a folder")
    if os.path.lexists(path) and not is_dir(path):
        there = what_is_there(path)
        raise OutputError("the output folder is none", got=f"{path} ({there})", expected="a folder, or a new name")
    _require_room_below(path.absolute(), path.absolute())


def _require_no_device(path: Path, expected: str) -> None:
    """Writing would wait, or put a file in the device's place."""
    there = what_is_there(path)
    if there in {word for _, word in SPECIAL}:
        raise OutputError(f"the output is {there}", got=path, expected=expected)


def _require_room_below(folder: Path, path: Path) -> None:
    """A file can be made in the folder, or in the nearest one above it that is there; the names below can exist."""
    there = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    try:
        for name in path.parts[len(there.parts) :]:
            # a name that the file system cannot hold is an error of its own
            with contextlib.suppress(FileNotFoundError):
                (there / name).lstat()
        with contextlib.suppress(FileNotFoundError):
            path.lstat()  # and a whole that is too long
        with tempfile.TemporaryFile(prefix=".sounding-video-", dir=there):
            pass
    except OSError as error:
        raise output_error(path, error) from error


class FreeName:
    """A file that replaces none: where another process takes its name while it is made, it gets the next one.

    Args:
        path: The name that is free now; after :func:`new_file` the one that the file got.
        following: Gives a name that is free when it is asked.
    """

    def __init__(self, path: Path, following: Callable[[], Path]) -> None:
        self.path, self._following = path, following

    def __fspath__(self) -> str:
        return str(self.path)

    def take(self, part: Path) -> None:
        """Rename a finished file of the same folder to a name that nobody has."""
        while True:
            try:
                _rename_to_new(part, self.path)
                return
            except FileExistsError:
                taken, self.path = self.path, self._following()
            if self.path == taken:  # to the file system it is the name of a file that is written otherwise
                raise OutputError("the name is taken", got=taken, expected="another name for the output")


def _rename_to_new(part: Path, path: Path) -> None:
    """Rename, and never replace: on POSIX a rename does replace, a link does not, and some file systems have none."""
    if os.name != "posix":
        part.rename(path)
        return
    try:
        os.link(part, path, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        part.replace(path)


@contextmanager
def new_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it to ``path`` when the block ends well, remove it otherwise.

    Missing parent folders are created, and taken away again where nothing comes of it. An existing file is replaced in
    one step and only at the end.

    Args:
        path: Where the file goes; a :class:`FreeName` replaces no file.

    Yields:
        The temporary path, hidden, in the same folder and with the same suffix.

    Raises:
        OutputError: the target is a folder, cannot be written, or the disk is full.
    """
    name, path = path, Path(path)
    try:
        require_no_folder(path)
        part = scratch_path(path)
        with made_folder(path.parent):
            remove_abandoned(path.parent)
            try:
                yield part
                if isinstance(name, FreeName):
                    name.take(part)
                else:
                    part.replace(path)
            finally:
                remove(part)
    except OSError as error:
        raise output_error(path, error) from error
