"""Positions of tokens in bridges: one kind a file. Every bridge configuration names one."""

from __future__ import annotations

from ...core.registry import Registry

ROPES: Registry[type] = Registry("bridge rope", __name__)
