"""Rockets climb into the night and burst."""

from __future__ import annotations

import math
from typing import Any

from ..canvas import Canvas
from ..captions import Wordings, a, counted, manner, times
from ..dice import Dice, Options, Span
from ..palette import COLOUR_RGB, COLOURS, RGB, mix, shade
from ..sound import Stage
from . import SCENES
from .base import Plan, Scene, fade, particles

SKIES = Options(("navy", "plum", "black"), ("indigo",))
SKY_RGB: dict[str, RGB] = {
    "navy": (0.03, 0.05, 0.16),
    "plum": (0.12, 0.04, 0.14),
    "black": (0.02, 0.02, 0.03),
    "indigo": (0.09, 0.04, 0.26),
}
PLACES = Options(("roofs", "hills"), ("towers",))
CLIMB_SECONDS, GLOW_SECONDS, NUM_STARS = 0.5, 1.1, 34


@SCENES.register("fireworks")
class Fireworks(Scene):
    """A near display: the boom comes with the flash. Large bursts are louder and deeper."""

    known_as = "fireworks at night"
    told_by = ("firework", "skyrocket", "rocket burst", "rocket explode", "rocket spark")
    wordings = Wordings(
        video=Options(
            (
                "Over dark {place}, {num_rockets} rise{s} into {a_sky} night sky{manner}, and burst{s} into "
                "{colour} stars. Each burst lights the whole sky for a moment, then its stars sink and fade.",
                "{A_sky} sky above {place} at night. {Num_rockets} climb{s} and explode{s}{manner}, each a wide "
                "{colour} flower of sparks with a white flash at its heart.",
                "A night view of {place} under {a_sky} sky. {Num_rockets} draw{s} a bright trail upwards"
                "{manner}, and open{s} into a sphere of {colour} sparks.",
            ),
            (
                "Above the {place}, {num_skyrockets} shoot{s} up{manner}, and bloom{s} in {colour}, brightening "
                "{a_sky} sky for a moment before the embers sink.",
            ),
        ),
        audio=Options(
            (
                "Fireworks explode {times}{manner}, {size} booms followed by soft crackling.",
                "{times}{manner}, a firework goes off with a {size} boom that rumbles away.",
                "{Num_booms} of fireworks{manner}, {size} and rolling, with a fizz of crackles.",
            ),
            ("Skyrockets detonate {times}{manner}, {size} bangs with a crackling tail.",),
        ),
        prompt=Options(
            (
                "{colour} fireworks explode {times} at night",
                "{num_rockets} burst{s} into {colour} sparks",
                "{times}, fireworks with {a_size} boom over {place}",
            ),
            ("{num_skyrockets} bloom{s} in {colour} above the {place}",),
        ),
    )

    def plan(self, dice: Dice, span: Span) -> dict[str, Any]:
        """One to three bursts."""
        events, rhythm = dice.times(span, most=max(3, int(span.seconds)), gap_seconds=0.5)
        return {
            "events": events,
            "rhythm": rhythm,
            "colour": dice.pick(COLOURS),
            "sky": dice.pick(SKIES),
            "place": dice.pick(PLACES),
            "size": dice.uniform(0.45, 0.75),
            "spots": [[dice.uniform(-0.6, 0.6), dice.uniform(-0.6, -0.15)] for _ in events],
            "strengths": [dice.uniform(0.75, 1.0) for _ in events],
            "grain": dice.integer(0, 2**31),
        }

    def backdrop(self, canvas: Canvas, plan: Plan) -> None:
        """Sky, fixed stars and the land."""
        sky = SKY_RGB[plan["sky"]]
        canvas.gradient(sky, mix(sky, (0.25, 0.18, 0.30), 0.45))
        for x, y, size, level in particles(plan["grain"], 2**31, 40).tolist():
            spot = ((2 * x - 1) * canvas.right, (1.6 * y - 1) * canvas.bottom)
            canvas.disc(spot, 0.008 + 0.008 * size, (1.0, 1.0, 0.95), 0.2 + 0.4 * level)

    def draw(self, canvas: Canvas, plan: Plan, time: float) -> None:
        """Flash of the sky, stars of each burst, climbing rockets, land in front."""
        colour = COLOUR_RGB[plan["colour"]]
        for index, (event, spot) in enumerate(zip(plan["events"], plan["spots"], strict=True)):
            age = time - event
            if 0 <= age < GLOW_SECONDS:
                strength = plan["strengths"][index]
                canvas.glow(spot, 2.6 * canvas.right, shade(colour, 1.4), 0.75 * strength * fade(age, 0.32))
                self._burst(canvas, plan, index, age)
                canvas.glow(spot, 0.5, (1.0, 1.0, 0.95), 1.5 * fade(age, 0.25))
            elif -CLIMB_SECONDS < age < 0:
                self._rocket(canvas, spot, -age / CLIMB_SECONDS)
        self._land(canvas, plan)

    def _burst(self, canvas: Canvas, plan: Plan, index: int, age: float) -> None:
        x, y = plan["spots"][index]
        colour = COLOUR_RGB[plan["colour"]]
        reach = plan["size"] * (1 - 1 / (1 + 5.5 * age)) * 1.15
        light = fade(age, GLOW_SECONDS) ** 0.6
        for number, (heading, far, _, tint) in enumerate(particles(plan["grain"], index, NUM_STARS).tolist()):
            angle = 2 * math.pi * (number + 0.6 * heading) / NUM_STARS
            away = reach * (0.45 + 0.55 * far**0.5)
            star = (x + away * math.cos(angle), y + away * math.sin(angle) + 0.28 * age * age)
            inner = (x + 0.82 * away * math.cos(angle), y + 0.82 * away * math.sin(angle) + 0.2 * age * age)
            canvas.line(inner, star, 0.022, colour, 0.65 * light)
            canvas.disc(star, 0.026, mix(colour, (1.0, 1.0, 1.0), 0.55 * tint), light)

    def _rocket(self, canvas: Canvas, spot: tuple[float, float], left: float) -> None:
        """Slows down as it climbs; ``left`` is 1 at the start and 0 at the burst."""
        x, y = spot[0] * (1 - 0.15 * left), spot[1] + (canvas.bottom - spot[1]) * left * left
        canvas.line((x, y), (x - 0.02, y + 0.10 + 0.25 * left), 0.03, (1.0, 0.75, 0.4), 0.7)
        canvas.glow((x, y), 0.12, (1.0, 0.9, 0.6), 1.0)

    def _land(self, canvas: Canvas, plan: Plan) -> None:
        ground = (0.015, 0.015, 0.025)
        for number, (high, wide, _, _) in enumerate(particles(plan["grain"], 2**31 + 1, 9).tolist()):
            x = canvas.right * (number / 4 - 1)
            if plan["place"] == "hills":
                canvas.ellipse((x, canvas.bottom), canvas.right * (0.3 + 0.2 * wide), 0.3 + 0.3 * high, ground)
            else:
                tall = (0.25 if plan["place"] == "towers" else 0.1) * (0.6 + high)
                canvas.box((x, canvas.bottom), (canvas.right * (0.08 + 0.06 * wide), tall), ground)
                canvas.box((x, canvas.bottom - 0.5 * tall), (0.02, 0.02), (0.75, 0.6, 0.25))

    def sound(self, stage: Stage, plan: Plan) -> None:
        """A bang, a deep burst of noise that rolls away, and soft crackle."""
        deep = 0.75 / (plan["size"] + 0.2)
        for event, (x, _), strength in zip(plan["events"], plan["spots"], plan["strengths"], strict=True):
            boom = stage.noise(1.4, low_hz=35, high_hz=190 * deep, decay_seconds=0.22)
            bang = stage.noise(0.15, low_hz=300, high_hz=4500 * deep, decay_seconds=0.02)
            hiss = stage.noise(0.9, low_hz=3500, high_hz=9000, decay_seconds=0.25)
            boom[:40] *= [step / 40 for step in range(40)]
            for voice, gain in ((boom, 0.6), (bang, 0.4), (hiss, 0.05)):
                stage.add(voice, event, place=x, gain=gain * strength)

    def words(self, plan: Plan) -> dict[str, str]:
        """Colours, place, size, count and rhythm."""
        count = len(plan["events"])
        rockets, skyrockets = counted(count, "rocket"), counted(count, "skyrocket")
        size = "deep" if plan["size"] > 0.6 else "short"
        return {
            "num_rockets": rockets,
            "Num_rockets": rockets.capitalize(),
            "num_skyrockets": skyrockets,
            "Num_booms": counted(count, "boom").capitalize(),
            "s": "s" if count == 1 else "",
            "times": times(count),
            "colour": plan["colour"],
            "a_sky": a(plan["sky"]),
            "A_sky": a(plan["sky"]).capitalize(),
            "place": plan["place"],
            "size": size,
            "a_size": a(size),
            "manner": manner(count, plan["rhythm"]),
        }
