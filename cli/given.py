"""What an option takes, said where the option is declared: a word, a text, or a path of some kind.

A word is what an option takes that declares nothing, so that an empty one is refused for options to come too. A path
is looked at before the command begins: what can never be read or written is refused at once, and nothing is opened
that keeps its reader waiting. Names of models are paths too, but finding them is a matter of their own.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import InputError, require_choice

# What is found, where a file could be named.
AUTO = "auto"


def word(text: str) -> str:
    """A name, a number or another value that says something.

    Raises:
        argparse.ArgumentTypeError: it is empty, or no text.
    """
    if not text.strip():
        raise argparse.ArgumentTypeError(f"nothing is named: got {text!r}; expected a value, or no such option")
    return free_text(text)


def free_text(text: str) -> str:
    """Words of the user's own, or none.

    Raises:
        argparse.ArgumentTypeError: it holds bytes that are no text in UTF-8, or a zero byte.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"this is not text: got {text!r}; expected text in UTF-8") from None
    if "\0" in text:
        raise argparse.ArgumentTypeError(f"this is not text: got {text!r}; expected text without zero bytes")
    return text


@dataclass(frozen=True)
class Choice:
    """Takes one of some words, and refuses another even where nothing asks for it in the end.

    Args:
        title: What the word chooses, as a noun.
        choices: The words; asked for when one is given, as they may be those of a heavy module.
    """

    title: str
    choices: Callable[[], Iterable[str]]

    def __call__(self, text: str) -> str:
        """The word.

        Raises:
            argparse.ArgumentTypeError: it is none of them.
        """
        try:
            require_choice(self.title, word(text), tuple(self.choices()))
        except InputError as error:
            raise argparse.ArgumentTypeError(str(error).rstrip(".")) from error
        return text


@dataclass(frozen=True)
class PathOption:
    """Takes a path as users write it, in any bytes; ``~`` is their home.

    Args:
        title: What is taken, as a noun.
        check: Refuses a path that cannot be used, before the command begins; None leaves that to those who look for it.
        writes: Whether something is to be made there.
    """

    title: str
    check: Callable[[Path], None] | None = None
    writes: bool = False

    def __call__(self, text: str) -> str:
        """The path as text.

        Raises:
            argparse.ArgumentTypeError: it is empty, holds a zero byte, or lies in the home of nobody.
        """
        from ..core.disk import user_path

        if not text.strip() or "\0" in text:
            raise argparse.ArgumentTypeError(f"this names nothing: got {text!r}; expected {self.title}")
        if not text.startswith("~"):
            return text
        path = str(user_path(text))
        # Something to read may really bear such a name; making it would only look like a home folder.
        if self.writes and path.startswith("~"):
            raise argparse.ArgumentTypeError(
                f"there is no such home folder: got {text!r}; expected {self.title} that can be made"
            )
        return path


def _readable(path: Path) -> None:
    from ..core.disk import require_readable

    require_readable(path)


def _readable_or_auto(path: Path) -> None:
    if str(path) != AUTO:
        _readable(path)


def _readable_or_text(path: Path) -> None:
    if os.path.lexists(path):
        _readable(path)
    else:
        try:
            free_text(str(path))
        except argparse.ArgumentTypeError as error:
            raise InputError(str(error)) from error


def _file_place(path: Path) -> None:
    from ..media.files import require_place

    require_place(path)


def _folder_place(path: Path) -> None:
    from ..media.files import require_folder_place

    require_folder_place(path)


def _any_place(path: Path) -> None:
    from ..core.disk import is_dir

    (_folder_place if is_dir(path) else _file_place)(path)


FILE = PathOption("a file to read", _readable)
FILE_OR_AUTO = PathOption(f"a file to read, or {AUTO}", _readable_or_auto)
FILE_OR_TEXT = PathOption("a file, a folder or a text", _readable_or_text)
FILE_OR_FOLDER = PathOption("a file or a folder to read", _readable)
FOLDER = PathOption("a folder to look into", _readable)
MODEL = PathOption("the name of a model, or its file or folder")
NEW_FILE = PathOption("a file to write", _file_place, writes=True)
NEW_FOLDER = PathOption("a folder to write to", _folder_place, writes=True)
NEW_FILE_OR_FOLDER = PathOption("a file or a folder to write to", _any_place, writes=True)


def path_options(parser: argparse.ArgumentParser) -> Iterator[tuple[argparse.Action, PathOption]]:
    """Every option and argument of a command that takes a path."""
    for action in parser._actions:
        if isinstance(action.type, PathOption):
            yield action, action.type


def check_paths(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Look at every path of the command line before the command begins.

    Raises:
        InputError, OutputError: one that cannot be read or written.
    """
    for action, kind in path_options(parser):
        value: Any = getattr(args, action.dest)
        if kind.check is None or value is None:
            continue
        for text in value if isinstance(value, list) else [value]:
            kind.check(Path(text))
