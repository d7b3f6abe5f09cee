"""Guiders: small frozen values that say which passes a step needs and how their predictions are combined."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.registry import Registry

if TYPE_CHECKING:
    from ...core.protocols import Guider

GUIDERS: Registry[type[Guider]] = Registry("guider", __name__)
