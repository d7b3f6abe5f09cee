"""Alignment files (SAVA): one safetensors file with the alignment and the LoRAs of the towers that read it.

Tensors stand under ``alignment.``, ``audio_lora.`` and ``video_lora.``; everything else is in the metadata.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ...core.disk import user_path
from ...core.errors import CorruptWeightsError, IncompatibleWeightsError
from ...core.pair import MODALITIES, THINGS
from ..alignment.selective import Alignment
from ..lora.files import LoraFile
from ._alignment_metadata import AlignmentNote, LoraNote, read_note
from ._header import WeightFile, open_weights
from ._limits import outlined, require_numbers
from .bridges import load_strictly, require_fit
from .files import write_safetensors
from .layouts import ALIGNMENT, require_kind

__all__ = ["LoadedAlignment", "LoraNote", "factors_of", "load_alignment", "outline_alignment", "save_alignment"]

log = logging.getLogger(__name__)
GROUP = "alignment."
FACTORS = {"down": "lora_A.weight", "up": "lora_B.weight"}
OWN_METADATA = ("format", "version", "config", "loras", "trained", "support")


@dataclass(frozen=True)
class LoadedAlignment:
    """An alignment file, understood.

    Args:
        alignment: The module, in eval mode.
        loras: By tower, what :meth:`~..joined.JoinedModel.with_lora` lays beside its layers; off until then.
        source: The file.
        trained: False for random weights that only show the form.
        notes: What else the file says of itself.
    """

    alignment: Alignment
    loras: Mapping[str, LoraFile]
    source: Path
    trained: bool = True
    notes: Mapping[str, str] = field(default_factory=dict, repr=False)

    def summary(self) -> str:
        """One sentence for the user: dimensions kept, moments, and whom it can tell of the other side."""
        config = self.alignment.config
        kept = " and ".join(f"{self.alignment.kept(side)} of the {thing}" for side, thing in THINGS.items())
        frames = "a latent frame" if config.segment == 1 else f"{config.segment} latent frames"
        ways = {"tokens": "", "frames": ", frame by frame"}
        reads = [
            f"the {THINGS[side]}'s tower{ways[self.alignment.way(side)]}"
            for side in MODALITIES
            if self.alignment.reads(side)
        ]
        whom = f"read by {' and '.join(reads)}" if reads else "read by no tower yet"
        untrained = "" if self.trained else "; UNTRAINED weights"
        return f"{config.width} dimensions, kept {kept}; one vector {frames}; {whom}{untrained}"

    def warnings(self) -> list[str]:
        """What a user should know before tokens are made of it."""
        told, config = [], self.alignment.config
        for side, thing in THINGS.items():
            kept = self.alignment.kept(side)
            if not kept:
                told.append(f"this alignment keeps no dimension of the {thing}, so it tells nothing of it")
            elif kept == config.width:
                told.append(f"this alignment keeps every dimension of the {thing}: its masks chose nothing")
        return [*told, *([] if self.trained else ["this alignment has random weights and only shows the form"])]


def load_alignment(path: str | Path) -> LoadedAlignment:
    """Load an alignment file, strictly.

    Raises:
        MissingModelError: no such file.
        CorruptWeightsError, UnsafeWeightsError: it cannot be read, or says of itself what cannot be.
        IncompatibleWeightsError: another kind of file, which is named; keys missing, left over or of other shapes.
    """
    file, outline, loras, note = _opened(path)
    alignment = Alignment(note.config)
    state = {name: file.tensor(f"{GROUP}{name}").float() for name in outline.state_dict()}
    load_strictly(alignment, state, f"the alignment file {file.path.name}")
    require_numbers(state.items(), file.path)
    _require_sense(state, file.path)
    notes = {name: text for name, text in file.metadata.items() if name not in OWN_METADATA}
    loaded = LoadedAlignment(alignment.eval().requires_grad_(False), loras, file.path, note.trained, notes)
    log.info("%s: %s", file.path.name, loaded.summary())
    return loaded


def outline_alignment(path: str | Path) -> Alignment:
    """The alignment of a file without its weights, on ``meta``; errors as :func:`load_alignment`."""
    return _opened(path)[1]


def _opened(path: str | Path) -> tuple[WeightFile, Alignment, dict[str, LoraFile], AlignmentNote]:
    file = open_weights(user_path(path), "the alignment file")
    require_kind(file, "alignment")
    note = read_note(file.metadata, file.path)
    groups = _groups(file)
    empty = {name: torch.empty(file.shape(GROUP + name), device="meta") for name in groups["alignment"]}
    outline = outlined(lambda: Alignment(note.config), len(empty), file.path)
    require_fit(outline, empty, f"the alignment file {file.path.name}")
    return file, outline, _loras(file, groups, note.loras), note


def _groups(file: WeightFile) -> dict[str, list[str]]:
    """Names by group, without the group.

    Raises:
        IncompatibleWeightsError: a tensor of no group.
    """
    groups: dict[str, list[str]] = {"alignment": [], "video_lora": [], "audio_lora": []}
    for name in file:
        group, _, rest = name.partition(".")
        if group not in groups or not rest:
            raise IncompatibleWeightsError(
                "the alignment file holds unknown tensors",
                got=f"{name} in {file.path}",
                expected="tensors under " + ", ".join(f"{known}." for known in groups),
            )
        groups[group].append(rest)
    return groups


def _loras(file: WeightFile, groups: dict[str, list[str]], notes: Mapping[str, LoraNote]) -> dict[str, LoraFile]:
    """The LoRAs as files of their own would be, whole pairs of the noted rank.

    Raises:
        IncompatibleWeightsError: half a pair, another name or rank, or a group that the metadata do not name.
    """
    found = {}
    for side in MODALITIES:
        names, note = groups[f"{side}_lora"], notes.get(side)
        if bool(names) != (note is not None):
            got = f"{len(names)} tensors, and {'no' if note is None else 'a'} note in the metadata of {file.path}"
            raise IncompatibleWeightsError(f"the {side} LoRA of the alignment file is not whole", got=got)
        if note is None:
            continue
        layers: dict[str, dict[str, str]] = {}
        for name in names:
            role = next((role for role, end in FACTORS.items() if name.endswith(f".{end}")), None)
            whole = f"{side}_lora.{name}"
            axis = {"down": 0, "up": 1}.get(role, 0)
            shape = file.shape(whole)
            if role is None or len(shape) != 2 or shape[axis] != note.rank:
                got = f"{whole} {tuple(shape)} in {file.path}"
                expected = f"pairs of lora_A and lora_B of rank {note.rank}"
                raise IncompatibleWeightsError("a LoRA of the alignment file is another", got=got, expected=expected)
            layers.setdefault(name.removesuffix(f".{FACTORS[role]}"), {})[role] = whole
        half = next((layer for layer, roles in layers.items() if set(roles) != set(FACTORS)), None)
        if half is not None:
            got = f"half of {side}_lora.{half} in {file.path}"
            raise IncompatibleWeightsError("a LoRA of the alignment file is not whole", got=got, expected="pairs")
        found[side] = LoraFile(file, layers, config={"r": note.rank, "lora_alpha": note.alpha})
    return found


def _require_sense(state: Mapping[str, Tensor], path: Path) -> None:
    """Refuse deviations that cannot be divided by, and a support that is more than kept or not kept."""
    for side in MODALITIES:
        if not bool((state[f"{side}_deviation"] > 0).all()):
            got = f"{side}_deviation in {path}"
            raise CorruptWeightsError("a deviation of the alignment file is not above 0", got=got)
        support = state[f"{side}_support"]
        if not bool(((support == 0) | (support == 1)).all()):
            raise CorruptWeightsError("the support of the alignment file is no choice", got=f"{side}_support in {path}",
                                      expected="0 and 1")  # fmt: skip


def save_alignment(
    path: str | Path,
    alignment: Alignment,
    *,
    loras: Mapping[str, tuple[LoraNote, Mapping[str, tuple[Tensor, Tensor]]]] | None = None,
    trained: bool = True,
    notes: Mapping[str, str] | None = None,
) -> None:
    """Write an alignment file.

    Args:
        path: Target.
        alignment: The module.
        loras: By tower its note, and A and B by the layer's name in the tower's model.
        trained: False marks random weights.
        notes: Further metadata (recipe, leak).
    """
    tensors = {f"{GROUP}{name}": tensor for name, tensor in alignment.state_dict().items()}
    for side, (_, layers) in (loras or {}).items():
        for layer, factors in layers.items():
            for end, tensor in zip(FACTORS.values(), factors, strict=True):
                tensors[f"{side}_lora.{layer}.{end}"] = tensor
    metadata = {
        **(notes or {}),
        "format": ALIGNMENT,
        "version": "1",
        "config": json.dumps(alignment.config.as_dict()),
        "loras": json.dumps({side: asdict(note) for side, (note, _) in (loras or {}).items()}),
        "support": ", ".join(f"{side} {alignment.kept(side)} of {alignment.config.width}" for side in MODALITIES),
        "trained": "true" if trained else "false",
    }
    write_safetensors(path, {name: t.detach().cpu().clone() for name, t in tensors.items()}, metadata)


def factors_of(loaded: LoadedAlignment) -> dict[str, tuple[LoraNote, dict[str, tuple[Tensor, Tensor]]]]:
    """The LoRAs of a loaded file as :func:`save_alignment` takes them."""
    return {
        side: (
            LoraNote(lora.config["r"], lora.config["lora_alpha"]),
            {layer: tuple(lora.file.tensor(roles[role]) for role in FACTORS) for layer, roles in lora.layers.items()},
        )
        for side, lora in loaded.loras.items()
    }
