"""Trainable sets by name, so that a recipe says exactly what learns. A task says which of them it has.

======================== =====================================================================
``bridges``              every bridge block
``video_tower``          the whole video transformer (``audio_tower``: the audio one)
``video_first:5``        its first five blocks, as the released code sets
``video_last:5``         its last five blocks, as the paper says
``video_blocks:4``       blocks by number; ``audio_blocks:3-4`` is a range
``video_lora:16``        a LoRA of that rank beside the tower's linear layers; ``bridges_lora:16`` beside the bridges'
``video_lora:16:8``      alpha 8; ``video_lora:16:8:to_q+to_v`` (or ``:16::attn1``) beside those layers only
``video_text``           the text encoder of the video tower (``audio_text``: the audio one's, with its projection)
``video_tokens``         what tells the video tower of the sound, by tokens (``video_frames``: frame by frame; SAVA)
``video_codec``          the whole video autoencoder (``audio_codec``: the audio one, but for units that are idle)
``video_decoder``        its second half (``video_encoder``: its first; the same of ``audio``)
======================== =====================================================================
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ..core.errors import InputError
from ..core.pair import MODALITIES, Pair
from ..models.bridges.base import BridgeInputs
from ..models.bridges.config import BridgeConfig
from ..models.joint import BridgeStack, JointModel
from ..models.lora.layers import LayerWithLora
from ..models.plan.remembered import remembered
from ..models.rope import bridge_rope
from ..models.towers.base import TokenGrid, Tower

# Parts that are some blocks of a tower, with what may stand after the colon.
SOME_BLOCKS = {"first": "5", "last": "5", "blocks": "3-4"}


@dataclass(frozen=True)
class Part:
    """Something that a run can name as trainable: a name, and after a colon what it needs to know.

    Args:
        example: As it is written, such as ``video_last:5``.
        take: From what stands after the colon ("" where nothing does) to the parameters that shall learn.

    ``take`` raises ValueError where what stands there makes no sense.
    """

    example: str
    take: Callable[[str], Iterable[nn.Parameter]]


def split(part: str) -> tuple[str, str]:
    """Name of a trainable part, and what stands after its colon."""
    name, _, rest = part.partition(":")
    return name, rest


def select(trainable: Sequence[str], step: nn.Module, parts: Mapping[str, Part]) -> dict[str, nn.Parameter]:
    """Freeze everything and thaw what the configuration names.

    Args:
        trainable: Parts as the configuration names them.
        step: What is trained; names are relative to it.
        parts: What the task has, by name.

    Returns:
        Trainable parameters by name, in the module's order.

    Raises:
        InputError: an unknown part, or one that this task does not have.
    """
    step.requires_grad_(False)
    for written in trainable:
        name, rest = split(written)
        if name not in parts:
            raise InputError(
                "a trainable part is not in this task",
                got=repr(written),
                expected=", ".join(part.example for part in parts.values()),
            )
        try:
            taken = list(parts[name].take(rest))
        except InputError:  # a ValueError too, which says more
            raise
        except ValueError as error:
            raise InputError(
                "a trainable part is not written as it should be", got=repr(written), expected=parts[name].example
            ) from error
        for parameter in taken:
            parameter.requires_grad_(True)
    for name, layer in step.named_modules():
        if isinstance(layer, LayerWithLora) and layer.base.weight.requires_grad:
            raise InputError(
                "a layer is to learn both as a whole and by a LoRA beside it",
                got=f"{name}, by trainable={','.join(trainable)}",
                expected="one of both for each layer",
                remedy="Name the LoRA's layers, for example video_lora:16::blocks.0+blocks.1.",
            )
    return trained(step)


def trained(step: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that learn, by name, in the module's order."""
    return {name: parameter for name, parameter in step.named_parameters() if parameter.requires_grad}


def whole(name: str, *modules: nn.Module) -> dict[str, Part]:
    """A part that is some modules, and needs no further word."""

    def take(rest: str) -> list[nn.Parameter]:
        if rest:
            raise ValueError(rest)
        return [parameter for module in modules for parameter in module.parameters()]

    return {name: Part(name, take)}


