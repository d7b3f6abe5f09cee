"""Scenes: one kind of sounding event a file."""

from __future__ import annotations

from ...core.registry import Registry
from .base import Scene

SCENES: Registry[type[Scene]] = Registry("scene", __name__)
