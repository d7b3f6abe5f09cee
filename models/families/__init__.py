"""Families: kinds of models that make picture and sound together; one a file.

A family knows its folders, loads them, and gives a :class:`~.base.FamilyModel`, by which everything after the loader
goes: captions, sampling, decoding, planning, previews, tasks, nodes and commands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.registry import Registry

if TYPE_CHECKING:
    from .base import Family

FAMILIES: Registry[type[Family]] = Registry("family", __name__)
