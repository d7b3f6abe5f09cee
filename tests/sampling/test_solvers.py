"""Laws over every solver and schedule, against worlds whose answer is known in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sounding_video.core.errors import InputError
from sounding_video.core.types import JointLatents
from sounding_video.sampling.guidance import Guidance
from sounding_video.sampling.loop import sample
from sounding_video.sampling.noise import draw_noise
from sounding_video.sampling.schedules import FLOW_SIGMAS, SCHEDULES, build_schedule
from sounding_video.sampling.solvers import SOLVERS

OFF = Guidance(1.0, 1.0)


def test_the_registry_lists_both_and_names_the_choices():
    assert SOLVERS.names() == ["cosine_dpm", "unipc"]
    with pytest.raises(InputError, match="unknown solver: got 'euler'; expected one of cosine_dpm, unipc"):
        SOLVERS.get("euler")


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(SCHEDULES),
    num_steps=st.integers(1, 50),
    flow_sigmas=st.sampled_from(FLOW_SIGMAS),
    seed=st.integers(0, 2**64 - 1),
)
def test_a_denoiser_that_knows_the_answer_reaches_it(conditioning, name, num_steps, flow_sigmas, seed):
    """It infers the noise from what it is shown and told, so inputs, times and sigmas must belong together."""
    schedule = build_schedule(name, num_steps, flow_sigmas=flow_sigmas)
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


@pytest.mark.parametrize("name", SCHEDULES)
def test_video_follows_the_exact_path_of_a_gaussian_world(conditioning, gaussian, name):
    """The probability flow of N(m, s²) data is known; the solver's error falls with the square of h."""
    mean, std = 0.4, 0.5
    noise = draw_noise(1, video_shape=(1, 4, 2, 8, 8))
    errors = []
    for num_steps in (100, 200, 400):
        schedule = build_schedule(name, num_steps, audio=False)
        denoiser = gaussian(schedule, mean, std)
        result = sample(denoiser, conditioning(audio=False), noise, schedule=schedule, guidance=OFF, seed=1)

        def width(sigma):
            return math.hypot((1 - sigma) * std, sigma)

        first, last = (float(schedule.video.sigmas[index]) for index in (0, -2))
        on_path = (1 - last) * mean + width(last) / width(first) * (noise.video - (1 - first) * mean)
        expected, _ = denoiser.posterior(on_path, 1 - last, last)
        errors.append(float((result.video - expected).abs().max()))
    assert errors[-1] < 1e-3
    assert errors[1] < errors[0] / 3
    assert errors[2] < errors[1] / 3.5


@pytest.mark.parametrize("name", SCHEDULES)
def test_audio_lands_in_a_gaussian_world(conditioning, gaussian, name):
    """The stochastic solver has no exact path but an exact distribution: the posterior mean at the last sigma."""
    mean, std = 0.4, 0.7
    schedule = build_schedule(name, 100, video=False)
    noise = draw_noise(1, audio_shape=(1, 32, 256))
    denoiser = gaussian(schedule, mean, std)
    result = sample(denoiser, conditioning(video=False), noise, schedule=schedule, guidance=OFF, seed=1).audio
    last = float(schedule.audio.sigmas[-2])
    assert float(result.mean()) == pytest.approx(mean, abs=0.03)
    assert float(result.std()) == pytest.approx(std**2 / math.hypot(std, last), rel=0.03)
    # Fresh noise at every step: the result is not a function of the initial noise alone.
    other = sample(
        gaussian(schedule, mean, std), conditioning(video=False), noise, schedule=schedule, guidance=OFF, seed=2
    )
    assert float((other.audio - result).abs().mean()) > 0.1


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.filterwarnings("error::UserWarning")
def test_any_number_of_steps_is_finite_and_silent(conditioning, mixing, noise, name):
    for num_steps in (1, 2, 3, 15, 120):
        result = sample(mixing, conditioning(), noise, schedule=build_schedule(name, num_steps), guidance=OFF, seed=0)
        assert isinstance(result, JointLatents)
        assert bool(result.video.isfinite().all())
        assert bool(result.audio.isfinite().all())
