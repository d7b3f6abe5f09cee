"""Bridges: one fusion a file, with the published system's parameter names."""

from __future__ import annotations

from ...core.registry import Registry

BRIDGES: Registry[type] = Registry("bridge kind", __name__)
