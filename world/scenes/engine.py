"""A steam engine's flywheel; its speed changes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..canvas import Canvas
from ..captions import Wordings, a
from ..dice import Dice, Options, Span
from ..palette import COLOUR_RGB, COLOURS, WALL_RGB, WALLS, shade
from ..sound import Stage
from . import SCENES
from .base import FLOOR_Y, Plan, Scene, draw_knots, level_at, room

BODIES_OF = Options(("iron", "brass"), ("copper",))
BODY_RGB = {"iron": (0.34, 0.36, 0.40), "brass": (0.78, 0.62, 0.26), "copper": (0.74, 0.42, 0.27)}
CHANGES = {
    "rising": "speeds up",
    "falling": "slows down",
    "swelling": "speeds up and slows down again",
    "easing": "slows down and speeds up again",
}
WHEEL, RADIUS, CRANK = (0.25, 0.12), 0.56, 0.30
TURNS_A_SECOND = 1.5  # at level 1; a tenth of a turn a picture at 15 fps, so that it never seems to go backwards
FIRINGS_A_TURN = 24
STEPS = 512


@SCENES.register("engine")
class Engine(Scene):
    """Speed of the wheel, and pitch and loudness of the engine, follow one level."""

    continuous = True
    known_as = "an engine whose wheel turns"
    told_by = ("engine", "flywheel", "piston", "machine wheel")
    wordings = Wordings(
        video=Options(
            (
                "{a_metal} engine with {a_colour} flywheel stands before {a_wall} wall. The wheel {change}, its rod "
                "pushing the piston in and out at the same rate.",
                "Before {a_wall} wall, the {colour} flywheel of {a_metal} engine turns and {change}. The crank and the "
                "piston follow it. The camera is still.",
                "A side view of {a_metal} engine. Its {colour} wheel spins, {change}, and drives a piston to and fro. "
                "The wall behind it is {wall}.",
            ),
            (
                "The {colour} driving wheel of an old {metal} machine rotates before {a_wall} wall; it {change} while "
                "the piston slides.",
            ),
        ),
        audio=Options(
            (
                "An engine runs and {change}, its hum rising and falling with the speed.",
                "The low throb of an engine that {change}.",
                "{a_metal} engine whirs and {change}, louder when it is fast.",
            ),
            ("An old {metal} machine drones as it {change}.",),
        ),
        prompt=Options(
            (
                "an engine that {change}",
                "{a_metal} engine with {a_colour} wheel {change}",
                "{a_colour} flywheel turns, the engine {change}",
            ),
            ("an old {metal} machine with {a_colour} driving wheel {change}",),
        ),
    )

    def plan(self, dice: Dice, span: Span) -> dict[str, Any]:
        """A trend and a machine."""
        knots, trend = draw_knots(dice.clock)
        return {
            "events": [],
            "knots": knots,
            "trend": trend,
            "seconds": span.seconds,
            "metal": dice.pick(BODIES_OF),
            "colour": dice.pick(COLOURS),
            "wall": dice.pick(WALLS),
            "start": dice.uniform(0, 1),
            "way": dice.choice(("clockwise", "counterclockwise")),
            "pitch": dice.uniform(0.85, 1.2),
        }

    def backdrop(self, canvas: Canvas, plan: Plan) -> None:
        """Room and the machine's bed."""
        room(canvas, WALL_RGB[plan["wall"]], FLOOR_Y + 0.1)
        metal = BODY_RGB[plan["metal"]]
        canvas.box((-0.05, 0.76), (0.88, 0.09), shade(metal, 0.6), corner=0.03)
        canvas.box((WHEEL[0], 0.42), (0.1, 0.3), shade(metal, 0.75))

    def draw(self, canvas: Canvas, plan: Plan, time: float) -> None:
        """Wheel with one light sector, crank, rod, piston and cylinder."""
        metal, colour = BODY_RGB[plan["metal"]], COLOUR_RGB[plan["colour"]]
        way = 1 if plan["way"] == "clockwise" else -1
        angle = way * 2 * math.pi * (plan["start"] + self._turns(plan, time))
        x, y = WHEEL
        canvas.disc(WHEEL, RADIUS, shade(colour, 0.55))
        canvas.disc(WHEEL, RADIUS * 0.92, colour)
        for part in range(5):
            around = angle + (part - 2) * 0.22
            spot = (x + 0.64 * RADIUS * math.cos(around), y + 0.64 * RADIUS * math.sin(around))
            canvas.disc(spot, 0.14, (0.97, 0.96, 0.92))
        for spoke in range(3):
            turn = angle + spoke * 2 * math.pi / 3
            tip = (x + 0.9 * RADIUS * math.cos(turn), y + 0.9 * RADIUS * math.sin(turn))
            canvas.line(WHEEL, tip, 0.06, shade(colour, 0.4))
        pin = (x + CRANK * math.cos(angle), y + CRANK * math.sin(angle))
        slide = pin[0] - math.sqrt(0.72**2 - (pin[1] - y) ** 2)
        canvas.box((slide - 0.2, y), (0.24, 0.055), (0.80, 0.81, 0.83), corner=0.02)
        canvas.box((-0.80, y), (0.20, 0.19), metal, corner=0.03)
        canvas.box((-0.80, y - 0.1), (0.17, 0.03), shade(metal, 1.4), corner=0.02)
        canvas.line((slide, y), pin, 0.075, shade(metal, 0.85))
        canvas.ball(WHEEL, 0.09, metal, 0.7)
        canvas.ball(pin, 0.07, shade(metal, 1.3), 0.8)

    def _turns(self, plan: Plan, time: float) -> float:
        """Turns since the clip's start: the integral of the speed."""
        grid = np.linspace(0, 1, STEPS + 1)
        speed = TURNS_A_SECOND * level_at(plan["knots"], grid)
        turned = np.concatenate([[0.0], np.cumsum((speed[1:] + speed[:-1]) / 2)]) * (plan["seconds"] / STEPS)
        return float(np.interp(time / plan["seconds"], grid, turned))

    def sound(self, stage: Stage, plan: Plan) -> None:
        """A harmonic hum whose frequency is the firing rate, with breath at each firing."""
        num = stage.num_samples
        level = level_at(plan["knots"], np.arange(num) / num)
        rate_hz = plan["pitch"] * (35 + FIRINGS_A_TURN * TURNS_A_SECOND * 3 * level)
        phase = 2 * math.pi * np.cumsum(rate_hz) / stage.sample_rate
        hum = sum(np.sin(phase * harmonic) / harmonic for harmonic in range(1, 9))
        breath = stage.band_noise(num, low_hz=300, high_hz=3000) * (0.5 + 0.5 * np.sin(phase / 2)) ** 2
        loudness = 0.04 + 0.36 * level
        for channel, side in zip(stage.mix, (0.9, 1.05), strict=True):
            channel += side * loudness * (0.5 * hum + 0.28 * breath)

    def words(self, plan: Plan) -> dict[str, str]:
        """Trend, metal and colours."""
        return {
            "change": CHANGES[plan["trend"]],
            "metal": plan["metal"],
            "a_metal": a(plan["metal"]),
            "colour": plan["colour"],
            "a_colour": a(plan["colour"]),
            "wall": plan["wall"],
            "a_wall": a(plan["wall"]),
        }
