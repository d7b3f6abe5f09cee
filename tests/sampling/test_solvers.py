"""Laws over every solver and schedule, against worlds whose answer is known in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sounding_video.core.errors import InputError
from sounding_video.core.types import JointLatents
from sounding_video.sampling.guidance import dual_guidance
from sounding_video.sampling.loop import sample
from sounding_video.sampling.noise import draw_noise
from sounding_video.sampling.schedule import build_schedule
from sounding_video.sampling.schedules import SCHEDULES
from sounding_video.sampling.solvers import SOLVERS
from sounding_video.sampling.solvers.euler import reflected
from sounding_video.sampling.words import FLOW_SIGMAS

OFF = dual_guidance(1.0, 1.0)


def walks(process):
    """Every schedule with ``auto`` and with every solver that walks a process (all of them for "")."""
    wanted = {process} if process else {"flow", "cosine_v"}
    solvers = [name for name in SOLVERS if wanted <= SOLVERS.get(name).processes]
    return [(name, solver) for name in SCHEDULES.names() for solver in ("auto", *solvers)]


def test_the_registry_names_the_choices():
    with pytest.raises(InputError, match=r"unknown solver: got 'eulr'; expected one of .*euler"):
        SOLVERS.get("eulr")


def test_a_solver_of_another_process_is_refused_and_those_that_fit_are_named():
    with pytest.raises(
        InputError, match=r"cosine_dpm does not walk the process flow.*expected auto or dpmpp_2m, euler, .*unipc"
    ):
        build_schedule("lockstep", 4, solver="cosine_dpm")
    assert build_schedule("lockstep", 4, solver="cosine_dpm", video=False).video is None


@settings(max_examples=40, deadline=None)
@given(
    way=st.sampled_from(walks("")),
    num_steps=st.integers(1, 50),
    flow_sigmas=st.sampled_from(FLOW_SIGMAS),
    seed=st.integers(0, 2**64 - 1),
)
def test_a_denoiser_that_knows_the_answer_reaches_it(conditioning, way, num_steps, flow_sigmas, seed):
    """It infers the noise from what it is shown and told, so inputs, times and sigmas must belong together."""
    name, solver = way
    schedule = build_schedule(name, num_steps, flow_sigmas=flow_sigmas, solver=solver)
    answer = draw_noise(99, video_shape=(1, 4, 2, 4, 4), audio_shape=(1, 6, 9))
    step = iter(range(num_steps))

    def knows(video, audio):
        # Lockstep tells the video tower a truncated integer; the exact σ is the schedule's.
        sigma = schedule.video.sigmas[next(step)] if name == "lockstep" else video.timestep / 1000
        flow = (video.latents - answer.video) / sigma
        time = audio.timestep * math.pi / 2
        audio_noise = (audio.latents - time.cos() * answer.audio) / time.sin()
        return flow, time.cos() * audio_noise - time.sin() * answer.audio

    noise = draw_noise(seed, video_shape=answer.video.shape, audio_shape=answer.audio.shape)
    result = sample(knows, conditioning(), noise, schedule=schedule, guidance=OFF, seed=seed)
    torch.testing.assert_close(result.video, answer.video, rtol=0, atol=2e-5)
    torch.testing.assert_close(result.audio, answer.audio, rtol=0, atol=2e-4)


@pytest.mark.parametrize(("name", "solver"), walks("flow"))
def test_video_follows_the_exact_path_of_a_gaussian_world(conditioning, gaussian, name, solver):
    """The probability flow of N(m, s²) data is known; the solver's error falls with its power of h."""
    mean, std = 0.4, 0.5
    noise = draw_noise(1, video_shape=(1, 4, 2, 8, 8))
    errors = []
    for num_steps in (100, 200, 400):
        schedule = build_schedule(name, num_steps, audio=False, solver=solver)
        denoiser = gaussian(schedule, mean, std)
        result = sample(denoiser, conditioning(audio=False), noise, schedule=schedule, guidance=OFF, seed=1)

        def width(sigma):
            return math.hypot((1 - sigma) * std, sigma)

        first, last = (float(schedule.video.start().sigmas[index]) for index in (0, -2))
        on_path = (1 - last) * mean + width(last) / width(first) * (noise.video - (1 - first) * mean)
        expected, _ = denoiser.posterior(on_path, 1 - last, last)
        errors.append(float((result.video - expected).abs().max()))
    order = schedule.video.variant.order
    assert errors[-1] < (2e-3 if order > 1 else 2e-2), errors
    assert errors[1] < errors[0] / (0.73 * 2**order), errors
    assert errors[2] < errors[1] / (0.8 * 2**order), errors


