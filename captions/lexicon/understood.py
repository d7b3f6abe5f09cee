"""What the grammar makes of a prompt: things, happenings and a setting."""

from __future__ import annotations

from dataclasses import dataclass, field

from .data import Modifier, Place, Source, Verb


@dataclass(eq=False)
class Thing:
    """Somebody or something named in the prompt."""

    source: Source
    shown: str
    is_plural: bool
    role: str
    clause: int
    count: int | None = None
    modifiers: list[Modifier] = field(default_factory=list)
    negated: bool = False
    acts: bool = False


@dataclass(eq=False)
class Happening:
    """A verb with who does it and to what."""

    verb: Verb
    clause: int
    order: float
    actor: Thing | None = None
    target: Thing | None = None
    tool: Thing | None = None
    count: int | None = None
    manner: list[Modifier] = field(default_factory=list)
    passive: bool = False
    nominal: bool = False
    negated: bool = False


@dataclass
class Parsed:
    """What was understood of a prompt."""

    things: list[Thing] = field(default_factory=list)
    happenings: list[Happening] = field(default_factory=list)
    place: Place | None = None
    settings: list[Modifier] = field(default_factory=list)
    muted: bool = False
