"""Video writers: one file each, a class of :class:`~.base.Writer`, made and called with a :class:`~.base.WriteJob`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.registry import Registry

if TYPE_CHECKING:
    from .base import Writer

# The one that needs nothing else, and writes every format.
DEFAULT = "pyav"
WRITERS: Registry[type[Writer]] = Registry("video writer", __name__)


def writer_names() -> list[str]:
    """All, the default first."""
    return [DEFAULT, *(name for name in WRITERS if name != DEFAULT)]
