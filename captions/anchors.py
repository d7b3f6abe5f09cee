"""Semantic anchors: what is seen and heard, event by event. The rewriter writes from nothing else (BridgeDiT eq. 4).

The types are plain frozen dataclasses, so building them needs no package. Reading JSON is strict and needs pydantic.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from ..core.errors import InputError, TextError
from ..core.json_text import parse_json, plain
from ..core.optional import require

if TYPE_CHECKING:
    from pydantic import TypeAdapter

MAX_ENTITIES = 16
MAX_EVENTS = 24
MAX_ATTRIBUTES = 12
MAX_DISCARDED = 64
MAX_CHARS = 600
_MOST_BYTES = 1 << 20
_WANTED = "one JSON object in the anchors' schema"
# What pydantic reads from a stdlib dataclass; a plain dict, so nothing is imported here.
_STRICT = {"extra": "forbid", "strict": True, "use_attribute_docstrings": True}


def _text(name: str, value: str, *, empty: bool = False) -> None:
    if not isinstance(value, str) or (not empty and not value.strip()) or len(value) > MAX_CHARS:
        got = f"{len(value)} characters" if isinstance(value, str) else type(value).__name__
        least = "" if empty else "1 to "
        raise InputError(f"{name} is not usable", got=got, expected=f"a text of {least}at most {MAX_CHARS} characters")


def _count(name: str, values: tuple[Any, ...], most: int, *, least: int = 0) -> None:
    if not least <= len(values) <= most:
        raise InputError(f"the number of {name} does not fit", got=len(values), expected=f"{least} to {most}")


@dataclass(frozen=True)
class Entity:
    """Somebody or something that is seen."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    name: str
    """Short name, used by the events: "blacksmith"."""
    attributes: tuple[str, ...]
    """Visible properties, a few words each: "leather apron", "soot on the hands"."""
    visual: str
    """What it looks like, as one clause: "a broad man in a leather apron at an anvil"."""

    def __post_init__(self) -> None:
        _text("an entity's name", self.name)
        _text(f"the look of {self.name!r}", self.visual)
        _count(f"attributes of {self.name!r}", self.attributes, MAX_ATTRIBUTES)
        for attribute in self.attributes:
            _text(f"an attribute of {self.name!r}", attribute)


@dataclass(frozen=True)
class Sound:
    """What one event sounds like."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    heard: str
    """What is heard, as a noun phrase without visible detail: "a bright metallic clang that rings on"."""
    source: str
    """The physical cause: "hammer on iron"."""

    def __post_init__(self) -> None:
        _text("what is heard", self.heard)
        _text("the source of a sound", self.source)


@dataclass(frozen=True)
class Event:
    """Something that happens: a visual action and, if it makes one, its sound."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    id: str
    """Its own short id: "e1"."""
    order: int
    """Place in time, from 1; events at the same time share a number."""
    start: float | None
    """Rough start as a fraction of the clip, 0 to 1, or null."""
    end: float | None
    """Rough end as a fraction of the clip, 0 to 1, or null."""
    entity: str
    """Name of the entity that acts."""
    visual_action: str
    """What is seen happening, as a clause without sound words: "brings the hammer down on the glowing bar"."""
    sound: Sound | None
    """What is heard, or null for a silent action."""

    def __post_init__(self) -> None:
        _text("an event's id", self.id)
        _text(f"the entity of event {self.id!r}", self.entity)
        _text(f"the visual action of event {self.id!r}", self.visual_action)
        if isinstance(self.order, bool) or not isinstance(self.order, int) or not 1 <= self.order <= MAX_EVENTS:
            raise InputError(
                f"the order of event {self.id!r} is out of range", got=self.order, expected=f"1 to {MAX_EVENTS}"
            )
        times = [time for time in (self.start, self.end) if time is not None]
        if any(not math.isfinite(time) or not 0 <= time <= 1 for time in times) or times != sorted(times):
            raise InputError(
                f"the timing of event {self.id!r} is out of range",
                got=f"{self.start} to {self.end}",
                expected="fractions of the clip, 0 to 1, the start not after the end, or null",
            )


