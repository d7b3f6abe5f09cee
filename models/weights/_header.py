"""One view of every weight file: names, shapes and types from the header, tensors read one at a time.

Formats are told by the first bytes: safetensors (one file or an index with shards), GGUF, and torch checkpoints (read
with ``weights_only=True``). Scaled fp8, as ComfyUI stores it, is undone when a tensor is read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...core.errors import CorruptWeightsError, IncompatibleWeightsError, UnsafeWeightsError
from ...core.optional import require
from .files import (
    MOST_HEADER_BYTES,
    SAFETENSORS_SUFFIXES,
    check_safetensors,
    corrupt,
    file_format,
    read_head,
    read_torch_file,
    require_file,
)

if TYPE_CHECKING:
    from gguf import GGUFReader, ReaderTensor

HALF_DOWNLOADS = (".incomplete", ".part", ".partial", ".crdownload", ".aria2", ".download", ".tmp")
INDEX_SUFFIX = ".safetensors.index.json"
MARKER = re.compile(r"(?:^|\.)scaled_fp8$")
TOKENIZER_TENSOR = "spiece_model"
# weight -> the names its scale goes by: ComfyUI's older and newer writers.
SCALES = ("scale_weight", "weight_scale")
# Scales of inputs are for arithmetic in fp8, which nobody does here. The second scale belongs to packings that are
# refused; it stands here so that the refusal names the packing and not the tensor.
SIDE_TENSORS = re.compile(r"(?:^|\.)(?:scale_weight|scale_input|weight_scale|weight_scale_2|input_scale|comfy_quant)$")
# Where ComfyUI's newer files say how a layer is stored: a tensor beside it, or an entry of the header.
QUANTISED_TENSOR, QUANTISED_METADATA = "comfy_quant", "_quantization_metadata"
KNOWN_QUANTISATIONS = ("float8_e4m3fn", "float8_e5m2")
WANTED_TYPES = "float32, float16, bfloat16, fp8 or scaled fp8 weights, or GGUF"
SAFETENSORS_WORDS = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "U8": "uint8", "I8": "int8", "I64": "int64",
}  # fmt: skip


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
            name: info
            for name, info in infos.items()
            if name != TOKENIZER_TENSOR and not MARKER.search(name) and not self._is_side(name)
        }

    def __iter__(self) -> Iterator[str]:
        return iter(self.infos)

    def __contains__(self, name: object) -> bool:
        return name in self.infos

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor.

        Raises:
            IncompatibleWeightsError: it is not there.
        """
        if name not in self.infos:
            raise IncompatibleWeightsError(
                "the weight file is incomplete", got=f"{self.path} without {name}", expected="all tensors of its model"
            )
        return self.infos[name].shape

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
        for word in SCALES if name.endswith("weight") else ():
            if stem + word in self._all:
                scale = self._read(stem + word).float()
                if scale.numel() not in (1, tensor.shape[0]):
                    raise IncompatibleWeightsError(
                        "the scale of an fp8 weight has another shape",
                        got=f"{stem + word} {tuple(scale.shape)} for {tuple(tensor.shape)}",
                        expected="one number, or one a row",
                    )
                return tensor.float() * scale.reshape(-1, *(1,) * (tensor.ndim - 1))
        return tensor

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
    def quantisations(self) -> set[str]:
        """How layers are packed, in ComfyUI's words; empty for files that do not say it.

        Raises:
            CorruptWeightsError: what they say cannot be read.
        """
        try:
            stored = json.loads(self.metadata.get(QUANTISED_METADATA, "{}")).get("layers", {}).values()
            names = (name for name in self._all if name.endswith(f".{QUANTISED_TENSOR}"))
            beside = [json.loads(self._read(name).numpy().tobytes()) for name in names]
            return {str(layer.get("format")) for layer in (*stored, *beside)}
        except (ValueError, AttributeError, TypeError) as error:
            raise corrupt(self.path, error) from error

    def _read(self, name: str) -> Tensor:
        raise NotImplementedError


class SafetensorsFile(WeightFile):
    """One safetensors file, or several that an index names.

    Args:
        path: The file, or the ``.index.json``.
        shards: The files that hold the tensors.
    """

    format = "safetensors"

    def __init__(self, path: Path, shards: list[Path]) -> None:
        infos, metadata = {}, {}
        self._where: dict[str, Path] = {}
        for shard in shards:
            check_safetensors(shard)
            header = _read_header(shard)
            metadata.update(header.pop("__metadata__", None) or {})
            for name, entry in header.items():
                dtype = SAFETENSORS_WORDS.get(entry["dtype"], entry["dtype"])
                infos[name], self._where[name] = TensorInfo(tuple(entry["shape"]), dtype), shard
        self._shards = shards
        super().__init__(path, infos, metadata)

    @property
    def num_bytes(self) -> int:
        """Size of all shards."""
        return sum(shard.stat().st_size for shard in self._shards)

    def _read(self, name: str) -> Tensor:
        shard = self._where[name]
        try:
            with safe_open(shard, framework="pt") as file:
                return file.get_tensor(name)
        except (SafetensorError, OSError, ValueError) as error:
            raise corrupt(shard, error) from error


class TorchFile(WeightFile):
    """A torch checkpoint; tensors stay on disk until they are used.

    Args:
        path: The file.
    """

    format = "torch"

    def __init__(self, path: Path) -> None:
        contents: Any = read_torch_file(path, mmap=True)
        for wrapper in ("state_dict", "module", "model"):
            if isinstance(contents, dict) and isinstance(contents.get(wrapper), dict):
                contents = contents[wrapper]
        tensors = {n: t for n, t in contents.items() if isinstance(t, Tensor)} if isinstance(contents, dict) else {}
        self._tensors: dict[str, Tensor] = {str(name): tensor for name, tensor in tensors.items()}
        infos = {n: TensorInfo(tuple(t.shape), str(t.dtype).removeprefix("torch.")) for n, t in self._tensors.items()}
        super().__init__(path, infos, {})

    def _read(self, name: str) -> Tensor:
        return self._tensors[name]


