"""New folders and temporary files that do not outlive what went wrong: an error, a signal, and at the next run a kill.

A temporary file is hidden and named after the process that writes it, so that the next run can tell those of a killed
process, which nobody will ever finish, from those of one that still writes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NAME = re.compile(r"\.sounding-video-([0-9a-f]{8})-(\d+)-[0-9a-f]{12}\.part")
# Whoever writes changes the file all the time; after so long also one of another machine is finished by nobody.
_ABANDONED_SECONDS = 86_400


def scratch_path(path: Path) -> Path:
    """A temporary path beside another one, in the same folder and with the same suffix.

    It has no part of the final name: a name that just fits the file system's limit must stay writable, and one that
    does not is refused before anything is written.

    Raises:
        OSError: the final name cannot exist.
    """
    with contextlib.suppress(FileNotFoundError):
        path.lstat()
    return path.with_name(f".sounding-video-{_machine()}-{os.getpid()}-{uuid.uuid4().hex[:12]}.part{path.suffix}")


def remove_abandoned(folder: Path) -> None:
    """Take away what killed processes of this machine left half-written in a folder."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):  # noqa: PTH208 - one broken entry must not end it
            match = _NAME.match(name)
            if match and _is_abandoned(folder / name, match[1], int(match[2])):
                remove(folder / name)


def remove(path: Path) -> None:
    """Take away a file or a folder of ours, if it is there."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def made_folder(folder: Path) -> Iterator[Path]:
    """Make a folder and those above it; an error or a signal in the block takes those away again that are empty.

    Raises:
        OSError: it cannot be made.
    """
    new = [each for each in (folder, *folder.parents) if not os.path.lexists(each)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    except BaseException:
        with contextlib.suppress(OSError):  # not empty, or not made
            for each in new:
                if os.path.lexists(each):
                    each.rmdir()
        raise


def _is_abandoned(path: Path, machine: str, process: int) -> bool:
    with contextlib.suppress(OSError):
        if time.time() - path.lstat().st_mtime > _ABANDONED_SECONDS:
            return True
    return machine == _machine() and not _is_running(process)


def _is_running(process: int) -> bool:
    if os.name != "posix":  # elsewhere the question would end the process
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _machine() -> str:
    """Where process numbers mean the same: the machine, and the container."""
    place = ""
    with contextlib.suppress(OSError):
        place = str(Path("/proc/self/ns/pid").readlink())
    return hashlib.sha256(f"{platform.node()} {place}".encode()).hexdigest()[:8]
