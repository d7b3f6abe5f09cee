"""Options that are declared once: a field of a frozen value carries its own text, range, default and names.

Nodes make inputs of them, the command line makes flags, and both check by them; see ``nodes/options.py`` and
``cli/options.py``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import InputError, require_choice

KEY = "option"


@dataclass(frozen=True)
class Option:
    """How one setting is named, explained and bounded.

    Args:
        text: What it does, for a tooltip and a line of help.
        low: Least value of a number.
        high: Greatest value.
        step: By which a page's arrows change it.
        choices: The words it may be, asked for when they are needed; None for numbers.
        port: Its input on nodes; empty for the field's own name.
        flag: Its flag on the command line, without dashes; empty for the field's name with dashes.
        follows: Whether a loaded model may have a value of its own for it.
        advanced: Whether a page may fold it away.
    """

    text: str
    low: float | None = None
    high: float | None = None
    step: float | None = None
    choices: Callable[[], Sequence[str]] | None = None
    port: str = ""
    flag: str = ""
    follows: bool = False
    advanced: bool = False


@dataclass(frozen=True)
class Setting:
    """An option with the field that carries it.

    Args:
        name: Of the field.
        default: Of the field.
        option: What is declared.
    """

    name: str
    default: Any
    option: Option

    @property
    def port(self) -> str:
        """Its name on nodes."""
        return self.option.port or self.name

    @property
    def flag(self) -> str:
        """Its flag, without dashes."""
        return self.option.flag or self.name.replace("_", "-")

    def check(self, value: Any) -> None:
        """Refuse what is out of range.

        Raises:
            InputError: names the setting, the value and the range.
        """
        title, option = self.name.replace("num_", "number of ").replace("_", " "), self.option
        if option.choices is not None:
            require_choice(title, value, tuple(option.choices()))
            return
        whole = isinstance(self.default, int)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        low = -math.inf if option.low is None else option.low
        high = math.inf if option.high is None else option.high
        if not number or (whole and not isinstance(value, int)) or not math.isfinite(value) or not low <= value <= high:
            raise InputError(
                f"the {title} cannot be used",
                got=repr(value),
                expected=f"a {'whole ' if whole else ''}number from {_worded(option.low)} to {_worded(option.high)}",
            )


def option(default: Any, text: str, **declared: Any) -> Any:
    """A dataclass field that is an option.

    Args:
        default: Its value when nobody asks for another.
        text: What it does.
        declared: The other fields of :class:`Option`.
    """
    return dataclasses.field(default=default, metadata={KEY: Option(text, **declared)})


def settings_of(owner: type) -> dict[str, Setting]:
    """Every option of a dataclass by its field's name, in their order."""
    fields = [field for field in dataclasses.fields(owner) if KEY in field.metadata]
    return {field.name: Setting(field.name, field.default, field.metadata[KEY]) for field in fields}


def check_options(values: Any) -> None:
    """Refuse a dataclass that has a value out of its option's range.

    Raises:
        InputError: see :meth:`Setting.check`.
    """
    for name, setting in settings_of(type(values)).items():
        setting.check(getattr(values, name))


def _worded(limit: float | None) -> str:
    return "anything" if limit is None else str(limit) if isinstance(limit, int) else f"{limit:g}"