@pytest.mark.parametrize(("name", "solver"), walks("cosine_v"))
def test_audio_lands_in_a_gaussian_world(conditioning, gaussian, name, solver):
    """A stochastic solver has no exact path but an exact distribution: the posterior mean at the last sigma."""
    mean, std = 0.4, 0.7
    schedule = build_schedule(name, 100, video=False, solver=solver)
    noise = draw_noise(1, audio_shape=(1, 32, 256))
    denoiser = gaussian(schedule, mean, std)
    result = sample(denoiser, conditioning(video=False), noise, schedule=schedule, guidance=OFF, seed=1).audio
    last = float(schedule.audio.sigmas[-2])
    assert float(result.mean()) == pytest.approx(mean, abs=0.03)
    assert float(result.std()) == pytest.approx(std**2 / math.hypot(std, last), rel=0.03)
    # Fresh noise at every step, or none: then the result is a function of the initial noise alone.
    other = sample(
        gaussian(schedule, mean, std), conditioning(video=False), noise, schedule=schedule, guidance=OFF, seed=2
    )
    assert (float((other.audio - result).abs().mean()) > 0.1) == schedule.audio.start().stochastic


@pytest.mark.parametrize(("name", "solver"), walks(""))
@pytest.mark.filterwarnings("error::UserWarning")
def test_any_number_of_steps_is_finite_and_silent(conditioning, mixing, noise, name, solver):
    for num_steps in (1, 2, 3, 15, 120):
        result = sample(
            mixing, conditioning(), noise, schedule=build_schedule(name, num_steps, solver=solver), guidance=OFF, seed=0
        )
        assert isinstance(result, JointLatents)
        assert bool(result.video.isfinite().all())
        assert bool(result.audio.isfinite().all())


def test_a_reflected_flow_is_folded_by_a_triangle_wave_and_left_alone_inside():
    """Law 13 of PAV-DiT's reference."""
    inside = torch.linspace(-1, 1, 401)
    assert torch.equal(reflected(inside), inside)
    outside = torch.tensor([1.25, 2.0, 3.0, 3.5, 5.0, -1.25, -3.0, -5.0, 9.5])
    assert torch.allclose(reflected(outside), torch.tensor([0.75, 0.0, -1.0, -0.5, 1.0, -0.75, 1.0, -1.0, 0.5]))
    many = 20 * torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    assert reflected(many).abs().max() <= 1 and torch.allclose(reflected(many + 4), reflected(many), atol=1e-4)
    slope = (reflected(many + 1e-3) - reflected(many)).abs() / 1e-3
    assert float(slope.max()) < 1.01, "no place is stretched"


def test_euler_reflects_where_it_is_told_and_walks_as_ever_inside():
    sigmas, timesteps = torch.tensor([1.0, 0.5, 0.0]), torch.tensor([1000.0, 500.0])
    plain, folding = (SOLVERS.get("euler").start("flow", sigmas, timesteps, reflect=told) for told in (False, True))
    velocity, state = torch.tensor([[0.2, -3.0]]), torch.tensor([[0.5, 0.4]])
    first = [solver.step(velocity, timesteps[0], state).prev_sample for solver in (plain, folding)]
    assert torch.allclose(first[0], torch.tensor([[0.4, 1.9]])) and torch.allclose(first[1], torch.tensor([[0.4, 0.1]]))
    assert folding.estimate().abs().max() <= 1 < plain.estimate().abs().max()
    assert torch.equal(folding.scale_model_input(3 * state, timesteps[0]), reflected(3 * state))
    with pytest.raises(InputError, match="only a flow is reflected: got cosine_v; expected flow"):
        SOLVERS.get("euler").start("cosine_v", sigmas, timesteps, reflect=True)