@dataclass(frozen=True)
class SemanticAnchors:
    """Everything that both captions may say."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    entities: tuple[Entity, ...]
    """Who and what is seen, the most important first; at least one."""
    environment: str
    """Where it happens and the light, as seen: "a dim workshop lit by a forge"."""
    events: tuple[Event, ...]
    """What happens, in time order."""
    ambient_sound: str
    """The background that is heard without a visible event: "a low roar of fire"; may be empty if an event sounds."""
    camera: str
    """Framing and movement of the camera."""
    style: str
    """Look of the picture: "photorealistic, cinematic"."""
    mood: str
    """The mood, in a few words."""
    discarded: tuple[str, ...] = ()
    """Training only: what the checker threw out of the audio description. Never shown to the rewriter."""

    def __post_init__(self) -> None:
        _count("entities", self.entities, MAX_ENTITIES, least=1)
        _count("events", self.events, MAX_EVENTS)
        _count("discarded items", self.discarded, MAX_DISCARDED)
        for name in ("environment", "camera", "style", "mood"):
            _text(f"the field {name!r}", getattr(self, name))
        _text("the field 'ambient_sound'", self.ambient_sound, empty=True)
        self._check_references()

    def _check_references(self) -> None:
        names = {entity.name.casefold() for entity in self.entities}
        strangers = [event.entity for event in self.events if event.entity.casefold() not in names]
        if strangers:
            raise InputError(
                "an event belongs to no entity",
                got=repr(strangers[0]),
                expected="one of " + ", ".join(repr(entity.name) for entity in self.entities),
            )
        ids = [event.id for event in self.events]
        repeated = sorted({name for name in ids if ids.count(name) > 1})
        if repeated:
            raise InputError("two events share an id", got=repr(repeated[0]), expected="an id of its own for each")
        if not self.ambient_sound.strip() and all(event.sound is None for event in self.events):
            raise InputError(
                "nothing is heard",
                expected="an event with a sound, or an ambient sound",
                remedy="For a quiet scene name the quiet itself, for example 'near silence in a small room'.",
            )

    @property
    def in_order(self) -> tuple[Event, ...]:
        """The events by time."""
        return tuple(sorted(self.events, key=lambda event: (event.order, event.start or 0.0)))

    @property
    def heard(self) -> tuple[str, ...]:
        """Every sound by time, the ambient one last."""
        sounds = [event.sound.heard for event in self.in_order if event.sound is not None]
        return (*sounds, self.ambient_sound) if self.ambient_sound.strip() else tuple(sounds)

    def for_rewriter(self) -> SemanticAnchors:
        """The same without ``discarded``: what was filtered out must not come back through the rewriter."""
        return replace(self, discarded=())

    def as_json(self, *, with_discarded: bool = True) -> dict[str, Any]:
        """Plain values in the schema's form; ``discarded`` only if asked for and not empty."""
        values = plain(asdict(self))
        if not (with_discarded and self.discarded):
            del values["discarded"]
        return values

    def to_json(self, *, indent: int | None = 2) -> str:
        """JSON text that :func:`from_json` reads back to an equal value."""
        return json.dumps(self.as_json(), ensure_ascii=False, indent=indent)


@lru_cache(maxsize=1)
def _adapter() -> TypeAdapter[SemanticAnchors]:
    return require("pydantic", "reading semantic anchors").TypeAdapter(SemanticAnchors)


def anchors_schema(*, discarded: bool = False) -> dict[str, Any]:
    """JSON Schema of the anchors: nothing extra, everything required (as OpenAI's strict mode wants it).

    Args:
        discarded: With the list that only the checker of training captions fills.

    Raises:
        MissingPackageError: pydantic is not installed.
    """
    schema = plain(_adapter().json_schema())
    schema["properties"]["discarded"].pop("default")
    if not discarded:
        del schema["properties"]["discarded"]
    for part in (schema, *schema["$defs"].values()):
        part.pop("title", None)
        part["required"] = list(part["properties"])
        for name, value in part["properties"].items():
            value.pop("title", None)
            for kind in (value, value.get("items", {}), *value.get("anyOf", ())):
                kind |= _limits(name, kind.get("type"))
    return schema


def _limits(name: str, kind: str | None) -> dict[str, Any]:
    """What the types check when they are made, as JSON Schema keywords."""
    if kind == "string":
        return {"minLength": 0 if name == "ambient_sound" else 1, "maxLength": MAX_CHARS}
    if kind == "integer":
        return {"minimum": 1, "maximum": MAX_EVENTS}
    if kind == "number":
        return {"minimum": 0, "maximum": 1}
    if kind == "array":
        counts = {"entities": MAX_ENTITIES, "events": MAX_EVENTS, "attributes": MAX_ATTRIBUTES}
        return {"minItems": int(name == "entities"), "maxItems": counts.get(name, MAX_DISCARDED)}
    return {}


def from_json(text: str) -> SemanticAnchors:
    """Read anchors strictly.

    Raises:
        InputError: not JSON, a missing, surplus or unusable field; the message lists every problem with its place.
        MissingPackageError: pydantic is not installed.
    """
    try:
        values = parse_json(text, most_bytes=_MOST_BYTES)
    except TextError as error:
        raise InputError("the semantic anchors cannot be read", got=error.got, expected=_WANTED) from error
    return from_values(values)


def from_values(values: Any) -> SemanticAnchors:
    """Make anchors of what JSON holds, strictly.

    Raises:
        InputError: as of :func:`from_json`.
        MissingPackageError: pydantic is not installed.
    """
    pydantic = require("pydantic", "reading semantic anchors")
    try:
        return _adapter().validate_json(json.dumps(values))
    except pydantic.ValidationError as error:
        raise InputError(
            "the semantic anchors cannot be read",
            got="; ".join(_problem(item) for item in error.errors()[:8]),
            expected=_WANTED,
        ) from error


def _problem(item: dict[str, Any]) -> str:
    """One problem as ``events.0.order: Input should be a valid integer``."""
    place = ".".join(str(part) for part in item["loc"]) or "the text"
    surplus = item["type"] in ("unexpected_keyword_argument", "extra_forbidden")
    message = "there is no such field" if surplus else item["msg"].removeprefix("Value error, ").rstrip(".")
    return f"{place}: {message}"
