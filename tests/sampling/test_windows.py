"""Windows over a longer clip: each way, over denoisers whose answers are known."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from sounding_video.core.clock import ClipTimes, StepTimes
from sounding_video.core.errors import Cancelled
from sounding_video.core.pair import Pair
from sounding_video.core.progress import SILENT, Progress
from sounding_video.core.types import JointLatents
from sounding_video.core.windows import latent_windows
from sounding_video.sampling.cache.interval import Interval
from sounding_video.sampling.given import Given, known
from sounding_video.sampling.guidance import dual_guidance
from sounding_video.sampling.loop import sample
from sounding_video.sampling.noise import draw_noise
from sounding_video.sampling.schedule import build_schedule
from sounding_video.sampling.windows import WINDOWS, given
from sounding_video.sampling.windows.base import LongRun, Stream, draw_long_noise
from sounding_video.sampling.windows.blended import blend_weights

WAYS = WINDOWS.names()
TIMES = ClipTimes(StepTimes(Fraction(1, 4), Fraction(1, 16)), StepTimes(Fraction(1, 20)))
SHAPES = Pair((1, 4, 14, 3, 2), (1, 6, 65))
PLAN = latent_windows(TIMES, Pair(14, 65), Pair(5, 21), 0.3)


class Pointwise:
    """Each value's prediction depends on that value and the time alone, so windows must not matter at all."""

    def __init__(self):
        self.seen, self.texts = [], []

    def __call__(self, video, audio):
        self.seen.append(tuple(None if one is None else tuple(one.latents.shape) for one in (video, audio)))
        self.texts.append(tuple(None if one is None else one.text[:, 0, 0].tolist() for one in (video, audio)))
        return tuple(None if one is None else self._one(one) for one in (video, audio))

    @staticmethod
    def _one(one):
        told = one.text.float().mean((1, 2)).view(-1, *[1] * (one.latents.ndim - 1))
        return torch.tanh(one.latents * 0.7 + one.timestep.float().view(-1, *[1] * (one.latents.ndim - 1)) % 1 + told)


class Mixing(Pointwise):
    """Each window's prediction depends on all that is in it."""

    @staticmethod
    def _one(one):
        return Pointwise._one(one) + one.latents.mean() + torch.cumsum(one.latents, 2) / 30


def run_of(denoiser, conditioning, *, plan=PLAN, shapes=SHAPES, steps=4, seed=5, given=None, progress=SILENT, **more):
    schedule = build_schedule("flow", steps, video=shapes.video is not None, audio=shapes.audio is not None)
    settings = {"schedule": schedule, "guidance": dual_guidance(3.0, 2.0, "sequential"), "cache": None, **more}
    conditionings = conditioning if isinstance(conditioning, list) else [conditioning] * len(plan.windows)
    noise = draw_long_noise(plan, seed, shapes)
    return LongRun(plan, lambda _: denoiser, conditionings, noise, given or Pair(), seed, settings, progress)


@pytest.mark.parametrize("way", WAYS)
def test_every_forward_is_as_large_as_one_window(way, conditioning):
    denoiser = Pointwise()
    made = WINDOWS.get(way)().sample(run_of(denoiser, conditioning()))
    assert Pair.of(made).map(lambda one: tuple(one.shape)) == SHAPES
    assert set(denoiser.seen) == {((1, 4, 5, 3, 2), (1, 6, 21))}
    assert len(denoiser.seen) == 4 * 2 * len(PLAN.windows)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sides", [("video", "audio"), ("video",), ("audio",)])
def test_a_model_without_context_makes_what_it_makes_at_once(way, sides, conditioning):
    """Then the blend is exact, and a window goes on exactly where the one before it would have gone on."""
    shapes = Pair(**{side: SHAPES[side] for side in sides})
    whole = shapes.map(lambda shape: shape[2])
    plan = latent_windows(TIMES, whole, Pair(**{side: PLAN.size[side] for side in sides}), 0.3)
    run = run_of(Pointwise(), conditioning("video" in sides, "audio" in sides), plan=plan, shapes=shapes)
    made = WINDOWS.get(way)().sample(run)
    noise = run.stream.cropped(run.noise)
    at_once = sample(Pointwise(), run.conditionings[0], noise, seed=5, **run.settings)
    for side in sides:
        assert torch.allclose(getattr(made, side), getattr(at_once, side), atol=1e-5), side


@pytest.mark.parametrize("way", WAYS)
def test_a_seed_gives_one_clip_and_another_seed_another(way, conditioning):
    first, again, other = (WINDOWS.get(way)().sample(run_of(Mixing(), conditioning(), seed=seed)) for seed in (5, 5, 6))
    assert torch.equal(first.video, again.video) and torch.equal(first.audio, again.audio)
    assert float((first.video - other.video).abs().max()) > 0.1


def test_what_given_windows_share_is_the_same_to_the_bit(conditioning, monkeypatch):
    parts, window = [], given._window
    monkeypatch.setattr(given, "_window", lambda *args: parts.append(window(*args)) or parts[-1])
    made = WINDOWS.get("given")().sample(run_of(Mixing(), conditioning()))
    for number, (before, part) in enumerate(pairwise(parts), start=1):
        shared = PLAN.windows[number].shared
        assert torch.equal(before.video[:, :, -shared.video :], part.video[:, :, 1 : shared.video + 1])
        assert torch.equal(before.audio[:, :, -shared.audio :], part.audio[:, :, : shared.audio])
    assert torch.equal(made.audio[:, :, :21], parts[0].audio)


