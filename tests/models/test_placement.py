"""Every offload mode computes the same and leaves the modules as they were."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from sounding_video.core.device import OFFLOAD_MODES, resolve_placement
from sounding_video.models.joint import JointModel
from sounding_video.models.placement import on_device, running


@pytest.fixture
def joint(wan_tower, audio_tower, random_stack) -> JointModel:
    return copy.deepcopy(JointModel(wan_tower, audio_tower, random_stack("dual_cross"))).eval()


@torch.no_grad()
@pytest.mark.parametrize("mode", OFFLOAD_MODES)
def test_offload_modes_compute_the_same_twice_and_leave_nothing_behind(joint, inputs, mode) -> None:
    expected = joint(inputs["video"], inputs["audio"])
    weights = {name: tensor.clone() for name, tensor in joint.state_dict().items()}
    placement = replace(resolve_placement(device="cpu"), offload=mode)
    for _ in range(2):
        with running(joint, placement) as model:
            for _ in range(2):
                out = model(inputs["video"], inputs["audio"])
            if mode == "sequential":
                assert next(joint.video.blocks[0].attn1.to_q.parameters()).device.type == "meta", (
                    "weights really wait elsewhere"
                )
        for one, two in zip(out, expected, strict=True):
            assert torch.equal(one, two)
        after = joint.state_dict()
        assert after.keys() == weights.keys()
        assert all(torch.equal(after[name], weights[name]) for name in weights)
    again = joint(inputs["video"], inputs["audio"])
    assert torch.equal(again[0], expected[0])
    for module in joint.modules():
        assert not hasattr(module, "_hf_hook")
        assert not getattr(getattr(module, "_diffusers_hook", None), "hooks", None)


@torch.no_grad()
@pytest.mark.parametrize("mode", OFFLOAD_MODES)
def test_an_exception_inside_leaves_nothing_behind_either(joint, inputs, mode) -> None:
    expected = joint(inputs["video"], inputs["audio"])[0]
    with pytest.raises(KeyError), running(joint, replace(resolve_placement(device="cpu"), offload=mode)):
        raise KeyError("a failure while sampling")
    assert torch.equal(joint(inputs["video"], inputs["audio"])[0], expected)


def test_a_whole_module_comes_back(joint) -> None:
    placement = replace(resolve_placement(device="cpu"), offload="model")
    with on_device(joint, placement) as module:
        assert module is joint
    assert {p.device.type for p in joint.parameters()} == {"cpu"}


@torch.no_grad()
@pytest.mark.parametrize("mode", OFFLOAD_MODES)
def test_text_encoders_stream_and_come_back(small_models_dir, mode) -> None:
    from sounding_video.models.weights.load import load_stable_audio, load_wan

    placement = replace(resolve_placement(device="cpu"), offload=mode)
    video, audio = (
        load(small_models_dir / name, placement).text
        for load, name in ((load_wan, "wan"), (load_stable_audio, "stable_audio"))
    )
    caption = ["a dog barks"]
    expected = video.encode(caption), audio.encode(caption), audio.duration(0, 2.0)
    for _ in range(2):
        with on_device(video, placement), on_device(audio, placement):
            if mode == "sequential":
                assert video.model.shared.weight.device.type == "meta", "weights really wait elsewhere"
            got = video.encode(caption), audio.encode(caption), audio.duration(0, 2.0)
        assert all(torch.equal(one, two) for one, two in zip(got, expected, strict=True))
    assert torch.equal(video.encode(caption), expected[0])
    assert not any(hasattr(module, "_hf_hook") for module in video.modules())


def test_the_hooks_of_group_offload_say_where_a_text_encoder_computes(small_models_dir) -> None:
    from diffusers.hooks import apply_group_offloading
    from sounding_video.models.execution import execution_device
    from sounding_video.models.weights.load import load_wan

    model = load_wan(small_models_dir / "wan", resolve_placement(device="cpu")).text.model
    apply_group_offloading(model, torch.device("cpu"), torch.device("cpu"), offload_type="leaf_level")
    for module in model.modules():  # a second device to move to is not at hand
        hook = getattr(module, "_diffusers_hook", None) and module._diffusers_hook.get_hook("group_offloading")
        if hook is not None:
            hook.group.onload_device = torch.device("meta")
    assert model.device.type == "cpu"
    assert execution_device(model).type == "meta"
