"""Files of SyncFlow's bridges: known with metadata and without, listed, and refused where something is missing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from sounding_video.core.errors import IncompatibleWeightsError
from sounding_video.models.bridges.config import BridgeConfig
from sounding_video.models.joint import BridgePoints
from sounding_video.models.weights.bridges import BridgeOptions, load_bridges, outline_bridges, save_bridges
from sounding_video.models.weights.layouts import identify
from sounding_video.models.weights.listing import find_bridges, inspect

KINDS = ("modality_adaptor", "video_features")


@pytest.fixture
def timed(bridge_config) -> BridgeConfig:
    return replace(bridge_config, rope="time_aligned")


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_without_metadata_is_known_by_its_names(kind, random_stack, tmp_path) -> None:
    """Kind and widths by the tensors, positions those of this kind; lists say what it is."""
    config = BridgeConfig(24, 32, 128, 128, 1, 24, 32, rope="time_aligned")
    stack, file = random_stack(kind, config), tmp_path / "x.safetensors"
    save_file(dict(stack.state_dict()), file)
    options = BridgeOptions(points=stack.points)
    for read in (lambda: load_bridges(file, options).stack, lambda: outline_bridges(file, options)):
        assert (read().kind, read().config, read().points) == (kind, config, stack.points)
    assert load_bridges(file, options).fusion_source == "keys"
    assert load_bridges(file, replace(options, rope="clock")).stack.config.rope == "clock"
    with pytest.raises(IncompatibleWeightsError, match="the chosen fusion kind is not the file's: got dual_cross"):
        load_bridges(file, replace(options, fusion="dual_cross"))
    assert identify(file).description.startswith("bridge file for a video tower of width 24, 2 bridges, original names")
    assert inspect(file).is_bridge and find_bridges(tmp_path) == [file]
    torch.save({"state_dict": dict(stack.state_dict()), "epoch": 3}, tmp_path / "trained.ckpt")
    assert load_bridges(tmp_path / "trained.ckpt", options).stack.kind == kind


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_our_own_tells_everything_and_a_broken_one_is_still_a_bridge(kind, random_stack, timed, tmp_path):
    stack = random_stack(kind, timed, BridgePoints((0, 2), (1, 2)))
    save_bridges(tmp_path / "own.safetensors", stack)
    loaded = load_bridges(tmp_path / "own.safetensors").stack
    assert (loaded.kind, loaded.config, loaded.points) == (kind, timed, stack.points)
    assert "width 24, 2 bridges, ours names" in identify(tmp_path / "own.safetensors").description
    whole = (tmp_path / "own.safetensors").read_bytes()
    (tmp_path / "half.safetensors").write_bytes(whole[: len(whole) // 2])
    assert inspect(tmp_path / "half.safetensors").is_bridge
    lacking = {name: tensor for name, tensor in stack.state_dict().items() if name != "1.cross.o_proj.bias"}
    save_file(lacking, tmp_path / "less.safetensors")
    options = BridgeOptions(num_heads=2, points=stack.points)
    with pytest.raises(IncompatibleWeightsError, match=r"1 missing: 1\.cross.o_proj.bias"):
        load_bridges(tmp_path / "less.safetensors", options)


def test_the_two_kinds_are_told_apart_though_one_has_all_names_of_the_other(random_stack, timed, tmp_path) -> None:
    adaptor = random_stack("modality_adaptor", timed)
    features = random_stack("video_features", timed)
    assert set(features.state_dict()) < set(adaptor.state_dict())
    for stack in (adaptor, features):
        save_file(dict(stack.state_dict()), tmp_path / "x.safetensors")
        options = BridgeOptions(num_heads=2, points=stack.points)
        assert load_bridges(tmp_path / "x.safetensors", options).stack.kind == stack.kind
