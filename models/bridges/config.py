"""What a bridge's file says of it: sizes, reading, positions, and what only its kind has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

from ...core.errors import InputError, TextError, require_choice
from ...core.json_text import parse_json
from ..ropes import ROPES

READINGS = ("official", "paper")


@dataclass(frozen=True)
class BridgeConfig:
    """Sizes and reading of one bridge block, which every kind has. Defaults: the published 1.3B bridges.

    A kind with settings of its own derives a ``Config`` with further fields, each with a default; a whole number that
    may be 0 says so in the metadata of its field (``least``).

    Args:
        video_width: C of the video tower.
        audio_width: C of the audio tower.
        qk_width: Width of queries and keys over all heads.
        v_width: Width of values over all heads.
        num_heads: N.
        video_time_width: T of the video tower.
        audio_time_width: T of the audio tower.
        reading: ``official`` (what the released code computes) or ``paper`` (what the text says), where they differ.
        rope: Positions of the tokens, a kind of :mod:`..ropes`.
    """

    video_width: int = 1536
    audio_width: int = 1536
    qk_width: int = 1536
    v_width: int = 1536
    num_heads: int = 12
    video_time_width: int = 1536
    audio_time_width: int = 1536
    reading: str = "official"
    rope: str = "official"

    def __post_init__(self) -> None:
        for field in fields(self):
            value, least = getattr(self, field.name), field.metadata.get("least", 1)
            if field.type == "int" and (not isinstance(value, int) or isinstance(value, bool) or value < least):
                expected = "a positive whole number" if least == 1 else f"a whole number from {least}"
                raise InputError(f"the bridge's {field.name} is not usable", got=value, expected=expected)
        if self.qk_width % (2 * self.num_heads) or self.v_width % self.num_heads:
            raise InputError(
                "the bridge's widths do not divide into its heads",
                got=f"qk_width {self.qk_width}, v_width {self.v_width}, {self.num_heads} heads",
                expected="qk_width a multiple of twice the heads (rotary pairs), v_width of the heads",
            )
        require_choice("bridge reading", self.reading, READINGS)
        require_choice("bridge rope", self.rope, ROPES)

    @property
    def head_width(self) -> int:
        """Query and key channels per head; all of them are rotated."""
        return self.qk_width // self.num_heads

    def with_settings(self, assignments: Iterable[str]) -> BridgeConfig:
        """The same with other values of fields that only this kind has.

        Args:
            assignments: ``key=value``, such as ``time_rank=64``; values as in JSON, else as text.

        Raises:
            InputError: no ``=``, a field that is not this kind's own, or a value of another type.
        """
        shared = {field.name for field in fields(BridgeConfig)}
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in shared}
        for assignment in assignments:
            key, equals, text = assignment.partition("=")
            if not equals or key not in own:
                expected = ", ".join(f"{name}={value}" for name, value in own.items()) or "none: this kind has none"
                raise InputError("this is no setting of this bridge kind", got=repr(assignment), expected=expected)
            value = _value(text)
            value = float(value) if type(value) is int and isinstance(own[key], float) else value
            if type(value) is not type(own[key]):
                kind = type(own[key]).__name__
                raise InputError(f"the bridge's {key} has the wrong type", got=repr(text), expected=kind)
            own[key] = value
        return replace(self, **own)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> BridgeConfig:
        """Read a configuration; an unknown key is an error."""
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise InputError(
                "unknown keys in a bridge configuration",
                got=", ".join(unknown),
                expected=", ".join(f.name for f in fields(cls)),
            )
        return cls(**values)


def _value(text: str) -> Any:
    try:
        return parse_json(text)
    except TextError:
        return text