def tower_parts(side: str, tower: Tower) -> dict[str, Part]:
    """The parts of one tower: all of it, or some of its blocks."""

    def blocks(name: str) -> Callable[[str], list[nn.Parameter]]:
        def take(rest: str) -> list[nn.Parameter]:
            numbers = tuned_blocks(name, rest, tower.num_blocks)
            return [parameter for number in numbers for parameter in tower.blocks[number].parameters()]

        return take

    some = {f"{side}_{name}": f"{side}_{name}:{example}" for name, example in SOME_BLOCKS.items()}
    return whole(f"{side}_tower", tower.model) | {name: Part(text, blocks(name)) for name, text in some.items()}


def tuned_blocks(name: str, rest: str, num_blocks: int) -> range:
    """The block numbers of a part such as ``video_last`` with ``5``.

    Raises:
        InputError: more blocks than the tower has.
        ValueError: no numbers.
    """
    first, _, last = rest.partition("-")
    if name.endswith("_blocks"):
        numbers = range(_number(first), _number(last or first) + 1)
    else:
        count = _number(rest)
        numbers = range(count) if name.endswith("_first") else range(num_blocks - count, num_blocks)
    if not numbers or numbers.start < 0 or numbers.stop > num_blocks:
        raise InputError(
            "a trainable part does not fit the tower",
            got=f"{name}:{rest}",
            expected=f"blocks of a tower that has {num_blocks}, numbered from 0",
        )
    return numbers


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]+", text):
        raise ValueError(text)
    return int(text)


def tuned_tower_blocks(trainable: Sequence[str], joint: JointModel) -> dict[str, list[int]]:
    """Block numbers by modality that a run names; of a tower that is named as a whole there are none."""
    found: dict[str, list[int]] = {}
    for side, tower in Pair.of(joint).present.items():
        if f"{side}_tower" in trainable:
            continue
        names = {f"{side}_{name}" for name in SOME_BLOCKS}
        some = [split(part) for part in trainable if split(part)[0] in names]
        numbers = {number for name, rest in some for number in tuned_blocks(name, rest, tower.num_blocks)}
        if numbers:
            found[side] = sorted(numbers)
    return found


def unused_in_bridge(stack: BridgeStack, counted: Sequence[str] = MODALITIES, given: Sequence[str] = ()) -> list[str]:
    """Parameters of a block that its kind never uses (one-way bridges have them, for the sake of one file layout).

    Found by running a copy of the first block, without numbers, on two tokens a stream and looking where no gradient
    arrives.

    Args:
        stack: The bridges.
        counted: Modalities whose stream matters behind the block; that of a given side does not behind the last one.
        given: Modalities that are given.
    """
    what = (stack[0], stack.config, tuple(counted), tuple(given))
    return list(remembered(lambda: _unused(*what), "unused", *what))


def _unused(bridge: nn.Module, config: BridgeConfig, counted: Sequence[str], given: Sequence[str]) -> tuple[str, ...]:
    block = copy.deepcopy(bridge).to("meta").float().requires_grad_(True)
    grids = (TokenGrid(1, 2), TokenGrid(1, num_prefix=1))
    widths = (config.video_width, config.audio_width, config.video_time_width, config.audio_time_width)
    video, audio = (torch.empty(1, 2, width, device="meta") for width in widths[:2])
    times = (torch.empty(1, width, device="meta") for width in widths[2:])
    ropes = [tuple(table.to("meta") for table in pair) for pair in bridge_rope(config.rope, config.head_width, *grids)]
    sides = {"given": frozenset(given), "wanted": frozenset(counted)}
    out = block(BridgeInputs(video, audio, *times, *ropes, *grids, **sides))
    streams = [stream for name, stream in zip(MODALITIES, out, strict=True) if name in counted]
    for stream in streams:
        if stream.requires_grad:
            stream.sum().backward(retain_graph=True)
    return tuple(name for name, parameter in block.named_parameters() if parameter.grad is None)
