"""What every scene is, and the motions that several share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ..canvas import Canvas
from ..captions import Wordings
from ..dice import Dice, Span
from ..palette import RGB, shade
from ..sound import Stage

Plan = Mapping[str, Any]
FLOOR_Y = 0.55


class Scene(ABC):
    """One kind of scene. All randomness is in the plan; picture and sound are functions of it.

    A plan is plain values (a manifest keeps it). Event scenes have ``plan["events"]``, seconds in rising order;
    continuous scenes have ``plan["knots"]``, levels 0..1 at evenly spaced times (:func:`level_at`).

    ``known_as`` names the scene in a sentence; ``told_by`` are words by which a text about it is told, of each entry
    all.
    """

    continuous: ClassVar[bool] = False
    wordings: ClassVar[Wordings]
    known_as: ClassVar[str]
    told_by: ClassVar[tuple[str, ...]]

    @abstractmethod
    def plan(self, dice: Dice, span: Span) -> dict[str, Any]:
        """Decide everything."""

    @abstractmethod
    def backdrop(self, canvas: Canvas, plan: Plan) -> None:
        """Paint what stands still, once a clip."""

    @abstractmethod
    def draw(self, canvas: Canvas, plan: Plan, time: float) -> None:
        """Paint what moves, at a moment in seconds."""

    @abstractmethod
    def sound(self, stage: Stage, plan: Plan) -> None:
        """Let it sound."""

    @abstractmethod
    def words(self, plan: Plan) -> dict[str, str]:
        """Fields for the wordings."""


def since_last(events: Sequence[float], time: float) -> tuple[int, float]:
    """Index of the latest event and the seconds since; ``(-1, inf)`` before the first."""
    past = [index for index, event in enumerate(events) if event <= time]
    return (past[-1], time - events[past[-1]]) if past else (-1, math.inf)


def until_next(events: Sequence[float], time: float) -> tuple[int, float]:
    """Index of the next event and the seconds until; ``(len, inf)`` after the last."""
    coming = [index for index, event in enumerate(events) if event > time]
    return (coming[0], events[coming[0]] - time) if coming else (len(events), math.inf)


def swing(events: Sequence[float], time: float, *, down_seconds: float, up_seconds: float) -> float:
    """How far a tool is from what it hits: 0 at an event, 1 at rest.

    Fastest right before and right after the contact, where its direction turns; shortened where events are close.
    """
    last, age = since_last(events, time)
    following, wait = until_next(events, time)
    gap = age + wait if last >= 0 and following < len(events) else math.inf
    down, up = min(down_seconds, 0.5 * gap), min(up_seconds, 0.5 * gap)
    if wait < down:
        return 1 - (1 - wait / down) ** 2
    return 1 - (1 - age / up) ** 2 if age < up else 1.0


def fade(age: float, seconds: float) -> float:
    """1 at an event, falling smoothly to 0 after a while."""
    return (1 - age / seconds) ** 2 if age < seconds else 0.0


def particles(grain: int, index: int, num: int) -> np.ndarray:
    """``(num, 4)`` numbers in 0..1 that belong to one event of a clip."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([grain, index]))).random((num, 4))


def room(canvas: Canvas, wall: RGB, floor_y: float = FLOOR_Y) -> None:
    """A wall that is lighter above, and a floor."""
    canvas.gradient(shade(wall, 1.12), shade(wall, 0.86), stop=floor_y)
    canvas.gradient(shade(wall, 0.52), shade(wall, 0.70), start=floor_y)
    canvas.line((-canvas.right, floor_y), (canvas.right, floor_y), 0.02, shade(wall, 0.42))


def shake(age: float, size: float) -> float:
    """Offset of something that was hit: a swing to and fro that dies within a fifth of a second."""
    return size * math.cos(min(age, 1.0) * 42) * fade(age, 0.22)


TRENDS = ("rising", "falling", "swelling", "easing")


def draw_knots(dice: Dice) -> tuple[list[float], str]:
    """Five levels 0..1 of a continuous scene, and their trend: rising, falling, swelling or easing."""
    low, high = dice.uniform(0.08, 0.25), dice.uniform(0.8, 1.0)
    middle = dice.uniform(0.4, 0.6)
    trend = dice.choice(TRENDS)
    shapes = {
        "rising": [low, low, middle, high, high],
        "falling": [high, high, middle, low, low],
        "swelling": [low, middle, high, middle, low],
        "easing": [high, middle, low, middle, high],
    }
    return shapes[trend], trend


def level_at(knots: Sequence[float], share: float | np.ndarray) -> Any:
    """The level at a share (0..1) of the clip, linear between knots."""
    return np.interp(share, np.linspace(0, 1, len(knots)), knots)
