"""Registries: one variant is one file in a package and its key is the file's name."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

from .errors import InputError

T = TypeVar("T")
# Files beside the variants: what these have in common, and what is said of one.
NOT_VARIANTS = frozenset({"base", "config"})


class Registry(Generic[T]):
    """Maps keys to variants; finds the files of a package by itself and imports one only when it is asked for.

    Args:
        role: What the variants are, in the singular: "bridge", "tower".
        package: Import name of the package whose files are the variants (pass ``__name__`` of its ``__init__``);
            None for a registry that is filled by hand.
    """

    def __init__(self, role: str, package: str | None = None) -> None:
        self.role, self._package = role, package
        self._entries: dict[str, T] = {}

    def register(self, key: str) -> Callable[[T], T]:
        """Decorator that enters a variant under ``key``; a second one under the same key is refused.

        Raises:
            InputError: the key is taken, or does not equal the name of the file that registers it.
        """

        def enter(variant: T) -> T:
            if key in self._entries:
                raise InputError(
                    f"two {self.role}s are registered under one name", got=key, expected="a name of its own for each"
                )
            module = getattr(variant, "__module__", "")
            if self._package and module.startswith(self._package + ".") and module.rsplit(".", 1)[-1] != key:
                raise InputError(
                    f"a {self.role}'s name must be its file's name", got=key, expected=module.rsplit(".", 1)[-1]
                )
            self._entries[key] = variant
            return variant

        return enter

    def names(self) -> list[str]:
        """Every key, sorted, without importing any variant."""
        return sorted(set(self._files()) | set(self._entries))

    def get(self, key: str) -> T:
        """The variant registered under ``key``.

        Raises:
            InputError: no such variant; the message lists the choices.
        """
        if key not in self._entries and key in self._files():
            importlib.import_module(f"{self._package}.{key}")
        if key not in self._entries:
            raise InputError(f"unknown {self.role}", got=repr(key), expected="one of " + ", ".join(self.names()))
        return self._entries[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def _files(self) -> list[str]:
        if self._package is None:
            return []
        package = importlib.import_module(self._package)
        paths = [str(Path(path)) for path in package.__path__]
        found = (module.name for module in pkgutil.iter_modules(paths))
        return [name for name in found if name not in NOT_VARIANTS and not name.startswith("_")]
