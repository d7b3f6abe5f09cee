"""Metrics: one a file, registered under the file's name."""

from __future__ import annotations

from ...core.registry import Registry
from .base import Metric

METRICS: Registry[type[Metric]] = Registry("metric", __name__)
