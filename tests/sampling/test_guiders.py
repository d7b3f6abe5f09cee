"""Guiders: which passes each asks for, when, and how passes are named on their way into the towers."""

from __future__ import annotations

import pytest
import torch
from sounding_video.core.errors import InputError
from sounding_video.core.pair import MODALITIES, Pair
from sounding_video.core.types import JointLatents
from sounding_video.sampling.guidance import GuidedDenoiser, View, dual_guidance
from sounding_video.sampling.guiders import GUIDERS
from sounding_video.sampling.loop import sample
from sounding_video.sampling.schedule import build_schedule
from sounding_video.sampling.schedules import SCHEDULES

STEPS = 10
EVERY = pytest.mark.parametrize("name", GUIDERS.names())


def run(denoiser, texts, noise, guidance):
    return sample(denoiser, texts, noise, schedule=build_schedule("lockstep", STEPS), guidance=guidance, seed=3)


def views(noise):
    return View(noise.video, torch.tensor([500.0])), View(noise.audio, torch.tensor([0.5]))


def passes_of(calls):
    """Names of the passes of every call, with what ran in it."""
    return [
        ("+".join(one.name for one in (video or audio).passes), video is not None, audio is not None)
        for video, audio in calls
    ]


@EVERY
def test_at_one_or_below_it_asks_for_nothing_and_changes_nothing(name):
    guider = GUIDERS.get(name)(Pair(1.0, 0.5))
    assert [guider.passes(modality) for modality in MODALITIES] == [(), ()]


@EVERY
def test_between_equal_predictions_there_is_nothing_to_push(name):
    guider = GUIDERS.get(name)(Pair(5.0, 5.0))
    value = torch.randn(2, 3)
    for modality in MODALITIES:
        told = {one.name: value for one in guider.passes(modality)} | {"positive": value}
        torch.testing.assert_close(guider.combine(modality, value, told), value)


@EVERY
@pytest.mark.parametrize("interval", [(0.5, 0.5), (0.7, 0.2), (-0.1, 1.0), (0.0, 1.1), (float("nan"), 1.0)])
def test_an_interval_that_is_none_is_refused(name, interval):
    with pytest.raises(InputError, match="the interval of the"):
        GUIDERS.get(name)(Pair(2.0, 2.0), *interval)


@pytest.mark.parametrize(("interval", "acting"), [((0.0, 1.0), 10), ((0.2, 0.8), 6), ((0.0, 0.3), 3), ((0.95, 1.0), 0)])
def test_steps_outside_the_interval_take_one_pass(mixing, conditioning, noise, interval, acting):
    run(mixing, conditioning(), noise, dual_guidance(5, 5, "sequential", interval=interval))
    names = [name for name, *_ in passes_of(mixing.calls)]
    assert (names.count("negative"), names.count("positive")) == (acting, STEPS)


def test_an_interval_of_modality_guidance_saves_its_passes(mixing, conditioning, noise):
    guidance = dual_guidance(1, 1, modality_scales=(1, 3), modality_interval=(0.0, 0.5))
    run(mixing, conditioning(), noise, guidance)
    assert passes_of(mixing.calls).count(("alone", False, True)) == STEPS // 2


def test_batched_passes_are_named_in_the_order_of_their_rows(mixing, conditioning, noise):
    run(mixing, conditioning(), noise, dual_guidance(5, 1, "batched", interval=(0.0, 0.5)))
    names = [name for name, *_ in passes_of(mixing.calls)]
    assert names == ["negative+positive"] * 5 + ["positive"] * 5


def test_away_from_alone_is_the_tower_alone_with_its_negative_text(mixing_class, conditioning, noise):
    texts, seen = conditioning(), mixing_class()
    guided = GuidedDenoiser(seen, texts, dual_guidance(5, 3, unconditional="alone"), num_positions=1)
    result = guided(*views(noise))
    assert passes_of(seen.calls) == [
        ("positive", True, True),
        ("alone_negative", True, False),
        ("alone_negative", False, True),
    ]
    plain, alone = mixing_class(), mixing_class()
    together = GuidedDenoiser(plain, texts, dual_guidance(1, 1), num_positions=1)(*views(noise))
    negative = type(texts)(
        type(texts.video)(texts.video.negative), type(texts.audio)(texts.audio.negative, duration=texts.audio.duration)
    )
    video = GuidedDenoiser(alone, negative, dual_guidance(1, 1), num_positions=1)(views(noise)[0], None)[0]
    torch.testing.assert_close(result[0], video + 5 * (together[0] - video))


def test_a_modality_by_itself_is_guided_away_from_its_negative_text_either_way(mixing, conditioning, noise):
    texts = conditioning(audio=False)
    alone = run(mixing, texts, JointLatents(noise.video), dual_guidance(5, 1, "sequential", unconditional="alone"))
    plain = run(mixing, texts, JointLatents(noise.video), dual_guidance(5, 1, "sequential"))
    torch.testing.assert_close(alone.video, plain.video)


def test_alone_excludes_modality_scales():
    with pytest.raises(InputError, match="already contains modality guidance"):
        dual_guidance(5, 5, modality_scales=(1, 2), unconditional="alone")


@pytest.mark.parametrize("schedule", SCHEDULES.names())
def test_unguided_intervals_equal_no_guidance(mixing, conditioning, noise, schedule):
    texts = conditioning()

    def made(guidance):
        return sample(mixing, texts, noise, schedule=build_schedule(schedule, 4), guidance=guidance, seed=3)

    late = made(dual_guidance(5, 5, interval=(0.99, 1.0)))
    none = made(dual_guidance(1, 1))
    assert torch.equal(late.video, none.video)
    assert torch.equal(late.audio, none.audio)
