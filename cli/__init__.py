"""The command ``sounding-video``: one file a sub-command, each with ``add_parser`` and ``run``.

``run`` gives nothing, or an exit code where some of what was asked for has failed and the rest is told.

Only argparse is imported here, so that ``--help`` answers at once; a command imports what it needs when it runs.

Exit codes: 0 done, 1 anything else, 2 bad input, 3 missing model or package, 130 stopped by the user (143 by SIGTERM,
129 by SIGHUP), 141 whoever read the output has gone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from copy import copy
from functools import partial
from typing import Any, NoReturn

from .. import __version__
from ..core.errors import Cancelled, InputError, SoundingVideoError
from . import (
    caption,
    convert,
    doctor,
    download,
    evaluate,
    expand,
    generate,
    models,
    picture,
    probe,
    queue,
    run,
    sound,
    synth,
    train,
)
from .console import Console, StopOnInterrupt, with_streams
from .given import check_paths, word

COMMANDS = (
    generate,
    sound,
    picture,
    run,
    queue,
    probe,
    expand,
    caption,
    synth,
    train,
    evaluate,
    models,
    download,
    convert,
    doctor,
)
EPILOG = "exit codes: 0 done, 1 other failure, 2 bad input, 3 missing model or package, 130 stopped by the user"


class Parser(argparse.ArgumentParser):
    """Reports a wrong command line as :class:`InputError`, so that ``--json`` gets an object for it too.

    What an option takes is a word that is not empty, unless it declares another type. Options may stand between files
    (``sound one.mp4 -o sounds two.mp4``), which argparse by itself takes for a mistake.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.register("type", None, word)
        self._is_mixing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[argparse.Namespace, list[str]]:
        """As argparse; where words are left over, the options are read first and then all words together."""
        plain = super().parse_known_args(args, copy(namespace))
        if not plain[1] or self._is_mixing or self._subparsers is not None:
            return plain
        self._is_mixing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._is_mixing = False

    def error(self, message: str) -> NoReturn:
        """Refuse the command line.

        Raises:
            InputError: always.
        """
        raise InputError(message, remedy=f"See {self.prog} --help.")


def build_parser() -> Parser:
    """The whole command line."""
    parser = Parser(
        prog="sounding-video", description="Text in, video with the sound that belongs to it out.", epilog=EPILOG
    )
    parser.add_argument("--version", action="version", version=f"sounding-video {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=Parser)
    commands.type = str  # the rest of the line goes through it; each command reads its own
    for command in COMMANDS:
        added = command.add_parser(commands, epilog=EPILOG)
        add = added.add_argument_group("what is printed").add_argument
        add("--json", action="store_true", help="one JSON object on stdout, for machines; no progress bar")
        add("--quiet", action="store_true", help="no progress bar and no report; warnings and errors only")
        add("--verbose", action="store_true", help="also what is picked and loaded, and library warnings")
        added.set_defaults(run=command.run, check=partial(check_paths, parser=added))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Arguments without the program's name; None takes the process's own.

    Returns:
        The exit code.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    return with_streams(
        partial(_main, arguments, alone=argv is None), as_json=_wants_json(arguments), last=argv is None
    )


def _wants_json(arguments: Sequence[str]) -> bool:
    """Whether an object is expected, also where the command line is wrong; argparse takes a beginning for the whole."""
    return any(len(each) > 2 and "--json".startswith(each) for each in arguments)


def _main(arguments: list[str], *, alone: bool) -> int:
    """Run one command; every way in which it may end early is an error of ours.

    Args:
        arguments: Without the program's name.
        alone: The process does nothing else.

    Raises:
        SoundingVideoError: it ended early.
    """
    try:
        with StopOnInterrupt() as check_cancelled:
            args = build_parser().parse_args(arguments)
            args.check(args)
            args.alone = alone
            with Console.open(args, check_cancelled) as console:
                return args.run(args, console) or 0
    except SoundingVideoError:
        raise
    except KeyboardInterrupt as error:  # a second Ctrl-C, which waits for nothing
        raise Cancelled from error
    except RecursionError as error:
        raise InputError("a file is nested too deeply to be read", expected="fewer levels") from error
    except OSError as error:
        # A drive that goes while it is used, or a place that nobody thought of: still no traceback.
        told = f"{error.filename} ({error.strerror})" if error.filename else str(error)
        raise InputError("the file system refuses", got=told) from error
