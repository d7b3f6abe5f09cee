"""A mallet beats a drum; the head ripples and the drum jumps a little."""

from __future__ import annotations

import math
from typing import Any

from ..canvas import Canvas
from ..captions import Wordings, a, manner, side, times
from ..dice import Dice, Options, Span
from ..palette import COLOUR_RGB, COLOURS, WALL_RGB, WALLS, shade
from ..sound import BODIES, Stage
from . import SCENES
from .base import Plan, Scene, fade, particles, room, shake, since_last, swing

KINDS = Options(("bass", "tom", "snare"), ("bongo",))
PITCH_HZ = {"bass": 68, "tom": 125, "snare": 190, "bongo": 300}
HALF_WIDTH = {"bass": 0.52, "tom": 0.42, "snare": 0.46, "bongo": 0.30}
HALF_HEIGHT = {"bass": 0.36, "tom": 0.30, "snare": 0.16, "bongo": 0.34}
TIMBRES = {
    "bass": "deep booming thump",
    "tom": "round hollow thump",
    "snare": "sharp rattling crack",
    "bongo": "high popping tone",
}
BOTTOM_Y, NUM_GRAINS = 0.78, 14


@SCENES.register("drum")
class Drum(Scene):
    """The kind of drum sets its shape, its pitch and whether snares rattle along."""

    known_as = "a drum that is struck"
    told_by = ("drum", "bongo")
    wordings = Wordings(
        video=Options(
            (
                "{a_colour} {kind} drum stands {side} before {a_wall} wall. A mallet comes down on its head "
                "{times}{manner}, and pale dust leaps from the skin while a ring spreads over it at each stroke.",
                "A mallet swings down and hits {a_colour} {kind} drum {times}{manner}. The drum jumps with each "
                "stroke and dust flies from its skin. The room has {a_wall} wall and the camera is still.",
                "In a room with {a_wall} wall, {a_colour} {kind} drum is struck {times}{manner} with a round mallet "
                "that lifts high between strokes.",
            ),
            (
                "A padded beater falls {times}{manner} on the taut skin of {a_colour} {kind} drum, which shivers "
                "before {a_wall} wall.",
            ),
        ),
        audio=Options(
            (
                "A {kind} drum is hit {times}{manner}, with a {timbre}.",
                "A {timbre} {times}{manner}, from a {kind} drum.",
                "{times}{manner}, a mallet lands on a {kind} drum with a {timbre} that dies away quickly.",
            ),
            ("A beater falls on a {kind} drum {times}{manner}, with a {timbre}.",),
        ),
        prompt=Options(
            (
                "a {kind} drum is hit {times}",
                "someone beats {a_colour} {kind} drum {times}",
                "{a_colour} {kind} drum, {times} struck with a mallet",
            ),
            ("a beater falls on the skin of {a_colour} {kind} drum {times}",),
        ),
    )

    def plan(self, dice: Dice, span: Span) -> dict[str, Any]:
        """One to four strokes."""
        events, rhythm = dice.times(span, most=max(4, int(1.2 * span.seconds)), gap_seconds=0.36)
        return {
            "events": events,
            "rhythm": rhythm,
            "kind": dice.pick(KINDS),
            "colour": dice.pick(COLOURS),
            "wall": dice.pick(WALLS),
            "place": dice.uniform(-0.4, 0.4),
            "pitch": dice.uniform(0.88, 1.15),
            "strengths": [dice.uniform(0.65, 1.0) for _ in events],
        }

    def backdrop(self, canvas: Canvas, plan: Plan) -> None:
        """Room and the drum's shadow."""
        wall = WALL_RGB[plan["wall"]]
        room(canvas, wall)
        canvas.ellipse((plan["place"], BOTTOM_Y + 0.03), HALF_WIDTH[plan["kind"]] * 1.15, 0.22, shade(wall, 0.3))

    def draw(self, canvas: Canvas, plan: Plan, time: float) -> None:
        """Drum, ring on its skin, mallet."""
        index, age = since_last(plan["events"], time)
        strength = plan["strengths"][index] if index >= 0 else 0.0
        jump = shake(age, 0.05 * strength)
        x, wide, high = plan["place"], HALF_WIDTH[plan["kind"]], HALF_HEIGHT[plan["kind"]]
        top = BOTTOM_Y - 2 * high + jump
        colour = COLOUR_RGB[plan["colour"]]
        canvas.ellipse((x, BOTTOM_Y + jump), wide, 0.3, shade(colour, 0.55))
        canvas.box((x, BOTTOM_Y - high + jump), (wide, high), colour)
        canvas.box((x - 0.6 * wide, BOTTOM_Y - high + jump), (0.16 * wide, high), shade(colour, 1.35))
        canvas.box((x + 0.8 * wide, BOTTOM_Y - high + jump), (0.2 * wide, high), shade(colour, 0.7))
        for share in (-0.85, -0.35, 0.35, 0.85):
            canvas.line((x + share * wide, top + 0.12), (x + share * wide, BOTTOM_Y + jump), 0.025, (0.85, 0.85, 0.85))
        canvas.ellipse((x, top), wide * 1.03, 0.3, (0.62, 0.60, 0.56))
        hit = fade(age, 0.35) * strength
        canvas.ellipse((x, top), wide * 0.95, 0.3, (0.78, 0.73, 0.64))
        if hit > 0:
            reach = wide * min(0.15 + 2.4 * age, 0.9)
            canvas.ellipse((x, top), reach, 0.3, (0.45, 0.36, 0.25), alpha=min(1.0, 1.6 * hit), width=0.06)
        self._mallet(canvas, plan, time, (x, BOTTOM_Y - 2 * high))
        if age < 0.3:
            self._dust(canvas, (x, top), index, age, strength)

    def _dust(self, canvas: Canvas, spot: tuple[float, float], index: int, age: float, strength: float) -> None:
        """Fine dust leaps off the skin and settles."""
        canvas.glow((spot[0], spot[1] - 0.04), 0.75, (1.0, 0.98, 0.92), 1.2 * strength * fade(age, 0.3))
        for heading, speed, wide, _ in particles(NUM_GRAINS, index, NUM_GRAINS).tolist():
            x = spot[0] + (2 * heading - 1) * (0.25 + 0.8 * age)
            y = spot[1] - (1.2 + 1.2 * speed) * strength * age + 3.0 * age * age
            canvas.disc((x, y), 0.012 + 0.014 * wide, (1.0, 0.98, 0.92), fade(age, 0.3) ** 0.5)

    def _mallet(self, canvas: Canvas, plan: Plan, time: float, spot: tuple[float, float]) -> None:
        way = -1 if plan["place"] > 0 else 1
        lift = swing(plan["events"], time, down_seconds=0.22, up_seconds=0.26)
        length, angle = 1.0, 0.12 + 0.85 * lift
        hand = (spot[0] + way * length * 0.98, spot[1] - 0.22)
        head = (hand[0] - way * length * math.cos(angle), hand[1] - length * math.sin(angle) + 0.26)
        canvas.line(head, hand, 0.05, (0.55, 0.37, 0.20))
        canvas.ball(head, 0.125, (0.80, 0.30, 0.22), 0.2)
        canvas.disc(hand, 0.10, (0.85, 0.66, 0.53))

    def sound(self, stage: Stage, plan: Plan) -> None:
        """Membrane modes; a snare adds a longer burst of noise."""
        pitch, snare = PITCH_HZ[plan["kind"]] * plan["pitch"], plan["kind"] == "snare"
        for event, strength in zip(plan["events"], plan["strengths"], strict=True):
            stage.strike(BODIES["skin"], pitch, event, place=plan["place"], strength=strength)
            if snare:
                rattle = stage.noise(0.25, low_hz=1500, high_hz=9000, decay_seconds=0.05)
                stage.add(rattle, event, place=plan["place"], gain=0.35 * strength)

    def words(self, plan: Plan) -> dict[str, str]:
        """Kind, colours, place, count and rhythm."""
        count = len(plan["events"])
        return {
            "kind": plan["kind"],
            "a_colour": a(plan["colour"]),
            "a_wall": a(plan["wall"]),
            "side": side(plan["place"]),
            "times": times(count),
            "manner": manner(count, plan["rhythm"]),
            "timbre": TIMBRES[plan["kind"]],
        }
