"""Flags from the options that are declared in the stages, and back to the options."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..core.options import Setting, settings_of

if TYPE_CHECKING:
    from ..models.own import OwnSettings
    from ..sampling.options import SamplingOptions


def add_sampling_options(add: Callable[..., Any]) -> None:
    """One flag an option; those that a model may have a value of its own for have no default here.

    Args:
        add: ``add_argument`` of a parser or a group.
    """
    for setting in _settings().values():
        declared = setting.option
        kind = {int: int, float: float}.get(type(setting.default), str)
        metavar = {int: "N", float: "X"}.get(kind, "NAME")
        default = None if declared.follows else setting.default
        add(f"--{setting.flag}", dest=setting.name, type=kind, default=default, metavar=metavar, help=_help(setting))


def sampling_options(args: argparse.Namespace, own: OwnSettings) -> SamplingOptions:
    """The options of a command line; what was not asked for is the model's own.

    Raises:
        InputError: a value out of its range, named by its flag.
    """
    from ..sampling.options import SamplingOptions

    values = {name: getattr(args, name) for name in _settings()}
    return SamplingOptions(**{name: getattr(own, name) if value is None else value for name, value in values.items()})


def _settings() -> dict[str, Setting]:
    from ..sampling.options import SamplingOptions

    return settings_of(SamplingOptions)


def _help(setting: Setting) -> str:
    declared = setting.option
    words = declared.text[0].lower() + declared.text[1:].rstrip(".")
    choices = f"; one of {', '.join(declared.choices())}" if declared.choices else ""
    value = f"{setting.default:g}" if isinstance(setting.default, float) else setting.default
    own = "; the pocket model: its own" if declared.follows else ""
    return f"{words.replace('%', '%%')}{choices} (default: {value}{own})"
