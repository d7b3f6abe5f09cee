"""The view of a weight file that does not depend on its format: names, shapes, types, tensors with scales undone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from ...core.errors import CorruptWeightsError, IncompatibleWeightsError
from ...core.json_text import parse_json
from ._quantised import FP8_FORMATS, Packing, read_header_note, read_packing, unpack

MARKER = re.compile(r"(?:^|\.)scaled_fp8$")
TOKENIZER_TENSOR = "spiece_model"
# weight -> the names its scale goes by: ComfyUI's older and newer writers.
SCALES = ("scale_weight", "weight_scale")
# Scales of inputs are for arithmetic in fp8, which nobody does here.
SIDE_TENSORS = re.compile(r"(?:^|\.)(?:scale_weight|scale_input|weight_scale|weight_scale_2|input_scale|comfy_quant)$")
# Where ComfyUI's newer files say how a layer is stored: a tensor beside it, or an entry of the header.
QUANTISED_TENSOR, QUANTISED_METADATA = "comfy_quant", "_quantization_metadata"
MOST_NOTE_BYTES = 1 << 16


@dataclass(frozen=True)
class TensorInfo:
    """What a header says of one tensor: its shape, and its type in torch's words (or GGUF's, ``Q4_K``)."""

    shape: tuple[int, ...]
    dtype: str


class WeightFile:
    """Names, shapes and types of a file's tensors; a tensor is read when it is asked for.

    Args:
        path: The file that was named.
        infos: By name, without the side tensors of quantised storage.
        metadata: The header's free text.
    """

    format = ""

    def __init__(self, path: Path, infos: dict[str, TensorInfo], metadata: dict[str, str]) -> None:
        self.path, self.metadata, self._all = path, metadata, infos
        # Side tensors belong to a weight of the same layer; without one they stay and strict loading names them.
        self.infos = {
            name: self._seen(name, info)
            for name, info in infos.items()
            if name != TOKENIZER_TENSOR and not MARKER.search(name) and not self._is_side(name)
        }

    def _seen(self, name: str, info: TensorInfo) -> TensorInfo:
        """Two numbers of four bits a byte are two columns."""
        second = name.removesuffix("weight") + "weight_scale_2"
        if info.dtype == "uint8" and len(info.shape) == 2 and second in self._all:
            return TensorInfo((info.shape[0], 2 * info.shape[1]), "nvfp4")
        return info

    @property
    def all_infos(self) -> dict[str, TensorInfo]:
        """By name, with the side tensors."""
        return self._all

    def __iter__(self) -> Iterator[str]:
        return iter(self.infos)

    def __contains__(self, name: object) -> bool:
        return name in self.infos

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor that holds numbers.

        Raises:
            IncompatibleWeightsError: it is not there.
            CorruptWeightsError: it holds none.
        """
        if name not in self.infos:
            raise IncompatibleWeightsError(
                "the weight file is incomplete", got=f"{self.path} without {name}", expected="all tensors of its model"
            )
        shape = self.infos[name].shape
        if 0 in shape:
            raise CorruptWeightsError(
                "a tensor of the weight file holds no numbers",
                got=f"{name} {shape} in {self.path}",
                expected="the weights themselves",
                remedy="Download or copy it again, or gather the parts in which it was saved.",
            )
        return shape

    @property
    def num_bytes(self) -> int:
        """Size on disk."""
        return self.path.stat().st_size

    @cached_property
    def dtype(self) -> str:
        """The type that holds most of the numbers; "scaled" in front where scales stand beside fp8."""
        totals: dict[str, int] = {}
        for info in self.infos.values():
            totals[info.dtype] = totals.get(info.dtype, 0) + torch.Size(info.shape).numel()
        most = max(totals, key=totals.__getitem__) if totals else "empty"
        return f"scaled {most}" if self.is_scaled else most

    @property
    def is_scaled(self) -> bool:
        """Whether scales stand beside the weights."""
        return any(self._is_side(name) for name in self._all)

    def tensor(self, name: str) -> Tensor:
        """A tensor in the file's type; float32 where a scale has to be multiplied in."""
        stem = name.removesuffix("weight")
        tensor = self._read(name)
        packing = self.packings.get(stem.removesuffix(".")) if name.endswith("weight") else None
        # Older files call the scale of fp8 by another name.
        if packing is not None and (packing.format not in FP8_FORMATS or stem + SCALES[0] not in self._all):
            try:
                return unpack(packing, tensor, lambda word: self._beside(stem + word))
            except IncompatibleWeightsError as error:
                got = f"{name} in {self.path}: {error.got}"
                raise IncompatibleWeightsError(
                    error.what, got=got, expected=error.expected, remedy=error.remedy
                ) from error
        scales = [stem + word for word in SCALES if name.endswith("weight") and stem + word in self._all]
        return self._scaled(tensor, scales) if scales else tensor

    def _scaled(self, tensor: Tensor, names: list[str]) -> Tensor:
        """A weight times its scale.

        Raises:
            IncompatibleWeightsError: the scale has another shape, or there are two.
        """
        scale = self._read(names[0]).float()
        # A row of numbers is one a column, whatever their count.
        fits = scale.numel() in (1, tensor.shape[0]) and all(size == 1 for size in scale.shape[1:])
        if not fits or len(names) > 1 or not torch.isfinite(scale).all():
            raise IncompatibleWeightsError(
                "the scale of an fp8 weight has another shape"
                if not fits
                else "a weight has two scales"
                if len(names) > 1
                else "a scale is not finite",
                got=f"{' and '.join(names)} {tuple(scale.shape)} for {tuple(tensor.shape)} in {self.path}",
                expected="one number, or one a row",
            )
        return tensor.float() * scale.reshape(-1, *(1,) * (tensor.ndim - 1))

    def _beside(self, name: str) -> Tensor | None:
        return self._read(name) if name in self._all else None

    def tokenizer_bytes(self) -> bytes | None:
        """The sentencepiece model that ComfyUI's text encoder files carry inside."""
        return self._read(TOKENIZER_TENSOR).numpy().tobytes() if TOKENIZER_TENSOR in self._all else None

    def _is_side(self, name: str) -> bool:
        return bool(SIDE_TENSORS.search(name)) and SIDE_TENSORS.sub(".weight", name).lstrip(".") in self._all

    @property
    def has_tokenizer(self) -> bool:
        """Whether :meth:`tokenizer_bytes` gives any."""
        return TOKENIZER_TENSOR in self._all

    @cached_property
    def packings(self) -> dict[str, Packing]:
        """How layers are packed, by their names; empty for files that do not say it.

        Raises:
            CorruptWeightsError: what they say is no JSON.
            IncompatibleWeightsError: it is not understood, or of a layer that is not there.
        """
        end = f".{QUANTISED_TENSOR}"
        named = [name for name in self._all if name.endswith(end)]
        long = next((name for name in named if torch.Size(self._all[name].shape).numel() > MOST_NOTE_BYTES), None)
        if long is not None:
            got = f"{long} {self._all[long].shape} in {self.path}"
            raise CorruptWeightsError("the description of a layer is too long", got=got, expected="a few words of JSON")
        beside = self._contents(named)
        told = {"what": "what the file says of its packing", "where": self.path, "error": CorruptWeightsError}
        note = parse_json(self.metadata.get(QUANTISED_METADATA, "{}"), **told)
        said = {name.removesuffix(end): parse_json(data, **told) for name, data in beside.items()}
        header, own = read_header_note(note), {name: read_packing(layer) for name, layer in said.items()}
        found = header | own
        twice = [name for name in own if header.get(name, own[name]) != own[name]]
        if twice:
            raise IncompatibleWeightsError(
                "the file describes a layer in two ways", got=f"{self.path}: {twice[0]}", expected="one description"
            )
        lost = [name for name in found if f"{name}.weight" not in self._all]
        if lost:
            raise IncompatibleWeightsError(
                "the file describes layers that it does not have",
                got=f"{self.path}: {', '.join(lost[:3])}",
                expected="descriptions of its own layers",
            )
        return found

    def _contents(self, names: list[str]) -> dict[str, bytes]:
        """The bytes of small tensors."""
        return {name: self._read(name).numpy().tobytes() for name in names}

    def _read(self, name: str) -> Tensor:
        raise NotImplementedError


def joined_metadata(first: dict[str, str], second: dict[str, str]) -> dict[str, str]:
    """The metadata of two shards: each may describe the layers that it holds."""
    joined, notes = first | second, []
    for metadata in (first, second) if QUANTISED_METADATA in first and QUANTISED_METADATA in second else ():
        try:
            note = parse_json(metadata[QUANTISED_METADATA])
            notes.append((note, dict(note["layers"])))
        except (ValueError, LookupError, TypeError):  # whoever reads it says what is wrong
            return joined | {QUANTISED_METADATA: metadata[QUANTISED_METADATA]}
    if notes:
        (one, layers), (other, more) = notes
        joined[QUANTISED_METADATA] = json.dumps(one | other | {"layers": layers | more})
    return joined
