"""All-in-one checkpoints: transformer, VAE and text encoder in one file, each under a prefix of its own.

ComfyUI's *Save Checkpoint* writes them: ``model.diffusion_model.``, ``vae.`` or ``first_stage_model.``, and
``text_encoders.umt5xxl.transformer.`` or ``cond_stage_model.`` with the tokenizer beside.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from ...core.errors import IncompatibleWeightsError
from ...core.json_text import parse_json
from ._header import open_weights
from ._wan import PREFIXES
from ._weight_file import QUANTISED_METADATA, TOKENIZER_TENSOR, TensorInfo, WeightFile
from .layouts import kind_of

TRANSFORMERS = PREFIXES
VAES = ("vae.", "first_stage_model.")
TEXTS = ("text_encoders.", "cond_stage_model.", "conditioner.embedders.")
# A text encoder stands somewhere below its prefix; one of these is its table of tokens.
TABLES = ("shared.weight", "token_embedding.weight", "encoder.embed_tokens.weight")
# One word in front of a whole model that makes another of it.
FOREIGN_PREFIX = re.compile(r"control|vace|motion|animate|camera|(?:transformer|dit|unet|model)_?2")
# What such a file may hold besides: other encoders, and what samplers and averages leave.
ASIDE = (
    *TEXTS,
    *VAES,
    "clip_vision",
    "model_ema.",
    "denoiser.",
    "model_sampling.",
    "alphas_cumprod",
    "betas",
    "v_pred",
)


class PartFile(WeightFile):
    """One model within a file of several, under the names that it has alone.

    Args:
        whole: The file.
        prefix: What stands in front of the model's names.
        tokenizer: Name of the tokenizer in the file, if it has one.
    """

    def __init__(self, whole: WeightFile, prefix: str, tokenizer: str | None = None) -> None:
        infos = {name.removeprefix(prefix): info for name, info in whole.all_infos.items() if name.startswith(prefix)}
        if tokenizer:
            infos[TOKENIZER_TENSOR] = whole.all_infos[tokenizer]
        self._whole, self._prefix, self._tokenizer = whole, prefix, tokenizer
        self.format = whole.format
        super().__init__(whole.path, infos, _own_metadata(whole.metadata, prefix))

    @property
    def num_bytes(self) -> int:
        """Size of its tensors."""
        return sum(_bytes_of(info) for info in self.all_infos.values())

    def _contents(self, names: list[str]) -> dict[str, bytes]:
        found = self._whole._contents([self._prefix + name for name in names])
        return {name.removeprefix(self._prefix): data for name, data in found.items()}

    def _read(self, name: str) -> Tensor:
        if name == TOKENIZER_TENSOR and self._tokenizer:
            return self._whole._read(self._tokenizer)
        return self._whole._read(self._prefix + name)


def _own_metadata(metadata: dict[str, str], prefix: str) -> dict[str, str]:
    """A file's metadata with the descriptions of one part's layers only."""
    try:
        note = parse_json(metadata.get(QUANTISED_METADATA, ""))
        layers = {name: layer for name, layer in note["layers"].items() if name.startswith(prefix)}
    except (ValueError, LookupError, TypeError, AttributeError):
        return metadata  # whoever reads it says what is wrong
    own = {name.removeprefix(prefix): layer for name, layer in layers.items()}
    return metadata | {QUANTISED_METADATA: json.dumps({**note, "layers": own})}


def _bytes_of(info: TensorInfo) -> int:
    dtype = getattr(torch, info.dtype, None)
    return torch.Size(info.shape).numel() * (dtype.itemsize if isinstance(dtype, torch.dtype) else 1)


def parts_of(file: WeightFile) -> list[PartFile]:
    """What stands under known prefixes in a file of several models, the transformer first; nothing for other files."""
    names = file.all_infos
    prefix = transformer_prefix(names)
    parts = [PartFile(file, prefix)] if prefix else []
    parts += [PartFile(file, p) for p in VAES if any(name.startswith(p) for name in names)]
    parts += _texts(file, names)
    if len(parts) > bool(prefix):
        return parts
    word = one_prefix(file)
    return [PartFile(file, word, TOKENIZER_TENSOR if TOKENIZER_TENSOR in names else None)] if word else []


def one_prefix(file: WeightFile) -> str:
    """What a wrapper has put in front of all names of one model: ``module.``, ``text_encoder.``; empty for others."""
    if kind_of(file) is not None:
        return ""
    names = [name.split(".") for name in file.all_infos if "." in name]
    first, last = min(names, default=[]), max(names, default=[])  # what these two share, all share
    number = next((at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), 0)
    prefix = "".join(f"{word}." for word in first[:number])
    if not prefix or FOREIGN_PREFIX.search(prefix) or kind_of(PartFile(file, prefix)) is None:
        return ""
    return prefix


def require_known_parts(file: WeightFile) -> None:
    """Refuse an all-in-one checkpoint with tensors outside of all known parts.

    Raises:
        IncompatibleWeightsError: it counts them.
    """
    if one_prefix(file):
        return
    known = (*filter(None, [transformer_prefix(file.all_infos)]), *ASIDE)
    left = [name for name in file.all_infos if not name.startswith(known)]
    if left:
        raise IncompatibleWeightsError(
            "the all-in-one checkpoint holds tensors of no known part",
            got=f"{file.path}: {len(left)} unexpected: {', '.join(left[:3])}",
            expected="a transformer, a VAE and text encoders",
        )


def transformer_prefix(names: Iterable[str]) -> str:
    """What stands in front of a checkpoint's transformer; empty without one."""
    return next((prefix for prefix in TRANSFORMERS if any(name.startswith(prefix) for name in names)), "")


def _texts(file: WeightFile, names: Iterable[str]) -> list[PartFile]:
    below = [name for name in names if name.startswith(TEXTS)]
    roots = [name.removesuffix(table) for name in below for table in TABLES if name.endswith(f".{table}")]
    tokenizers = [name for name in below if name.endswith(f".{TOKENIZER_TENSOR}")]

    def tokenizer_for(root: str) -> str | None:
        # ComfyUI keeps it beside the encoders; older files inside of the one that it belongs to.
        around = [name for name in tokenizers if root.startswith(name.removesuffix(TOKENIZER_TENSOR))]
        return max(around, key=len, default=None)

    return [PartFile(file, root, tokenizer_for(root)) for root in dict.fromkeys(roots)]


def open_part(path: str | Path, kind: str, what: str = "the weight file") -> WeightFile:
    """Open the model of one kind in a file: a part of an all-in-one checkpoint, else the file itself.

    Args:
        path: The file.
        kind: A key of :data:`~.layouts.TITLES`.
        what: What it is wanted for, in messages.

    Raises:
        MissingModelError, CorruptWeightsError, UnsafeWeightsError: as :func:`~._header.open_weights`.
        IncompatibleWeightsError: the checkpoint of a transformer holds tensors of no known part.
    """
    file = open_weights(path, what)
    part = next((part for part in parts_of(file) if kind_of(part) == kind), None)
    if part is not None and kind == "wan":
        require_known_parts(file)
    return part or file
