"""Match a LoRA with the layers of a joint model, and lay it beside them in a copy that shares every weight."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ...core.errors import CorruptWeightsError, IncompatibleWeightsError, InputError, require_choice
from ..joint import JointModel
from ..patching import with_replaced
from ..storage import whole_weight
from .distilled import Distilled
from .files import LayerChange, LoraFile
from .forms import Whole
from .layers import LayerWithLora, Term, is_convolution, with_term
from .targets import PARTS, SHARED_NAMES, tables_of, with_known_names

log = logging.getLogger(__name__)
PLURALS = {"whole difference": "whole differences", "bias": "biases", "norm": "norms", "modulation": "modulations"}


@dataclass(frozen=True)
class LoraReport:
    """What a LoRA did.

    Args:
        name: Of the file.
        part: "video", "audio" or "bridge".
        strength: Factor it was applied with.
        matched: Layers that were changed, by the model's names.
        unmatched: Names of the file that were not used.
        kinds: How many layers are changed in which way.
        text: How many of the file's tensors are for a text encoder; they are not used either.
        distilled: What it was made for, where it makes the picture in few steps and is in use.
    """

    name: str
    part: str
    strength: float
    matched: tuple[str, ...]
    unmatched: tuple[str, ...]
    kinds: Mapping[str, int] = field(default_factory=dict)
    text: int = 0
    distilled: Distilled | None = None

    def summary(self) -> str:
        """One sentence for the user."""
        number = len(self.matched)
        layers = f"{number} layer{'s' * (number != 1)} of the {PARTS[self.part][1]}"
        if set(self.kinds) - {"LoRA"}:
            told = (f"{count} {PLURALS.get(kind, kind) if count > 1 else kind}" for kind, count in self.kinds.items())
            layers += f" ({', '.join(told)})"
        text = f"{self.name} × {self.strength:g} on {layers}"
        if not self.strength:
            text = f"{self.name} × 0 changes nothing; it fits {layers}"
        if self.unmatched:
            names = ", ".join(self.unmatched[:3]) + (", …" if len(self.unmatched) > 3 else "")
            entries = "1 entry" if len(self.unmatched) == 1 else f"{len(self.unmatched)} entries"
            text += f"; {entries} of the file not used: {names}"
        if self.text:
            text += f"; {self.text} of its tensors are for a text encoder, which stays as it is"
        if self.distilled is not None:
            text += f"; {self.distilled.title}, step-distilled: made for {self.distilled.wants}"
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
        IncompatibleWeightsError: no layer of the model is changed by the file, or the widths are another model's.
    """
    if not math.isfinite(strength):
        raise InputError("the strength of a LoRA is not a finite number", got=strength, expected="for example 0.8")
    if part is not None:
        require_choice("part of the model", part, PARTS)
    tables = tables_of(joint)
    names = with_known_names(lora.layers, tables)
    telling = [name for name in names.values() if name not in SHARED_NAMES]
    counts = {each: sum(name in table for name in telling) for each, table in tables.items()}
    best = max(counts, key=counts.__getitem__)
    chosen = part or best
    if counts[chosen] == 0 or counts[chosen] < counts[best]:
        raise _no_match(joint, lora, part, best if counts[best] else None)
    placing = _Placing(joint, lora, strength)
    for layer, name in names.items():
        placing.add(layer, tables[chosen].get(name))
    if not placing.kinds:
        raise IncompatibleWeightsError(
            f"the LoRA changes nothing that the {PARTS[chosen][1]} has",
            got=f"{lora.file.path} with {', '.join(placing.unmatched[:3])}",
            expected="at least one change of a layer, a norm or a bias that is there",
        )
    prefix = PARTS[chosen][0]
    kinds = sorted(Counter(placing.kinds.values()).items(), key=lambda item: (-item[1], item[0]))
    report = LoraReport(
        lora.name, chosen, strength, tuple(path.removeprefix(prefix) for path in placing.kinds),
        (*placing.unmatched, *lora.other), dict(kinds), len(lora.text),
        lora.distilled if chosen == "video" and strength > 0 else None,
    )  # fmt: skip
    (log.warning if report.unmatched or report.text else log.info)(report.summary())
    return (placing.model() if strength else joint), report


