"""LoRA files: which layer each tensor belongs to, told by the names in the header, never by the file's name.

Known layouts: peft and diffusers (``transformer.blocks.0.attn1.to_q.lora_A.weight``), Wan's original names as ComfyUI's
trainers write them (``diffusion_model.blocks.0.self_attn.q.lora_down.weight`` with ``alpha``), and kohya's underscores
(``lora_unet_blocks_0_self_attn_q.lora_up.weight``). Names are matched with the layers of a model in ``apply.py``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...core.errors import CorruptWeightsError, IncompatibleWeightsError, NonFiniteError
from ..weights._header import WeightFile, open_weights
from ..weights.convert import hash_file
from ..weights.find import PEFT_CONFIG
from ..weights.layouts import WAN_WIDTHS, looks_like

# End of a tensor's name -> what the tensor is. ``lora_A.default`` carries peft's adapter name.
ROLES = (
    (re.compile(r"\.(?:lora_A(?:\.\w+)?|lora_down|lora\.down|lora_linear_layer\.down)\.weight$"), "down"),
    (re.compile(r"\.(?:lora_B(?:\.\w+)?|lora_up|lora\.up|lora_linear_layer\.up)\.weight$"), "up"),
    (re.compile(r"\.(?:lora_B(?:\.\w+)?\.bias|diff_b)$"), "bias"),
    (re.compile(r"\.alpha$"), "alpha"),
    (re.compile(r"\.diff$"), "diff"),
)
# What trainers put in front of a layer's name; several may stand in a row. The names of our own joint model are among
# them, so that an adapter trained inside it is read too.
PREFIX = re.compile(
    r"^(?:base_model\.model\.|model\.diffusion_model\.|diffusion_model\.|transformer\.|unet\.|lora_unet_"
    r"|lora_transformer_|video\.|audio\.|bridges\.|video_diffusion\.|audio_diffusion\.|dual_dit_blocks\.|model\.)"
)
# Other ways of changing a layer, which are no LoRA and would be applied wrongly as one.
OTHER_KINDS = {
    "dora_scale": "a DoRA",
    "lora_magnitude_vector": "a DoRA",
    "hada_w1": "a LoHa",
    "lokr_w": "a LoKr",
    "oft_blocks": "an OFT",
    "lora_mid": "a LoCon with a middle layer",
}
# The names of the layers -> the model they belong to. The first match wins.
MODELS = (
    (r"(?:single_transformer|single|double|joint)_blocks[._]|(?:down|up|input|output)_blocks[._]", "an image model"),
    (r"(?:^|[._])(?:te\d?|text_model|text_encoders?|clip)[._]", "a text encoder"),
    (r"^blocks[._]\d+[._](?:self_attn|cross_attn|attn1|attn2|ffn)[._]", "Wan"),
    (r"^transformer_blocks[._]\d+[._]attn", "Stable Audio, or another diffusers transformer"),
    (r"^\d+[._](?:attn[._][qkvo]_proj|mlp_[12]|adaln_modulation)", "bridges"),
)  # fmt: skip
DIFFUSERS_METADATA = "lora_adapter_metadata"


@dataclass(frozen=True)
class LayerChange:
    """What a LoRA adds to one linear layer: ``scale · up @ down`` to the weight, ``bias`` to the bias.

    Args:
        down: A, ``(rank, in)``.
        up: B, ``(out, rank)``.
        scale: alpha / rank, as the file says it; 1 when it says nothing.
        bias: ``(out,)`` or None.
    """

    down: Tensor
    up: Tensor
    scale: float
    bias: Tensor | None = None


@dataclass(frozen=True)
class LoraFile:
    """A LoRA file, opened: names and shapes are known, tensors are read when a layer is asked for.

    Args:
        file: The open file.
        layers: Layer name without the trainer's prefix -> role -> tensor name.
        other: Names that are no part of a LoRA.
        config: peft's configuration (alpha, rank patterns), from the header or the file beside it; may be empty.
    """

    file: WeightFile
    layers: Mapping[str, Mapping[str, str]]
    other: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The file's name, for people."""
        return self.file.path.name

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file: equal content sorts equally, whatever the file is called."""
        return hash_file(self.file.path)

    @property
    def looks_like(self) -> str:
        """Which model the LoRA seems to be for, with its width: "a LoRA for Wan 14B (width 5120)"."""
        model = next((title for pattern, title in MODELS if any(re.search(pattern, name) for name in self.layers)), "")
        widths = [
            self.file.shape(roles["down"])[1]
            for name, roles in self.layers.items()
            if "down" in roles and re.search(r"(?:self_attn|attn1|attn)[._](?:to_)?q", name)
        ]
        if not model:
            examples = ", ".join(list(self.layers)[:3])
            return f"a LoRA for an unknown model ({examples})" if examples else looks_like(self.file)
        size = f" {WAN_WIDTHS[widths[0]]}" if model == "Wan" and widths and widths[0] in WAN_WIDTHS else ""
        return f"a LoRA for {model}{size}" + (f" (width {widths[0]})" if widths else "")

    def change(self, layer: str) -> LayerChange | None:
        """What is added to one layer; None where the file holds nothing a linear layer can take.

        Raises:
            CorruptWeightsError: half of a pair is missing.
            NonFiniteError: NaN or infinite numbers.
        """
        tensors = {role: self.file.tensor(name) for role, name in self.layers[layer].items()}
        for role, tensor in tensors.items():
            if not torch.isfinite(tensor.float()).all():
                raise NonFiniteError(
                    "the LoRA holds numbers that are not finite",
                    got=f"{self.layers[layer][role]} in {self.file.path}",
                    expected="finite weights",
                )
        down, up, bias = tensors.get("down"), tensors.get("up"), tensors.get("bias")
        if (down is None) != (up is None):
            raise CorruptWeightsError(
                "the LoRA file is incomplete",
                got=f"{self.file.path}: {layer} has only its {'up' if down is None else 'down'} half",
                expected="both halves of every layer",
            )
        if down is None and "diff" in tensors and tensors["diff"].ndim == 2:
            # A whole difference is a LoRA of full rank.
            down, up = tensors["diff"], torch.eye(len(tensors["diff"]), dtype=tensors["diff"].dtype)
            return LayerChange(down, up, 1.0, bias)
        if down is None:
            return None
        return LayerChange(down, up, self._scale(layer, len(down), tensors.get("alpha")), bias)

    def _scale(self, layer: str, rank: int, alpha: Tensor | None) -> float:
        """Alpha / rank; peft's rank-stabilised variant divides by the root of the rank (Kalajdzievski 2023)."""
        if alpha is not None:
            return float(alpha) / rank
        value = self.config.get("lora_alpha")
        for pattern, patterned in (self.config.get("alpha_pattern") or {}).items():
            if re.match(rf"(?:.*\.)?(?:{pattern})$", layer):
                value = patterned
        if value is None:
            return 1.0
        return float(value) / (math.sqrt(rank) if self.config.get("use_rslora") else rank)


