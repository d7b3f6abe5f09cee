"""Match a LoRA with the layers of a joint model, and lay it beside them in a copy that shares every weight."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from ...core.errors import IncompatibleWeightsError, InputError, require_choice
from ..joint import JointModel
from ..patching import with_replaced
from .files import LayerChange, LoraFile
from .layers import LoraLinear, Term, with_term

log = logging.getLogger(__name__)
# Part of the joint model -> where its layers are below it, and what it is called.
PARTS = {
    "video": ("video.model.", "video tower"),
    "audio": ("audio.model.", "audio tower"),
    "bridge": ("bridges.", "bridges"),
}
# Layers that both towers have under one name, and many other models too: they do not tell whose the file is.
SHARED_NAMES = ("proj_in", "proj_out")
# Diffusers' name of a Wan layer -> the original one (tested against diffusers' own renaming of whole files).
ORIGINAL_WAN = (
    (r"\.attn1\.", ".self_attn."),
    (r"\.attn2\.", ".cross_attn."),
    (r"\.to_([qkv])$", r".\1"),
    (r"\.to_out\.0$", ".o"),
    (r"\.ffn\.net\.0\.proj$", ".ffn.0"),
    (r"\.ffn\.net\.2$", ".ffn.2"),
    (r"^condition_embedder\.(text|time)_embedder\.linear_1$", r"\1_embedding.0"),
    (r"^condition_embedder\.(text|time)_embedder\.linear_2$", r"\1_embedding.2"),
    (r"^condition_embedder\.time_proj$", "time_projection.1"),
    (r"^proj_out$", "head.head"),
)


@dataclass(frozen=True)
class LoraReport:
    """What a LoRA did.

    Args:
        name: Of the file.
        part: "video", "audio" or "bridge".
        strength: Factor it was applied with.
        matched: Layers that were changed, by the model's names.
        unmatched: Names of the file that were not used.
    """

    name: str
    part: str
    strength: float
    matched: tuple[str, ...]
    unmatched: tuple[str, ...]

    def summary(self) -> str:
        """One sentence for the user."""
        text = f"{self.name} × {self.strength:g} on {len(self.matched)} layers of the {PARTS[self.part][1]}"
        if self.unmatched:
            names = ", ".join(self.unmatched[:3]) + (", …" if len(self.unmatched) > 3 else "")
            text += f"; {len(self.unmatched)} entries of the file were not used: {names}"
        return text


def with_lora(
    joint: JointModel, lora: LoraFile, strength: float = 1.0, *, part: str | None = None
) -> tuple[JointModel, LoraReport]:
    """A joint model with one more LoRA; the given one stays as it is, bit for bit, and both share their weights.

    Args:
        joint: With or without LoRAs.
        lora: From :func:`~.files.read_lora`.
        strength: Factor of the change; may be negative, 0 changes nothing.
        part: "video", "audio" or "bridge" to insist on one; None takes the part whose layers the file names.

    Raises:
        InputError: a strength that is no finite number, or an unknown part.
        IncompatibleWeightsError: no layer of the model is named in the file, or the widths are another model's.
    """
    if not math.isfinite(strength):
        raise InputError("the strength of a LoRA is not a finite number", got=strength, expected="for example 0.8")
    if part is not None:
        require_choice("part of the model", part, PARTS)
    tables = {name: dict(_aliases(joint, name)) for name in PARTS}
    telling = [layer for layer in lora.layers if layer not in SHARED_NAMES]
    counts = {name: sum(layer in table for layer in telling) for name, table in tables.items()}
    best = max(counts, key=counts.__getitem__)
    chosen = part or best
    if counts[chosen] == 0 or counts[chosen] < counts[best]:
        raise _no_match(joint, lora, part, best if counts[best] else None)
    changes, unmatched = _matched(joint, lora, tables[chosen])
    replacements = {
        path: with_term(joint.get_submodule(path), _term(lora, change, strength)) for path, change in changes.items()
    }
    prefix = PARTS[chosen][0]
    matched = tuple(path.removeprefix(prefix) for path in replacements)
    report = LoraReport(lora.name, chosen, strength, matched, (*unmatched, *lora.other))
    (log.warning if report.unmatched else log.info)(report.summary())
    return (with_replaced(joint, replacements) if strength else joint), report


def _term(lora: LoraFile, change: LayerChange, strength: float) -> Term:
    up = (change.up.double() * (strength * change.scale)).float() if strength * change.scale != 1 else change.up
    bias = None if change.bias is None else change.bias.double() * strength
    return Term((lora.digest, strength), change.down, up, bias)


def _aliases(joint: JointModel, part: str) -> Iterator[tuple[str, str]]:
    """Every name a LoRA file may have for a linear layer of a part, and the layer's path below the joint model."""
    prefix, _ = PARTS[part]
    root = {"video": joint.video, "audio": joint.audio, "bridge": joint.bridges}[part]
    if root is None:
        return
    for path in _linear_layers(root if part == "bridge" else root.model):
        for name in {path, _original_wan(path)} if part == "video" else {path}:
            yield name, prefix + path
            yield name.replace(".", "_"), prefix + path


def _linear_layers(module: nn.Module) -> Iterator[str]:
    """Paths of all linear layers, also of those that have LoRAs already."""
    layers = {name for name, child in module.named_modules() if isinstance(child, LoraLinear)}
    yield from layers
    for name, child in module.named_modules():
        if isinstance(child, nn.Linear) and name.rpartition(".")[0] not in layers:
            yield name


def _original_wan(path: str) -> str:
    for pattern, replacement in ORIGINAL_WAN:
        path = re.sub(pattern, replacement, path)
    return path


def _matched(joint: JointModel, lora: LoraFile, table: dict[str, str]) -> tuple[dict[str, LayerChange], list[str]]:
    """Changes by path below the joint model, and the file's tensor names that belong to no layer."""
    changes: dict[str, LayerChange] = {}
    unmatched: list[str] = []
    for layer, roles in lora.layers.items():
        change = lora.change(layer) if layer in table else None
        if change is None:
            unmatched += roles.values()
            continue
        linear = joint.get_submodule(table[layer])
        wanted = (linear.out_features, linear.in_features)
        shape = (*change.up.shape[:1], *change.down.shape[1:])
        if shape != wanted or change.up.shape[1:] != change.down.shape[:1]:
            raise IncompatibleWeightsError(
                "the LoRA was made for a model of another size",
                got=f"{lora.file.path}, {lora.looks_like}: {layer} is for a layer of {shape}",
                expected=f"a layer of {wanted}, out and in",
                remedy="Use a LoRA for this model: 1.3B LoRAs fit Wan 1.3B only, 14B LoRAs Wan 14B only.",
            )
        changes[table[layer]] = change
    return changes, unmatched


def _no_match(joint: JointModel, lora: LoraFile, part: str | None, fitting: str | None) -> IncompatibleWeightsError:
    present = [name for name in PARTS if (joint.bridges if name == "bridge" else getattr(joint, name)) is not None]
    wanted = PARTS[part][1] if part else " or the ".join(PARTS[name][1] for name in present)
    return IncompatibleWeightsError(
        "the LoRA does not fit: its layers are not those of this model",
        got=f"{lora.file.path}, {lora.looks_like}" + (f", which fits the {PARTS[fitting][1]}" if fitting else ""),
        expected=f"a LoRA for the {wanted}",
        remedy=f"Apply it to the {PARTS[fitting][1]}." if fitting else "",
    )
