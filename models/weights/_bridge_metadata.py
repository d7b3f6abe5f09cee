"""What our own bridge files say of themselves, validated as a whole before anything is built of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from ...core.errors import CorruptWeightsError, IncompatibleWeightsError, InputError
from ..bridge_use import BridgeUse
from ..bridges import BRIDGES
from ..bridges.base import Bridge
from ..bridges.config import BridgeConfig
from ..points import BridgePoints
from ._bridge_layouts import FORMAT
from ._metadata import OwnMetadata
from ._weight_file import QUANTISED_METADATA

T = TypeVar("T")
SIDES = ("video", "audio")
# More than any tower has blocks, and wider than any is: what lies beyond is no size.
MOST_BLOCKS, MOST_WIDTH = 4096, 1 << 24


@dataclass(frozen=True)
class BridgeNote:
    """What the metadata of a bridge file say; None for what they do not.

    Args:
        fusion: The kind.
        config: Fields of its configuration.
        points: Where the bridges stand.
        trained: False for random bridges that only show the form.
        use: What they were trained for.
    """

    fusion: str | None = None
    config: Mapping[str, Any] | None = None
    points: BridgePoints | None = None
    trained: bool = True
    use: BridgeUse | None = None


def read_note(metadata: Mapping[str, str], path: Path) -> BridgeNote:
    """Read all entries that are ours.

    Args:
        metadata: The file's free text by name; entries of others are left alone.
        path: For messages.

    Raises:
        CorruptWeightsError: an entry that is no JSON, or not of the right form.
        IncompatibleWeightsError: a newer version, an unknown kind, or packed weights.
    """
    if QUANTISED_METADATA in metadata:
        raise IncompatibleWeightsError(
            "the bridge file says that its weights are packed",
            got=f"{path} with {QUANTISED_METADATA}",
            expected="weights in float32, float16 or bfloat16",
            remedy="Get the bridges unpacked; --storage packs them after loading.",
        )
    own = _own(metadata, path)
    if metadata.get("format") == FORMAT:
        own.require_version()
    fusion = metadata.get("fusion")
    if fusion is not None and fusion not in BRIDGES.names():
        raise IncompatibleWeightsError(
            "the bridge file is of a kind that is not known",
            got=f"{fusion!r:.80} in {path}",
            expected="one of " + ", ".join(BRIDGES),
        )
    trained = own.trained()
    return BridgeNote(
        fusion,
        _entry(own, "config", _config_fields),
        _entry(own, "points", _points),
        trained,
        _use(metadata, path),
    )


def _use(metadata: Mapping[str, str], path: Path) -> BridgeUse | None:
    try:
        return BridgeUse.read(metadata)
    except InputError as error:
        raise CorruptWeightsError(error.what, got=f"{error.got} in {path}", expected=error.expected) from error


def config_of(kind: type[Bridge], values: Mapping[str, Any], path: Path) -> BridgeConfig:
    """The configuration of a kind.

    Raises:
        CorruptWeightsError: a field that the kind does not have, of another type, or out of its range.
    """
    own, unreadable = {field.name: field.default for field in fields(kind.Config)}, _own({}, path).unreadable
    for name, value in values.items():
        wanted = type(own.get(name))
        is_number = wanted is float and type(value) is int
        if name in own and type(value) is not wanted and not is_number:
            raise unreadable("config", f"{name} {value!r}", f"{name} is no {_WORDS.get(wanted, 'such value')}")
        if type(value) is int and abs(value) > MOST_WIDTH:
            raise unreadable("config", f"{name} {value}", f"no model is larger than {MOST_WIDTH}")
    try:
        return kind.Config.from_dict(dict(values))
    except InputError as error:
        raise CorruptWeightsError(error.what, got=f"{error.got} in {path}", expected=error.expected) from error


_WORDS = {int: "whole number", str: "text", float: "number", bool: "truth value"}


def _own(metadata: Mapping[str, str], path: Path) -> OwnMetadata:
    return OwnMetadata("bridge file", "save_bridges", metadata, path)


def _entry(own: OwnMetadata, name: str, read: Callable[[Any], T]) -> T | None:
    if name not in own.entries:
        return None
    value = own.json(name)
    try:
        return read(value)
    except InputError as error:  # of the points themselves
        raise CorruptWeightsError(error.what, got=f"{error.got} in {own.path}", expected=error.expected) from error
    except (ValueError, TypeError) as error:
        raise own.unreadable(name, own.entries[name], str(error)) from error


def _config_fields(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("it is no JSON object")
    return value


def _points(value: Any) -> BridgePoints:
    if not isinstance(value, dict) or set(value) != set(SIDES):
        raise TypeError(f"it is no JSON object with {' and '.join(SIDES)}")
    for side in SIDES:
        numbers = value[side]
        if not isinstance(numbers, list) or any(type(number) is not int for number in numbers):
            raise TypeError(f"{side} is no list of whole numbers")
        if any(not 0 <= number < MOST_BLOCKS for number in numbers):
            raise ValueError(f"{side} has numbers of blocks that no tower has")
    return BridgePoints(*(tuple(value[side]) for side in SIDES))
