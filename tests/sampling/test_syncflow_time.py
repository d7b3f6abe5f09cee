"""SyncFlow's law 13: rectified flow over Stable Audio's tower, exactly (SYNCFLOW.md, section 6), in float64."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from sounding_video.sampling.processes import PROCESSES, equal_time

LEVELS = [0.02, 0.24, 0.5, 0.77, 0.99]


def world(level: float) -> dict[str, torch.Tensor | float]:
    """Data, noise, and a prediction that is wrong, at one flow level: in the flow's numbers and in the tower's."""
    g = torch.Generator().manual_seed(3)
    clean, noise, wrong = (torch.randn(2, 5, 7, generator=g, dtype=torch.float64) for _ in range(3))
    angle = math.atan2(level, 1 - level)
    alpha, sigma = math.cos(angle), math.sin(angle)
    return {"clean": clean, "noise": noise, "wrong": wrong, "alpha": alpha, "sigma": sigma, "time": angle * 2 / math.pi}


@pytest.mark.parametrize("level", LEVELS)
def test_syncflow_law_13_the_flow_of_the_audio_tower(level) -> None:
    """u = (σ − α)·x + (α + σ)·v, of any prediction; its error is α + σ times that of v."""
    w = world(level)
    alpha, sigma = w["alpha"], w["sigma"]
    seen = alpha * w["clean"] + sigma * w["noise"]
    flow_state = (1 - level) * w["clean"] + level * w["noise"]
    torch.testing.assert_close(flow_state, seen / (alpha + sigma), rtol=0, atol=1e-14)
    v, u = alpha * w["noise"] - sigma * w["clean"], w["noise"] - w["clean"]
    torch.testing.assert_close((sigma - alpha) * seen + (alpha + sigma) * v, u, rtol=0, atol=1e-14)
    guess = v + w["wrong"]
    u_guess = (sigma - alpha) * seen + (alpha + sigma) * guess
    ratio = (u_guess - u).square().mean() / w["wrong"].square().mean()
    assert float(ratio) == pytest.approx(1 + math.sin(math.pi * w["time"]), rel=1e-12)


@pytest.mark.parametrize("level", LEVELS)
def test_syncflow_law_13_times_are_each_others_inverse(level) -> None:
    time = equal_time(level, "flow", "cosine_v")
    assert time == pytest.approx(2 / math.pi * math.atan(level / (1 - level)), abs=1e-14)
    assert equal_time(time, "cosine_v", "flow") == pytest.approx(level, abs=1e-14)
    assert abs(time - level) <= 0.0454


def test_syncflow_law_13_guiding_either_prediction_is_the_same() -> None:
    for level in LEVELS:
        w = world(level)
        alpha, sigma = w["alpha"], w["sigma"]
        seen = alpha * w["clean"] + sigma * w["noise"]

        def flow_of(v: torch.Tensor, seen=seen, alpha=alpha, sigma=sigma) -> torch.Tensor:
            return (sigma - alpha) * seen + (alpha + sigma) * v

        v, other = w["wrong"], w["noise"]
        guided = other + 6.0 * (v - other)
        torch.testing.assert_close(
            flow_of(guided), flow_of(other) + 6.0 * (flow_of(v) - flow_of(other)), rtol=0, atol=1e-12
        )


def test_syncflow_law_13_euler_on_the_flow_is_ddim_is_euler_discrete() -> None:
    """One path three times, with a denoiser that bends it: Euler in s, DDIM in angles, diffusers in σ."""
    from diffusers import EulerDiscreteScheduler

    g = torch.Generator().manual_seed(3)
    start, bend = (torch.randn(1, 6, 9, generator=g, dtype=torch.float64) for _ in range(2))
    levels = [0.95 * (1 - i / 8) for i in range(9)]

    def v_of(seen: torch.Tensor, time: float) -> torch.Tensor:
        return torch.sin(2 * seen + time) * bend

    def angle(level: float) -> float:
        return math.atan2(level, 1 - level)

    flow = start / (math.cos(angle(levels[0])) + math.sin(angle(levels[0])))
    ddim = start
    for here, there in pairwise(levels):
        alpha, sigma, time = math.cos(angle(here)), math.sin(angle(here)), angle(here) * 2 / math.pi
        seen = flow * (alpha + sigma)
        flow = flow + (there - here) * ((sigma - alpha) * seen + (alpha + sigma) * v_of(seen, time))
        v = v_of(ddim, time)
        x0, noise = alpha * ddim - sigma * v, sigma * ddim + alpha * v
        ddim = math.cos(angle(there)) * x0 + math.sin(angle(there)) * noise

    solver = EulerDiscreteScheduler(prediction_type="v_prediction")
    solver.set_timesteps(8)
    solver.sigmas = torch.tensor([level / (1 - level) for level in levels], dtype=torch.float64)
    solver.timesteps = torch.arange(8, dtype=torch.float64)
    solver.set_begin_index(0)
    state = start * math.sqrt(float(solver.sigmas[0]) ** 2 + 1)
    for index, level in enumerate(levels[:-1]):
        seen = state / math.sqrt(float(solver.sigmas[index]) ** 2 + 1)
        torch.testing.assert_close(solver.scale_model_input(state, solver.timesteps[index]), seen)
        # The scheduler works in float32: undo what that loses by its own formula, and compare the two.
        sigma = float(solver.sigmas[index])
        v = v_of(seen, angle(level) * 2 / math.pi)
        x0 = state / (sigma**2 + 1) - v * sigma / math.sqrt(sigma**2 + 1)
        exact = state + (float(solver.sigmas[index + 1]) - sigma) * (state - x0) / sigma
        theirs = solver.step(v, solver.timesteps[index], state).prev_sample
        torch.testing.assert_close(theirs.double(), exact, rtol=1e-6, atol=1e-6)
        state = exact
    torch.testing.assert_close(flow, ddim, rtol=0, atol=1e-6)
    torch.testing.assert_close(state, ddim, rtol=0, atol=1e-6)


def test_syncflow_law_13_our_solver_takes_that_step() -> None:
    """The registered Euler, on the schedule's own points, against Euler in the flow level."""
    from sounding_video.sampling.schedule import build_schedule

    points = build_schedule("flow", 8, flow_shift=1.0).audio
    solver = points.start()
    g = torch.Generator().manual_seed(3)
    start, bend = (torch.randn(1, 6, 9, generator=g) for _ in range(2))
    state = start * solver.init_noise_sigma
    levels = [float(sigma / (1 + sigma)) for sigma in points.sigmas.double()]
    flow = state.double() / (1 + float(points.sigmas[0]))
    cosine = PROCESSES.get("cosine_v")
    for index, (here, there) in enumerate(pairwise(levels)):
        time = float(points.timesteps[index])
        seen = solver.scale_model_input(state, points.timesteps[index])
        torch.testing.assert_close(seen, cosine.scale(state, points.sigmas[index]))
        state = solver.step(torch.sin(2 * seen + time) * bend, points.timesteps[index], state).prev_sample
        alpha, sigma = math.cos(time * math.pi / 2), math.sin(time * math.pi / 2)
        u = (sigma - alpha) * flow * (alpha + sigma) + (alpha + sigma) * (
            torch.sin(2 * flow * (alpha + sigma) + time) * bend.double()
        )
        flow = flow + (there - here) * u
    torch.testing.assert_close(state.double(), flow, rtol=0, atol=2e-5)
