"""Dry runs that are made once: what counts as the same model, and what must not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import small_models
import torch
from sounding_video.core.device import Placement
from sounding_video.models.empty import on_meta
from sounding_video.models.plan import costs, remembered
from sounding_video.models.plan.base import Workload
from sounding_video.models.plan.outline import outline_models
from sounding_video.models.storage import store_fp8
from sounding_video.models.weights.find import find_models
from torch import nn

WORK = Workload((1, 4, 2, 4, 4), (1, 6, 21), encoded=("video", "audio"))


@pytest.fixture
def runs(monkeypatch, tmp_path) -> list[object]:
    """One entry for each dry run from now on; nothing is remembered yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    remembered._FOUND.clear()
    made, real = [], costs.dry_run
    monkeypatch.setattr(costs, "dry_run", lambda *args: made.append(1) or real(*args))
    return made


@pytest.fixture
def fresh(small_models_dir):
    """Another outline of the same small models."""
    placement = Placement(torch.device("cpu"), torch.float32)
    bridge = small_models_dir / "bridge.safetensors"
    return lambda: outline_models(find_models(small_models_dir), placement, bridge=bridge)


def counted(outline, work=WORK, **ways) -> dict:
    ways = {"batched": False, "tiling": "off", **ways}
    return {stage: outline.cost(stage, work, **ways) for stage in outline.stages(work)}


def test_the_same_model_is_counted_once(runs, fresh):
    first = counted(fresh())
    assert len(runs) == 1 + len(first)  # two text encoders
    outline = fresh()
    assert counted(outline) == counted(outline) == first and len(runs) == 1 + len(first)


@pytest.mark.parametrize(
    ("stage", "work", "ways"),
    [
        ("sample", replace(WORK, guided=False), {}),
        ("sample", replace(WORK, kept_steps=2), {}),
        ("sample", WORK, {"batched": True}),
        ("sample", replace(WORK, video_shape=(1, 4, 2, 4, 6)), {}),
        ("encode video", replace(WORK, video_shape=(1, 4, 2, 6, 4)), {}),
        ("decode video", replace(WORK, video_shape=(1, 4, 2, 6, 4)), {}),
        ("encode audio", replace(WORK, audio_shape=(1, 6, 22)), {}),
        ("decode audio", replace(WORK, audio_shape=(1, 6, 22)), {}),
    ],
)
def test_other_shapes_and_ways_are_counted_anew(runs, fresh, stage, work, ways):
    outline = fresh()
    usual = outline.cost(stage, WORK, batched=False, tiling="off")
    assert outline.cost(stage, work, **{"batched": False, "tiling": "off", **ways}) != usual
    assert len(runs) == 2


def test_another_type_layer_setting_or_storage_is_another_model(runs, fresh):
    usual = fresh().cost("sample", WORK, batched=False, tiling="off")

    def sampled(change) -> object:
        outline, before = fresh(), len(runs)
        change(outline)
        found = outline.cost("sample", WORK, batched=False, tiling="off")
        assert len(runs) == before + 1
        return found

    assert sampled(lambda outline: outline.joint.to(torch.bfloat16)).peak_bytes < usual.peak_bytes
    assert sampled(lambda outline: outline.joint.video.model.blocks.append(outline.joint.video.model.blocks[0]))
    sampled(lambda outline: setattr(outline.joint.video.model.blocks[0].norm1, "eps", 0.5))
    assert sampled(lambda outline: store_fp8(outline.joint.video.model, torch.float32))


def test_what_cannot_be_written_down_is_counted_every_time(runs, fresh):
    outline = fresh()
    outline.audio_vae.decoder.register_forward_hook(lambda *_: None)
    found = [outline.cost("decode audio", WORK, batched=False, tiling="off") for _ in range(2)]
    assert found[0] == found[1] and len(runs) == 2


def test_no_more_is_kept_than_is_said(monkeypatch):
    remembered._FOUND.clear()
    monkeypatch.setattr(remembered, "MOST", 2)
    for number in range(4):
        remembered.remembered(lambda number=number: number, "x", number)
    assert list(remembered._FOUND.values()) == [2, 3]


def test_tensors_that_share_memory_are_another_model_than_those_that_do_not():
    one, other = torch.empty(2, device="meta"), torch.empty(2, device="meta")
    assert remembered.fingerprint((one, one.view(2))) != remembered.fingerprint((one, other))
    assert remembered.fingerprint((one, other)) == remembered.fingerprint((other, one))


def test_modules_are_made_on_meta_as_they_are_elsewhere(tmp_path):
    """Their shapes, types and names; and the number generator stays where it was."""
    vae = small_models.write_stable_audio_folder(tmp_path) / "vae"
    from diffusers import AutoencoderOobleck

    config = AutoencoderOobleck.load_config(vae)
    state = torch.get_rng_state()
    with on_meta():
        empty = AutoencoderOobleck.from_config(config)
        norms = [torch.nn.utils.weight_norm(nn.Linear(3, 5), dim=dim) for dim in (0, 1, None)]
    assert torch.equal(torch.get_rng_state(), state)

    def seen(module: nn.Module) -> dict:
        plain = {
            f"{name}.{key}": value
            for name, part in module.named_modules()
            for key, value in vars(part).items()
            if isinstance(value, torch.Tensor)
        }
        return {name: (tuple(t.shape), t.dtype, t.stride()) for name, t in {**module.state_dict(), **plain}.items()}

    assert seen(empty) == seen(AutoencoderOobleck.from_config(config)) and all(p.is_meta for p in empty.parameters())
    for dim, norm in zip((0, 1, None), norms, strict=True):
        assert seen(norm) == seen(torch.nn.utils.weight_norm(nn.Linear(3, 5), dim=dim))
