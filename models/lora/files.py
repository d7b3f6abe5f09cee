"""LoRA files: which layer each tensor belongs to, told by the names in the header, never by the file's name.

Known layouts: peft and diffusers (``transformer.blocks.0.attn1.to_q.lora_A.weight``), Wan's original names as ComfyUI's
trainers write them (``diffusion_model.blocks.0.self_attn.q.lora_down.weight`` with ``alpha``), and kohya's underscores
(``lora_unet_blocks_0_self_attn_q.lora_up.weight``); LoCon, LoHa, LoKr and DoRA in the words of LyCORIS and of peft; and
whole differences of weights, biases and modulation (``diff``, ``diff_b``, ``diff_m``). ``names.py`` has the names,
``forms.py`` the arithmetic; ``apply.py`` matches layers with those of a model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...core.disk import is_file, user_path
from ...core.errors import CorruptWeightsError, IncompatibleWeightsError, NonFiniteError, TextError
from ...core.json_text import parse_json, read_json
from ..weights._header import WeightFile, open_weights
from ..weights.convert import hash_file
from ..weights.find import PEFT_CONFIG
from ..weights.layouts import WAN_WIDTHS, looks_like, refuse_alignment
from .distilled import Distilled, distilled
from .forms import Form, Whole, check_form, missing_half, read_form
from .names import MODELS, TEXT_ENCODER, layer_of, refused_kind, role_of

DIFFUSERS_METADATA = "lora_adapter_metadata"
PEFT_WEIGHTS = "adapter_model"
# One of these makes a file a LoRA; a scale alone does not.
CHANGES = re.compile(r"^(?:down|up|diff|bias|hada_w|lokr_w)")


@dataclass(frozen=True)
class LayerChange:
    """What a LoRA adds to one layer.

    Args:
        kind: "LoRA", "LoHa", "LoKr", "DoRA" and the like, "whole difference" or "bias", for people.
        form: The change of the weight with alpha in it, or None.
        bias: ``(out,)`` or None.
        magnitude: DoRA's lengths of the rows (or columns) of the changed weight, or None.
    """

    kind: str
    form: Form | None = None
    bias: Tensor | None = None
    magnitude: Tensor | None = None


@dataclass(frozen=True)
class LoraFile:
    """A LoRA file, opened: names and shapes are known, tensors are read when a layer is asked for.

    Args:
        file: The open file.
        layers: Layer name without the trainer's prefix -> role -> tensor name.
        other: Names that are no part of a LoRA.
        text: Names of changes of a text encoder, which is none of the model's parts.
        config: peft's configuration (alpha, rank patterns), from the header or the file beside it; may be empty.
    """

    file: WeightFile
    layers: Mapping[str, Mapping[str, str]]
    other: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The file's name, for people."""
        return self.file.path.name

    @property
    def distilled(self) -> Distilled | None:
        """What it was made for if it is for making pictures in few steps, by its name or its header."""
        return distilled(self.file.path, self.file.metadata)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file: equal content sorts equally, whatever the file is called."""
        return hash_file(self.file.path)

    @property
    def looks_like(self) -> str:
        """Which model the LoRA seems to be for, with its width: "a LoRA for Wan 14B (width 5120)"."""
        model = next((title for pattern, title in MODELS if any(re.search(pattern, name) for name in self.layers)), "")
        widths = [
            self.file.shape(roles[role])[-1]
            for name, roles in self.layers.items()
            for role in ("down", "hada_w1_b", "diff")
            if role in roles and re.search(r"(?:self_attn|attn1|attn)[._](?:to_)?q$", name)
        ]
        if not model and self.text:
            model = "a text encoder"
        if not model:
            examples = ", ".join(list(self.layers)[:3])
            return f"a LoRA for an unknown model ({examples})" if examples else looks_like(self.file)
        size = f" {WAN_WIDTHS[widths[0]]}" if model == "Wan" and widths and widths[0] in WAN_WIDTHS else ""
        return f"a LoRA for {model}{size}" + (f" (width {widths[0]})" if widths else "")

    def change(self, layer: str) -> LayerChange | None:
        """What is added to one layer; None where the file holds a scale and nothing that it scales.

        Raises:
            CorruptWeightsError: half of a pair is missing, or the halves do not fit one another.
            NonFiniteError: NaN or infinite numbers.
        """
        tensors = {role: self.file.tensor(name) for role, name in self.layers[layer].items()}
        for role, tensor in tensors.items():
            if role != "alpha" and not tensor.is_floating_point():
                raise IncompatibleWeightsError(
                    "the LoRA is packed in a way that cannot be undone here",
                    got=f"{self.layers[layer][role]} in {self.file.path} ({str(tensor.dtype).removeprefix('torch.')})",
                    expected="float32, float16, bfloat16 or fp8",
                )
            if not torch.isfinite(tensor.float()).all():
                raise NonFiniteError(
                    "the LoRA holds numbers that are not finite",
                    got=f"{self.layers[layer][role]} in {self.file.path}",
                    expected="finite weights",
                )
        lacking = missing_half(tensors)
        if lacking:
            raise self._incomplete(f"{layer} has {lacking}", "both halves of every layer")
        try:
            kind, form, rank = read_form(tensors)
            scale = 1.0 if kind == "whole difference" else self._scale(layer, rank, tensors.get("alpha"))
            form = None if form is None else form.times(scale)
            if kind != "whole difference" and "diff" in tensors:
                form = Whole(form.dense() + tensors["diff"].flatten(1))
            if kind != "whole difference":
                check_form(form)
        except (RuntimeError, IndexError, ValueError, ZeroDivisionError, re.error) as error:
            shapes = ", ".join(f"{role} {tuple(tensor.shape)}" for role, tensor in tensors.items())
            raise self._incomplete(f"{layer} with {shapes} ({error})", "factors that fit one another") from error
        bias, magnitude = tensors.get("bias"), tensors.get("magnitude")
        if "up_bias" in tensors:  # peft scales the bias of its upper half with the half itself
            scaled = tensors["up_bias"].double() * scale
            bias = scaled if bias is None else bias.double() + scaled
        if form is None:
            return None if bias is None else LayerChange("bias", bias=bias)
        if magnitude is not None:
            kind = "DoRA" if kind == "LoRA" else f"{kind} as DoRA"
        return LayerChange(kind, form, bias, magnitude)

    def _incomplete(self, what: str, expected: str) -> CorruptWeightsError:
        return CorruptWeightsError("the LoRA file is incomplete", got=f"{self.file.path}: {what}", expected=expected)

    def _scale(self, layer: str, rank: int | None, alpha: Tensor | None) -> float:
        """Alpha / rank; peft's rank-stabilised variant divides by the root of the rank (Kalajdzievski 2023)."""
        if alpha is not None:
            return 1.0 if rank is None else float(alpha) / rank
        value = self._setting(layer, "alpha_pattern", self.config.get("lora_alpha", self.config.get("alpha")))
        # peft scales a LoKr without factors by the rank that its configuration names.
        rank = self._setting(layer, "rank_pattern", self.config.get("r")) if rank is None else rank
        if value is None or rank is None:
            return 1.0
        return float(value) / (math.sqrt(rank) if self.config.get("use_rslora") else rank)

    def _setting(self, layer: str, patterns: str, default: Any) -> Any:
        found = (self.config.get(patterns) or {}).items()
        return next((value for pattern, value in found if re.match(rf"(?:.*\.)?(?:{pattern})$", layer)), default)


