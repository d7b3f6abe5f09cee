"""Solvers and grids for few steps: their order, what diffusers' own schedulers say, and what they go together with."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, EDMDPMSolverMultistepScheduler
from sounding_video.cli import build_parser
from sounding_video.cli.options import sampling_options
from sounding_video.core.errors import InputError
from sounding_video.core.pair import Pair
from sounding_video.core.types import JointLatents
from sounding_video.models.own import PUBLISHED
from sounding_video.sampling.cache import build_cache
from sounding_video.sampling.given import Given
from sounding_video.sampling.guidance import dual_guidance
from sounding_video.sampling.loop import sample
from sounding_video.sampling.noise import draw_noise
from sounding_video.sampling.options import SamplingOptions
from sounding_video.sampling.processes import PROCESSES
from sounding_video.sampling.schedule import build_schedule
from sounding_video.sampling.schedules import SCHEDULES
from sounding_video.sampling.solvers import SOLVERS

OFF = dual_guidance(1.0, 1.0)
BOTH = [name for name in SOLVERS if SOLVERS.get(name).processes >= {"flow", "cosine_v"}]
SECOND = [name for name in BOTH if SOLVERS.get(name).order == 2]
EVERY = pytest.mark.parametrize("solver", BOTH)
EVERY_SCHEDULE = pytest.mark.parametrize("name", SCHEDULES.names())
MEAN, STD = 0.4, 0.5


def exact(process: str, start: torch.Tensor, first: float, last: float) -> torch.Tensor:
    """The probability flow of N(m, s²) data from one level to another, in closed form."""

    def place(sigma):
        alpha = 1 - sigma if process == "flow" else 1.0
        return alpha * MEAN, math.hypot(alpha * STD, sigma)

    (centre, width), (new_centre, new_width) = place(first), place(last)
    return new_centre + new_width / width * (start - centre)


def prediction(process: str, state: torch.Tensor, sigma: float) -> torch.Tensor:
    """What a tower says that knows the data."""
    alpha = 1 - sigma if process == "flow" else 1.0
    clean = MEAN + alpha * STD**2 / ((alpha * STD) ** 2 + sigma**2) * (state - alpha * MEAN)
    return PROCESSES.get(process).prediction(state, clean, torch.tensor(sigma, dtype=torch.float64))


def walked(solver: str, process: str, num_steps: int, first: float, last: float) -> float:
    """The error of a walk in float64, before the jump to 0, with steps that are even in the logarithm of clearness."""
    odds = torch.linspace(_odds(process, first), _odds(process, last), num_steps + 1, dtype=torch.float64).exp()
    sigmas = odds / (1 + odds) if process == "flow" else odds
    made = SOLVERS.get(solver).start(process, torch.cat([sigmas, torch.zeros(1, dtype=torch.float64)]), sigmas)
    start = torch.linspace(-2, 2, 64, dtype=torch.float64)[None, None] * first
    state = start
    for sigma in sigmas[:-1].tolist():
        made.scale_model_input(state, sigma)
        state = made.step(prediction(process, state, sigma), torch.tensor(sigma), state).prev_sample
    return float((state - exact(process, start, first, last)).abs().max())


def _odds(process: str, sigma: float) -> float:
    return math.log(sigma / (1 - sigma) if process == "flow" else sigma)


@EVERY
@pytest.mark.parametrize(("process", "first", "last"), [("flow", 0.9, 0.1), ("cosine_v", 9.0, 0.1)])
def test_halving_the_step_lowers_the_error_as_the_order_says(solver, process, first, last):
    order = SOLVERS.get(solver).order + (solver == "unipc")  # UniPC's corrector wins one, on smooth problems
    errors = [walked(solver, process, steps, first, last) for steps in (20, 40, 80, 160)]
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.35), errors


@pytest.mark.parametrize("solver", SECOND)
@pytest.mark.parametrize("process", ["flow", "cosine_v"])
@pytest.mark.parametrize("steps", [8, 16])
def test_at_few_steps_second_order_beats_euler(solver, process, steps):
    ends = (0.9, 0.1) if process == "flow" else (9.0, 0.1)
    assert walked(solver, process, steps, *ends) < 0.5 * walked("euler", process, steps, *ends)


@pytest.mark.parametrize(("solver", "weights"), [("dpmpp_2m", "midpoint"), ("res_multistep", "heun")])
@pytest.mark.parametrize("process", ["flow", "cosine_v"])
def test_two_steps_are_those_of_the_stock_scheduler(solver, weights, process):
    """At points of its own, as the stock pipelines of Wan and of EDM models set it up."""
    common = {"solver_order": 2, "solver_type": weights, "final_sigmas_type": "zero"}
    if process == "flow":
        flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
        stock = DPMSolverMultistepScheduler(**common, **flow)
    else:
        ends = {"sigma_min": 0.3, "sigma_max": 500.0, "sigma_data": 1.0, "sigma_schedule": "exponential"}
        stock = EDMDPMSolverMultistepScheduler(**common, **ends, prediction_type="v_prediction")
    stock.set_timesteps(9)
    ours = SOLVERS.get(solver).start(process, stock.sigmas, stock.timesteps)
    assert ours.init_noise_sigma == pytest.approx(stock.init_noise_sigma)
    generator = torch.Generator().manual_seed(0)
    one = two = torch.randn(1, 3, 16, generator=generator) * stock.init_noise_sigma
    for time in stock.timesteps:
        seen = [solver.scale_model_input(state, time) for solver, state in ((stock, one), (ours, two))]
        assert torch.equal(*seen)
        said = torch.randn(1, 3, 16, generator=generator)
        one, two = (each.step(said, time, state).prev_sample for each, state in ((stock, one), (ours, two)))
        assert torch.equal(one, two)


def test_the_two_weights_are_two_solvers():
    errors = {solver: walked(solver, "flow", 8, 0.9, 0.1) for solver in SECOND}
    assert len(set(errors.values())) == len(SECOND) == 3


@EVERY
@EVERY_SCHEDULE
def test_a_known_part_comes_back_and_the_rest_is_reached(solver, name, conditioning):
    """The tower knows the answer; half of the picture is given, and later the whole sound."""
    answer = draw_noise(5, video_shape=(1, 4, 4, 4, 4), audio_shape=(1, 6, 9))
    schedule = build_schedule(name, 8, solver=solver)
    step = iter(range(100))

    def knows(video, audio):
        index = next(step) % 8
        flow = v = None
        if video is not None:
            sigma = schedule.video.sigmas[index]
            flow = (video.latents - answer.video) / sigma
        if audio is not None:
            time = audio.timestep * math.pi / 2
            noise = (audio.latents - time.cos() * answer.audio) / time.sin()
            v = time.cos() * noise - time.sin() * answer.audio
        return flow, v

    mask = torch.zeros(1, 1, 4, 1, 1)
    mask[:, :, :2] = 1
    noise = draw_noise(3, video_shape=answer.video.shape, audio_shape=answer.audio.shape)
    settings = {"schedule": schedule, "guidance": OFF, "seed": 1}
    part = sample(knows, conditioning(), noise, **settings, given=Pair(video=Given(answer.video, mask)))
    assert torch.equal(part.video[:, :, :2], answer.video[:, :, :2])
    torch.testing.assert_close(part.video, answer.video, rtol=0, atol=2e-5)
    torch.testing.assert_close(part.audio, answer.audio, rtol=0, atol=2e-4)
    whole = sample(knows, conditioning(), noise, **settings, given=Pair(audio=Given(answer.audio)))
    assert torch.equal(whole.audio, answer.audio)
    torch.testing.assert_close(whole.video, answer.video, rtol=0, atol=2e-5)


@EVERY
@pytest.mark.parametrize("batching", ["batched", "sequential"])
def test_a_step_cache_leaves_a_picture_alone_that_says_the_same_at_every_step(solver, batching, conditioning, noise):
    still = torch.randn(noise.video.shape, generator=torch.Generator().manual_seed(8))
    seen = []

    def says(video, audio):
        seen.append(video is not None)
        rows = None if video is None else still.expand(len(video.latents), *still.shape[1:])
        return rows, None if audio is None else torch.sin(audio.latents + audio.timestep)

    settings = {"schedule": build_schedule("lockstep", 16, solver=solver), "seed": 1}
    guidance = dual_guidance(3.0, 3.0, batching)
    plain = sample(says, conditioning(), noise, guidance=guidance, **settings)
    computed = sum(seen)
    seen.clear()
    cached = sample(says, conditioning(), noise, guidance=guidance, cache=build_cache("fast"), **settings)
    assert sum(seen) < computed
    torch.testing.assert_close(cached.video, plain.video, rtol=0, atol=1e-5)
    torch.testing.assert_close(cached.audio, plain.audio, rtol=0, atol=1e-5)


# One solver a side


def test_the_sound_may_have_a_solver_of_its_own():
    made = build_schedule("lockstep", 4, audio_solver="dpmpp_2m")
    assert [made.video.variant, made.audio.variant] == [SOLVERS.get("unipc"), SOLVERS.get("dpmpp_2m")]
    made = build_schedule("lockstep", 4, solver="euler", audio_solver="cosine_dpm")
    assert [made.video.variant, made.audio.variant] == [SOLVERS.get("euler"), SOLVERS.get("cosine_dpm")]
    made = build_schedule("flow", 4, solver="res_multistep")
    assert made.video.variant is made.audio.variant is SOLVERS.get("res_multistep")
    with pytest.raises(InputError, match=r"cosine_dpm does not walk the process flow.*expected auto or dpmpp_2m"):
        build_schedule("lockstep", 4, solver="cosine_dpm", audio_solver="euler")


def test_both_sides_alone_are_walked_as_together_with_another_solver(mixing, conditioning, noise):
    """What one side is walked by says nothing to the other where nothing leads there."""

    def deaf(video, audio):
        return mixing(video, None)[0] if video else None, mixing(None, audio)[1] if audio else None

    def run(**solvers):
        schedule = build_schedule("lockstep", 8, **solvers)
        return sample(deaf, conditioning(), noise, schedule=schedule, guidance=OFF, seed=2)

    mixed, one, other = run(audio_solver="unipc"), run(), run(solver="unipc")
    assert torch.equal(mixed.video, one.video) and torch.equal(mixed.audio, other.audio)
    assert not torch.equal(mixed.audio, one.audio)


# Where the steps lie


@EVERY_SCHEDULE
@pytest.mark.parametrize("bend", [0.5, 1.5, 2.0])
@pytest.mark.parametrize("steps", [1, 2, 8, 50])
def test_bent_steps_have_the_same_ends_and_fall(name, bend, steps):
    even, bent = (build_schedule(name, steps, step_bend=each) for each in (1.0, bend))
    for mine, theirs in ((bent.video, even.video), (bent.audio, even.audio)):
        torch.testing.assert_close(mine.levels[[0, -1]], theirs.levels[[0, -1]], rtol=1e-5, atol=0)
        assert bool((mine.sigmas.diff() < 0).all()) and mine.levels.shape == (steps,)
        if steps > 2:
            assert bool((mine.levels[1:-1] < theirs.levels[1:-1]).all()) == (bend > 1)


@EVERY_SCHEDULE
def test_steps_that_are_not_bent_are_what_they_were_to_the_bit(name):
    plain, asked = build_schedule(name, 13, flow_shift=5.0), build_schedule(name, 13, flow_shift=5.0, step_bend=1.0)
    for mine, theirs in ((asked.video, plain.video), (asked.audio, plain.audio)):
        assert torch.equal(mine.levels, theirs.levels) and torch.equal(mine.timesteps, theirs.timesteps)


def test_bent_steps_keep_both_sides_together():
    """Bridges know pairs of times: lockstep's lie on one curve, and stay near it."""
    made = build_schedule("lockstep", 50, step_bend=2.0)
    level = made.video.levels.double()
    remaining = level / (3 - 2 * level)
    heard = (made.audio.levels.double().log() - math.log(0.3)) / (math.log(500) - math.log(0.3))
    assert float((remaining - heard).abs().max()) < 0.03
    coupled = build_schedule("coupled", 50, step_bend=2.0)
    torch.testing.assert_close(coupled.video.timesteps, 1000 * coupled.audio.timesteps)