def read_lora(path: str | Path) -> LoraFile:
    """Open a LoRA file and sort its tensors by layer; only the header is read.

    Args:
        path: safetensors or torch; a peft adapter may also be given as its folder.

    Raises:
        MissingModelError, CorruptWeightsError, UnsafeWeightsError: it cannot be read.
        IncompatibleWeightsError: it is no LoRA.
    """
    path = Path(path).expanduser()
    if (path / PEFT_CONFIG).is_file():
        path = path / "adapter_model.safetensors"
    file = open_weights(path, "the LoRA file")
    layers: dict[str, dict[str, str]] = {}
    other = []
    for name in file:
        _refuse_other_kinds(file, name)
        role, stem = _role(name)
        if role is None:
            other.append(name)
        else:
            layers.setdefault(_without_prefix(stem), {})[role] = name
    if not any("down" in roles or "up" in roles or "diff" in roles for roles in layers.values()):
        raise IncompatibleWeightsError(
            "the file is not a LoRA",
            got=f"{path}, which looks like {looks_like(file)}",
            expected="names such as diffusion_model.blocks.0.self_attn.q.lora_down.weight or "
            "transformer.blocks.0.attn1.to_q.lora_A.weight",
        )
    return LoraFile(file, layers, tuple(other), _config(file))


def _refuse_other_kinds(file: WeightFile, name: str) -> None:
    for part, kind in OTHER_KINDS.items():
        if part in name:
            raise IncompatibleWeightsError(
                "the file changes layers in a way that is not a LoRA's",
                got=f"{file.path}, {kind} ({name})",
                expected="pairs of lora_A and lora_B, or lora_down and lora_up",
                remedy="Convert it to a plain LoRA with the tool it was trained with.",
            )


def _role(name: str) -> tuple[str | None, str]:
    for pattern, role in ROLES:
        match = pattern.search(name)
        if match:
            return role, name[: match.start()]
    return None, name


def _without_prefix(stem: str) -> str:
    while PREFIX.match(stem):
        stem = PREFIX.sub("", stem, count=1)
    return stem


def _config(file: WeightFile) -> dict[str, Any]:
    """What peft or diffusers say of alpha; diffusers writes every entry as ``transformer.lora_alpha``."""
    beside = file.path.with_name(PEFT_CONFIG)
    try:
        if DIFFUSERS_METADATA in file.metadata:
            packed = json.loads(file.metadata[DIFFUSERS_METADATA])
            return {_without_prefix(name): value for name, value in packed.items()}
        return json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise CorruptWeightsError(
            "the LoRA's configuration cannot be read", got=f"{file.path} ({error})", expected="JSON as peft writes it"
        ) from error
