"""Video writers: one file each, called with a :class:`~.base.WriteJob`."""

from __future__ import annotations

from collections.abc import Callable

from ...core.progress import Progress
from ...core.registry import Registry
from .base import WriteJob

WRITERS: Registry[Callable[[WriteJob, Progress], None]] = Registry("video writer", __name__)