def read_lora(path: str | Path) -> LoraFile:
    """Open a LoRA file and sort its tensors by layer; only the header is read.

    Args:
        path: safetensors or torch; a peft adapter may also be given as its folder.

    Raises:
        MissingModelError, CorruptWeightsError, UnsafeWeightsError: it cannot be read.
        IncompatibleWeightsError: it is no LoRA, or of a kind that cannot be laid beside a layer.
    """
    path = user_path(path)
    if is_file(path / PEFT_CONFIG):
        names = [path / f"{PEFT_WEIGHTS}{suffix}" for suffix in (".safetensors", ".bin")]
        path = next((name for name in names if is_file(name)), names[0])
    file = open_weights(path, "the LoRA file")
    more = ": its LoRAs go with what they were trained to read"
    refuse_alignment(file.metadata, "the file is not a LoRA", path, "a LoRA file", more)
    layers: dict[str, dict[str, str]] = {}
    other, text = [], []
    for name in file:
        role, stem = role_of(name)
        if TEXT_ENCODER.match(name):
            text.append(name)
        elif role is None:
            _refuse_other_kinds(file, name)
            other.append(name)
        else:
            _add(file, layers.setdefault(layer_of(stem), {}), role, name)
    if not text and not any(CHANGES.match(role) for roles in layers.values() for role in roles):
        looks = looks_like(file)
        raise IncompatibleWeightsError(
            "the file is not a LoRA" if looks != "a LoRA" else "the LoRA's names are not known here",
            got=f"{path}" + (f", which looks like {looks}" if looks != "a LoRA" else f" with {', '.join(other[:3])}"),
            expected="names such as diffusion_model.blocks.0.self_attn.q.lora_down.weight or "
            "transformer.blocks.0.attn1.to_q.lora_A.weight",
        )
    return LoraFile(file, layers, tuple(other), tuple(text), _config(file))


