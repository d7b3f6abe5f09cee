"""What newer versions of ComfyUI let a node say of itself, left out where the running one does not know it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Rename:
    """A node that took another's place.

    Args:
        old: Id of the node that is gone.
        new: Id of the one that does its work.
        inputs: Name at the new node to name at the old one.
        widgets: Names of the old node's inputs with a widget, in the order of the page's values.
        values: Name at the new node to a value of its own.
        outputs: Index at the new node to index at the old one.
    """

    old: str
    new: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    widgets: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[int, int] = field(default_factory=dict)


class NestedPair:
    """Stand-in for ComfyUI's ``NestedTensor``, with what our nodes use of it.

    Args:
        tensors: Of the picture and of the sound.
    """

    is_nested = True

    def __init__(self, tensors: Iterable[Any]) -> None:
        self.tensors = list(tensors)

    def unbind(self) -> list[Any]:
        """The tensors."""
        return self.tensors


def newer(kind: Callable[..., Any], **fields: Any) -> dict[str, Any]:
    """Those of the fields that a class of the running host takes: its schema's, or one of its inputs'.

    Args:
        kind: The class that is going to be made with them, e.g. ``io.Schema``.
        **fields: For example ``search_aliases``, which 0.3.64 does not know.
    """
    known = inspect.signature(kind).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        return fields
    return {name: value for name, value in fields.items() if name in known}
