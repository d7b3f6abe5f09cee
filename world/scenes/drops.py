"""Drops fall on water; rings spread."""

from __future__ import annotations

import math
from typing import Any

from ..canvas import Canvas
from ..captions import Wordings, a, counted, manner, side, times
from ..dice import Dice, Options, Span
from ..palette import WALL_RGB, WALLS, mix, shade
from ..sound import Stage, bubble
from . import SCENES
from .base import Plan, Scene, fade, particles, since_last

SIZES = {"tiny": (0.06, 0.075), "round": (0.08, 0.095), "heavy": (0.105, 0.125)}
PITCH_HZ = {"tiny": 1500, "round": 900, "heavy": 480}
TIMBRES = {"tiny": "high plink", "round": "clear plop", "heavy": "low gulping plop"}
WATER = Options(("blue", "green"), ("turquoise",))
WATER_RGB = {"blue": (0.10, 0.30, 0.58), "green": (0.09, 0.40, 0.33), "turquoise": (0.10, 0.55, 0.58)}
SHORE_Y, FALL_SECONDS, FLATNESS = 0.0, 0.36, 0.32


@SCENES.register("drops")
class Drops(Scene):
    """Large drops sound low: the pitch is that of the bubble they trap."""

    known_as = "drops that fall into water"
    told_by = ("drop water", "drop pool", "drip", "droplet")
    wordings = Wordings(
        video=Options(
            (
                "{Num_drops} of {size} size fall{s} {side} into calm {water} water{manner}. Each raises a small crown "
                "and sends rings across the surface. Behind the water is {a_wall} wall.",
                "Calm {water} water before {a_wall} wall. {Num_drops}, {size} and clear, fall{s} in {side}{manner}, "
                "and circular waves widen and fade after each.",
                "A still view over a basin of {water} water. {Num_drops} of {size} size come{s} down {side}{manner}, "
                "the surface opens, and rings run outwards. The wall behind is {wall}.",
            ),
            (
                "A {water} pool below {a_wall} wall lies still until {num_drops} of {size} size land{s} {side}{manner}"
                ", and circles widen on it.",
            ),
        ),
        audio=Options(
            (
                "Water drips {times}{manner}, each drop a {timbre}.",
                "A {timbre} {times}{manner}, as water drops fall into a basin.",
                "{times}{manner}, a drop falls into calm water with a {timbre}.",
            ),
            ("A leak drips into a pool {times}{manner}, with a {timbre}.",),
        ),
        prompt=Options(
            (
                "{num_drops} of water fall{s} into a pool",
                "water drips {times} into {water} water",
                "{size} water drops, {times}",
            ),
            ("a leak drips {times} into a still {water} pool",),
        ),
    )

    def plan(self, dice: Dice, span: Span) -> dict[str, Any]:
        """One to four drops."""
        events, rhythm = dice.times(span, most=max(4, int(1.2 * span.seconds)), gap_seconds=0.38)
        size = dice.choice(list(SIZES))
        place = dice.uniform(-0.5, 0.5)
        return {
            "events": events,
            "rhythm": rhythm,
            "size": size,
            "water": dice.pick(WATER),
            "wall": dice.pick(WALLS),
            "radius": dice.uniform(*SIZES[size]),
            "place": place,
            "places": [[round(place + dice.uniform(-0.15, 0.15), 6), dice.uniform(0.35, 0.6)] for _ in events],
            "pitch": dice.uniform(0.88, 1.15),
            "grain": dice.integer(0, 2**31),
        }

    def backdrop(self, canvas: Canvas, plan: Plan) -> None:
        """Wall and water."""
        wall, water = WALL_RGB[plan["wall"]], WATER_RGB[plan["water"]]
        canvas.gradient(shade(wall, 1.15), shade(wall, 0.85), stop=SHORE_Y)
        canvas.gradient(mix(shade(water, 1.35), wall, 0.25), shade(water, 0.75), start=SHORE_Y)
        canvas.line((-canvas.right, SHORE_Y), (canvas.right, SHORE_Y), 0.025, shade(water, 1.6))
        for index, (x, y, wide, _) in enumerate(particles(plan["grain"], -1 % 2**31, 8).tolist()):
            left = (2 * x - 1) * canvas.right
            height = SHORE_Y + 0.1 + (0.1 * index + 0.06 * y)
            canvas.line((left, height), (left + 0.15 + 0.25 * wide, height), 0.014, shade(water, 1.35), 0.6)

    def draw(self, canvas: Canvas, plan: Plan, time: float) -> None:
        """Rings of past drops, the crown of the last, drops in the air."""
        for event, (x, y) in zip(plan["events"], plan["places"], strict=True):
            age = time - event
            if 0 <= age < 1.1:
                self._rings(canvas, (x, y), age, 6 * plan["radius"])
            elif -FALL_SECONDS < age < 0:
                self._drop(canvas, plan, (x, y), age)
        index, age = since_last(plan["events"], time)
        if age < 0.4:
            self._crown(canvas, plan, index, age)

    def _rings(self, canvas: Canvas, spot: tuple[float, float], age: float, strength: float) -> None:
        for delay in (0.0, 0.14, 0.28):
            grown = age - delay
            if grown >= 0:
                alpha = min(1.0, 1.3 * strength * fade(grown, 0.85))
                canvas.ellipse(spot, 0.07 + 0.75 * grown, FLATNESS, (0.92, 0.97, 1.0), alpha=alpha, width=0.055)
        if age < 0.25:
            canvas.ellipse(spot, 0.16, FLATNESS, (0.02, 0.08, 0.16), alpha=0.7 * fade(age, 0.25))

    def _drop(self, canvas: Canvas, plan: Plan, spot: tuple[float, float], age: float) -> None:
        """Falls from above the picture with constant acceleration and is long drawn when fast."""
        share = (age + FALL_SECONDS) / FALL_SECONDS
        start = -canvas.bottom - 0.3
        y = start + (spot[1] - start) * share * share - plan["radius"]
        tail = (spot[0], y - plan["radius"] * (0.6 + 2.2 * share))
        canvas.line(tail, (spot[0], y), plan["radius"], (0.72, 0.88, 0.97), 0.85)
        canvas.ball((spot[0], y), plan["radius"], (0.62, 0.84, 0.98), 1.0)

    def _crown(self, canvas: Canvas, plan: Plan, index: int, age: float) -> None:
        x, y = plan["places"][index]
        size = plan["radius"] / 0.09
        for heading, speed, wide, _ in particles(plan["grain"], index, 9).tolist():
            rise = (1.4 + 0.9 * speed) * size**0.5
            dx, dy = (2 * heading - 1) * 1.1 * age, -rise * age + 4.4 * age * age
            if dy < 0.03:
                canvas.disc((x + dx, y + dy), (0.02 + 0.02 * wide) * size, (0.9, 0.97, 1.0))
        canvas.glow((x, y - 0.03), 0.5 * size**0.5, (0.9, 0.97, 1.0), 1.2 * fade(age, 0.22))

    def sound(self, stage: Stage, plan: Plan) -> None:
        """A click of the impact and the bubble's rising tone."""
        loudness = math.sqrt(plan["radius"] / 0.125)
        for index, (event, (x, _)) in enumerate(zip(plan["events"], plan["places"], strict=True)):
            pitch = PITCH_HZ[plan["size"]] * plan["pitch"] * (1 + 0.08 * math.sin(2.4 * index))
            decay = 26 / pitch**0.95
            num = int(8 * decay * stage.sample_rate)
            voice = bubble(pitch, num, stage.sample_rate, decay_seconds=decay, rise=0.12)
            stage.add(voice, event, place=x, gain=0.6 * loudness)
            splash = stage.noise(0.06, low_hz=1500, high_hz=8000, decay_seconds=0.010)
            stage.add(splash, event, place=x, gain=0.22 * loudness)

    def words(self, plan: Plan) -> dict[str, str]:
        """Size, water, place, count and rhythm."""
        count = len(plan["events"])
        drops = counted(count, "drop")
        return {
            "num_drops": drops,
            "Num_drops": drops.capitalize(),
            "s": "s" if count == 1 else "",
            "times": times(count),
            "size": plan["size"],
            "water": plan["water"],
            "wall": plan["wall"],
            "a_wall": a(plan["wall"]),
            "side": side(plan["place"]),
            "manner": manner(count, plan["rhythm"]),
            "timbre": TIMBRES[plan["size"]],
        }
