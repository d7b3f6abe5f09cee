"""Variety without chance: the choice is made by a hash of the text, so the same text always gives the same words."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Chooser:
    """Picks by a hash of the text and of what the choice is for."""

    def __init__(self, text: str) -> None:
        self._seed = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()

    def number(self, purpose: str) -> int:
        """A number that depends on nothing but the text and the purpose."""
        digest = hashlib.sha256(self._seed + purpose.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big")

    def pick(self, options: Sequence[T], purpose: str) -> T:
        """One of the options."""
        return options[self.number(purpose) % len(options)]

    def shuffled(self, options: Sequence[T], purpose: str) -> list[T]:
        """All options in an order of their own."""
        keyed = ((self.number(f"{purpose} {position}"), position) for position in range(len(options)))
        return [options[position] for _, position in sorted(keyed)]
