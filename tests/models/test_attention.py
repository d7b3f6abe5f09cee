"""The chosen kernel reaches both towers and the bridges, and computes the same."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from sounding_video.core.device import Placement, resolve_placement
from sounding_video.core.errors import InputError, PlacementError
from sounding_video.models import attention
from sounding_video.models.attention import (
    AttentionKernel,
    StableAudioKernelProcessor,
    kernel_error,
    sage_advice,
    use_kernel,
)
from sounding_video.models.joint import JointModel
from sounding_video.pipeline import load_models


class CountingKernel(AttentionKernel):
    """A real kernel that counts its calls."""

    def __init__(self) -> None:
        super().__init__("sdpa")
        self.calls = 0

    def __call__(self, *args: torch.Tensor, scale: float | None = None) -> torch.Tensor:
        self.calls += 1
        return super().__call__(*args, scale=scale)


@pytest.fixture
def joint(wan_tower, audio_tower, random_stack) -> JointModel:
    """A model of its own, because processors are set on it."""
    return copy.deepcopy(JointModel(wan_tower, audio_tower, random_stack("dual_cross")))


@torch.no_grad()
def test_an_explicit_kernel_reaches_everything_and_changes_nothing(joint, inputs) -> None:
    before = joint(inputs["video"], inputs["audio"])
    kernel = CountingKernel()
    use_kernel(joint, kernel)
    after = joint(inputs["video"], inputs["audio"])
    for one, two in zip(before, after, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)
    audio_attentions, bridge_attentions = 2 * joint.audio.num_blocks, 2 * len(joint.bridges)
    assert kernel.calls == audio_attentions + bridge_attentions
    for block in joint.video.blocks:
        assert block.attn1.processor._attention_backend == kernel.backend
        assert block.attn2.processor._attention_backend == kernel.backend


@torch.no_grad()
@pytest.mark.parametrize("name", ["sdpa", "auto"])
def test_a_model_that_is_loaded_with_a_kernel_computes_with_it(small_models_dir, inputs, monkeypatch, name) -> None:
    """Every attention of both towers and the bridges is watched where diffusers picks the kernel."""
    from diffusers.models.transformers import transformer_wan
    from sounding_video.models import attention as ours

    model = load_models(small_models_dir, placement=resolve_placement(device="cpu", attention=name))
    asked: dict[str, list[object]] = {"wan": [], "ours": []}
    for key, module in (("wan", transformer_wan), ("ours", ours)):

        def watched(*args: Any, _key: str = key, _real: Any = module.dispatch_attention_fn, **options: Any) -> Any:
            asked[_key].append(options.get("backend"))
            return _real(*args, **options)

        monkeypatch.setattr(module, "dispatch_attention_fn", watched)
    joint = model.joint
    joint(inputs["video"], inputs["audio"])
    kernel = AttentionKernel(name)
    video_attentions, bridge_attentions = 2 * joint.video.num_blocks, 2 * len(joint.bridges)
    if name == "auto":  # the stock processors: Wan's leaves the pick to diffusers, Stable Audio's calls PyTorch itself
        assert asked == {"wan": [None] * video_attentions, "ours": [kernel.backend] * bridge_attentions}
    else:
        own = 2 * joint.audio.num_blocks + bridge_attentions
        assert asked == {"wan": [kernel.backend] * video_attentions, "ours": [kernel.backend] * own}


@torch.no_grad()
def test_auto_leaves_the_stock_processors(joint, inputs) -> None:
    stock = {type(block.attn1.processor) for block in joint.audio.blocks}
    use_kernel(joint, AttentionKernel("auto"))
    assert {type(block.attn1.processor) for block in joint.audio.blocks} == stock
    assert StableAudioKernelProcessor not in stock


@torch.no_grad()
def test_the_audio_processor_equals_the_stock_one(audio_tower, inputs) -> None:
    tower = copy.deepcopy(audio_tower)
    use_kernel(tower, AttentionKernel("sdpa"))
    torch.testing.assert_close(tower(inputs["audio"]), audio_tower(inputs["audio"]), rtol=1e-5, atol=1e-5)
    with pytest.raises(InputError, match="takes no mask"):
        tower.blocks[0].attn1(torch.zeros(1, 2, tower.width), attention_mask=torch.ones(1, 2))


def test_unknown_kernels_are_refused() -> None:
    with pytest.raises(
        InputError, match="unknown attention kernel: got 'fast'; expected one of auto, sdpa, xformers, flash, sage"
    ):
        AttentionKernel("fast")


def test_a_kernels_error_is_measured_and_one_that_is_missing_is_refused() -> None:
    device = torch.device("cpu")
    assert kernel_error("sdpa", device, torch.float32) < 1e-5 < kernel_error("sdpa", device, torch.bfloat16) < 0.02
    with pytest.raises(PlacementError, match="does not run here"):
        kernel_error("sage", device, torch.float32)


@pytest.mark.parametrize(("where", "installed"), [("cpu", True), ("cuda", False), ("cuda", True)])
def test_sage_is_recommended_where_it_is_installed_and_says_what_it_costs(where: str, installed: bool, monkeypatch):
    sage_advice.cache_clear()
    errors = {"sage": 0.0123, "sdpa": 0.002}
    monkeypatch.setattr(attention, "available", lambda name: installed and name == "sageattention")
    monkeypatch.setattr(attention, "kernel_error", lambda name, *_: errors[name])
    told = sage_advice(Placement(torch.device(where), torch.bfloat16))
    assert sage_advice(Placement(torch.device(where), torch.bfloat16, attention="sdpa")) == ""
    sage_advice.cache_clear()
    assert bool(told) == (where == "cuda" and installed)
    assert not told or ("sage" in told and "off by 1.2%, those of auto by 0.2%" in told)
