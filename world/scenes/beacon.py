"""A beacon blinks and beeps."""

from __future__ import annotations

import math
from typing import Any

from ..canvas import Canvas
from ..captions import Wordings, a, manner, side, times
from ..dice import Dice, Options, Span
from ..palette import COLOUR_RGB, COLOURS, RGB, mix, shade
from ..sound import Stage, tone
from . import SCENES
from .base import Plan, Scene, fade, since_last

SKIES = Options(("dusky", "foggy", "stormy"), ("violet",))
SKY_RGB: dict[str, tuple[RGB, RGB]] = {
    "dusky": ((0.12, 0.14, 0.32), (0.62, 0.36, 0.34)),
    "foggy": ((0.36, 0.40, 0.44), (0.52, 0.55, 0.57)),
    "stormy": ((0.10, 0.14, 0.17), (0.24, 0.32, 0.34)),
    "violet": ((0.22, 0.10, 0.36), (0.55, 0.35, 0.58)),
}
PITCHES = {"low": (480, 600), "middle": (800, 950), "high": (1300, 1600)}
LAMP_Y, SHORE_Y, GLOW_SECONDS = -0.42, 0.55, 0.34


@SCENES.register("beacon")
class Beacon(Scene):
    """The lamp comes on with the beep and fades after it."""

    known_as = "a beacon that flashes and beeps"
    told_by = ("beacon", "lighthouse", "signal lamp", "signal tower", "signal horn", "beep tower", "beep electronic")
    wordings = Wordings(
        video=Options(
            (
                "A striped tower {side} by the sea under {a_sky} sky. The {colour} lamp on its top flashes "
                "{times}{manner}, and its light spreads over the water each time.",
                "Under {a_sky} sky, a lighthouse blinks {times}{manner} with {a_colour} lamp. The glow fills the "
                "air around it and fades. The camera is still.",
                "{A_sky} sky over flat water, a tower {side}. {a_colour} light at its top goes on {times}{manner} "
                "and dims slowly after each flash.",
            ),
            (
                "{times}{manner}, {a_colour} signal lamp flares on a coastal tower before {a_sky} sky, its shine "
                "reaching across the waves.",
            ),
        ),
        audio=Options(
            (
                "A beacon beeps {times}{manner}, in a {pitch} electronic tone.",
                "{times}{manner}, a short {pitch} beep.",
                "A short electronic beep of {pitch} pitch, {times}{manner}, and nothing else.",
            ),
            ("A signal horn gives a {pitch} electronic beep {times}{manner}.",),
        ),
        prompt=Options(
            (
                "a beacon blinks {colour} and beeps {times}",
                "{a_colour} beacon by the sea, {times} a {pitch} beep",
                "a lighthouse flashes {colour} {times} with a {pitch} beep",
            ),
            ("a signal tower on the coast flares {colour} {times} and beeps",),
        ),
    )

    def plan(self, dice: Dice, span: Span) -> dict[str, Any]:
        """One to four flashes."""
        events, rhythm = dice.times(span, most=max(4, int(1.2 * span.seconds)), gap_seconds=0.42)
        pitch = dice.choice(list(PITCHES))
        return {
            "events": events,
            "rhythm": rhythm,
            "colour": dice.pick(COLOURS),
            "sky": dice.pick(SKIES),
            "place": dice.uniform(-0.6, 0.6),
            "size": dice.uniform(0.85, 1.2),
            "pitch": pitch,
            "pitch_hz": dice.uniform(*PITCHES[pitch]),
            "beep_seconds": dice.uniform(0.12, 0.2),
        }

    def backdrop(self, canvas: Canvas, plan: Plan) -> None:
        """Sky, sea, rock and tower."""
        top, bottom = SKY_RGB[plan["sky"]]
        canvas.gradient(top, bottom, stop=SHORE_Y)
        canvas.gradient(shade(bottom, 0.55), shade(top, 0.5), start=SHORE_Y)
        x, size = plan["place"], plan["size"]
        canvas.ellipse((x, SHORE_Y + 0.08), 0.55 * size, 0.32, (0.13, 0.13, 0.14))
        wide, narrow, foot = 0.20 * size, 0.13 * size, SHORE_Y + 0.02
        bands = 6
        for band in range(bands):
            upper, lower = band / bands, (band + 1) / bands
            y0, y1 = LAMP_Y + 0.12 + (foot - LAMP_Y - 0.12) * upper, LAMP_Y + 0.12 + (foot - LAMP_Y - 0.12) * lower
            half0, half1 = narrow + (wide - narrow) * upper, narrow + (wide - narrow) * lower
            colour = (0.85, 0.84, 0.82) if band % 2 else (0.60, 0.18, 0.17)
            canvas.polygon([(x - half0, y0), (x + half0, y0), (x + half1, y1), (x - half1, y1)], colour)
        canvas.box((x, LAMP_Y + 0.12), (0.19 * size, 0.03), (0.16, 0.16, 0.18))
        canvas.polygon(
            [(x - 0.15 * size, LAMP_Y - 0.13), (x, LAMP_Y - 0.28), (x + 0.15 * size, LAMP_Y - 0.13)], (0.16, 0.16, 0.18)
        )

    def draw(self, canvas: Canvas, plan: Plan, time: float) -> None:
        """Lamp, halo, beams and the light on the water."""
        _, age = since_last(plan["events"], time)
        light, colour = fade(age, GLOW_SECONDS), COLOUR_RGB[plan["colour"]]
        lamp, size = (plan["place"], LAMP_Y), plan["size"]
        canvas.box(lamp, (0.12 * size, 0.12), mix(shade(colour, 0.3), shade(colour, 1.5), light), corner=0.03)
        if light > 0:
            canvas.glow(lamp, 1.9, colour, 0.85 * light)
            for way in (-1, 1):
                end = lamp[0] + way * 3
                canvas.polygon(
                    [lamp, (end, LAMP_Y - 0.4), (end, LAMP_Y + 0.4)][::way], shade(colour, 1.4), 0.28 * light
                )
            canvas.glow(lamp, 0.42 * size, (1.0, 1.0, 1.0), 1.4 * light)
            for step in range(5):
                y, half = SHORE_Y + 0.14 + 0.075 * step, (0.10 + 0.06 * step) * math.sqrt(size)
                canvas.line((lamp[0] - half, y), (lamp[0] + half, y), 0.028, shade(colour, 1.2), 0.75 * light)

    def sound(self, stage: Stage, plan: Plan) -> None:
        """A beep with two overtones."""
        beep = tone(plan["pitch_hz"], plan["beep_seconds"], stage.sample_rate, (1.0, 0.35, 0.15))
        for event in plan["events"]:
            stage.add(beep, event, place=plan["place"], gain=0.55)

    def words(self, plan: Plan) -> dict[str, str]:
        """Colours, sky, pitch, place, count and rhythm."""
        count = len(plan["events"])
        return {
            "colour": plan["colour"],
            "a_colour": a(plan["colour"]),
            "a_sky": a(plan["sky"]),
            "A_sky": a(plan["sky"]).capitalize(),
            "side": side(plan["place"]),
            "pitch": plan["pitch"],
            "times": times(count),
            "manner": manner(count, plan["rhythm"]),
        }
