"""Options that are declared once: a field of a frozen value carries its own text, range, default and names.

Nodes make inputs of them, the command line makes flags, and both check by them; see ``nodes/options.py`` and
``cli/options.py``.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import InputError, require_choice

KEY = "option"
# Plain digits: no underscores, no digits of other scripts, no words such as inf, and never more than a float can hold.
_WHOLE = re.compile(r"[+-]?[0-9]{1,40}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,4})?")
_PLAIN = re.compile(r"[!-~]{1,60}")


@dataclass(frozen=True)
class Bounds:
    """A number that a user gives: how messages name it, and from where to where it makes sense.

    Args:
        title: For example "number of frames".
        low: Least value; None for no limit.
        high: Greatest value; None for no limit.
        whole: Whether it has no fraction.
    """

    title: str
    low: float | None = None
    high: float | None = None
    whole: bool = True

    def read(self, text: str) -> Any:
        """The number that a text stands for, an int or a float.

        Raises:
            InputError: names the number, the text and the range.
        """
        text = text.strip()
        if not (_WHOLE if self.whole else _NUMBER).fullmatch(text):
            raise self._refusal(text if _PLAIN.fullmatch(text) else repr(text[:60]))
        value = int(text) if self.whole else float(text)
        if not self.holds(value):
            raise self._refusal(text)
        return value

    def check(self, value: Any) -> None:
        """Refuse what is no such number.

        Raises:
            InputError: names the number, the value and the range.
        """
        if not self.holds(value):
            raise self._refusal(shown(value))

    def holds(self, value: Any) -> bool:
        """Whether a value is such a number."""
        if isinstance(value, bool) or not isinstance(value, int if self.whole else (int, float)):
            return False
        if isinstance(value, float) and not math.isfinite(value):
            return False
        return (self.low is None or self.low <= value) and (self.high is None or value <= self.high)

    @property
    def wanted(self) -> str:
        """What is right, in words."""
        return f"a {'whole ' if self.whole else ''}number from {_worded(self.low)} to {_worded(self.high)}"

    def _refusal(self, got: str) -> InputError:
        return InputError(f"the {self.title} cannot be used", got=got, expected=self.wanted)


TIMEOUT = Bounds("timeout", 0.001, 10_000_000, whole=False)  # seconds; system calls cannot wait for ever so long


def shown(value: Any) -> str:
    """A value for a message, never long."""
    try:
        text = repr(value) if isinstance(value, str) else str(value)
    except ValueError:  # whole numbers of thousands of digits have no text
        return "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:60]}…"


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

    @property
    def is_switch(self) -> bool:
        """Whether it is on or off."""
        return isinstance(self.default, bool)

    @property
    def title(self) -> str:
        """How messages name it."""
        return self.name.replace("num_", "number of ").replace("_", " ")

    @property
    def bounds(self) -> Bounds:
        """Of a number."""
        return Bounds(self.title, self.option.low, self.option.high, whole=isinstance(self.default, int))

    def check(self, value: Any) -> None:
        """Refuse what is out of range.

        Raises:
            InputError: names the setting, the value and the range.
        """
        if self.is_switch:
            if not isinstance(value, bool):
                raise InputError(f"the {self.title} cannot be used", got=shown(value), expected="true or false")
        elif self.option.choices is not None:
            require_choice(self.title, value, tuple(self.option.choices()))
        else:
            self.bounds.check(value)


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