@pytest.mark.parametrize("plan", [PLAN, latent_windows(TIMES, Pair(200, 1000), Pair(9, 38), 1.0)])
@pytest.mark.parametrize("side", ["video", "audio"])
def test_all_windows_together_say_one_of_every_latent(plan, side):
    stream = Stream(plan)
    total = torch.zeros(stream.shape(side, (1, 1, 1))[2])
    for number, weights in enumerate(blend_weights(stream, side)):
        assert bool((weights > 0).all())
        for there, here in stream.places(side, number):
            total[there] += weights[here]
    assert torch.allclose(total, torch.ones_like(total), atol=1e-6)


@pytest.mark.parametrize("way", WAYS)
def test_each_window_is_told_its_own_caption_in_both_passes(way, conditioning):
    first = conditioning()
    texts = [replace(first, video=replace(first.video, positive=first.video.positive + number)) for number in range(3)]
    captions = [texts[0], texts[0], *([texts[1]] * (len(PLAN.windows) - 3)), texts[2]]
    denoiser = Pointwise()
    WINDOWS.get(way)().sample(run_of(denoiser, captions, steps=1))
    positive = float(first.video.positive[0, 0, 0])
    told = [seen[0][0] for seen in denoiser.texts]
    negative = float(first.video.negative[0, 0, 0])
    wanted = [positive, positive, *([positive + 1] * (len(PLAN.windows) - 3)), positive + 2]
    assert [one for one in told if one != pytest.approx(negative)] == pytest.approx(wanted)
    assert sum(one == pytest.approx(negative) for one in told) == len(PLAN.windows)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("side", ["video", "audio"])
def test_what_is_known_of_the_clip_stays_to_the_bit(way, side, conditioning):
    own = torch.randn(SHAPES[side])
    for one in (Given(own), known(own, 3, 9), known(own, stop=1)):
        made = WINDOWS.get(way)().sample(run_of(Mixing(), conditioning(), given=Pair(**{side: one})))
        mask = torch.ones_like(own) if one.mask is None else one.mask.expand_as(own)
        assert torch.equal(getattr(made, side)[mask.bool()], own[mask.bool()])
        other = "audio" if side == "video" else "video"
        assert bool(torch.isfinite(getattr(made, other)).all())


def test_a_side_that_is_known_where_all_else_is_known_too_is_not_sampled(conditioning):
    """A mask over the first windows of both sides leaves them as they are; only later ones are run."""
    video, audio = torch.randn(SHAPES.video), torch.randn(SHAPES.audio)
    denoiser = Pointwise()
    given = Pair(Given(video), known(audio, stop=40))
    made = WINDOWS.get("given")().sample(run_of(denoiser, conditioning(), given=given))
    assert torch.equal(made.audio[..., :40], audio[..., :40]) and torch.equal(made.video, video)
    assert len(denoiser.seen) < 4 * 2 * len(PLAN.windows)


@pytest.mark.parametrize("way", WAYS)
def test_progress_counts_to_the_end_shows_the_whole_clip_and_a_stop_stops(way, conditioning):
    reports = []

    def report(stage, done, total, preview=None):
        reports.append((stage, done, total, Pair.of(preview()).map(lambda one: tuple(one.shape))))

    WINDOWS.get(way)().sample(run_of(Pointwise(), conditioning(), progress=Progress(report)))
    assert {stage for stage, *_ in reports} == {"sample"} and {shapes for *_, shapes in reports} == {SHAPES}
    assert [done for _, done, _, _ in reports] == list(range(1, reports[-1][2] + 1))
    denoiser = Pointwise()

    def stop():
        if len(denoiser.seen) >= 5:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        WINDOWS.get(way)().sample(run_of(denoiser, conditioning(), progress=Progress(check_cancelled=stop)))
    assert 5 <= len(denoiser.seen) <= 8


@pytest.mark.parametrize("way", WAYS)
def test_step_caches_leave_out_the_same_steps_in_each_window(way, conditioning):
    told, denoiser = [], Pointwise()
    run = run_of(
        denoiser, conditioning(), steps=10, cache=Interval(sound="cached"), progress=Progress(tell=told.append)
    )
    made = WINDOWS.get(way)().sample(run)
    assert len(told) == 1 and told[0].startswith("step cache")
    computed = int(told[0].split()[2])
    assert len(denoiser.seen) == computed * 2 * len(PLAN.windows) < 10 * 2 * len(PLAN.windows)
    assert bool(torch.isfinite(made.video).all())


@pytest.mark.parametrize("way", WAYS)
def test_a_batch_is_a_batch_of_clips(way, conditioning):
    shapes = Pair((2, *SHAPES.video[1:]), (2, *SHAPES.audio[1:]))
    made = WINDOWS.get(way)().sample(run_of(Mixing(), conditioning(), shapes=shapes))
    assert Pair.of(made).map(lambda one: tuple(one.shape)) == shapes
    assert isinstance(made, JointLatents) and not torch.equal(made.video[0], made.video[1])


def test_noise_of_a_long_clip_is_drawn_once_and_sound_first():
    stream = Stream(PLAN)
    noise = draw_long_noise(PLAN, 9, SHAPES)
    again = draw_noise(9, audio_shape=stream.shape("audio", SHAPES.audio))
    assert torch.equal(noise.audio, again.audio)
