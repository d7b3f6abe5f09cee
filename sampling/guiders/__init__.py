"""Guiders: small frozen values that say which passes a step needs and how their predictions are combined."""

from __future__ import annotations

from ...core.protocols import Guider
from ...core.registry import Registry

GUIDERS: Registry[type[Guider]] = Registry("guider", __name__)
