"""Ways to show the model what is given while the other side is made, one a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.registry import Registry

if TYPE_CHECKING:
    from .base import Shown

DEFAULT = "replace"
SHOWN: Registry[type[Shown]] = Registry("way to show what is given", __name__)


def shown_names() -> list[str]:
    """All, the default first."""
    return [DEFAULT, *(name for name in SHOWN if name != DEFAULT)]
