"""Which variant wraps a module of diffusers or transformers: told by a configuration, or by the module itself.

A tower, codec or text encoder names in ``stock`` the class that it wraps, as ``package.Class``.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from torch import nn

from ..core.errors import InputError, TextError
from ..core.json_text import read_json
from ..core.registry import Registry


def stock_name(variant: Any) -> str:
    """The wrapped class's name."""
    return variant.stock.rpartition(".")[2]


def stock_class(variant: Any) -> Any:
    """The wrapped class; its library is imported for it."""
    package, _, name = variant.stock.rpartition(".")
    return getattr(importlib.import_module(package), name)


def variant_named(registry: Registry[Any], class_name: object) -> Any | None:
    """The variant that wraps a class of this name, or None."""
    variants = (registry.get(key) for key in registry)
    return next((variant for variant in variants if stock_name(variant) == class_name), None)


def variant_of(registry: Registry[Any], module: nn.Module) -> Any:
    """The variant that wraps a module.

    Raises:
        InputError: none does.
    """
    for kind in type(module).__mro__:
        variant = variant_named(registry, kind.__name__)
        if variant is not None:
            return variant
    expected = ", ".join(stock_name(registry.get(key)) for key in registry)
    raise InputError(f"no {registry.role} wraps this module", got=type(module).__name__, expected=f"one of {expected}")


def variant_in(registry: Registry[Any], part: Path, usual: str) -> Any:
    """The variant that the configuration in a part's folder asks for.

    Args:
        registry: Of the role.
        part: Folder with ``config.json``; what is wrong with it is said by whoever loads it.
        usual: Key of the variant where the configuration names no class that one wraps.
    """
    try:
        config = read_json(part / "config.json")
    except TextError:
        config = None
    said = config if isinstance(config, dict) else {}
    found = variant_named(registry, said.get("_class_name"))
    if found is None and isinstance(said.get("model_type"), str):
        variants = [registry.get(key) for key in registry]
        found = next((each for each in variants if _model_type(each) == said["model_type"]), None)
    return registry.get(usual) if found is None else found


def _model_type(variant: Any) -> str | None:
    """How transformers names the architecture; None for a class of diffusers."""
    config = getattr(stock_class(variant), "config_class", None)
    return getattr(config, "model_type", None)
