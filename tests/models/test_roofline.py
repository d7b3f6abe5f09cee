"""Counting arithmetic and bytes of operations, and the passes of a run."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from fake_card import fake_card, on_card
from sounding_video.core.types import Modality
from sounding_video.models.joint import JointModel
from sounding_video.sampling.cache import PRESETS
from sounding_video.sampling.options import SamplingOptions
from torch.utils.flop_counter import FlopCounterMode


@pytest.fixture(scope="module")
def roofline(root: Path) -> Iterator[ModuleType]:
    paths = list(sys.path)
    spec = importlib.util.spec_from_file_location("roofline", root / "benchmarks/roofline.py")
    module = sys.modules["roofline"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = paths
    del sys.modules["roofline"]


def test_an_operation_reads_what_comes_and_writes_what_it_gives(roofline: ModuleType) -> None:
    like = {"dtype": torch.bfloat16, "device": "cuda"}
    with fake_card(), torch.no_grad():
        left, right = torch.empty(30, 50, **like), torch.empty(50, 70, **like)
        table, ids = torch.empty(1000, 8, **like), torch.zeros(3, dtype=torch.int64, device="cuda")
        cases = {
            "a product": (lambda: left @ right, 2 * 30 * 50 * 70, 2 * (30 * 50 + 50 * 70 + 30 * 70)),
            "a sum": (lambda: left + left, 0, 2 * 3 * 30 * 50),
            "in place": (lambda: left.add_(1), 0, 2 * 2 * 30 * 50),
            "views": (lambda: left.T[:10].unsqueeze(0).expand(4, 10, 30), 0, 0),
            "a question": (lambda: left.device, 0, 0),
            "a repeated row": (lambda: left[:1].expand(30, 50).clone(), 0, 2 * (30 * 50 + 30 * 50)),
            "nothing yet": (lambda: torch.empty(10, **like), 0, 0),
            "a look-up": (lambda: torch.nn.functional.embedding(ids, table), 0, 2 * 2 * 3 * 8),
            "on the host": (lambda: torch.ones(9) + 1, 0, 0),
        }
        for name, (run, flops, moved) in cases.items():
            with roofline.Traffic() as traffic:
                run()
            found = traffic.total()
            assert (found.flops, found.bytes) == (flops, moved), name


def test_an_operation_lasts_as_long_as_the_slower_of_both(roofline: ModuleType) -> None:
    many, few = roofline.Work.of(165e12, 1), roofline.Work.of(1, 1e12)
    assert many.seconds[0] == few.seconds[0] == 1 and (many + few).seconds[0] == 2 and (many * 3).seconds[0] == 3


def test_a_joint_pass_is_counted_as_torch_counts_it_and_by_its_parts(
    roofline: ModuleType, joint: JointModel, inputs: dict[str, Modality]
) -> None:
    found = roofline.pass_work(joint, (inputs["video"], inputs["audio"]))
    both, alone = found["both"].total(), found["sound"].total()
    with fake_card(), torch.no_grad(), FlopCounterMode(display=False) as counter:
        on_card(joint)(*(roofline.on_the_card(inputs[side]) for side in ("video", "audio")))
    assert both.flops == counter.get_total_flops()
    parts = {part for part, _ in found["both"].found}
    assert parts == {*roofline.PARTS.values(), roofline.BETWEEN}
    assert {kind for _, kind in found["both"].found} == {*roofline.KINDS, roofline.REST}
    assert {part for part, _ in found["sound"].found} == {"audio tower", roofline.BETWEEN}
    assert 0 < alone.bytes < both.bytes and 0 < alone.flops < both.flops


def test_passes_are_those_of_the_loop(roofline: ModuleType) -> None:
    def passes(**settings: object) -> dict[str, int]:
        return dict(roofline.passes_of(SamplingOptions(guidance_batching="sequential", **settings)))

    assert passes() == {"both": 100} and passes(guidance_end=0.5) == {"both": 75}
    for name in PRESETS:
        computed = SamplingOptions(step_cache=name).num_computed
        assert passes(step_cache=name) == {"both": 2 * computed, "sound": 100 - 2 * computed}
