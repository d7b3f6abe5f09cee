"""Looking at a file system that may be hostile: locked folders, dead mounts, loops of links, pipes, too long names.

Nothing is opened here, so nothing hangs, and what cannot be looked into is told instead of raised: a model folder
holds what years of use, backups and network drives have left in it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import InputError

# What is neither a file nor a folder; opening one may wait for ever.
SPECIAL = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@dataclass(frozen=True)
class PassedOver:
    """Something that was not looked into.

    Args:
        path: The folder, link or file.
        reason: Why, in a few words: "Permission denied".
    """

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path} ({self.reason})"


@dataclass(frozen=True)
class Tree:
    """What lies below a folder, level by level, each level sorted.

    Args:
        folders: All folders, without the top.
        files: Regular files, and links to such.
        passed: What could not be looked into.
    """

    folders: tuple[Path, ...] = ()
    files: tuple[Path, ...] = ()
    passed: tuple[PassedOver, ...] = ()


def status_of(path: Path) -> os.stat_result | None:
    """What the system says of the path, links followed; None where it says nothing, whatever the reason."""
    try:
        return path.stat()
    except (OSError, ValueError):  # ValueError: a name with a zero byte
        return None


def is_file(path: Path) -> bool:
    """Whether a regular file stands there and can be seen; pipes and devices are none."""
    status = status_of(path)
    return status is not None and stat.S_ISREG(status.st_mode)


def is_dir(path: Path) -> bool:
    """Whether a folder stands there and can be seen."""
    status = status_of(path)
    return status is not None and stat.S_ISDIR(status.st_mode)


def suffix_of(path: Path) -> str:
    """The suffix as a kind of file; some systems and people write it in capitals."""
    return path.suffix.lower()


def size_of(path: Path) -> int:
    """Bytes of a file; 0 where it is gone or cannot be seen."""
    status = status_of(path)
    return status.st_size if status else 0


def what_is_there(path: Path) -> str:
    """What stands at a path, for messages: "a folder", "a pipe", "nothing", or why it cannot be said."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            return "a link to nothing" if _is_link(path) else "nothing"
        return reason(error)
    if stat.S_ISDIR(mode):
        return "a folder"
    return next((word for test, word in SPECIAL if test(mode)), "a file")


def _is_link(path: Path) -> bool:
    return os.path.islink(path)  # noqa: PTH114 - unlike Path.is_symlink it never raises


def printable(name: str) -> str:
    """A file's name as text that every file and terminal takes: bytes that are no text are written as their numbers."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def reason(error: Exception) -> str:
    """A system error in the system's words, without number and path."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def why_unlistable(folder: Path) -> str:
    """Why the entries of a folder cannot be listed; empty where they can."""
    try:
        with os.scandir(folder) as entries:
            next(entries, None)
    except (OSError, ValueError) as error:
        return reason(error)
    return ""


def require_readable(path: Path) -> None:
    """Refuse what can never be read, without waiting for it: pipes, devices, broken links, what is locked.

    Whether it is there at all, and whether a file or a folder is meant, is told by those who read it.

    Raises:
        InputError: it cannot be read, or is an empty file.
    """
    there = what_is_there(path)
    if there == "a folder":
        there = why_unlistable(path) or there
    elif there == "a file":
        try:
            with path.open("rb"):
                # Some files of the system say that they have no size, and keep their reader waiting.
                there = there if size_of(path) else "an empty file"
        except (OSError, ValueError) as error:
            there = reason(error)
    if there not in ("a folder", "a file", "nothing"):
        raise InputError("this cannot be read", got=f"{path} ({there})", expected="a file or folder that can be read")


def user_path(text: str | Path) -> Path:
    """A path as a user writes it; ``~`` is their home, and ``~nobody`` of an unknown user stays as it is."""
    path = Path(text)
    try:
        return path.expanduser()
    except (RuntimeError, ValueError):  # nobody's home, or a zero byte in the name
        return path


def look(top: Path, depth: int) -> Tree:
    """Everything down to a depth; links are followed, but never back into a folder around them.

    Args:
        top: The folder; one that is not there has nothing in it.
        depth: How many levels are listed: 1 is what lies in the folder itself.
    """
    status = status_of(top)
    level = [(top, ((status.st_dev, status.st_ino),) if status else ())]
    folders: list[Path] = []
    files: list[Path] = []
    passed: list[PassedOver] = []
    for _ in range(depth):
        below: list[tuple[Path, tuple[tuple[int, int], ...]]] = []
        for folder, around in level:
            for path, found in _entries(folder, passed, is_top=folder == top):
                own = (found.st_dev, found.st_ino)
                if stat.S_ISREG(found.st_mode):
                    files.append(path)
                elif not stat.S_ISDIR(found.st_mode):
                    passed.append(PassedOver(path, what_is_there(path)))
                elif own in around:
                    passed.append(PassedOver(path, "a link back to a folder around it"))
                else:
                    folders.append(path)
                    below.append((path, (*around, own)))
        level = below
    return Tree(tuple(folders), tuple(files), tuple(passed))


def _entries(folder: Path, passed: list[PassedOver], *, is_top: bool) -> Iterator[tuple[Path, os.stat_result]]:
    """What lies in a folder, sorted, each with its status; what has gone meanwhile is not there."""
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - a broken listing raises here and not half way
    except (OSError, ValueError) as error:
        if not (is_top and isinstance(error, FileNotFoundError)):
            passed.append(PassedOver(folder, reason(error)))
        return
    for name in names:
        path = folder / name
        try:
            yield path, path.stat()
        except (OSError, ValueError) as error:
            if not isinstance(error, FileNotFoundError) or _is_link(path):
                passed.append(PassedOver(path, what_is_there(path)))
