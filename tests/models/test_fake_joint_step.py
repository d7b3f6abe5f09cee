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
from sounding_video.models.plan.outline import Outline
from sounding_video.models.plan.published import SHAPES
from sounding_video.models.points import interleaved
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


def bridged(shape: str, kind: str, places: str = "uniform_early") -> JointModel:
    """The published towers with bridges of a kind, without numbers; AV-Link's places follow the towers' depths."""
    joint = published(shape).joint
    config = BRIDGES.get(kind).Config(video_width=joint.video.width, video_time_width=joint.video.time_width)
    spread = interleaved(8, joint.video.num_blocks, joint.audio.num_blocks)
    with torch.device("meta"):
        points = spread if places == "interleaved_8" else placement(places)
        stack = BridgeStack(kind, config, points).to(torch.bfloat16)
    return JointModel(joint.video, joint.audio, stack).eval()


def run(joint: JointModel, *, picture_alone: bool = False) -> Step:
    with fake_card() as card, torch.no_grad(), FlopCounterMode(display=False) as counter:
        joint = on_card(joint)
        made = joint(*inputs()[: 1 if picture_alone else 2])
        devices = {tensor.device.type for tensor in (*joint.parameters(), *joint.buffers())}
    assert devices == {"cuda"}
    return Step(made, card.peak, counter.get_total_flops())


@lru_cache
def step(shape: str, kind: str, places: str = "uniform_early") -> Step:
    """Both towers and the bridges."""
    return run(bridged(shape, kind, places))


@lru_cache
def tower_alone(shape: str) -> int:
    """Operations of the picture's tower."""
    return run(JointModel(published(shape).joint.video, None), picture_alone=True).operations


@pytest.mark.parametrize(("shape", "kind"), cases())
def test_a_joint_step_takes_what_is_foretold(shape: str, kind: str) -> None:
    assert_foretold(shape, kind)


def assert_foretold(shape: str, kind: str, places: str = "uniform_early") -> None:
    """Bytes and operations of a joint step, by the planner and on the card."""
    outline = Outline(shape, bridged(shape, kind, places), None, None, None, None)
    needs = Needs(outline, Workload(VIDEO_SHAPE, AUDIO_SHAPE, guided=False))
    taken = step(shape, kind, places)
    for made, asked in zip(taken.made, (VIDEO_SHAPE, AUDIO_SHAPE), strict=True):
        assert (made.shape, made.dtype, made.device.type) == (asked, torch.bfloat16, "cuda")
    foretold = needs.weights_on_device("sample", "none", prefetch=True) + needs.activations("sample")
    assert foretold == pytest.approx(taken.peak_bytes, rel=0.02)
    assert needs.operations("sample") == pytest.approx(taken.operations, rel=0.01)


@pytest.mark.parametrize(("kind", "factor"), [("dual_cross", 1.028), ("additive", 1.018), ("full", 1.120)])
def test_bridges_add_little_arithmetic_to_the_picture(kind: str, factor: float) -> None:
    assert step(SHAPES[0], kind).operations / tower_alone(SHAPES[0]) == pytest.approx(factor, abs=0.001)


# TFLOP of one of SyncFlow's bridges (SYNCFLOW.md 0.4 and 7.5 for the adaptor at 1.3B; the others by its formulas), and
# the share of Wan's arithmetic that eight of them add.
SYNCFLOW = {
    ("wan-1.3b", "modality_adaptor"): (1.11, 0.031),
    ("wan-1.3b", "video_features"): (0.334, 0.0093),
    ("wan-14b", "modality_adaptor"): (2.91, 0.0138),
    ("wan-14b", "video_features"): (1.055, 0.0050),
}


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        pytest.param(*case, marks=() if case == (SHAPES[0], "modality_adaptor") else pytest.mark.slow)
        for case in SYNCFLOW
    ],
)
def test_eight_adaptors_take_what_the_reference_says_and_the_plan_foretells(shape: str, kind: str) -> None:
    """832×480×81: along time at each place, 3 % of the tower; over all tokens it would be a second tower."""
    taken = step(shape, kind, "layerwise_8")
    towers = tower_alone(shape) + sound_alone(shape)
    each, share = SYNCFLOW[shape, kind]
    assert (taken.operations - towers) / 8e12 == pytest.approx(each, rel=0.02)
    assert (taken.operations - towers) / tower_alone(shape) == pytest.approx(share, rel=0.02)
    assert_foretold(shape, kind, "layerwise_8")


@lru_cache
def sound_alone(shape: str) -> int:
    """Operations of the sound's tower."""
    with fake_card(), torch.no_grad(), FlopCounterMode(display=False) as counter:
        on_card(JointModel(None, published(shape).joint.audio))(None, inputs()[1])
    return counter.get_total_flops()


@pytest.mark.parametrize("shape", [pytest.param(SHAPES[0]), pytest.param(SHAPES[1], marks=pytest.mark.slow)])
def test_eight_fusion_blocks_take_what_avlink_5_says(shape: str) -> None:
    """Counted in multiplications and additions, two operations each: every matrix of a block on every token, and the
    attention of all 32 877 tokens on each other (4·L²·D). Norms, rotations and gates are not counted, here or there.
    """
    assert_foretold(shape, "fusion_block", "interleaved_8")
    added = step(shape, "fusion_block", "interleaved_8").operations - tower_alone(shape) - sound_alone(shape)
    tokens, width, hidden = (21 * 30 * 52, 116 + 1), 1024, 4096
    widths = (published(shape).joint.video.width, 1536)
    attention = 4 * sum(tokens) ** 2 * width
    matrices = 2 * sum(n * (3 * c * width + width * hidden + hidden * c) for n, c in zip(tokens, widths, strict=True))
    assert added == pytest.approx(8 * (attention + matrices), rel=0.001)
    if shape == SHAPES[0]:
        assert (attention, matrices) == (pytest.approx(4.4e12, rel=0.02), pytest.approx(1.0e12, rel=0.02))
        assert added == pytest.approx(43e12, rel=0.02)
        assert added / tower_alone(shape) == pytest.approx(0.15, rel=0.02)
