"""Text encoders: one a file."""

from __future__ import annotations

from ...core.registry import Registry

TEXT_ENCODERS: Registry[type] = Registry("text encoder", __name__)
