"""Bridges: one fusion a file, with the published system's parameter names."""

from __future__ import annotations

from ...core.registry import Registry

BRIDGES: Registry[type] = Registry("bridge kind", __name__)


def kinds_that_hear(side: str) -> list[str]:
    """Bridge kinds that carry something of the other side to this one, ``video`` or ``audio``."""
    return [kind for kind in BRIDGES if side in BRIDGES.get(kind).listeners]
