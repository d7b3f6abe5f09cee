"""Rain on a street; its strength changes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..canvas import Canvas
from ..captions import Wordings, a
from ..dice import Dice, Options, Span
from ..palette import COLOUR_RGB, COLOURS, RGB, mix, shade
from ..sound import Stage
from . import SCENES
from .base import Plan, Scene, draw_knots, level_at, particles

SKIES = Options(("leaden", "bluish", "murky"), ("mauve",))
SKY_RGB: dict[str, RGB] = {
    "leaden": (0.38, 0.41, 0.45),
    "bluish": (0.28, 0.37, 0.50),
    "murky": (0.33, 0.35, 0.30),
    "mauve": (0.44, 0.35, 0.46),
}
SURFACES = Options(("stone", "tin"), ("canvas",))
BAND_HZ = {"stone": (700, 7000), "tin": (1800, 11000), "canvas": (250, 2500)}
CHANGES_SEEN = {
    "rising": "starts thin and grows dense",
    "falling": "starts dense and thins out",
    "swelling": "grows dense and thins out again",
    "easing": "starts dense, thins out and grows dense again",
}
CHANGES_HEARD = {
    "rising": "starts as a drizzle and grows heavy",
    "falling": "starts heavy and fades to a drizzle",
    "swelling": "swells and fades again",
    "easing": "eases off and swells again",
}
GROUND_Y, NUM_STREAKS = 0.55, 150


@SCENES.register("rain")
class Rain(Scene):
    """Number of streaks and splashes, and loudness of the patter, follow one level."""

    continuous = True
    known_as = "rain on a house"
    told_by = ("rain", "shower", "downpour", "drizzle", "raindrop")
    wordings = Wordings(
        video=Options(
            (
                "Rain falls on {a_colour} house with {a_surface} roof under {a_sky} sky. The rain {seen}, and "
                "splashes leap from the ground in step with it.",
                "{a_colour} house under {a_sky} sky. Slanting streaks of rain cross the view; the downpour {seen}. The "
                "camera is still.",
                "A still view of {a_colour} house with {a_surface} roof in the rain. The curtain of streaks {seen} "
                "under {a_sky} sky, and drops splash on the ground.",
            ),
            (
                "A shower passes over {a_colour} cottage with {a_surface} roof; below {a_sky} sky the curtain of water "
                "{seen}.",
            ),
        ),
        audio=Options(
            (
                "Rain patters on {surface}: it {heard}.",
                "The patter of rain on {surface}, which {heard}.",
                "Rain hisses on {surface}; it {heard}.",
            ),
            ("A shower drums on {surface}; it {heard}.",),
        ),
        prompt=Options(
            ("rain that {heard}", "rain on {a_surface} roof, it {heard}", "rain over {a_colour} house, it {heard}"),
            ("a shower over {a_colour} cottage that {heard}",),
        ),
    )

    def plan(self, dice: Dice, span: Span) -> dict[str, Any]:
        """A trend, and what it falls on."""
        knots, trend = draw_knots(dice.clock)
        return {
            "events": [],
            "knots": knots,
            "trend": trend,
            "seconds": span.seconds,
            "surface": dice.pick(SURFACES),
            "sky": dice.pick(SKIES),
            "colour": dice.pick(COLOURS),
            "place": dice.uniform(-0.45, 0.45),
            "slant": dice.uniform(-0.25, 0.25),
            "speed": dice.uniform(2.6, 3.4),
            "grain": dice.integer(0, 2**31),
        }

    def backdrop(self, canvas: Canvas, plan: Plan) -> None:
        """Sky, street and house."""
        sky, x = SKY_RGB[plan["sky"]], plan["place"]
        canvas.gradient(shade(sky, 0.75), shade(sky, 1.2), stop=GROUND_Y)
        canvas.gradient(shade(sky, 0.45), shade(sky, 0.65), start=GROUND_Y)
        wall = mix(COLOUR_RGB[plan["colour"]], sky, 0.3)
        canvas.box((x, 0.26), (0.42, 0.31), wall)
        roof = {"stone": (0.30, 0.28, 0.28), "tin": (0.55, 0.58, 0.62), "canvas": (0.66, 0.60, 0.48)}[plan["surface"]]
        canvas.polygon([(x - 0.52, -0.04), (x, -0.42), (x + 0.52, -0.04)], roof)
        canvas.box((x - 0.2, 0.18), (0.09, 0.1), (0.98, 0.86, 0.50))
        canvas.box((x + 0.17, 0.32), (0.1, 0.25), shade(wall, 0.45))

    def draw(self, canvas: Canvas, plan: Plan, time: float) -> None:
        """As many streaks and splashes as the level says."""
        level = float(level_at(plan["knots"], time / plan["seconds"]))
        drops = particles(plan["grain"], 0, NUM_STREAKS)[: round(NUM_STREAKS * level)]
        tall, wide = 2 * canvas.bottom + 0.5, 2 * canvas.right + 0.5
        for x0, y0, depth, phase in drops.tolist():
            fallen = (y0 * tall + plan["speed"] * (0.8 + 0.4 * depth) * time) / tall
            cycle = int(fallen)
            x = ((x0 + 0.382 * cycle) % 1 - 0.5) * wide
            y = (fallen - cycle) * tall - canvas.bottom - 0.4
            long = 0.12 + 0.12 * depth
            stop = (x + plan["slant"] * long, y + long)
            canvas.line((x, y), stop, 0.016 + 0.012 * depth, (0.82, 0.89, 0.97), 0.55 + 0.3 * depth)
            beat = (phase + 2.5 * time) % 1
            if depth < 0.4 and beat < 0.45:
                spot = ((x0 - 0.5) * wide, GROUND_Y + 0.06 + y0 * (canvas.bottom - GROUND_Y - 0.08))
                canvas.ellipse(spot, 0.03 + 0.14 * beat, 0.35, (0.88, 0.93, 0.98), alpha=0.8 - 1.6 * beat, width=0.02)

    def sound(self, stage: Stage, plan: Plan) -> None:
        """Noise whose level follows the rain, a little different on either side, and single drops in it."""
        num = stage.num_samples
        low, high = BAND_HZ[plan["surface"]]
        share = np.arange(num) / num
        loudness = level_at(plan["knots"], share) * 0.11
        middle = stage.band_noise(num, low_hz=low, high_hz=high)
        grains = np.where(
            stage.generator.random(num) < 500 / stage.sample_rate, stage.generator.standard_normal(num), 0
        )
        kernel = np.exp(np.arange(96) * -0.06)
        patter = np.convolve(grains, kernel)[:num]
        for channel in stage.mix:
            own = stage.band_noise(num, low_hz=low, high_hz=high)
            channel += loudness * (0.55 * middle + 0.65 * own + 0.9 * patter)

    def words(self, plan: Plan) -> dict[str, str]:
        """Trend, surface, sky and colour."""
        return {
            "seen": CHANGES_SEEN[plan["trend"]],
            "heard": CHANGES_HEARD[plan["trend"]],
            "surface": plan["surface"],
            "a_surface": a(plan["surface"]),
            "a_sky": a(plan["sky"]),
            "a_colour": a(plan["colour"]),
        }
