"""A pendulum clock; it ticks each time the bob swings through the middle."""

from __future__ import annotations

import math
from typing import Any

from ..canvas import Canvas
from ..captions import Wordings, a
from ..dice import Dice, Options, Span
from ..palette import COLOUR_RGB, COLOURS, WALL_RGB, WALLS, shade
from ..sound import BODIES, Stage
from . import SCENES
from .base import Plan, Scene, fade, since_last

CASES = Options(("oak", "walnut"), ("ebony",))
CASE_RGB = {"oak": (0.74, 0.53, 0.30), "walnut": (0.42, 0.26, 0.15), "ebony": (0.16, 0.13, 0.13)}
PITCH_HZ = {"oak": 1150, "walnut": 820, "ebony": 1600}
TEMPOS = {"quick": (0.50, 0.60), "calm": (0.64, 0.76), "slow": (0.82, 0.95)}
PIVOT_Y, LENGTH = -0.28, 0.86


@SCENES.register("pendulum")
class Pendulum(Scene):
    """Ticks are a half-period apart; the bob is fastest at a tick, and the hand moves on."""

    known_as = "a pendulum clock"
    told_by = ("pendulum", "clock", "timepiece", "tick tock")
    wordings = Wordings(
        video=Options(
            (
                "{a_case} clock hangs on {a_wall} wall. Its {colour} pendulum swings at a {tempo} pace from side to "
                "side, and the hand on the dial moves on and a small lamp flares with each pass through the middle.",
                "On {a_wall} wall hangs a clock with {a_case} case. The round {colour} bob swings {tempo} and even, "
                "left and right, and a lamp below it blinks at every pass. The camera is still.",
                "A still view of a pendulum clock made of {case}. The {colour} bob swings at a {tempo} pace below the "
                "white dial and lights a lamp in the middle, against {a_wall} wall.",
            ),
            (
                "A wall clock of {case} with a {tempo} {colour} pendulum sways to and fro before {a_wall} wall, and a "
                "lamp winks whenever it hangs straight.",
            ),
        ),
        audio=Options(
            (
                "A clock ticks at a {tempo}, even pace, dry wooden clicks.",
                "{tempo} and regular ticking of a pendulum clock.",
                "The {tempo} tick of a clock of {case}, dry and regular.",
            ),
            ("An old timepiece of {case} goes tick tock at a {tempo} and regular rate.",),
        ),
        prompt=Options(
            (
                "a pendulum clock ticks at a {tempo} pace",
                "{a_colour} pendulum swings, {tempo} ticking",
                "{a_case} clock with a {tempo} pendulum",
            ),
            ("an old timepiece with a {tempo} {colour} pendulum goes tick tock",),
        ),
    )

    def plan(self, dice: Dice, span: Span) -> dict[str, Any]:
        """All ticks in the clip; the phase keeps them off both ends."""
        tempo = dice.clock.choice(list(TEMPOS))
        period = max(dice.clock.uniform(*TEMPOS[tempo]), 6 * span.frame_seconds)
        margin, last = span.margin_seconds, span.seconds - span.margin_seconds
        starts = [margin + (min(period, last) - margin) * step / 63 for step in range(64)]
        usable = [start for start in starts if start + int((span.seconds - start) / period) * period <= last]
        start = usable[dice.clock.integer(0, len(usable) - 1)]
        count = int((span.seconds - start) / period) + 1
        return {
            "events": [round(start + index * period, 6) for index in range(count)],
            "half_period": round(period, 6),
            "tempo": tempo,
            "case": dice.pick(CASES),
            "colour": dice.pick(COLOURS),
            "wall": dice.pick(WALLS),
            "amplitude": dice.uniform(0.55, 0.75),
            "way": dice.choice(("left", "right")),
            "pitch": dice.uniform(0.88, 1.15),
            "hour": dice.uniform(0, 1),
        }

    def backdrop(self, canvas: Canvas, plan: Plan) -> None:
        """Wall, case and dial."""
        wall, case = WALL_RGB[plan["wall"]], CASE_RGB[plan["case"]]
        canvas.gradient(shade(wall, 1.15), shade(wall, 0.8))
        canvas.box((0.03, 0.05), (0.74, 0.93), shade(wall, 0.62), corner=0.08)
        canvas.box((0, 0), (0.74, 0.93), shade(case, 0.8), corner=0.08)
        canvas.box((0, 0), (0.69, 0.88), case, corner=0.06)
        canvas.box((0, 0.27), (0.63, 0.55), shade(wall, 0.30), corner=0.05)
        canvas.disc((0, -0.55), 0.30, shade(case, 0.6))
        canvas.disc((0, -0.55), 0.265, (0.96, 0.95, 0.90))
        for mark in range(12):
            angle = mark * math.pi / 6
            canvas.disc((0.215 * math.sin(angle), -0.55 - 0.215 * math.cos(angle)), 0.017, (0.2, 0.2, 0.2))

    def draw(self, canvas: Canvas, plan: Plan, time: float) -> None:
        """Hand and pendulum."""
        index, age = since_last(plan["events"], time)
        step = index + 1 if age > 0.06 else index + age / 0.06
        turn = 2 * math.pi * (plan["hour"] + max(step, 0.0) / 12)
        canvas.line((0, -0.55), (0.19 * math.sin(turn), -0.55 - 0.19 * math.cos(turn)), 0.04, (0.75, 0.12, 0.12))
        sign = -1 if plan["way"] == "left" else 1
        swung = math.sin(math.pi * (time - plan["events"][0]) / plan["half_period"])
        angle = sign * plan["amplitude"] * swung
        bob = (LENGTH * math.sin(angle), PIVOT_Y + LENGTH * math.cos(angle))
        canvas.line((0, PIVOT_Y), bob, 0.045, (0.83, 0.74, 0.48))
        canvas.ball(bob, 0.165, COLOUR_RGB[plan["colour"]], 0.7)
        canvas.glow((0, PIVOT_Y + LENGTH), 0.5, (1.0, 0.95, 0.75), 1.1 * fade(age, 0.22))

    def sound(self, stage: Stage, plan: Plan) -> None:
        """Tick and tock alternate slightly in pitch."""
        for index, event in enumerate(plan["events"]):
            pitch = PITCH_HZ[plan["case"]] * plan["pitch"] * (1.0 if index % 2 else 0.86)
            stage.strike(BODIES["wood"], pitch, event, place=0.0, strength=0.6)

    def words(self, plan: Plan) -> dict[str, str]:
        """Tempo, wood and colours."""
        return {
            "tempo": plan["tempo"],
            "case": plan["case"],
            "a_case": a(plan["case"]),
            "colour": plan["colour"],
            "a_colour": a(plan["colour"]),
            "a_wall": a(plan["wall"]),
        }
