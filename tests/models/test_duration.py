"""How long a run takes is foretold before it begins: of the right order, cheaply, and only where it matters."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch
from sounding_video import forecast, pipeline
from sounding_video.core.clock import Timeline
from sounding_video.core.device import resolve_placement
from sounding_video.core.errors import Cancelled
from sounding_video.core.pair import Pair
from sounding_video.core.progress import Progress
from sounding_video.core.types import Captions
from sounding_video.models.plan import duration
from sounding_video.models.plan.duration import operations_a_second, sampling_seconds, worded
from sounding_video.models.plan.plans import plans
from sounding_video.models.plan.tracking import dry_run
from sounding_video.pipeline import SamplingOptions
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pocket():
    return pipeline.load_models("pocket", placement=resolve_placement(device="cpu"))


@pytest.fixture
def slow_device(monkeypatch):
    """A device whose speed does not change with what else this machine does."""
    monkeypatch.setattr(duration, "operations_a_second", lambda device, dtype: 5e10)


def test_operations_are_those_that_torch_counts_and_attention_is_not_left_out():
    layers = nn.Sequential(nn.Linear(32, 64), nn.Conv1d(8, 8, 3))
    query = torch.ones(1, 2, 50, 16)
    with FlopCounterMode(display=False) as counter:
        layers(torch.ones(4, 8, 32))
    real = counter.get_total_flops()

    def run():
        F.scaled_dot_product_attention(query.to("meta"), query.to("meta"), query.to("meta"))
        return layers.to("meta")(torch.ones(4, 8, 32, device="meta"))

    assert dry_run(run).operations == real + 2 * 2 * (2 * 50 * 50 * 16)


def test_a_stage_s_operations_grow_with_what_is_made(pocket):
    def counted(frames, size):
        timeline = Timeline(frames, 15, size, size, pocket.geometry)
        (outline, work, placement), ways = forecast._planning(pocket, timeline, SamplingOptions(), "off")
        plan = plans(lambda _: outline, work, placement, **ways)[0]
        return {peak.stage: peak.operations for peak in plan.stages}

    small, long, large = counted(9, 64), counted(33, 64), counted(9, 128)
    assert long["decode video"] == pytest.approx(3 * small["decode video"], rel=0.05)
    assert large["decode video"] == pytest.approx(4 * small["decode video"], rel=0.05)
    assert small["sample"] < long["sample"] and 4 * small["sample"] > large["sample"] > 2 * small["sample"]


def test_the_quick_count_is_of_the_order_of_the_real_one(pocket, slow_device, monkeypatch):
    monkeypatch.setattr(duration, "_QUICK_OPERATIONS", 0)
    for frames, width, height in ((33, 64, 64), (81, 832, 480)):
        timeline = Timeline(frames, 15, width, height, pocket.geometry)
        told = forecast.forecast_of(pocket, timeline)
        passes = 2 * pocket.own.num_steps
        quick = sampling_seconds(pocket.video.tower, (1, *timeline.video_latent_shape), pocket.placement, passes=passes)
        real = told["seconds"]
        assert quick < 2 * real and (frames == 33 or quick > real / 2)


def test_a_long_run_is_told_and_a_short_one_is_not(pocket, slow_device):
    def said(frames, width, height, **options):
        shape = (1, *Timeline(frames, 15, width, height, pocket.geometry).video_latent_shape)
        return forecast.long_run_note(pocket, Pair(shape), SamplingOptions(**options))

    assert said(33, 64, 64) == ""
    sentence = said(81, 832, 480)
    assert sentence.startswith("sampling 81 frames of 832×480 in 50 steps takes about ") and " h on cpu" in sentence
    assert sentence.endswith("this model was made for 64×64 pixels, 33 frames at 15 fps")
    assert "in 4 steps takes about" in said(81, 832, 480, num_steps=4)
    assert forecast.long_run_note(pocket, Pair(), SamplingOptions()) == ""
    assert forecast.long_run_note(replace(pocket, video=None), Pair((1, 16, 21, 60, 104)), SamplingOptions()) == ""


def test_it_is_told_before_anything_is_computed(pocket, slow_device):
    """And at once: nobody waits for a plan of what is stopped anyway."""
    order = []

    def check():
        order.append("asked")
        if "told" in order:
            raise Cancelled

    progress = Progress(lambda *_: order.append("reported"), check, lambda sentence: order.append("told"))
    timeline = Timeline(81, 15, 832, 480, pocket.geometry)
    start = time.monotonic()
    with pytest.raises(Cancelled):
        pipeline.generate(pocket, Captions("a ball", "a thud"), timeline=timeline, progress=progress)
    assert order.index("told") < [*order, "reported"].index("reported")
    assert time.monotonic() - start < 120


def test_a_clip_s_size_is_judged_from_the_loaded_sides(pocket, slow_device):
    def said(frames, width, height, num_clips=1):
        timeline = Timeline(frames, 15, width, height, pocket.geometry)
        return forecast.clip_note(pocket.video, pocket.audio, timeline, num_clips)

    assert said(33, 64, 64) == ""
    assert "takes about" in said(81, 832, 480)
    assert "no plan fits the memory" in said(81, 8192, 8192)
    assert forecast.clip_note(None, pocket.audio, Timeline(81, geometry=pocket.geometry)) == ""


def test_the_device_is_measured_once():
    operations_a_second.cache_clear()
    speed = operations_a_second(CPU, torch.float32)
    assert 1e8 < speed < 1e14 and operations_a_second(CPU, torch.float32) == speed


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.01, "about 1 s"), (40, "about 40 s"), (700, "about 12 min"), (18_000, "about 5 h"), (1e6, "about 12 days")],
)
def test_words_are_no_more_exact_than_the_count(seconds, words):
    assert worded(seconds) == words
