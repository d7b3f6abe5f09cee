"""Laws over every process: noising and predictions fit together, and one solver step is the same in other variables."""

from __future__ import annotations

import math

import pytest
import torch
from sounding_video.sampling.processes import PROCESSES, equal_time
from sounding_video.sampling.schedule import build_schedule
from sounding_video.sampling.solvers import SOLVERS

EVERY = pytest.mark.parametrize("name", PROCESSES.names())


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@EVERY
@pytest.mark.parametrize("time", [0.0, 0.04, 0.3, 0.5, 0.97])
def test_a_true_prediction_gives_back_data_and_noise(name, time):
    process, clean, noise = PROCESSES.get(name), draw(2, 3, 5), draw(2, 3, 5, seed=1)
    time = torch.tensor(time, dtype=torch.float64)
    noisy, target = process.add_noise(clean, noise, time), process.target(clean, noise, time)
    torch.testing.assert_close(process.clean(noisy, target, time), clean, rtol=0, atol=1e-12)
    torch.testing.assert_close(process.noise(noisy, target, time), noise, rtol=0, atol=1e-12)


@EVERY
@pytest.mark.parametrize("time", [0.01, 0.2, 0.5, 0.9])
def test_a_solvers_state_and_what_the_tower_sees_are_one_thing(name, time):
    process, clean, noise = PROCESSES.get(name), draw(4, 4), draw(4, 4, seed=1)
    time = torch.tensor(time, dtype=torch.float64)
    sigma = process.sigma(time)
    state = process.state(clean, noise, sigma)
    torch.testing.assert_close(process.scale(state, sigma), process.add_noise(clean, noise, time))
    torch.testing.assert_close(process.unscale(process.scale(state, sigma), sigma), state)
    torch.testing.assert_close(process.prediction(state, clean, sigma), process.target(clean, noise, time))
    torch.testing.assert_close(process.time(sigma), time)


@EVERY
def test_flow_times_go_there_and_back_and_keep_the_ratio_of_signal_to_noise(name):
    process = PROCESSES.get(name)
    one, none = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for index in range(101):
        time = index / 100
        flow = process.to_flow(time)
        assert process.from_flow(flow) == pytest.approx(time, abs=1e-12)
        at = torch.tensor(time, dtype=torch.float64)
        signal, noise = float(process.add_noise(one, none, at)), float(process.add_noise(none, one, at))
        assert noise / (signal + noise) == pytest.approx(flow, abs=1e-12)


def test_av_links_level_of_a_given_sound():
    assert equal_time(0.2, "flow", "cosine_v") == pytest.approx(0.15596, abs=5e-6)
    assert equal_time(0.15596, "cosine_v", "flow") == pytest.approx(0.2, abs=1e-5)


def test_the_times_differ_by_no_more_than_the_papers_bound():
    gaps = [abs(equal_time(s / 1000, "flow", "cosine_v") - s / 1000) for s in range(1001)]
    assert max(gaps) == pytest.approx(0.0453, abs=1e-4)


def test_flow_over_the_cosine_tower_is_exact():
    """SYNCFLOW 6: u = (σ − α)·x + (α + σ)·v, so an error of v weighs α + σ = √(1 + sin πt) in u."""
    cosine, flow = PROCESSES.get("cosine_v"), PROCESSES.get("flow")
    clean, noise = draw(8), draw(8, seed=1)
    for value in (0.05, 0.4, 0.9):
        time = torch.tensor(value, dtype=torch.float64)
        alpha, sigma = torch.cos(time * math.pi / 2), torch.sin(time * math.pi / 2)
        noisy, v = cosine.add_noise(clean, noise, time), cosine.target(clean, noise, time)
        u = (sigma - alpha) * noisy + (alpha + sigma) * v
        level = torch.tensor(cosine.to_flow(value), dtype=torch.float64)
        torch.testing.assert_close(u, flow.target(clean, noise, level), rtol=0, atol=1e-12)
        torch.testing.assert_close(noisy / (alpha + sigma), flow.add_noise(clean, noise, level), rtol=0, atol=1e-12)
        assert float((alpha + sigma) ** 2) == pytest.approx(1 + math.sin(math.pi * value))


@EVERY
def test_one_euler_step_keeps_clean_data_and_noise_estimates(name):
    """Euler moves along the estimates: it is DDIM on a cosine process."""
    process = PROCESSES.get(name)
    schedule = build_schedule("flow", 6)
    modality = schedule.video if name == "flow" else schedule.audio
    if modality.process != name:
        pytest.skip(f"no schedule walks {name} yet")
    solver = SOLVERS.get("euler").start(name, modality.sigmas, modality.timesteps)
    state, prediction = draw(2, 5).float() * solver.init_noise_sigma, draw(2, 5, seed=1).float()
    for step in range(3):
        sigma, after = solver.sigmas[step], solver.sigmas[step + 1]
        seen = solver.scale_model_input(state, solver.timesteps[step])
        time = process.time(sigma)
        clean, noise = process.clean(seen, prediction, time), process.noise(seen, prediction, time)
        moved = solver.step(prediction, solver.timesteps[step], state).prev_sample
        scale = float(state.abs().max())
        torch.testing.assert_close(moved, process.state(clean, noise, after), rtol=0, atol=2e-6 * scale)
        torch.testing.assert_close(solver.estimate(), clean, rtol=0, atol=2e-6 * scale)
        state = moved


def test_guidance_of_the_velocity_is_guidance_of_v():
    cosine = PROCESSES.get("cosine_v")
    time, noisy = torch.tensor(0.37, dtype=torch.float64), draw(6)
    conditional, unconditional = draw(6, seed=1), draw(6, seed=2)
    guided = unconditional + 4 * (conditional - unconditional)
    for read in (cosine.clean, cosine.noise):
        apart = read(noisy, unconditional, time) + 4 * (
            read(noisy, conditional, time) - read(noisy, unconditional, time)
        )
        torch.testing.assert_close(read(noisy, guided, time), apart)
