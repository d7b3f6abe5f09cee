"""Roles of the sampler that somebody adds a variant to: one registration each, listed and run."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from sounding_video.cli import build_parser
from sounding_video.core.errors import InputError
from sounding_video.core.pair import Pair
from sounding_video.core.types import POSITIVE
from sounding_video.nodes.native import NativeSampler
from sounding_video.nodes.sampling import JointSampler
from sounding_video.sampling.given import Given
from sounding_video.sampling.guidance import Guidance, dual_guidance
from sounding_video.sampling.guiders import GUIDERS
from sounding_video.sampling.guiders.base import Scaled
from sounding_video.sampling.loop import sample
from sounding_video.sampling.options import SamplingOptions
from sounding_video.sampling.processes import PROCESSES
from sounding_video.sampling.processes.flow import Flow
from sounding_video.sampling.schedule import build_schedule
from sounding_video.sampling.schedules import SCHEDULES
from sounding_video.sampling.schedules.base import Points, Steps
from sounding_video.sampling.shown import SHOWN
from sounding_video.sampling.shown.base import Shown
from sounding_video.sampling.solvers import SOLVERS
from sounding_video.sampling.solvers.euler import Euler

NAME = "throw_away"


@pytest.fixture
def enter(request):
    """Registers for one test."""

    def add(registry, variant):
        registry.register(NAME)(variant)
        request.addfinalizer(lambda: registry._entries.pop(NAME))
        return variant

    return add


def choices(node, port):
    return next(one.options["options"] for one in node.GET_SCHEMA().inputs if one.id == port)


def help_text(capsys):
    with pytest.raises(SystemExit):
        build_parser().parse_args(["generate", "--help"])
    return capsys.readouterr().out


def test_a_solver(enter, mixing, conditioning, noise, capsys):
    class Lazy(Euler):
        """Euler under another name."""

    enter(SOLVERS, Lazy)
    assert NAME in choices(JointSampler, "solver")
    assert NAME in choices(NativeSampler, "solver")
    assert NAME in help_text(capsys)
    made = [
        sample(
            mixing,
            conditioning(),
            noise,
            schedule=SamplingOptions(num_steps=3, solver=solver).build_schedule(),
            guidance=dual_guidance(1, 1),
            seed=0,
        )
        for solver in (NAME, "euler")
    ]
    assert torch.equal(made[0].video, made[1].video)


def test_a_schedule_with_a_process_and_a_solver_of_its_own(enter, mixing, conditioning, noise, capsys):
    class Backwards(Flow):
        """A flow that is told its time as a share."""

        name, solver, timestep_scale = NAME, NAME, 1.0

    class Walker(Euler):
        """Walks it as a flow."""

        processes = frozenset({NAME})

        @classmethod
        def start(cls, process, sigmas, timesteps, **bounds):
            return Euler.start("flow", sigmas, timesteps)

    def halves(steps: Steps) -> Pair[Points]:
        levels = 0.5 ** torch.arange(steps.num_steps, dtype=torch.float32)
        return Pair(Points(NAME, levels, levels), Points("cosine_v", levels, levels, "euler"))

    enter(PROCESSES, Backwards)
    enter(SOLVERS, Walker)
    enter(SCHEDULES, halves)
    assert NAME in choices(JointSampler, "schedule")
    assert NAME in help_text(capsys)
    result = sample(
        mixing, conditioning(), noise, schedule=build_schedule(NAME, 3), guidance=dual_guidance(5, 5), seed=0
    )
    assert [float(call[0].timestep) for call in mixing.calls[::1]] == [1.0, 0.5, 0.25]
    assert bool(result.video.isfinite().all())


def test_a_guider(enter, mixing, conditioning, noise):
    @dataclass(frozen=True)
    class Louder(Scaled):
        """Adds to the prediction; needs no pass beside the positive one."""

        needs = (POSITIVE,)

        def combine(self, modality, result, predictions):
            return result + 1

    enter(GUIDERS, Louder)
    guidance = Guidance((GUIDERS.get(NAME)(Pair(2.0, 1.0)),))
    seen = []
    sample(
        lambda video, audio: seen.append(1) or mixing(video, audio),
        conditioning(),
        noise,
        schedule=build_schedule("flow", 2),
        guidance=guidance,
        seed=0,
    )
    assert len(seen) == 2


def test_a_way_to_show_what_is_given(enter, mixing, conditioning, noise, capsys):
    class Plain(Shown):
        """As it is, at time zero, and only as a whole."""

        takes_masks = False

        def view(self, known, sigma, timestep):
            return known.clean, torch.zeros_like(timestep)

    enter(SHOWN, Plain)
    assert NAME in choices(JointSampler, "given_how")
    assert NAME in choices(NativeSampler, "given_how")
    assert NAME in help_text(capsys)
    with pytest.raises(InputError, match=f"got {NAME} with a mask"):
        Given(noise.video, torch.ones(1, 1, 1, 1, 1), how=SamplingOptions(given_how=NAME).given_how)
    given = Pair(video=Given(noise.video + 1, how=NAME))
    result = sample(
        mixing,
        conditioning(),
        noise,
        schedule=build_schedule("flow", 3),
        guidance=dual_guidance(1, 1),
        seed=0,
        given=given,
    )
    shown = [call[0] for call in mixing.calls]
    assert all(torch.equal(one.latents[:1], noise.video[:1] + 1) and float(one.timestep) == 0 for one in shown)
    assert torch.equal(result.video, noise.video + 1) and not torch.equal(result.audio, noise.audio)