class _Placing:
    """One LoRA on its way into a model: what was found for which path so far.

    Args:
        joint: It is not changed.
        lora: The file.
        strength: Factor of every change.
    """

    def __init__(self, joint: JointModel, lora: LoraFile, strength: float) -> None:
        self.joint, self.lora, self.strength = joint, lora, strength
        self.kinds: dict[str, str] = {}
        self.unmatched: list[str] = []
        self._new: dict[str, nn.Module | nn.Parameter] = {}
        self._sums: dict[str, tuple[Tensor, tuple[tuple[tuple[str, float], Tensor], ...]]] = {}

    @property
    def key(self) -> tuple[str, float]:
        """Where this LoRA stands among others."""
        return self.lora.digest, self.strength

    def add(self, layer: str, paths: tuple[str, ...] | None) -> None:
        """Find a place for the change of one of the file's layers, or note its tensors as not used.

        Raises:
            IncompatibleWeightsError: it is for a layer of another size.
            CorruptWeightsError, NonFiniteError: see :meth:`~.files.LoraFile.change`.
        """
        change = self.lora.change(layer) if paths else None
        if change is None:
            self.unmatched += self.lora.layers[layer].values()
            return
        twice = next((path for path in paths if path in self.kinds), None)
        if twice:
            raise CorruptWeightsError(
                "the LoRA file changes a layer twice",
                got=f"{self.lora.file.path}: {layer} and another name of {twice}",
                expected="one change a layer",
            )
        owners = [self._owner(path) for path in paths]
        if all(_takes_terms(owner) for owner in owners):
            self._beside(layer, paths, owners, change)
        elif len(paths) == 1:
            self._into(layer, paths[0], change)

    def model(self) -> JointModel:
        """The model with everything that was placed."""
        twin = with_replaced(self.joint, self._new)
        for path, record in self._sums.items():
            owner = self._owner(path.rpartition(".")[0], twin)
            owner.lora_sums = {**getattr(owner, "lora_sums", {}), path.rpartition(".")[2]: record}
        return twin

    def _owner(self, path: str, root: nn.Module | None = None) -> nn.Module | None:
        """The layer of a path; None for a parameter that stands alone."""
        root = root or self.joint
        owner, _, leaf = path.rpartition(".")
        return None if leaf in root.get_submodule(owner)._parameters else root.get_submodule(path)

    def _beside(self, layer: str, paths: tuple[str, ...], owners: list[nn.Module], change: LayerChange) -> None:
        """Terms beside linear layers or convolutions; a change of joined layers is taken apart."""
        sizes = [owner.weight.shape[0] if is_convolution(owner) else owner.out_features for owner in owners]
        first = owners[0]
        wide = first.weight[0].numel() if is_convolution(first) else first.in_features
        rows, form = sum(sizes), change.form
        if form is not None and form.shape != (rows, wide):
            if is_convolution(first) and form.shape[0] == rows:  # for more channels: those of a picture as input
                self.unmatched += self.lora.layers[layer].values()
                return
            raise self._other_size(layer, form.shape, (rows, wide))
        if change.bias is not None and change.bias.numel() != rows:
            raise self._other_size(layer, tuple(change.bias.shape), (rows,))
        gain, axis = self._gain(layer, owners, change)
        start = 0
        for path, owner, size in zip(paths, owners, sizes, strict=True):
            part = slice(start, start + size)
            start += size
            own = form if form is None or len(paths) == 1 else form.rows(part)
            if own is not None and gain is None:
                own = own.times(self.strength)
            bias = None if change.bias is None else change.bias.flatten()[part].double() * self.strength
            own_gain = gain[part] if gain is not None and axis == 0 else gain
            base = owner.base if isinstance(owner, LayerWithLora) else owner
            if own_gain is not None and axis == 0 and base.bias is not None:
                # The rows of y = W x + b are made longer as a whole, and b must not be.
                less = self.strength * own_gain.double() * base.bias.detach().cpu().double()
                bias = -less if bias is None else bias - less
            self._new[path] = with_term(owner, Term(self.key, own, bias, own_gain, axis))
            self.kinds[path] = change.kind

    def _gain(self, layer: str, owners: list[nn.Module], change: LayerChange) -> tuple[Tensor | None, int]:
        """What a DoRA makes of the lengths of the changed weight's rows or columns: the factors, minus 1."""
        if change.magnitude is None:
            return None, 0
        bases = [owner.base if isinstance(owner, LayerWithLora) else owner for owner in owners]
        weight = torch.cat([whole_weight(base) for base in bases])
        changed = weight + change.form.dense().to(weight.device).reshape(weight.shape)
        shape, numbers = change.magnitude.shape, change.magnitude.float().flatten().to(weight.device)
        by_column = len(shape) > 1 and shape[0] == 1 and numbers.numel() == weight.shape[1]
        axis = int(by_column or numbers.numel() != weight.shape[0])
        if numbers.numel() != weight.shape[axis]:
            raise self._other_size(layer, tuple(shape), tuple(weight.shape[:2]))
        lengths = torch.linalg.vector_norm(changed.movedim(axis, 0).flatten(1), dim=1)
        return (numbers / lengths.clamp_min(torch.finfo(torch.float32).eps) - 1).cpu(), axis

    def _into(self, layer: str, path: str, change: LayerChange) -> None:
        """Differences of a norm or of a parameter that stands alone, summed into a copy of it."""
        roles = self.lora.layers[layer]
        whole = change.form.weight if isinstance(change.form, Whole) and change.kind == "whole difference" else None
        alone = self._owner(path) is None
        for role, leaf, tensor in (("diff", "weight", whole), ("bias", "bias", change.bias)):
            place = path if alone and leaf == "weight" else f"{path}.{leaf}"
            old = self._parameter(place)
            if tensor is None or old is None:
                continue
            if [n for n in tensor.shape if n != 1] != [n for n in old.shape if n != 1]:
                raise self._other_size(layer, tuple(tensor.shape), tuple(old.shape))
            self._sum(place, old, tensor)
            self.kinds[path] = "modulation" if alone else "norm"
            roles = {other: name for other, name in roles.items() if other != role}
        self.unmatched += roles.values()

    def _parameter(self, path: str) -> nn.Parameter | None:
        owner, _, leaf = path.rpartition(".")
        try:
            return self.joint.get_submodule(owner)._parameters.get(leaf)
        except AttributeError:
            return None

    def _sum(self, path: str, old: nn.Parameter, difference: Tensor) -> None:
        """All differences of a parameter anew from what it was without any, so that their order does not matter."""
        owner, _, leaf = path.rpartition(".")
        known = getattr(self.joint.get_submodule(owner), "lora_sums", {})
        base, terms = known.get(leaf, (old.detach(), ()))
        scaled = (difference.double() * self.strength).reshape(old.shape)
        terms = tuple(sorted((*terms, (self.key, scaled)), key=lambda term: term[0]))
        total = sum((term for _, term in terms), base.cpu().double()).to(old.dtype).to(old.device)
        self._new[path], self._sums[path] = nn.Parameter(total, requires_grad=False), (base, terms)

    def _other_size(self, layer: str, shape: tuple[int, ...], wanted: tuple[int, ...]) -> IncompatibleWeightsError:
        return IncompatibleWeightsError(
            "the LoRA was made for a model of another size",
            got=f"{self.lora.file.path}, {self.lora.looks_like}: {layer} is for a layer of {shape}",
            expected=f"a layer of {wanted}" + (", out and in" if len(wanted) == 2 else ""),
            remedy="Use a LoRA for this model: 1.3B LoRAs fit Wan 1.3B only, 14B LoRAs Wan 14B only.",
        )


def _takes_terms(owner: nn.Module | None) -> bool:
    return isinstance(owner, (LayerWithLora, nn.Linear)) or (owner is not None and is_convolution(owner))


def _no_match(joint: JointModel, lora: LoraFile, part: str | None, fitting: str | None) -> IncompatibleWeightsError:
    present = [name for name in PARTS if (joint.bridges if name == "bridge" else getattr(joint, name)) is not None]
    wanted = PARTS[part][1] if part else " or the ".join(PARTS[name][1] for name in present)
    looks = lora.looks_like
    if lora.layers and next(iter(lora.layers)) not in looks:
        looks += f" with {', '.join(list(lora.layers)[:2])}"
    return IncompatibleWeightsError(
        "the LoRA does not fit: its layers are not those of this model",
        got=f"{lora.file.path}, {looks}" + (f", which fits the {PARTS[fitting][1]}" if fitting else ""),
        expected=f"a LoRA for the {wanted}",
        remedy=f"Apply it to the {PARTS[fitting][1]}." if fitting else "",
    )
