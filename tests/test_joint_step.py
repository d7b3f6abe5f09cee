"""The benchmark of a joint step runs what the product runs."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from sounding_video.models.bridges import BRIDGES
from sounding_video.models.joint import BridgePoints


@pytest.fixture
def benchmark(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("joint_step", root / "benchmarks/joint_step.py")
    module = sys.modules["joint_step"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["joint_step"]


def test_bfloat16_leaves_in_float32_what_the_product_does(benchmark: ModuleType) -> None:
    with torch.device("meta"):
        wan = benchmark.WanTransformer3DModel(num_attention_heads=2, attention_head_dim=12, ffn_dim=16, num_layers=1)
    types = {name: parameter.dtype for name, parameter in benchmark.typed(wan, torch.bfloat16).named_parameters()}
    kept = {name for name, dtype in types.items() if dtype == torch.float32}
    assert {"scale_shift_table", "blocks.0.scale_shift_table", "blocks.0.norm2.weight"} <= kept
    assert any("time_embedder" in name for name in kept) and types["blocks.0.attn1.to_q.weight"] == torch.bfloat16


def test_every_kind_of_bridge_is_built_by_its_own_sizes(benchmark: ModuleType) -> None:
    with torch.device("meta"):
        runs = benchmark.build(
            benchmark.Preset(1, 1, BridgePoints((0,), (0,)), (1, 2, 2), 2), torch.device("meta"), torch.bfloat16
        )
    assert set(runs) == {"stock forwards", "no bridges", *BRIDGES}
