"""What the grammar makes of a prompt: things, happenings and a setting."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..english.data import Modifier, Place, Source, Verb


@dataclass(eq=False)
class Thing:
    """Somebody or something named in the prompt.

    Args:
        depicted: What a picture or a statue shows.
        same: The earlier mention of the same thing.
    """

    source: Source
    shown: str
    is_plural: bool
    role: str
    clause: int
    count: int | None = None
    modifiers: list[Modifier] = field(default_factory=list)
    negated: bool = False
    acts: bool = False
    depicted: list[Thing] = field(default_factory=list)
    same: Thing | None = None


@dataclass(eq=False)
class Happening:
    """A verb with who does it and to what.

    Args:
        impersonal: Nobody does it: "it rains".
        unnamed: Somebody does it whom the lexicon does not know.
        unread: It has an object that the lexicon does not know.
        splashes: Something ends in water.
    """

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
    impersonal: bool = False
    unnamed: bool = False
    unread: bool = False
    splashes: bool = False


@dataclass
class Parsed:
    """What was understood of a prompt."""

    things: list[Thing] = field(default_factory=list)
    happenings: list[Happening] = field(default_factory=list)
    place: Place | None = None
    settings: list[Modifier] = field(default_factory=list)
    muted: bool = False
    outdoors: bool = False
