"""Schedules: at which noise levels the towers are asked, and what each is told about the time; one a file.

A variant is a function of :class:`~.base.Steps` that gives a :class:`~.base.Points` for picture and sound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...core.pair import Pair
    from .base import Points, Steps

SCHEDULES: Registry[Callable[[Steps], Pair[Points]]] = Registry("schedule", __name__)
