"""Towers: one backbone a file, each a thin hand on a stock diffusers transformer."""

from __future__ import annotations

from ...core.registry import Registry

TOWERS: Registry[type] = Registry("tower", __name__)