class GgufFile(WeightFile):
    """A GGUF file, dequantised by the ``gguf`` package when a tensor is read.

    Args:
        path: The file.

    Raises:
        MissingPackageError: ``gguf`` is not installed.
    """

    format = "gguf"

    def __init__(self, path: Path) -> None:
        gguf = require("gguf", f"reading {path}")
        try:
            self._reader: GGUFReader = gguf.GGUFReader(path)
        except (ValueError, IndexError, OSError, KeyError, OverflowError) as error:
            raise corrupt(path, error) from error
        self._tensors: dict[str, ReaderTensor] = {tensor.name: tensor for tensor in self._reader.tensors}
        words = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
        infos = {
            name: TensorInfo(self._shape(name), words.get(tensor.tensor_type.name, tensor.tensor_type.name))
            for name, tensor in self._tensors.items()
        }
        super().__init__(path, infos, {})

    def _shape(self, name: str) -> tuple[int, ...]:
        """GGUF writes dimensions backwards and at most four; more stand in a field of ComfyUI's converters."""
        field = self._reader.get_field(f"comfy.gguf.orig_shape.{name}")
        if field is not None:
            return tuple(int(field.parts[index][0]) for index in field.data)
        return tuple(int(size) for size in reversed(self._tensors[name].shape))

    def _read(self, name: str) -> Tensor:
        gguf = require("gguf", "reading GGUF files")
        tensor = self._tensors[name]
        numbers = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        return torch.from_numpy(numbers.copy()).reshape(self._shape(name))


def open_weights(path: str | Path, what: str = "the weight file") -> WeightFile:
    """Open a file of any known format by its header.

    Args:
        path: The file, or the ``.safetensors.index.json`` of a sharded one.
        what: What it is wanted for, in messages.

    Raises:
        MissingModelError: nothing is there.
        CorruptWeightsError: truncated, half a download, or no weight file.
        UnsafeWeightsError: a pickle that wants to run code.
    """
    path = require_file(path, what)
    if path.suffix in HALF_DOWNLOADS:
        raise CorruptWeightsError(
            f"{what} is half a download",
            got=path,
            expected="a finished file",
            remedy="Start the download again; it goes on where it stopped.",
        )
    if path.name.endswith(".index.json"):
        return SafetensorsFile(path, index_shards(path))
    found = file_format(path)
    if found == "gguf":
        return GgufFile(path)
    if found == "safetensors":
        return SafetensorsFile(path, [path])
    _refuse_placeholders(path, read_head(path, 64))
    if path.suffix in SAFETENSORS_SUFFIXES:
        if found in ("zip", "pickle"):
            raise UnsafeWeightsError(
                "the file is named .safetensors but is a pickle", got=path, expected="a safetensors file"
            )
        check_safetensors(path)  # says in the library's words what is wrong with it
    return TorchFile(path)


def _read_header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file that was checked.

    Raises:
        CorruptWeightsError: it has changed or gone since.
    """
    try:
        with path.open("rb") as file:
            return json.loads(file.read(min(int.from_bytes(file.read(8), "little"), MOST_HEADER_BYTES)))
    except (OSError, ValueError) as error:
        raise corrupt(path, error) from error


def require_float(file: WeightFile) -> None:
    """Refuse weights that were packed by a quantiser: those that say so, and whole numbers.

    Raises:
        IncompatibleWeightsError: names the packing or the type.
        CorruptWeightsError: what the file says of it cannot be read.
    """
    unknown = sorted(file.quantisations.difference(KNOWN_QUANTISATIONS))
    if unknown or file.dtype.removeprefix("scaled ") in ("int8", "uint8", "int16", "int32", "int64", "bool"):
        raise IncompatibleWeightsError(
            "the weights are quantised in a way that cannot be undone here",
            got=f"{file.path} ({', '.join(unknown) or file.dtype})",
            expected=WANTED_TYPES,
            remedy="Get the weights in one of these types; --storage fp8, int8 and nf4 pack them after loading.",
        )


def index_shards(index: Path) -> list[Path]:
    """The files that the index of a sharded model names.

    Raises:
        CorruptWeightsError: not an index, or one that names files elsewhere.
        MissingModelError: a file is not there.
    """
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise corrupt(index, error) from error
    outside = [name for name in names if not isinstance(name, str) or not name or Path(name).name != name]
    if outside:
        raise CorruptWeightsError(
            "the index names files outside of its folder", got=outside[0], expected="file names only"
        )
    return [require_file(index.parent / name, "a part of the sharded model") for name in names]


def _refuse_placeholders(path: Path, head: bytes) -> None:
    """Text where weights should be: what a failed download or a plain ``git clone`` leaves."""
    reasons = {b"version https://git-lfs": "a Git LFS pointer", b"<!doctype": "a web page", b"<html": "a web page"}
    for start, reason in reasons.items():
        if head.lstrip().lower().startswith(start):
            raise CorruptWeightsError(
                f"the weight file is {reason}, not weights",
                got=path,
                expected="the file itself",
                remedy="Download it again; a gated model needs a login and an accepted licence first.",
            )
    if not head:
        raise CorruptWeightsError("the weight file is empty", got=path, expected="a finished download")
