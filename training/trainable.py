"""Trainable sets by name, so that a recipe says exactly what learns.

======================== =====================================================================
``bridges``              every bridge block
``video_tower``          the whole video transformer (``audio_tower``: the audio one)
``video_first:5``        its first five blocks, as the released code sets
``video_last:5``         its last five blocks, as the paper says
``video_blocks:4``       blocks by number; ``audio_blocks:3-4`` is a range
``video_codec``          the whole video autoencoder (``audio_codec``: the audio one, but for units that are idle)
``video_decoder``        its second half (``video_encoder``: its first; the same of ``audio``)
======================== =====================================================================
"""

from __future__ import annotations

import copy
import re

import torch
from diffusers import AutoencoderOobleck
from torch import nn

from ..core.errors import InputError
from ..models.bridges.base import BridgeInputs
from ..models.codecs.oobleck import idle_units
from ..models.joint import BridgeStack, JointModel
from ..models.rope import bridge_rope
from ..models.towers.base import TokenGrid, Tower
from .config import TrainConfig

_PART = re.compile(r"(bridges)|(video|audio)_(tower|codec)|(video|audio)_(first|last):(\d+)|"
                   r"(video|audio)_blocks:(\d+)(?:-(\d+))?|"
                   r"(video|audio)_(decoder|encoder)")  # fmt: skip
# The modules of each half of an autoencoder.
_HALVES = {
    "video": {"encoder": ("encoder", "quant_conv"), "decoder": ("post_quant_conv", "decoder")},
    "audio": {"encoder": ("encoder",), "decoder": ("decoder",)},
}


def select(config: TrainConfig, step: nn.Module) -> dict[str, nn.Parameter]:
    """Freeze everything and thaw what the configuration names.

    Args:
        config: Its ``trainable``.
        step: What is trained, a module of :mod:`.step`; names are relative to it.

    Returns:
        Trainable parameters by name, in the module's order.

    Raises:
        InputError: an unknown part, or one that this task does not have.
    """
    step.requires_grad_(False)
    for part in config.trainable:
        for module in _modules(part, step):
            module.requires_grad_(True)
    if isinstance(getattr(step, "vae", None), AutoencoderOobleck):
        for unit in idle_units(step.vae):
            unit.requires_grad_(False)
    joint = getattr(step, "joint", None)
    if joint is not None and joint.bridges is not None:
        for name in unused_in_bridge(joint.bridges):
            for block in joint.bridges:
                block.get_parameter(name).requires_grad_(False)
    return {name: parameter for name, parameter in step.named_parameters() if parameter.requires_grad}


def trained_halves(config: TrainConfig) -> list[str]:
    """Where the parameters' names begin in the file of an autoencoder of which only halves are trained; else none."""
    matches = [_PART.fullmatch(part) for part in config.trainable]
    return [f"{name}." for match in matches if match and match[10] for name in _HALVES[match[10]][match[11]]]


def tuned_blocks(part: str, num_blocks: int) -> range:
    """The block numbers of one tower part.

    Raises:
        InputError: more blocks than the tower has.
    """
    match = _PART.fullmatch(part)
    if match[5]:
        count = int(match[6])
        numbers = range(count) if match[5] == "first" else range(num_blocks - count, num_blocks)
    else:
        numbers = range(int(match[8]), int(match[9] or match[8]) + 1)
    if not numbers or numbers.start < 0 or numbers.stop > num_blocks:
        raise InputError(
            "a trainable part does not fit the tower",
            got=part,
            expected=f"blocks of a tower that has {num_blocks}, numbered from 0",
        )
    return numbers


def tuned_tower_blocks(config: TrainConfig, joint: JointModel) -> dict[str, list[int]]:
    """Block numbers by modality that the configuration trains beside the bridges."""
    towers = {"video": joint.video, "audio": joint.audio}
    numbers: dict[str, list[int]] = {}
    for part in config.trainable:
        match = _PART.fullmatch(part)
        modality = match and (match[4] or match[7])
        if modality:
            blocks = tuned_blocks(part, towers[modality].num_blocks)
            numbers[modality] = sorted({*numbers.get(modality, ()), *blocks})
    return numbers


def _modules(part: str, step: nn.Module) -> list[nn.Module]:
    match = _PART.fullmatch(part)
    if match is None:
        raise InputError(
            "unknown trainable part",
            got=repr(part),
            expected="bridges, video_tower, video_first:5, video_last:5, video_blocks:4, video_blocks:3-4, "
            "video_codec, video_encoder, video_decoder or the same of audio",
        )
    modality = match[2] or match[4] or match[7] or match[10]
    if match[10]:
        if getattr(step, "modality", None) == modality:
            return [getattr(step.vae, name) for name in _HALVES[modality][match[11]]]
        module = None
    elif match[3] == "codec":
        module = getattr(step, "vae", None) if getattr(step, "modality", None) == modality else None
    else:
        joint = getattr(step, "joint", None)
        module = joint and (joint.bridges if match[1] else getattr(joint, modality))
    if module is None:
        raise InputError("a trainable part is not in this task", got=part, expected=_parts_of(step))
    if isinstance(module, Tower):
        tower = module
        if match[3]:
            return [tower.model]
        return [tower.blocks[index] for index in tuned_blocks(part, tower.num_blocks)]
    return [module]


def _parts_of(step: nn.Module) -> str:
    joint = getattr(step, "joint", None)
    if joint is None:
        return ", ".join(f"{step.modality}_{part}" for part in ("codec", "encoder", "decoder"))
    present = ["bridges"] if joint.bridges is not None else []
    return ", ".join(present + [f"{side}_tower" for side in ("video", "audio") if getattr(joint, side) is not None])


def unused_in_bridge(stack: BridgeStack) -> list[str]:
    """Parameters of a block that its kind never uses (one-way bridges have them, for the sake of one file layout).

    Found by running a copy of the first block on two tokens a stream and looking where no gradient arrives.
    """
    block, config = copy.deepcopy(stack[0]).cpu().float().requires_grad_(True), stack.config
    grids = (TokenGrid(1, 2), TokenGrid(1, num_prefix=1))
    widths = (config.video_width, config.audio_width, config.video_time_width, config.audio_time_width)
    video, audio = (torch.zeros(1, 2, width) for width in widths[:2])
    times = (torch.zeros(1, width) for width in widths[2:])
    ropes = bridge_rope(config.rope, config.head_width, *grids)
    out = block(BridgeInputs(video, audio, *times, *ropes, *grids))
    sum(stream.sum() for stream in out if stream.requires_grad).backward()
    return [name for name, parameter in block.named_parameters() if parameter.grad is None]
