"""LoRA as a trainable part: layers beside frozen ones, written with peft's names, and merged into a model folder.

Written as ``video_lora:RANK[:ALPHA[:LAYERS]]``: alpha is the rank where none is given, so that the change is ``B A x``;
layers are words of their names, separated by ``+`` (``to_q+to_v``, ``attn1``, ``blocks.0``, ``*.ffn.*``), all of the
blocks' linear layers where none are given. ``B`` begins as zeros, so that a run begins with the model as it is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import Tensor, nn

from ..core.errors import IncompatibleWeightsError, InputError
from ..core.options import shown
from ..models.lora.files import DIFFUSERS_METADATA, PEFT_WEIGHTS, read_lora
from ..models.lora.forms import Form, LowRank
from ..models.lora.layers import LoraLinear, Term
from ..models.weights.files import read_safetensors, write_safetensors
from ..models.weights.find import PEFT_CONFIG
from .randomness import derived_generator
from .trainable import Part

PEFT_PREFIX = "base_model.model"
LORA = "_lora"  # how the names of such parts, and of what they export, end


@dataclass(frozen=True)
class LoraSetting:
    """A LoRA as a run asks for it.

    Args:
        rank: Rows of A and columns of B.
        alpha: The change is scaled by alpha / rank.
        layers: Words of the layers' names; empty for all.
    """

    rank: int
    alpha: float
    layers: tuple[str, ...] = ()

    @classmethod
    def read(cls, text: str) -> LoraSetting:
        """``RANK[:ALPHA[:LAYERS]]``.

        Raises:
            ValueError: it is not written so, or makes no sense.
        """
        rank, alpha, layers, *more = [*text.split(":"), "", ""][: max(3, text.count(":") + 1)]
        setting = cls(int(rank), float(alpha or rank), tuple(layers.split("+")) if layers else ())
        if more or setting.rank < 1 or not 0 < setting.alpha < math.inf or "" in setting.layers:
            raise ValueError(text)
        return setting

    @property
    def scale(self) -> float:
        """Of the change."""
        return self.alpha / self.rank


class TrainedLora(LoraLinear):
    """A frozen linear layer and one LoRA that learns: ``y = base(x) + scale · B A x``.

    Unlike a loaded LoRA it keeps alpha beside B, so that the rate of learning is peft's.

    Args:
        base: The layer.
        setting: Rank and alpha.
        generator: Of A, which is drawn as peft draws it (uniform, He 2015).
    """

    def __init__(self, base: nn.Linear, setting: LoraSetting, generator: torch.Generator) -> None:
        down, up = torch.empty(setting.rank, base.in_features), torch.zeros(base.out_features, setting.rank)
        nn.init.kaiming_uniform_(down, a=math.sqrt(5), generator=generator)
        super().__init__(base, [Term(("", 1.0), LowRank(down, up))])
        self.setting = setting

    @property
    def factors(self) -> tuple[nn.Parameter, nn.Parameter]:
        """A and B."""
        return self.down_0, self.up_0

    def change(self, form: Form, x: Tensor) -> Tensor:
        """What is added to the base layer's output."""
        return form.added(x) * self.setting.scale


def lora_part(name: str, root: nn.Module, layers: Callable[[], list[str]], seed: int) -> dict[str, Part]:
    """The trainable part that is a LoRA.

    Args:
        name: Of the part, such as ``video_lora``.
        root: A tower's model, or the bridges.
        layers: Names below it of the linear layers that may have one; asked when the part is taken.
        seed: Of the run.
    """

    def take(text: str) -> list[nn.Parameter]:
        setting = LoraSetting.read(text)
        return [factor for layer in _lay_beside(name, root, layers(), setting, seed) for factor in layer.factors]

    return {name: Part(f"{name}:16", take)}


def linear_layers(module: nn.Module, prefix: str) -> list[str]:
    """Names of all linear layers of a module, with a prefix."""
    return [f"{prefix}.{name}" for name, child in module.named_modules() if isinstance(child, nn.Linear)]


