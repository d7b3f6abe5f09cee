"""Schedules: official points, one shared time, and numbers that do not depend on the installed diffusers."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import CosineDPMSolverMultistepScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from sounding_video.core.errors import InputError
from sounding_video.sampling.schedule import build_schedule
from sounding_video.sampling.schedules import SCHEDULES
from sounding_video.sampling.schedules.base import AUDIO_TIME_MAX
from sounding_video.sampling.schedules.lockstep import lockstep_times
from sounding_video.sampling.words import FLOW_SIGMAS

# The stock scheduler used as witness asks torchsde for points just outside its Brownian path.
pytestmark = pytest.mark.filterwarnings("ignore:Should have t[ab]")


@pytest.mark.parametrize(
    ("flow_sigmas", "head", "tail", "ends"),
    [
        ("diffusers-0.36", [999, 992, 985, 978, 971, 963], [160, 111, 57], (0.99967, 0.05764)),
        ("diffusers-0.37", [999, 993, 986, 979, 971, 964], [162, 113, 60], (1 - 1e-6, 0.06041)),
    ],
)
def test_published_video_points_at_50_steps(flow_sigmas, head, tail, ends):
    video = build_schedule("lockstep", 50, flow_sigmas=flow_sigmas).video
    assert video.timesteps.dtype == torch.int64
    assert video.timesteps[:6].tolist() == head
    assert video.timesteps[-3:].tolist() == tail
    assert (float(video.sigmas[0]), float(video.sigmas[-2])) == pytest.approx(ends, abs=1e-5)
    assert float(video.sigmas[-1]) == 0


@pytest.mark.parametrize("flow_sigmas", FLOW_SIGMAS)
@pytest.mark.parametrize("num_steps", [1, 2, 6, 18, 50, 333, 1000])
def test_video_points_equal_the_installed_scheduler(unipc_witness, num_steps, flow_sigmas):
    stock = unipc_witness(num_steps, flow_sigmas)
    ours = build_schedule("lockstep", num_steps, flow_sigmas=flow_sigmas).video
    assert torch.equal(ours.timesteps, stock.timesteps)
    torch.testing.assert_close(ours.sigmas, stock.sigmas, rtol=0, atol=1e-7)


@pytest.mark.parametrize("num_steps", [2, 6, 18, 50, 333, 1000])
def test_audio_points_equal_the_installed_scheduler(num_steps):
    stock = CosineDPMSolverMultistepScheduler()
    stock.set_timesteps(num_steps)
    ours = build_schedule("lockstep", num_steps).audio
    assert torch.equal(ours.sigmas, stock.sigmas)
    assert torch.equal(ours.timesteps, stock.timesteps)
    assert ours.start().init_noise_sigma == stock.init_noise_sigma


@pytest.mark.parametrize("num_steps", [2, 25, 50])
@pytest.mark.parametrize("flow_shift", [1.0, 3.0, 5.0])
def test_training_times_lie_where_lockstep_stands(num_steps, flow_shift):
    schedule = build_schedule("lockstep", num_steps, flow_sigmas="diffusers-0.37", flow_shift=flow_shift)
    # Whole timesteps are truncated; the flow grid ends at 1/1000 with its last point left out, the audio's at its end.
    video, _ = lockstep_times(torch.linspace(1, 1 / 1000, num_steps + 1)[:-1], flow_shift)
    _, audio = lockstep_times(torch.linspace(1, 0, num_steps))
    torch.testing.assert_close(schedule.video.timesteps / 1000, video, atol=1.01e-3, rtol=0)
    torch.testing.assert_close(schedule.audio.timesteps, audio, atol=1e-6, rtol=0)


def test_a_single_audio_step_starts_at_the_noise_it_holds():
    audio = build_schedule("lockstep", 1).audio
    assert audio.sigmas.tolist() == [500.0, 0.0]
    assert audio.start().init_noise_sigma == pytest.approx(500.001, abs=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    num_steps=st.integers(1, 1000),
    flow_sigmas=st.sampled_from(FLOW_SIGMAS),
    flow_shift=st.floats(0.1, 100),
)
def test_coupled_keeps_both_towers_at_one_time(num_steps, flow_sigmas, flow_shift):
    schedule = build_schedule("coupled", num_steps, flow_sigmas=flow_sigmas, flow_shift=flow_shift)
    video, audio = schedule.video, schedule.audio
    times = audio.timesteps.double()
    assert torch.equal(video.timesteps, 1000 * audio.timesteps)
    torch.testing.assert_close(video.sigmas[:-1], audio.timesteps, rtol=1e-6, atol=0)
    torch.testing.assert_close(audio.sigmas[:-1].double().atan() * 2 / math.pi, times, rtol=1e-6, atol=0)
    assert float(times[0]) <= AUDIO_TIME_MAX + 1e-7
    solver = audio.start()
    assert solver.config.sigma_min < float(audio.sigmas[-2]) - 1e-5
    assert solver.config.sigma_max == float(audio.sigmas[0])


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(SCHEDULES.names()), num_steps=st.integers(1, 1000), flow_sigmas=st.sampled_from(FLOW_SIGMAS)
)
def test_noise_falls_strictly_to_zero(name, num_steps, flow_sigmas):
    schedule = build_schedule(name, num_steps, flow_sigmas=flow_sigmas)
    for modality in (schedule.video, schedule.audio):
        assert modality.sigmas.shape == (num_steps + 1,)
        assert modality.timesteps.shape == (num_steps,)
        assert modality.sigmas.dtype == torch.float32
        assert bool((modality.sigmas.diff() < 0).all())
        assert float(modality.sigmas[-1]) == 0
    assert float(schedule.video.start().sigmas[0]) <= 1


def test_coupled_starts_at_the_latest_time_the_audio_tower_knows():
    schedule = build_schedule("coupled", 50)
    assert float(schedule.audio.timesteps[0]) == pytest.approx(2 / math.pi * math.atan(500), abs=1e-7)
    assert float(schedule.audio.sigmas[0]) == pytest.approx(500, rel=1e-4)


@pytest.mark.parametrize("name", SCHEDULES.names())
def test_a_schedule_serves_any_number_of_runs(name):
    schedule = build_schedule(name, 4)
    first, second = schedule.audio.start(), schedule.audio.start()
    first.step(torch.zeros(1, 2, 3), schedule.audio.timesteps[0], torch.zeros(1, 2, 3))
    assert first.step_index == 1
    assert not second.step_index
    assert torch.equal(schedule.audio.sigmas, second.sigmas)


def test_a_modality_can_be_left_out():
    assert build_schedule("lockstep", 3, audio=False).audio is None
    assert build_schedule("coupled", 3, video=False).video is None


@pytest.mark.parametrize("num_steps", [0, -3, 1001, 2.0, True, "6", None])
def test_unusable_steps_are_refused_with_the_range(num_steps):
    with pytest.raises(
        InputError, match=r"number of steps cannot be used: got .*expected a whole number from 1 to 1000"
    ):
        build_schedule("lockstep", num_steps)


def test_unknown_words_list_the_choices():
    with pytest.raises(InputError, match=r"unknown schedule: got 'lockstp'; expected one of .*lockstep"):
        build_schedule("lockstp", 4)
    with pytest.raises(InputError, match=r"unknown flow sigmas.*diffusers-0.36, diffusers-0.37"):
        build_schedule("lockstep", 4, flow_sigmas="0.36")


@pytest.mark.parametrize("flow_shift", [0, -1.0, 0.09, math.nan, math.inf, 101])
def test_unusable_flow_shift_is_refused(flow_shift):
    with pytest.raises(InputError, match=r"the flow shift cannot be used.*expected 0.1 to 100"):
        build_schedule("coupled", 4, flow_shift=flow_shift)