def _add(file: WeightFile, roles: dict[str, str], role: str, name: str) -> None:
    if role in roles:
        raise CorruptWeightsError(
            "the LoRA file changes a layer twice",
            got=f"{file.path}: {roles[role]} and {name}",
            expected="one change a layer",
            remedy="Load the halves as two LoRA files.",
        )
    roles[role] = name


def _refuse_other_kinds(file: WeightFile, name: str) -> None:
    kind = refused_kind(name)
    if kind:
        raise IncompatibleWeightsError(
            "the file changes layers in a way that is not known here",
            got=f"{file.path}, {kind} ({name})",
            expected="LoRA, LoCon, DoRA, LoHa, LoKr, or whole differences",
            remedy="Convert it to a plain LoRA with the tool it was trained with.",
        )


def _config(file: WeightFile) -> dict[str, Any]:
    """What peft or diffusers say of alpha; diffusers writes every entry as ``transformer.lora_alpha``."""
    # In a folder of many LoRAs a stray configuration belongs to none of the other files.
    own = file.path.stem == PEFT_WEIGHTS or len(list(file.path.parent.glob(f"*{file.path.suffix}"))) == 1
    beside = file.path.with_name(PEFT_CONFIG)
    try:
        if DIFFUSERS_METADATA in file.metadata:
            return _of_the_transformer(parse_json(file.metadata[DIFFUSERS_METADATA]))
        said = read_json(beside) if own and is_file(beside) else {}
        return dict(said.items())
    except (TextError, AttributeError) as error:
        raise CorruptWeightsError(
            "the LoRA's configuration cannot be read", got=f"{file.path} ({error})", expected="JSON as peft writes it"
        ) from error


def _of_the_transformer(packed: Mapping[str, Any]) -> dict[str, Any]:
    """Of what diffusers says of several models in one header, the part about the one that is changed here."""
    told: dict[str, dict[str, Any]] = {}
    for name, value in packed.items():
        model, _, key = name.rpartition(".")
        told.setdefault(model, {})[key] = value
    others = [values for model, values in told.items() if not TEXT_ENCODER.match(f"{model}.")]
    return next((told[model] for model in ("transformer", "unet", "") if model in told), others[0] if others else {})
