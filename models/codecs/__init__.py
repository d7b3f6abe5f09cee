"""Codecs: one a file."""

from __future__ import annotations

from ...core.registry import Registry

CODECS: Registry[type] = Registry("codec", __name__)
