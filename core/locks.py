"""Files that one process holds at a time: locks of the operating system, which also a killed process gives back."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from .errors import SoundingVideoError
from .new_files import made_folder, remove

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

# Windows locks bytes of a file, also those behind its end; nobody reads so far.
_FAR_BYTE = 1 << 40
_HELD = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL}


def lock_file(file: IO[Any], *, wait: bool = True) -> bool:
    """Lock an open file until it is closed.

    Args:
        file: Open for writing.
        wait: Until whoever holds it lets go; without, it is tried once.

    Returns:
        Whether it is locked: False only where it was tried once.

    Raises:
        OSError: the file system has no locks.
    """
    while True:
        try:
            if sys.platform == "win32":
                place = file.tell()
                file.seek(_FAR_BYTE)
                try:
                    msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
                finally:
                    file.seek(place)
            else:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if error.errno not in _HELD:
                raise
            if not wait:
                return False
        else:
            return True


@contextmanager
def alone(path: Path, refused: SoundingVideoError) -> Iterator[None]:
    """Be the only one in a block of this name; the file goes with it, and that of a killed process is taken over.

    Where the file system has no locks the block runs, for nobody can be seen there.

    Args:
        path: A file for this purpose alone, in a folder that is there.
        refused: Raised where another process is in the block.

    Raises:
        OSError: the file cannot be made.
    """
    file = _held(path, refused)
    try:
        yield
    finally:
        # While it is held, so that nobody locks a file that has lost its name; Windows removes no open file.
        if os.name == "posix":
            remove(path)
        file.close()
        if os.name != "posix":
            remove(path)


@contextmanager
def alone_in(
    folder: Path, name: str, refused: SoundingVideoError, unwritable: Callable[[OSError], SoundingVideoError]
) -> Iterator[None]:
    """Be the only one of this name in a folder, which is made; a new one goes again where nothing comes to stand there.

    Args:
        folder: Where the block writes.
        name: Of the lock's file.
        refused: Raised where another process is in the block.
        unwritable: The error to raise where the folder or the file cannot be made.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(made_folder(folder))
            stack.enter_context(alone(folder / name, refused))
        except OSError as error:
            raise unwritable(error) from error
        yield


def _held(path: Path, refused: SoundingVideoError) -> IO[bytes]:
    while True:
        file = path.open("ab")
        try:
            if not lock_file(file, wait=False):
                raise refused
            # whoever held it may have removed it between our opening and our locking
            if os.name != "posix" or _is(path, file):
                return file
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return file
            file.close()
            raise
        except BaseException:
            file.close()
            raise
        file.close()


def _is(path: Path, file: IO[bytes]) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    return False