@pytest.mark.parametrize("solver", ["auto", *BOTH])
@EVERY_SCHEDULE
@pytest.mark.parametrize("bend", [0.5, 2.0])
def test_any_number_of_bent_steps_is_finite(mixing, conditioning, noise, name, solver, bend):
    for steps in (1, 2, 3, 16):
        schedule = build_schedule(name, steps, solver=solver, step_bend=bend)
        result = sample(mixing, conditioning(), noise, schedule=schedule, guidance=OFF, seed=0)
        assert bool(result.video.isfinite().all()) and bool(result.audio.isfinite().all())


def test_the_finest_steps_that_the_limits_allow_end(mixing, conditioning):
    """torchsde recurses without end where an interval of the Brownian path rounds to nothing."""
    schedule = build_schedule("coupled", 1000, flow_shift=0.1, step_bend=2.0)
    tiny = JointLatents(torch.ones(1, 1, 1, 2, 2), torch.ones(1, 1, 2))
    result = sample(mixing, conditioning(), tiny, schedule=schedule, guidance=OFF, seed=0)
    assert bool(result.audio.isfinite().all())


@pytest.mark.parametrize("bend", [0.49, 2.01, float("nan")])
def test_a_bend_out_of_its_range_is_refused(bend):
    with pytest.raises(InputError, match="step bend"):
        SamplingOptions(step_bend=bend)


def test_the_options_reach_the_schedule_from_the_command_line():
    flags = ["--solver", "unipc", "--audio-solver", "res_multistep", "--step-bend", "1.5", "--steps", "8"]
    args = build_parser().parse_args(["sound", "x.mp4", "-o", "y.mp4", *flags])
    options = sampling_options(args, PUBLISHED)
    made, wanted = options.build_schedule(), build_schedule("lockstep", 8, step_bend=1.5)
    assert [made.video.variant, made.audio.variant] == [SOLVERS.get("unipc"), SOLVERS.get("res_multistep")]
    assert torch.equal(made.audio.levels, wanted.audio.levels) and torch.equal(made.video.levels, wanted.video.levels)
