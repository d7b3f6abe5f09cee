"""One value for the picture and one for the sound; either may be absent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")
MODALITIES = ("video", "audio")
OTHER = {"video": "audio", "audio": "video"}
# What a side is called in sentences.
THINGS = {"video": "picture", "audio": "sound"}


@dataclass(frozen=True)
class Pair(Generic[T]):
    """Twin values of the two modalities.

    Args:
        video: The picture's, or None.
        audio: The sound's, or None.
    """

    video: T | None = None
    audio: T | None = None

    @classmethod
    def of(cls, twins: Any) -> Pair[T]:
        """The pair of anything that has ``video`` and ``audio``."""
        return cls(twins.video, twins.audio)

    @classmethod
    def both(cls, value: T) -> Pair[T]:
        """The same value twice."""
        return cls(value, value)

    def __iter__(self) -> Iterator[T | None]:
        """The picture's value, then the sound's."""
        return iter((self.video, self.audio))

    def __getitem__(self, modality: str) -> T | None:
        """The value of "video" or "audio"."""
        return {"video": self.video, "audio": self.audio}[modality]

    def map(self, function: Callable[[T], U]) -> Pair[U]:
        """The function's results; absent stays absent."""
        return Pair(*(None if value is None else function(value) for value in self))

    def zip(self, other: Pair[U]) -> Pair[tuple[T, U | None]]:
        """Each value with its partner; absent where the first is absent."""
        return Pair(*(None if mine is None else (mine, theirs) for mine, theirs in zip(self, other, strict=True)))

    @property
    def present(self) -> dict[str, T]:
        """The values that are there, by modality."""
        return {name: self[name] for name in MODALITIES if self[name] is not None}
