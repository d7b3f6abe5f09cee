"""What a step cache remembers while one run lasts: predictions and bridges' parts by pass, and how far off it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from ...core.types import Pass
from ._curve import Curve, made_curve
from ._history import History
from .base import StepCache

_POSITIVE = "positive"
# Of what the sound hears: its solver draws noise at every step, which a slope through two of them would make louder.
_HEARD_ORDER = 0
# Fewer make a curve of a model that is too coarse for other runs.
LEAST_STEPS = 10
_TITLES = {"video": "prediction", "audio": "prediction of the sound"}
# Gives what the first block of a tower adds to its stream now.
Look = Callable[[], Tensor]


class CacheRun:
    """The state of one run; a new run makes a new one.

    Args:
        cache: Decides.
        num_steps: Of the run.
        reused: Modalities that do not run at a step that is not computed.
        own: Modalities that decide for themselves at such a step whether they run.
    """

    def __init__(
        self, cache: StepCache, num_steps: int, reused: frozenset[str], own: frozenset[str] = frozenset()
    ) -> None:
        self.cache, self.reused, self.kept, self._num_steps = cache, reused, reused | own, num_steps
        self.resting = reused  # modalities that do not run at the step that is asked about
        self._own, self._leading = own, "video" if "video" in reused else next(iter(reused))
        self._predictions: dict[tuple[str, str], History] = {}
        self._heard: dict[tuple[str, int], History] = {}
        self._joint: set[str] = set()  # passes in which the sound heard the picture
        self._deciders = {name: _Decider(cache, name) for name in (self._leading, *own)}
        self._errors: dict[str, list[Tensor]] = {}  # where predictions are: nobody waits for them before the end
        self._lengths: dict[str, list[tuple[float, Tensor]]] = {}
        self.num_computed = self.num_rested = 0

    def computes(self, step: int, looks: Mapping[str, Look], places: Mapping[str, float]) -> bool:
        """Whether a step is computed; if not, which modalities rest.

        Args:
            step: From 0.
            looks: By modality; one that is missing cannot be looked at.
            places: Where the run is, in each modality's time.
        """
        self.resting = self.reused
        for name, decider in self._deciders.items():
            decider.come(places.get(name, 0.0))
        if self._deciders[self._leading].computes(step, self._num_steps, looks.get(self._leading)):
            return True
        still = {name for name in self._own if name in looks and not self._deciders[name].due(step, looks[name])}
        self.resting = self.reused | still
        return False

    def begin(self, step: int, looks: Mapping[str, Look]) -> None:
        """A step is computed; what its first blocks say is what later ones are held against."""
        self.num_computed += 1
        self.resting = self.reused
        self._ran(step, looks, self._deciders)

    def rest(self, step: int, looks: Mapping[str, Look]) -> None:
        """A step is not computed: some rest, the others run."""
        self.num_rested += bool(self._own & self.resting)
        self._ran(step, looks, self._own - self.resting)

    def _ran(self, step: int, looks: Mapping[str, Look], names: Iterable[str]) -> None:
        for name in names:
            self._deciders[name].ran(step, looks.get(name))

    def knows(self, modality: str, passes: Iterable[Pass]) -> bool:
        """Whether all these passes were computed before."""
        return all((modality, one.name) in self._predictions for one in passes)

    def has_heard(self, passes: Iterable[Pass]) -> bool:
        """Whether the sound heard the picture in all these passes before."""
        return all(one.name in self._joint for one in passes)

    def note(self, modality: str, name: str, at: float, prediction: Tensor) -> None:
        """Keep a prediction ``(B, …)`` of a pass; what would have been extrapolated is held against it first."""
        known = self._predictions.setdefault((modality, name), History(self.cache.order))
        if name == _POSITIVE:
            length = prediction.norm()
            if len(known) == self.cache.kept:
                error = (known(at) - prediction).norm() / length.clamp_min(1e-12)
                self._errors.setdefault(modality, []).append(error)
            if self.cache.measured:
                self._lengths.setdefault(modality, []).append((at, length))
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

    @property
    def is_too_short(self) -> bool:
        """Whether it was to be measured and has too few steps for a curve that serves others."""
        return self.cache.measured and not self.cache.curves and self._num_steps < LEAST_STEPS

    def measured(self) -> dict[str, Curve]:
        """Curves of a run that was computed whole and is long enough; none of another."""
        if self.num_computed < self._num_steps or self._num_steps < LEAST_STEPS:
            return {}
        made = {
            name: made_curve([(at, float(length)) for at, length in lengths]) for name, lengths in self._lengths.items()
        }
        return {name: curve for name, curve in made.items() if curve is not None}

    def summary(self) -> str:
        """What it did, for the user."""
        told = f"step cache: {self.num_computed} of {self._num_steps} steps computed"
        told += f", the sound rested at {self.num_rested}" if self.num_rested else ""
        if not self._errors or self.num_computed == self._num_steps:
            return told
        errors = {name: torch.stack(each) for name, each in self._errors.items()}
        parts = [
            f"the extrapolated {_TITLES[name]} was off by {float(each.mean()):.1%} on average, {float(each.max()):.1%} "
            "at most"
            for name, each in errors.items()
        ]
        return f"{told}; there {', and '.join(parts)}"


class _Decider:
    """When one modality runs: how long it has not, and what has changed since.

    Args:
        cache: Decides.
        name: The modality.
    """

    def __init__(self, cache: StepCache, name: str) -> None:
        self._cache, self._curve = cache, cache.curves.get(name)
        self._last: int | None = None
        self._first_block: Tensor | None = None
        self._seen: Tensor | None = None
        self._at = self._last_at = self._drift = 0.0

    def come(self, at: float) -> None:
        """A new step, at a place in the modality's time."""
        self._seen, self._at = None, at

    def computes(self, step: int, num_steps: int, look: Look | None) -> bool:
        """Whether it runs at a step of the run."""
        return self._cache.computes(step, num_steps, *self._asked(step, look))

    def due(self, step: int, look: Look | None) -> bool:
        """The same of a step between the ends."""
        return self._cache.due(*self._asked(step, look))

    def _asked(self, step: int, look: Look | None) -> tuple[int, Callable[[], float]]:
        since = step + 1 if self._last is None else step - self._last
        return since, self._grown if self._cache.measured else lambda: self._changed(look)

    def _changed(self, look: Look | None) -> float:
        """How much the first block's part differs from that of the last step that ran, relative to it."""
        if look is None:
            return float("inf")
        self._seen = look().float()
        if self._first_block is None:
            return float("inf")
        moved = (self._seen - self._first_block).abs().mean()
        return float(moved / self._first_block.abs().mean())

    def _grown(self) -> float:
        """By how much predictions have grown or shrunk at the steps since the last one that ran, by the curve."""
        if self._curve is None or self._last is None:
            return float("inf")
        self._drift += abs(1 - self._curve(self._at) / self._curve(self._last_at))
        return self._drift

    def ran(self, step: int, look: Look | None) -> None:
        """It has run, or does now."""
        self._last, self._last_at, self._drift = step, self._at, 0.0
        if self._cache.looks and look is not None:
            self._first_block = look().float() if self._seen is None else self._seen


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

    def part(self, start: int, stop: int) -> HeardRows:
        """Of some of the passes; what is kept is shared."""
        return HeardRows(self._kept, self._order, self._names[start:stop], self._at)