def _lay_beside(
    part: str, root: nn.Module, layers: list[str], setting: LoraSetting, seed: int
) -> Iterator[TrainedLora]:
    if any(isinstance(module, TrainedLora) for module in root.modules()):
        raise InputError("a LoRA is named twice", got=part, expected="one for each part of the model")
    chosen = [name for name in layers if not setting.layers or any(_is_of(name, word) for word in setting.layers)]
    idle = [word for word in setting.layers if not any(_is_of(name, word) for name in layers)]
    if idle or not chosen:
        known = sorted({word for name in layers for word in name.split(".") if not word.isdigit()})
        raise InputError(
            "no layer of the model has the name that a LoRA is to stand beside",
            got=f"{part} with {', '.join(idle) or 'no layers'}",
            expected=f"words of their names, such as {', '.join(known)}",
        )
    widest = max(max(root.get_submodule(name).weight.shape) for name in chosen)
    if setting.rank > widest:
        raise InputError(
            "a LoRA has a higher rank than any layer that it stands beside",
            got=f"{part} of rank {shown(setting.rank)}",
            expected=f"at most {widest}",
        )
    for name in chosen:
        layer = TrainedLora(root.get_submodule(name), setting, derived_generator(seed, part, name))
        _put(root, name, layer)
        yield layer


def _is_of(name: str, word: str) -> bool:
    """Whether a word (or some, joined by dots, with ``*`` and ``?``) is in a layer's name."""
    return fnmatchcase(f".{name}.", f"*.{word}.*")


def _put(root: nn.Module, name: str, module: nn.Module) -> None:
    owner, _, leaf = name.rpartition(".")
    root.get_submodule(owner)._modules[leaf] = module


def loras_of(root: nn.Module) -> dict[str, TrainedLora]:
    """The layers that have a LoRA, by name."""
    return {name: module for name, module in root.named_modules() if isinstance(module, TrainedLora)}


@contextmanager
def laid_aside(root: nn.Module) -> Iterator[None]:
    """For a while the module is as it was without LoRAs, with the names it had."""
    found = loras_of(root)
    for name, layer in found.items():
        _put(root, name, layer.base)
    try:
        yield
    finally:
        for name, layer in found.items():
            _put(root, name, layer)


def write_lora(
    folder: Path, root: nn.Module, prefix: str, state: Mapping[str, Tensor], notes: Mapping[str, str]
) -> None:
    """Write the LoRAs of a tower or of bridges as a peft adapter; alpha also stands in the file's own header.

    Args:
        folder: Target: ``adapter_model.safetensors`` and ``adapter_config.json``.
        root: The tower's model, or the bridges; without LoRAs nothing is written.
        prefix: Of its names in ``state``.
        state: Trained tensors, by their names in the step.
        notes: Further metadata.
    """
    layers = loras_of(root)
    if not layers:
        return
    tensors: dict[str, Tensor] = {}
    for name in layers:
        for letter, own in (("A", "down_0"), ("B", "up_0")):
            tensors[f"{PEFT_PREFIX}.{name}.lora_{letter}.weight"] = state[f"{prefix}.{name}.{own}"].cpu().contiguous()
    setting = next(iter(layers.values())).setting
    config = {"r": setting.rank, "lora_alpha": setting.alpha, "target_modules": list(layers), "bias": "none"}
    header = {f"{PEFT_PREFIX}.{key}": value for key, value in config.items()}
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(
        folder / f"{PEFT_WEIGHTS}.safetensors", tensors, {**notes, DIFFUSERS_METADATA: json.dumps(header)}
    )
    config |= {"peft_type": "LORA", "base_model_name_or_path": None, "task_type": None, "inference_mode": True}
    (folder / PEFT_CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def merge_lora(adapter: Path, model: Path) -> None:
    """Add a LoRA to the weights of a model folder, at strength 1.

    Args:
        adapter: A folder that :func:`write_lora` wrote.
        model: A diffusers folder; its files are written anew.

    Raises:
        IncompatibleWeightsError: the model lacks a layer, or has it in another size.
    """
    lora = read_lora(adapter)
    left = {f"{layer}.weight": layer for layer in lora.layers}
    for file in sorted(model.glob("*.safetensors")):
        tensors, notes = read_safetensors(file)
        for name in left.keys() & tensors.keys():
            change = lora.change(left.pop(name)).form.dense()
            if change.shape != tensors[name].shape:
                raise _other_model(adapter, model, f"{name} {tuple(change.shape)}")
            tensors[name] = (tensors[name].double() + change.double()).to(tensors[name].dtype)
        write_safetensors(file, tensors, notes)
    if left:
        raise _other_model(adapter, model, next(iter(left)))


def _other_model(adapter: Path, model: Path, name: str) -> IncompatibleWeightsError:
    return IncompatibleWeightsError(
        "an earlier run's LoRA does not fit the model it is laid over",
        got=f"{name} of {adapter}",
        expected=f"a layer of {model}",
        remedy="Lay it over the model that it was trained on.",
    )
