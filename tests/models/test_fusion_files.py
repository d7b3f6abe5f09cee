"""Files of Fusion Blocks: listed, refused where something is missing, with LoRAs beside them, in a plan."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from lora_files import SCALE, factors, peft_folder
from safetensors.torch import load_file, save_file
from sounding_video.core.errors import CorruptWeightsError, IncompatibleWeightsError
from sounding_video.models.bridges import BRIDGES
from sounding_video.models.joint import BridgePoints, BridgeStack, JointModel
from sounding_video.models.lora.apply import with_lora
from sounding_video.models.lora.files import read_lora
from sounding_video.models.points import interleaved, placement
from sounding_video.models.weights.bridges import BridgeOptions, load_bridges, outline_bridges, save_bridges
from sounding_video.models.weights.layouts import identify
from sounding_video.models.weights.listing import find_bridges, inspect

KIND = "fusion_block"


@pytest.fixture
def stack(config_of, random_stack) -> BridgeStack:
    return random_stack(KIND, config_of(KIND, "token_clock"))


def test_lists_say_for_which_tower_a_file_is_and_how_many_blocks_it_has(stack, tmp_path) -> None:
    save_bridges(tmp_path / "own.safetensors", stack)
    save_file(dict(stack.state_dict()), tmp_path / "bare.safetensors")
    for name, names in (("own", "ours"), ("bare", "original")):
        description = identify(tmp_path / f"{name}.safetensors").description
        assert description.startswith(f"bridge file for a video tower of width 24, 2 bridges, {names} names")
        assert inspect(tmp_path / f"{name}.safetensors").is_bridge
    assert len(find_bridges(tmp_path)) == 2
    torch.save({"state_dict": dict(stack.state_dict())}, tmp_path / "lightning.ckpt")
    options = BridgeOptions(points=stack.points)
    for file in ("own.safetensors", "bare.safetensors", "lightning.ckpt"):
        for read in (lambda file=file: load_bridges(tmp_path / file, options).stack,
                     lambda file=file: outline_bridges(tmp_path / file, options)):  # fmt: skip
            assert (read().kind, read().config, read().points) == (KIND, stack.config, stack.points)


def test_eight_blocks_are_placed_by_name(config_of, tmp_path) -> None:
    eight = BridgeStack(KIND, config_of(KIND, "token_clock"), interleaved(8, 8, 8))
    save_file(dict(eight.state_dict()), tmp_path / "bare.safetensors")
    loaded = load_bridges(tmp_path / "bare.safetensors", BridgeOptions(points=placement("interleaved_8")))
    assert loaded.stack.points.video == (1, 5, 9, 13, 16, 20, 24, 28)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"1.attn.k_norm_2.weight": None}, IncompatibleWeightsError, r"1 missing: 1\.attn\.k_norm_2\.weight"),
        ({"0.attn.o_proj_1.weight": (4, 4)}, IncompatibleWeightsError, r"1 unexpected: 0\.attn\.o_proj_1\.weight"),
        ({"0.mlp_2.fc1.weight": (5, 16)}, IncompatibleWeightsError, r"0\.mlp_2\.fc1\.weight \(5, 16\) instead of"),
        ({"1.attn.q_moment_1": (24,)}, IncompatibleWeightsError, r"1 unexpected: 1\.attn\.q_moment_1"),
        ({"0.attn.q_norm_1.weight": (7,)}, IncompatibleWeightsError, "does not say the sizes of its FusionBlock"),
        ({"0.attn.q_norm_1.weight": (0,)}, CorruptWeightsError, "places for its weights and not the weights"),
        ({"0.time_in.weight": (256,)}, IncompatibleWeightsError, "another number of axes"),
    ],
)
def test_a_damaged_file_is_refused_with_what_is_wrong(change, error, message, stack, tmp_path) -> None:
    state = dict(stack.state_dict())
    for name, shape in change.items():
        state.pop(name, None)
        if shape is not None:
            state[name] = torch.zeros(shape)
    save_file(state, tmp_path / "x.safetensors")
    with pytest.raises(error, match=message):
        load_bridges(tmp_path / "x.safetensors", BridgeOptions(points=stack.points))


@pytest.mark.parametrize("setting", [{"moments": 1}, {"reinject": "yes"}, {"time_rank": 0}, {"mlp_width": -4}])
def test_metadata_with_settings_that_cannot_be_are_refused(setting, stack, tmp_path) -> None:
    save_bridges(tmp_path / "x.safetensors", stack)
    from safetensors import safe_open

    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        metadata = file.metadata()
    ((name, value),) = setting.items()
    old = {"moments": '"moments": false', "reinject": '"reinject": true', "time_rank": '"time_rank": 256',
           "mlp_width": '"mlp_width": 0'}[name]  # fmt: skip
    assert old in metadata["config"]
    metadata["config"] = metadata["config"].replace(old, f'"{name}": {value!r}'.replace("'", '"'))
    save_file(load_file(tmp_path / "x.safetensors"), tmp_path / "y.safetensors", metadata=metadata)
    with pytest.raises(CorruptWeightsError, match=name):
        load_bridges(tmp_path / "y.safetensors")


def test_a_setting_that_is_not_the_default_comes_back(config_of, tmp_path) -> None:
    config = replace(config_of(KIND, "clock"), reinject=False, mlp_width=9, time_rank=5, moments=True)
    save_bridges(tmp_path / "x.safetensors", BridgeStack(KIND, config, BridgePoints((0,), (0,))))
    assert load_bridges(tmp_path / "x.safetensors").stack.config == config


def test_a_lora_stands_beside_every_layer_of_a_block(stack, wan_tower, audio_tower, inputs, tmp_path) -> None:
    joint = JointModel(wan_tower, audio_tower, stack)
    pairs = factors(stack)
    assert len(pairs) == len(stack) * (6 + 4 + 1 + 2), "projections, MLPs, times, modulations"
    changed, report = with_lora(joint, read_lora(peft_folder(tmp_path / "x.safetensors", pairs)), 0.5)
    assert (report.part, set(report.matched), report.unmatched) == ("bridge", set(pairs), ())
    merged = BRIDGES.get(KIND)(stack.config)
    merged.load_state_dict(stack[1].state_dict())
    for name, (a, b) in pairs.items():
        if name.startswith("1."):
            merged.get_submodule(name[2:]).weight.data += 0.5 * SCALE * (b @ a)
    wanted = JointModel(wan_tower, audio_tower, stack)
    with torch.no_grad():
        made, plain = changed(**inputs), wanted(**inputs)
        seen = []
        changed.bridges[1].register_forward_hook(lambda block, given, out: seen.append((given[0], out)))
        changed(**inputs)
        given, out = seen[0]
        for mine, theirs in zip(out, merged(given), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
    assert not any(torch.equal(a, b) for a, b in zip(made, plain, strict=True))
