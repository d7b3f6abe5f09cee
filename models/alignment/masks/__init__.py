"""Kinds of masks over the dimensions of adapted latents, one file a kind; ``base.py`` says what a kind decides."""

from __future__ import annotations

from ....core.registry import Registry
from .base import MaskKind

# By name: how a probability a dimension becomes what the latent is multiplied with.
MASKS: Registry[type[MaskKind]] = Registry("mask", __name__)
