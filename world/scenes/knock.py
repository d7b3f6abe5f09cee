"""A fist on a door, in bursts."""

from __future__ import annotations

from typing import Any

from ..canvas import Canvas
from ..captions import Wordings, a, number, times
from ..dice import Dice, Options, Span
from ..palette import COLOUR_RGB, COLOURS, WALL_RGB, WALLS, shade
from ..sound import BODIES, Stage
from . import SCENES
from .base import Plan, Scene, fade, room, shake, since_last, swing

MATERIALS = Options(("wood", "metal"), ("glass",))
ADJECTIVES = {"wood": "wooden", "metal": "metal", "glass": "glass"}
DOOR_RGB = {"wood": (0.58, 0.38, 0.21), "metal": (0.52, 0.56, 0.60), "glass": (0.66, 0.83, 0.88)}
PITCH_HZ = {"wood": 150, "metal": 210, "glass": 420}
TIMBRES = {"wood": "hollow wooden thuds", "metal": "tinny metallic bangs", "glass": "rattling glassy taps"}
DOOR_X = 0.2


@SCENES.register("knock")
class Knock(Scene):
    """Knocks of one burst are quick and even; a clip holds one burst, or several if it is long."""

    known_as = "a fist that knocks on a door"
    told_by = ("knock", "knuckle", "fist door", "pound door")
    wordings = Wordings(
        video=Options(
            (
                "A fist in {a_colour} sleeve reaches in from the left and strikes {a_adjective} door {times}"
                "{grouping}. The door shakes at each contact. The wall beside it is {wall}.",
                "Before {a_wall} wall stands {a_adjective} door. A hand in {a_colour} sleeve hits it {times}{grouping}"
                ", drawing back each time. The camera is still.",
                "{a_adjective} door in {a_wall} wall is struck {times}{grouping} by the fist of someone in "
                "{a_colour} sleeve, and it trembles in its frame.",
            ),
            (
                "Someone in {a_colour} sleeve pounds {times}{grouping} on a closed {adjective} door, which shivers "
                "in {a_wall} wall.",
            ),
        ),
        audio=Options(
            (
                "Somebody knocks {times}{grouping} on {a_adjective} door, {timbre}.",
                "{timbre}, {number} in all{grouping}, as a fist knocks on {a_adjective} door.",
                "{times}{grouping}, knuckles rap on {a_adjective} door with {timbre}.",
            ),
            ("A visitor pounds {times}{grouping} on a closed {adjective} door: {timbre}.",),
        ),
        prompt=Options(
            (
                "someone knocks {times} on {a_adjective} door",
                "a fist in {a_colour} sleeve knocks on {a_adjective} door {times}",
                "{times} knocking on a door made of {material}",
            ),
            ("a visitor pounds {times} on a closed {adjective} door",),
        ),
    )

    def plan(self, dice: Dice, span: Span) -> dict[str, Any]:
        """Bursts of two to four knocks, as many as fit."""
        gap = max(dice.clock.uniform(0.28, 0.36), span.gap_seconds(0.28))
        last = span.seconds - span.margin_seconds
        time = span.margin_seconds + dice.clock.uniform(0, 0.5) * (last - span.margin_seconds)
        events: list[float] = []
        num_bursts = 0
        while time <= last:
            fitting = min(dice.clock.integer(2, 4), 1 + int((last - time) / gap))
            events += [round(time + index * gap, 6) for index in range(fitting)]
            num_bursts += 1
            time = events[-1] + max(dice.clock.uniform(0.9, 1.6), 2.5 * gap)
        return {
            "events": events,
            "num_bursts": num_bursts,
            "material": dice.pick(MATERIALS),
            "colour": dice.pick(COLOURS),
            "wall": dice.pick(WALLS),
            "height": dice.uniform(-0.25, 0.2),
            "pitch": dice.uniform(0.85, 1.18),
            "strengths": [dice.uniform(0.7, 1.0) for _ in events],
        }

    def backdrop(self, canvas: Canvas, plan: Plan) -> None:
        """Wall, floor and the door's frame."""
        wall = WALL_RGB[plan["wall"]]
        room(canvas, wall, 0.82)
        canvas.box((DOOR_X + 0.36, 0), (0.46, 0.92), shade(wall, 0.45))

    def draw(self, canvas: Canvas, plan: Plan, time: float) -> None:
        """Door, marks of the blow, arm."""
        index, age = since_last(plan["events"], time)
        strength = plan["strengths"][index] if index >= 0 else 0.0
        self._door(canvas, plan, shake(age, 0.055 * strength))
        spot = (DOOR_X + 0.03, plan["height"])
        blow = fade(age, 0.2) * strength
        if blow > 0:
            canvas.glow(spot, 0.55, (1.0, 1.0, 0.92), 1.1 * blow)
            canvas.ellipse(spot, 0.16 + 1.4 * age, 1.0, (1.0, 1.0, 0.95), alpha=min(1.0, 1.2 * blow), width=0.045)
        away = swing(plan["events"], time, down_seconds=0.16, up_seconds=0.2)
        fist = (spot[0] - 0.17 - 0.5 * away, plan["height"] - 0.06 * away)
        sleeve = COLOUR_RGB[plan["colour"]]
        canvas.line((-canvas.right - 0.3, plan["height"] + 0.42), (fist[0] - 0.16, fist[1] + 0.04), 0.24, sleeve)
        canvas.line((fist[0] - 0.2, fist[1] + 0.05), (fist[0] - 0.15, fist[1] + 0.04), 0.25, shade(sleeve, 0.7))
        canvas.box(fist, (0.15, 0.135), (0.87, 0.68, 0.55), corner=0.07)
        for knuckle in (-0.085, -0.03, 0.03, 0.085):
            canvas.line(
                (fist[0] + 0.02, fist[1] + knuckle), (fist[0] + 0.12, fist[1] + knuckle), 0.022, (0.70, 0.50, 0.38)
            )

    def _door(self, canvas: Canvas, plan: Plan, offset: float) -> None:
        colour, x = DOOR_RGB[plan["material"]], DOOR_X + 0.36 + offset
        canvas.box((x, 0), (0.41, 0.88), colour, corner=0.015)
        for y in (-0.44, 0.42):
            canvas.box((x, y), (0.29, 0.34), shade(colour, 0.78), corner=0.02)
            canvas.box((x + 0.015, y + 0.015), (0.27, 0.32), shade(colour, 1.12), corner=0.02)
        if plan["material"] == "glass":
            canvas.line((x - 0.2, 0.5), (x + 0.15, -0.1), 0.05, (0.92, 0.98, 1.0), 0.8)
        canvas.ball((x - 0.33, 0.03), 0.045, (0.85, 0.72, 0.35), 0.9)

    def sound(self, stage: Stage, plan: Plan) -> None:
        """Plate modes with knuckle noise."""
        body, pitch = BODIES[f"door {plan['material']}"], PITCH_HZ[plan["material"]] * plan["pitch"]
        for event, strength in zip(plan["events"], plan["strengths"], strict=True):
            stage.strike(body, pitch, event, place=DOOR_X, strength=strength)

    def words(self, plan: Plan) -> dict[str, str]:
        """Material, colours, count and bursts."""
        count, bursts = len(plan["events"]), plan["num_bursts"]
        adjective = ADJECTIVES[plan["material"]]
        return {
            "material": plan["material"],
            "adjective": adjective,
            "a_adjective": a(adjective),
            "a_colour": a(plan["colour"]),
            "wall": plan["wall"],
            "a_wall": a(plan["wall"]),
            "number": number(count),
            "times": times(count),
            "grouping": f" in {number(bursts)} bursts" if bursts > 1 else " in quick succession" if count > 1 else "",
            "timbre": TIMBRES[plan["material"]],
        }
