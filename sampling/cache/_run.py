"""What a step cache remembers while one run lasts: predictions and bridges' parts by pass, and how far off it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from ...core.types import Pass
from ._history import History
from .base import StepCache

_POSITIVE = "positive"
# Of what the sound hears: its solver draws noise at every step, which a slope through two of them would make louder.
_HEARD_ORDER = 0


class CacheRun:
    """The state of one run; a new run makes a new one.

    Args:
        cache: Decides.
        num_steps: Of the run.
        reused: Modalities that do not run at a step that is not computed.
    """

    def __init__(self, cache: StepCache, num_steps: int, reused: frozenset[str]) -> None:
        self.cache, self.reused, self._num_steps = cache, reused, num_steps
        self._predictions: dict[tuple[str, str], History] = {}
        self._heard: dict[tuple[str, int], History] = {}
        self._joint: set[str] = set()  # passes in which the sound heard the picture
        self._last: int | None = None
        self._seen: Tensor | None = None
        self._first_block: Tensor | None = None
        self._errors: list[Tensor] = []  # where predictions are: nobody waits for them before the end
        self.num_computed = 0

    def computes(self, step: int, look: Callable[[], Tensor] | None) -> bool:
        """Whether a step is computed.

        Args:
            step: From 0.
            look: Gives what the first block of the video tower adds to its stream now; None where nobody can look.
        """
        self._seen = None

        def change() -> float:
            self._seen = look().float()
            if self._first_block is None:
                return float("inf")
            moved = (self._seen - self._first_block).abs().mean()
            return float(moved / self._first_block.abs().mean())

        since = step + 1 if self._last is None else step - self._last
        return self.cache.computes(step, self._num_steps, since, change)

    def begin(self, step: int, look: Callable[[], Tensor] | None) -> None:
        """A step is computed; what its first block says is what later ones are held against."""
        self._last = step
        self.num_computed += 1
        if self.cache.looks and look is not None:
            self._first_block = look().float() if self._seen is None else self._seen

    def knows(self, modality: str, passes: Iterable[Pass]) -> bool:
        """Whether all these passes were computed before."""
        return all((modality, one.name) in self._predictions for one in passes)

    def has_heard(self, passes: Iterable[Pass]) -> bool:
        """Whether the sound heard the picture in all these passes before."""
        return all(one.name in self._joint for one in passes)

    def note(self, modality: str, name: str, at: float, prediction: Tensor) -> None:
        """Keep a prediction ``(B, …)`` of a pass; what would have been extrapolated is held against it first."""
        known = self._predictions.setdefault((modality, name), History(self.cache.order))
        if name == _POSITIVE and len(known) == self.cache.kept:
            self._errors.append((known(at) - prediction).norm() / prediction.norm().clamp_min(1e-12))
        known.note(at, prediction)

    def prediction(self, modality: str, name: str, at: float) -> Tensor:
        """The extrapolated prediction of a pass."""
        return self._predictions[modality, name](at)

    def heard(self, passes: tuple[Pass, ...], at: float) -> HeardRows:
        """What the bridges give the sound in a forward of these passes."""
        self._joint |= {one.name for one in passes}
        return HeardRows(self._heard, _HEARD_ORDER, [one.name for one in passes], at)

    @property
    def num_bytes(self) -> int:
        """Of all that is kept."""
        return sum(history.num_bytes for kept in (self._predictions, self._heard) for history in kept.values())

    def summary(self) -> str:
        """What it did, for the user."""
        told = f"step cache: {self.num_computed} of {self._num_steps} steps computed"
        if not self._errors or self.num_computed == self._num_steps:
            return told
        errors = torch.stack(self._errors)
        mean, worst = float(errors.mean()), float(errors.max())
        return f"{told}; there the extrapolated prediction was off by {mean:.1%} on average, {worst:.1%} at most"


class HeardRows:
    """What bridges add to the stream of the sound, row by row of the passes in one forward.

    Args:
        kept: By pass and bridge.
        order: Of the extrapolation.
        names: Of the passes, in the order of their rows.
        at: Where the run is.
    """

    def __init__(self, kept: dict[tuple[str, int], History], order: int, names: list[str], at: float) -> None:
        self._kept, self._order, self._names, self._at = kept, order, names, at

    def note(self, bridge: int, change: Tensor) -> None:
        """Keep what a bridge added to ``(B, L, C)``."""
        for name, rows in zip(self._names, change.chunk(len(self._names)), strict=True):
            self._kept.setdefault((name, bridge), History(self._order)).note(self._at, rows)

    def change(self, bridge: int) -> Tensor | None:
        """What it would add here; None where it adds nothing."""
        if (self._names[0], bridge) not in self._kept:
            return None
        return torch.cat([self._kept[name, bridge](self._at) for name in self._names])
