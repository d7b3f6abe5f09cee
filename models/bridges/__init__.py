"""Bridges: one fusion a file, with the published system's parameter names."""

from __future__ import annotations

from ...core.pair import THINGS
from ...core.registry import Registry

BRIDGES: Registry[type] = Registry("bridge kind", __name__)


def kinds_that_hear(side: str) -> list[str]:
    """Bridge kinds that carry something of the other side to this one, ``video`` or ``audio``."""
    return [kind for kind in BRIDGES if side in BRIDGES.get(kind).listeners]


def why_deaf(side: str, *, bridged: bool) -> tuple[str, str]:
    """Of a side that hears nothing of the other one: what there is, and which bridges would do."""
    thing = THINGS[side]
    return (
        f"bridges that do not change the {thing}" if bridged else "a model without bridges",
        f"bridges of a kind that changes the {thing}: {', '.join(kinds_that_hear(side))}",
    )
