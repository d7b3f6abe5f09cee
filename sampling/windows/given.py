"""Windows ``given``: one after the other, each begins with the end of the one before it as known latents.

What is shared comes back to the bit, so the windows' latents agree there. Whatever a window gets wrong goes on in the
next one.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import torch
from torch import Tensor

from ...core.pair import Pair
from ...core.types import JointLatents
from ...core.windows import LatentPlan, LatentWindow
from ..given import Given
from ..loop import sample
from ..words import MAX_SEED
from . import WINDOWS
from .base import LongRun, Stream, Windows

# An odd number far from 1: clips of seeds that follow one another share no noise.
_SEED_STEP = 0x9E3779B97F4A7C15


@WINDOWS.register("given")
class GivenWindows(Windows):
    """Autoregressive."""

    def middle(self, window: LatentWindow, plan: LatentPlan) -> Fraction:
        """Of what is new in it."""
        return window.start + (window.shared_seconds + plan.seconds) / 2

    def sample(self, run: LongRun) -> JointLatents:
        """A run of the sampler for each window."""
        stream, count = run.stream, len(run.plan.windows)
        made = Pair.of(run.noise).map(torch.zeros_like)
        done = made.map(lambda latents: torch.zeros(latents.shape[2], dtype=torch.bool))
        asked = Pair(**{side: stream.given(side, one) for side, one in run.given.present.items()})
        for number in range(count):
            sides = {side: _known(stream, side, number, asked[side], made[side], done[side]) for side in made.present}
            part = Pair.of(_window(run, number, Pair(**sides), made))
            for side, latents in part.present.items():
                _put(stream, side, number, made[side], latents)
                for there, _ in stream.places(side, number):
                    done[side][there] = True
        return stream.cropped(JointLatents(*made))


def _put(stream: Stream, side: str, number: int, made: Tensor, latents: Tensor) -> Tensor:
    """A window's latents into the stream's, which is changed."""
    for there, here in stream.places(side, number):
        made[:, :, there] = latents[:, :, here]
    return made


def _known(stream: Stream, side: str, number: int, asked: Given | None, made: Tensor, done: Tensor) -> Given | None:
    """What a window is given: the user's own, and what the window before it made; latent 0 is always its own."""
    own = None if asked is None else stream.window(side, asked.latents, number)
    if asked is not None and asked.is_whole:
        return replace(asked, latents=own)
    shape = (1, 1, -1, *[1] * (made.ndim - 3))
    before = stream.window(side, done.view(shape).float(), number)
    latents = stream.window(side, made, number)
    if asked is None:
        return Given(latents, before)
    mask = stream.window(side, asked.mask, number)
    return replace(asked, latents=torch.where(mask.bool(), own, latents), mask=torch.maximum(mask, before))


def _window(run: LongRun, number: int, given: Pair[Given], made: Pair[Tensor]) -> JointLatents:
    """The latents of one window."""
    if all(one.is_whole for one in given.present.values()):
        return JointLatents(*given.map(lambda one: one.latents))

    def whole(estimate: JointLatents) -> JointLatents:
        parts = Pair.of(estimate).present
        return JointLatents(
            **{side: _put(stream, side, number, made[side].clone(), part) for side, part in parts.items()}
        )

    stream = run.stream
    noise = {side: stream.window(side, noise, number) for side, noise in Pair.of(run.noise).present.items()}
    progress = run.watched(whole, number, len(run.plan.windows))
    return sample(
        run.denoiser(run.plan.windows[number].times),
        run.conditionings[number],
        JointLatents(**noise),
        seed=(run.seed + number * _SEED_STEP) % (MAX_SEED + 1),
        given=given,
        **run.settings,
        # What a cache has to say is said of the first window.
        progress=replace(progress, tell=progress.tell if number == 0 else lambda _: None),
    )
