"""One joint step of the published models on a card that is not there: its bytes and its arithmetic, by bridge kind."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import pytest
import torch
from fake_card import AUDIO_SHAPE, VIDEO_SHAPE, fake_card, on_card, published
from sounding_video.core.types import Modality
from sounding_video.models.bridges import BRIDGES
from sounding_video.models.joint import BridgeStack, JointModel, placement
from sounding_video.models.plan.needs import Needs, Workload
from sounding_video.models.plan.outline import SHAPES, Outline
from torch.utils.flop_counter import FlopCounterMode

LIKE = {"dtype": torch.bfloat16, "device": "cuda"}


def cases() -> Iterator[Any]:
    """Every size with every kind; what both sides hear is quick at the smallest size."""
    for shape in SHAPES:
        for kind in BRIDGES:
            quick = shape == SHAPES[0] and BRIDGES.get(kind).listeners == {"video", "audio"}
            yield pytest.param(shape, kind, marks=() if quick else pytest.mark.slow)


class Step(NamedTuple):
    """What one joint forward gave and took."""

    made: tuple[torch.Tensor | None, torch.Tensor | None]
    peak_bytes: int
    operations: int


def inputs() -> list[Modality]:
    """As the sampler makes them."""
    return [
        Modality(torch.empty(VIDEO_SHAPE, **LIKE), torch.empty(1, device="cuda"), torch.empty(1, 1024, 4096, **LIKE)),
        Modality(
            torch.empty(AUDIO_SHAPE, **LIKE),
            torch.empty(1, device="cuda"),
            torch.empty(1, 128, 768, **LIKE),
            torch.empty(1, 1, 1536, **LIKE),
        ),
    ]


def bridged(shape: str, kind: str) -> JointModel:
    """The published towers with four bridges of a kind, without numbers."""
    joint = published(shape).joint
    config = BRIDGES.get(kind).Config(video_width=joint.video.width, video_time_width=joint.video.time_width)
    with torch.device("meta"):
        stack = BridgeStack(kind, config, placement("uniform_early")).to(torch.bfloat16)
    return JointModel(joint.video, joint.audio, stack).eval()


def run(joint: JointModel, *, picture_alone: bool = False) -> Step:
    with fake_card() as card, torch.no_grad(), FlopCounterMode(display=False) as counter:
        joint = on_card(joint)
        made = joint(*inputs()[: 1 if picture_alone else 2])
        devices = {tensor.device.type for tensor in (*joint.parameters(), *joint.buffers())}
    assert devices == {"cuda"}
    return Step(made, card.peak, counter.get_total_flops())


@lru_cache
def step(shape: str, kind: str) -> Step:
    """Both towers and the bridges."""
    return run(bridged(shape, kind))


@lru_cache
def tower_alone(shape: str) -> int:
    """Operations of the picture's tower."""
    return run(JointModel(published(shape).joint.video, None), picture_alone=True).operations


@pytest.mark.parametrize(("shape", "kind"), cases())
def test_a_joint_step_takes_what_is_foretold(shape: str, kind: str) -> None:
    outline = Outline(shape, bridged(shape, kind), None, None, None, None)
    needs = Needs(outline, Workload(VIDEO_SHAPE, AUDIO_SHAPE, guided=False))
    taken = step(shape, kind)
    for made, asked in zip(taken.made, (VIDEO_SHAPE, AUDIO_SHAPE), strict=True):
        assert (made.shape, made.dtype, made.device.type) == (asked, torch.bfloat16, "cuda")
    foretold = needs.weights_on_device("sample", "none", prefetch=True) + needs.activations("sample")
    assert foretold == pytest.approx(taken.peak_bytes, rel=0.02)
    assert needs.operations("sample") == pytest.approx(taken.operations, rel=0.01)


@pytest.mark.parametrize(("kind", "factor"), [("dual_cross", 1.028), ("additive", 1.018), ("full", 1.120)])
def test_bridges_add_little_arithmetic_to_the_picture(kind: str, factor: float) -> None:
    assert step(SHAPES[0], kind).operations / tower_alone(SHAPES[0]) == pytest.approx(factor, abs=0.001)
