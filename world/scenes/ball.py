"""A ball falls into view, bounces ever lower and comes to rest."""

from __future__ import annotations

import math
from typing import Any

from ..canvas import Canvas
from ..captions import Wordings, a, side, times
from ..dice import Dice, Options, Span
from ..palette import COLOUR_RGB, COLOURS, WALL_RGB, WALLS, shade
from ..sound import BODIES, Stage
from . import SCENES
from .base import FLOOR_Y, Plan, Scene, fade, room, since_last

MATERIALS = Options(("wood", "metal", "rubber"), ("glass", "clay"))
ADJECTIVES = {"wood": "wooden", "metal": "metal", "rubber": "rubber", "glass": "glass", "clay": "clay"}
RESTITUTION = {"wood": 0.62, "metal": 0.72, "rubber": 0.84, "glass": 0.66, "clay": 0.5}
PITCH_HZ = {"wood": 330, "metal": 760, "rubber": 95, "glass": 1900, "clay": 240}
SHINE = {"wood": 0.15, "metal": 0.95, "rubber": 0.05, "glass": 1.0, "clay": 0.0}
TIMBRES = {
    "wood": "dry wooden knocks",
    "metal": "clear metallic rings",
    "rubber": "dull rubber thuds",
    "glass": "high glassy clinks",
    "clay": "short clay clacks",
}


