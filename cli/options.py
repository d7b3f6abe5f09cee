"""Flags from the options that are declared in the stages, and back to the options."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from ..core.clock import SIDE
from ..core.errors import InputError
from ..core.options import Bounds, Setting, settings_of

if TYPE_CHECKING:
    from ..models.own import OwnSettings
    from ..sampling.options import SamplingOptions


NUMBER_OF_CLIPS = Bounds("number of clips", 1, 1_000_000)
BLOCK = Bounds("block number", 0, 999)


class Checked:
    """What argparse reads an option's text with: a reader of ours, whose sentence is shown as it is.

    Args:
        read: Raises :class:`InputError` for what it cannot use.
    """

    def __init__(self, read: Callable[[str], Any]) -> None:
        self.read = read

    def __call__(self, text: str) -> Any:
        """The value.

        Raises:
            argparse.ArgumentTypeError: it cannot be used.
        """
        try:
            return self.read(text)
        except InputError as error:
            raise argparse.ArgumentTypeError(str(error).rstrip(".")) from error


def read_size(text: str) -> tuple[int, int]:
    """``832x480`` to width and height.

    Raises:
        InputError: no such text, or a side out of its range.
    """
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdecimal() and height.isdecimal()):
        raise InputError(f"{text[:60]!r} is not a size such as 832x480")
    return SIDE.read(width), SIDE.read(height)


def read_blocks(text: str) -> tuple[int, ...]:
    """``3,7,11`` to block numbers.

    Raises:
        InputError: something else.
    """
    return tuple(BLOCK.read(part) for part in text.split(","))


# Of a clip that is longer than the model's own; commands with windows of another kind leave them out.
WINDOWS = ("windows", "window_seconds", "overlap_seconds")


def add_sampling_options(add: Callable[..., Any], left_out: Collection[str] = ()) -> None:
    """One flag an option; those that a model may have a value of its own for have no default here.

    Args:
        add: ``add_argument`` of a parser or a group.
        left_out: Options that the command does not have; they keep their defaults.
    """
    for setting in _settings().values():
        if setting.name in left_out:
            continue
        declared = setting.option
        if setting.is_switch:
            add(f"--{setting.flag}", dest=setting.name, action="store_true", help=_help(setting))
            continue
        kind = Checked(setting.bounds.read) if declared.choices is None else None
        metavar = {int: "N", float: "X"}.get(type(setting.default), "NAME")
        default = None if declared.follows else setting.default
        add(f"--{setting.flag}", dest=setting.name, type=kind, default=default, metavar=metavar, help=_help(setting))


def sampling_options(args: argparse.Namespace, own: OwnSettings) -> SamplingOptions:
    """The options of a command line; what was not asked for is the model's own.

    Raises:
        InputError: a value out of its range, named by its flag.
    """
    from ..sampling.options import SamplingOptions

    values = {name: getattr(args, name, setting.default) for name, setting in _settings().items()}
    return SamplingOptions(**{name: getattr(own, name) if value is None else value for name, value in values.items()})


def _settings() -> dict[str, Setting]:
    from ..sampling.options import SamplingOptions

    return settings_of(SamplingOptions)


def _help(setting: Setting) -> str:
    declared = setting.option
    words = declared.text[0].lower() + declared.text[1:].rstrip(".")
    choices = f"; one of {', '.join(declared.choices())}" if declared.choices else ""
    if setting.is_switch:
        return words.replace("%", "%%")
    value = f"{setting.default:g}" if isinstance(setting.default, float) else setting.default
    own = "; the pocket model, or bridges for a given side: their own" if declared.follows else ""
    return f"{words.replace('%', '%%')}{choices} (default: {value}{own})"
