"""A hammer strikes glowing work on an anvil; sparks fly."""

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

MATERIALS = Options(("iron", "steel"), ("bronze",))
METAL_RGB = {"iron": (0.30, 0.31, 0.34), "steel": (0.55, 0.60, 0.66), "bronze": (0.62, 0.45, 0.22)}
PITCH_HZ = {"iron": 620, "steel": 980, "bronze": 470}
TIMBRES = {"iron": "heavy iron clang", "steel": "sharp steel clang", "bronze": "warm bronze clang"}
TOP_Y, FLOOR = 0.18, 0.68
NUM_SPARKS = 18


@SCENES.register("anvil")
class Anvil(Scene):
    """The hammer is raised between strikes, so its fall announces each one."""

    known_as = "a hammer that strikes an anvil"
    told_by = ("anvil", "blacksmith", "forge", "smith", "hammer metal", "hammer iron")
    wordings = Wordings(
        video=Options(
            (
                "A hammer with {a_colour} handle strikes red-hot metal on {a_metal} anvil {side} {times}{manner}. "
                "Golden sparks fly up at each strike and fall in arcs. The workshop has {a_wall} wall.",
                "In a workshop with {a_wall} wall, a hammer on {a_colour} handle swings down on {a_metal} anvil "
                "{times}{manner}. Every blow throws a shower of sparks. The camera is still.",
                "A blacksmith's {metal} anvil stands {side} before {a_wall} wall. A hammer with {a_colour} shaft hits "
                "the glowing work {times}{manner}, and sparks burst from the point of impact.",
            ),
            (
                "At a forge, before {a_wall} wall, a mallet on {a_colour} shaft beats glowing metal on {a_metal} block "
                "{times}{manner}, and bright embers leap up.",
            ),
        ),
        audio=Options(
            (
                "A hammer strikes {a_metal} anvil {times}{manner}, with a {timbre} that rings on.",
                "A {timbre} {times}{manner}, as a hammer hits an anvil and the metal keeps ringing.",
                "{times}{manner}, a hammer lands on {a_metal} anvil with a long resonant {timbre}.",
            ),
            ("In a forge, metal is beaten on {a_metal} block {times}{manner}: a {timbre} with a long tail.",),
        ),
        prompt=Options(
            (
                "a hammer strikes {a_metal} anvil {times}",
                "a blacksmith hits {a_metal} anvil {times}, sparks fly",
                "hammer with {a_colour} handle on {a_metal} anvil, {times}",
            ),
            ("a smith at the forge beats glowing {metal} {times}",),
        ),
    )

    def plan(self, dice: Dice, span: Span) -> dict[str, Any]:
        """One to four strikes."""
        events, rhythm = dice.times(span, most=max(4, int(span.seconds)), gap_seconds=0.42)
        return {
            "events": events,
            "rhythm": rhythm,
            "material": dice.pick(MATERIALS),
            "colour": dice.pick(COLOURS),
            "wall": dice.pick(WALLS),
            "place": dice.uniform(-0.45, 0.45),
            "size": dice.uniform(0.85, 1.1),
            "pitch": dice.uniform(0.88, 1.15),
            "strengths": [dice.uniform(0.7, 1.0) for _ in events],
            "grain": dice.integer(0, 2**31),
        }

    def backdrop(self, canvas: Canvas, plan: Plan) -> None:
        """Workshop and the block that the anvil stands on."""
        room(canvas, WALL_RGB[plan["wall"]], FLOOR)
        canvas.box((plan["place"], 0.88), (0.30 * plan["size"], 0.24), (0.36, 0.24, 0.14), corner=0.03)
        canvas.line((plan["place"] - 0.2, 0.76), (plan["place"] + 0.2, 0.76), 0.02, (0.24, 0.16, 0.09))

    def draw(self, canvas: Canvas, plan: Plan, time: float) -> None:
        """Anvil, hammer, glow and sparks."""
        index, age = since_last(plan["events"], time)
        x, size = plan["place"], plan["size"]
        top = TOP_Y + shake(age, 0.035)
        self._anvil(canvas, plan, top)
        glow = fade(age, 0.30)
        canvas.box((x, top - 0.03), (0.17 * size, 0.035), (1.0, 0.42 + 0.4 * glow, 0.12 + 0.5 * glow), corner=0.03)
        self._hammer(canvas, plan, time, top)
        if glow > 0:
            canvas.glow((x, top - 0.06), 0.85, (1.0, 0.85, 0.5), 1.3 * glow * plan["strengths"][index])
        if age < 0.5:
            self._sparks(canvas, plan, index, age)

    def _anvil(self, canvas: Canvas, plan: Plan, top: float) -> None:
        x, size, metal = plan["place"], plan["size"], METAL_RGB[plan["material"]]
        canvas.polygon(
            [(x - 0.68 * size, top + 0.03), (x - 0.2, top), (x - 0.2, top + 0.2), (x - 0.45 * size, top + 0.13)],
            shade(metal, 0.85),
        )
        canvas.box((x + 0.05, top + 0.1), (0.42 * size, 0.1), metal, corner=0.02)
        canvas.box((x, top + 0.28), (0.17 * size, 0.16), shade(metal, 0.75))
        canvas.box((x, top + 0.45), (0.34 * size, 0.06), shade(metal, 0.9), corner=0.02)
        canvas.line((x - 0.4 * size, top + 0.02), (x + 0.45 * size, top + 0.02), 0.03, shade(metal, 1.4))

    def _hammer(self, canvas: Canvas, plan: Plan, time: float, top: float) -> None:
        """Handle and head turn around a hand at the side with more room."""
        x, way = plan["place"], -1 if plan["place"] > 0 else 1
        lift = swing(plan["events"], time, down_seconds=0.24, up_seconds=0.30)
        length, angle = 0.95, 1.05 * lift
        hand = (x + way * length, top - 0.16)
        head = (hand[0] - way * length * math.cos(angle), hand[1] - length * math.sin(angle))
        canvas.line(head, hand, 0.075, COLOUR_RGB[plan["colour"]])
        canvas.disc(hand, 0.11, (0.85, 0.66, 0.53))
        canvas.box(head, (0.10, 0.15), (0.22, 0.23, 0.26), angle=way * angle, corner=0.02)
        canvas.box(head, (0.06, 0.15), (0.36, 0.37, 0.41), angle=way * angle, corner=0.02)

    def _sparks(self, canvas: Canvas, plan: Plan, index: int, age: float) -> None:
        for heading, speed, life, tint in particles(plan["grain"], index, NUM_SPARKS).tolist():
            left = 1 - age / (0.2 + 0.3 * life)
            if left <= 0:
                continue
            angle = math.pi * (0.08 + 0.84 * heading)
            vx, vy = (1.0 + 2.2 * speed) * math.cos(angle), -(1.0 + 2.2 * speed) * math.sin(angle)
            x = plan["place"] + vx * age
            y = TOP_Y - 0.05 + vy * age + 3.0 * age * age
            tail = (x - vx * 0.03, y - (vy + 6.0 * age) * 0.03)
            canvas.line((x, y), tail, 0.02 + 0.02 * left, (1.0, 0.72 + 0.25 * tint, 0.25 + 0.5 * left), left)

    def sound(self, stage: Stage, plan: Plan) -> None:
        """One ringing strike an event."""
        pitch = PITCH_HZ[plan["material"]] * plan["pitch"] / plan["size"]
        for event, strength in zip(plan["events"], plan["strengths"], strict=True):
            stage.strike(BODIES[plan["material"]], pitch, event, place=plan["place"], strength=strength)

    def words(self, plan: Plan) -> dict[str, str]:
        """Metal, colours, place, count and rhythm."""
        count = len(plan["events"])
        return {
            "metal": plan["material"],
            "a_metal": a(plan["material"]),
            "a_colour": a(plan["colour"]),
            "a_wall": a(plan["wall"]),
            "side": side(plan["place"]),
            "times": times(count),
            "manner": manner(count, plan["rhythm"]),
            "timbre": TIMBRES[plan["material"]],
        }