@SCENES.register("ball")
class Ball(Scene):
    """The material sets the timbre, the bounce and the shine; each impact is quieter than the one before."""

    known_as = "a ball that bounces"
    told_by = ("ball", "sphere")
    wordings = Wordings(
        video=Options(
            (
                "{a_size} {colour} {adjective} ball drops into view {side} and bounces {times} on a bare floor. Each "
                "bounce is lower than the last, and its shadow tightens under it. Behind it is a {wall} wall.",
                "Against a {wall} wall, {a_size} {colour} {adjective} ball falls to the floor and bounces {times}, "
                "lower each time. Dust puffs up at every contact. The camera is still.",
                "A still view of an empty room with a {wall} wall. {a_size} {colour} ball made of {material} falls in "
                "{side}, hits the floor {times} and loses height with each bounce.",
            ),
            (
                "In a plain room with {wall} walls, {a_size} {colour} {adjective} sphere comes down {side} and "
                "rebounds {times} from the ground, each leap smaller than the one before.",
            ),
        ),
        audio=Options(
            (
                "{a_adjective} ball bounces {times} on a hard floor, {timbre}, each quieter than the last.",
                "{timbre} as {a_adjective} ball bounces {times}, getting softer.",
                "{times}, {a_adjective} ball hits the ground with {timbre}, fading a little every time.",
            ),
            ("A dropped {adjective} sphere strikes the ground {times}: {timbre}, each weaker than the one before.",),
        ),
        prompt=Options(
            (
                "{a_colour} {adjective} ball bounces {times}",
                "{a_adjective} ball bouncing {times} on the floor",
                "{a_colour} ball of {material} drops and bounces {times}",
            ),
            ("someone drops {a_colour} {adjective} sphere and it rebounds {times}",),
        ),
    )

    def plan(self, dice: Dice, span: Span) -> dict[str, Any]:
        """Bounces follow from gravity and restitution; they end when they would be too fast to see."""
        material = dice.pick(MATERIALS)
        smallest = span.gap_seconds(0.26)
        gap = max(dice.clock.uniform(0.5, 0.85), smallest * 1.2)
        events = [
            round(span.margin_seconds + dice.clock.uniform(0, 0.55) * (span.seconds - 2 * span.margin_seconds), 6)
        ]
        first_gap = gap
        while gap >= smallest and events[-1] + gap <= span.seconds - span.margin_seconds:
            events.append(round(events[-1] + gap, 6))
            gap *= RESTITUTION[material]
        place = dice.uniform(-0.6, 0.6)
        return {
            "events": events,
            "material": material,
            "colour": dice.pick(COLOURS),
            "wall": dice.pick(WALLS),
            "radius": dice.uniform(0.17, 0.28),
            "place": place,
            "drift": dice.uniform(0.05, 0.25) * (-1 if place > 0 else 1),
            "first_gap": round(first_gap, 6),
            "height": dice.uniform(0.7, 1.1),
            "pitch": dice.uniform(0.85, 1.18),
        }

    def backdrop(self, canvas: Canvas, plan: Plan) -> None:
        """Wall and floor."""
        room(canvas, WALL_RGB[plan["wall"]])

    def draw(self, canvas: Canvas, plan: Plan, time: float) -> None:
        """Shadow, dust of the last contact, ball."""
        radius, floor = plan["radius"], FLOOR_Y + 0.22
        x, height, squash = self._position(plan, time)
        wall = WALL_RGB[plan["wall"]]
        nearness = max(0.0, 1 - height / 1.4)
        canvas.ellipse((x, floor), radius * (1.3 - 0.4 * nearness), 0.25, shade(wall, 0.25), alpha=0.65 * nearness)
        index, age = since_last(plan["events"], time)
        if age < 0.3:
            at = self._x(plan, plan["events"][index])
            reach, alpha = radius * (0.9 + 5 * age), 0.9 * fade(age, 0.3) * self._strength(plan, index) ** 0.5
            canvas.ellipse((at, floor), reach, 0.28, shade(wall, 1.6), alpha=alpha, width=0.05)
            canvas.glow((at, floor), 0.5, (1.0, 0.98, 0.92), alpha)
        if squash > 0:
            flatness = (1 - squash) / (1 + squash)
            colour = shade(COLOUR_RGB[plan["colour"]], 0.9)
            canvas.ellipse((x, floor - radius * (1 - squash) - height), radius * (1 + squash), flatness, colour)
        else:
            self._ball(canvas, plan, (x, floor - radius - height))

    def _ball(self, canvas: Canvas, plan: Plan, centre: tuple[float, float]) -> None:
        colour, radius = COLOUR_RGB[plan["colour"]], plan["radius"]
        canvas.ball(centre, radius, colour, SHINE[plan["material"]])
        if plan["material"] == "wood":
            for share in (0.72, 0.45, 0.18):
                canvas.ellipse(centre, radius * share, 1.0, shade(colour, 0.6), alpha=0.7, width=0.022)
        elif plan["material"] == "rubber":
            canvas.box(centre, (radius * 0.93, radius * 0.13), shade(colour, 1.7), angle=-0.4)
        elif plan["material"] == "glass":
            canvas.ellipse(centre, radius * 0.8, 1.0, (1.0, 1.0, 1.0), alpha=0.6, width=0.03)

    def _x(self, plan: Plan, time: float) -> float:
        return plan["place"] + plan["drift"] * (time - plan["events"][0])

    def _position(self, plan: Plan, time: float) -> tuple[float, float, float]:
        """x, height of the ball's lowest point above the floor, and how much a soft ball is squashed."""
        events, gravity = plan["events"], 8 * plan["height"] / plan["first_gap"] ** 2
        index, age = since_last(events, time)
        gap = events[index + 1] - events[index] if 0 <= index < len(events) - 1 else 0.0
        if index < 0:  # it comes from the top of a flight one restitution longer, and rests above until then
            gap = plan["first_gap"] / RESTITUTION[plan["material"]]
            age = max(time - events[0] + gap, gap / 2)
        height = gravity / 2 * age * max(gap - age, 0.0)
        softness = 0.28 if plan["material"] == "rubber" else 0.0
        nearest = min(abs(time - event) for event in events)
        return self._x(plan, time), height, softness * fade(nearest, 0.06)

    @staticmethod
    def _strength(plan: Plan, index: int) -> float:
        return RESTITUTION[plan["material"]] ** (0.8 * index)

    def sound(self, stage: Stage, plan: Plan) -> None:
        """One strike a bounce, at the ball's place, weaker each time."""
        material = plan["material"]
        pitch = PITCH_HZ[material] * plan["pitch"] * math.sqrt(0.22 / plan["radius"])
        for index, event in enumerate(plan["events"]):
            stage.strike(
                BODIES[material], pitch, event, place=self._x(plan, event), strength=self._strength(plan, index)
            )

    def words(self, plan: Plan) -> dict[str, str]:
        """Size, colour, material, place and count."""
        count, adjective = len(plan["events"]), ADJECTIVES[plan["material"]]
        return {
            "a_size": a("small" if plan["radius"] < 0.205 else "large" if plan["radius"] > 0.245 else "medium-sized"),
            "colour": plan["colour"],
            "a_colour": a(plan["colour"]),
            "material": plan["material"],
            "adjective": adjective,
            "a_adjective": a(adjective),
            "wall": plan["wall"],
            "side": side(plan["place"]),
            "times": times(count),
            "timbre": TIMBRES[plan["material"]],
        }
