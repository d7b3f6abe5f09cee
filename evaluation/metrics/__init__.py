"""Metrics: one a file, registered under the file's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.registry import Registry

if TYPE_CHECKING:
    from .base import Metric

METRICS: Registry[type[Metric]] = Registry("metric", __name__)
