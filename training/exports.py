"""Write what learned as others load it: model folders, halves of autoencoders, bridge files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..core.json_text import read_json
from ..models.joint import BridgeStack, JointModel
from ..models.weights.bridges import save_bridges
from .config import TrainConfig
from .trainable import tuned_tower_blocks

BRIDGE_FILE = "bridge.safetensors"
ALIGNMENT_FILE = "alignment.safetensors"
# In the export of a codec of which only a half was trained: the prefixes of the tensors that are to be laid over.
HALVES = "trained_halves.json"


@contextmanager
def holding(parameters: Mapping[str, nn.Parameter], state: Mapping[str, Tensor]) -> Iterator[None]:
    """For a while the parameters have other values."""
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    try:
        _copy(parameters, state)
        yield
    finally:
        _copy(parameters, before)


@torch.no_grad()
def _copy(parameters: Mapping[str, nn.Parameter], state: Mapping[str, Tensor]) -> None:
    for name, parameter in parameters.items():
        parameter.copy_(state[name])


def write_module(target: Path, module: nn.Module, halves: Sequence[str] = ()) -> None:
    """Write a diffusers module as its folder.

    Args:
        target: The folder.
        module: As it is to be written.
        halves: Where the names of those tensors begin that are to be laid over; none for all.
    """
    module.save_pretrained(target, safe_serialization=True)
    forget_origin(target / "config.json")
    if halves:
        (target / HALVES).write_text(json.dumps(list(halves)) + "\n", encoding="utf-8")


def forget_origin(path: Path) -> None:
    """Take out the folder that the part was loaded from, which diffusers notes and nobody else has."""
    values = read_json(path, what="the part's configuration")
    values.pop("_name_or_path", None)
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def write_bridges(
    path: Path,
    config: TrainConfig,
    joint: JointModel,
    state: Mapping[str, Tensor],
    *,
    notes: Mapping[str, str] | None = None,
) -> None:
    """Write a bridge file, with the tower blocks that were trained beside the bridges.

    Args:
        path: The file.
        config: The run, which is noted in it.
        joint: Whatever was not trained is taken from it.
        state: Trained tensors, by their names in the step.
        notes: What the file says beside that.
    """
    towers = {"video": joint.video, "audio": joint.audio}
    tuned: dict[str, dict[str, Tensor]] = {}
    for modality, blocks in tuned_tower_blocks(config.trainable, joint).items():
        tower, prefix = towers[modality], f"joint.{modality}.model."
        names = tuple(f"{tower.block_names}.{index}." for index in blocks)
        tuned[modality] = {
            name: state.get(prefix + name, parameter)
            for name, parameter in tower.model.named_parameters()
            if name.startswith(names)
        }
    stack = BridgeStack(joint.bridges.kind, joint.bridges.config, joint.bridges.points)
    own = {name: state.get(f"joint.bridges.{name}", tensor) for name, tensor in joint.bridges.state_dict().items()}
    stack.load_state_dict(own)
    save_bridges(path, stack, tower_weights=tuned, notes={**notes_of(config), **(notes or {})})


def notes_of(config: TrainConfig) -> dict[str, str]:
    """What a file says of the run that made it."""
    training = json.dumps(without_folders(config.as_dict()))
    return {"recipe": config.recipe, "training": training, "training_hash": config.hash}


def without_folders(value: Any) -> Any:
    """Settings as a file that is passed on may tell them: of an absolute path only the last name."""
    if isinstance(value, dict):
        return {key: without_folders(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(part) for part in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
