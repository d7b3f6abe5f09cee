"""GGUF files, as ComfyUI-GGUF and llama.cpp write them."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...core.errors import CorruptWeightsError, IncompatibleWeightsError
from ...core.optional import require
from ._gguf_header import require_sound
from ._gguf_reader import quick_reader
from ._weight_file import TensorInfo, WeightFile
from .files import corrupt

if TYPE_CHECKING:
    from gguf import GGUFReader, ReaderTensor


# Where T5's tokenizers have padding, end and unknown.
FIRST_TOKENS = ["<pad>", "</s>", "<unk>"]
# Kinds of pieces, the same numbers in sentencepiece and in llama.cpp.
NORMAL, UNUSED = 1, 5


def sentencepiece_model(pieces: list[tuple[str, float, int]], charsmap: bytes) -> bytes:
    """A sentencepiece model: pieces with score and kind, and the normaliser's table.

    ModelProto: 1 = pieces (1 = text, 2 = score, 3 = kind), 3 = normaliser (2 = table).
    """

    def field(number: int, data: bytes) -> bytes:
        size, length = len(data), b""
        while size > 127:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + data

    packed = [
        field(1, field(1, text.encode()) + b"\x15" + struct.pack("<f", score) + b"\x18" + bytes([kind]))
        for text, score, kind in pieces
    ]
    return b"".join(packed) + (field(3, field(2, charsmap)) if charsmap else b"")


class GgufFile(WeightFile):
    """A GGUF file, dequantised by the ``gguf`` package when a tensor is read.

    Args:
        path: The file.

    Raises:
        MissingPackageError: ``gguf`` is not installed.
    """

    format = "gguf"

    def __init__(self, path: Path) -> None:
        require("gguf", f"reading {path}")
        require_sound(path)
        try:
            self._reader: GGUFReader = quick_reader()(path)
        except (ValueError, LookupError, OSError, OverflowError, TypeError, AttributeError, MemoryError) as error:
            raise corrupt(path, error) from error
        self.path = path
        self._tensors: dict[str, ReaderTensor] = {tensor.name: tensor for tensor in self._reader.tensors}
        words = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
        infos = {
            name: TensorInfo(self._shape(name), words.get(tensor.tensor_type.name, tensor.tensor_type.name))
            for name, tensor in self._tensors.items()
        }
        super().__init__(path, infos, {})

    @property
    def has_tokenizer(self) -> bool:
        """Whether the metadata hold a tokenizer such as T5's: pieces with scores, padding and end in their places."""
        model, tokens = (
            self._field("tokenizer.ggml.model"),
            self._field("tokenizer.ggml.tokens", most=len(FIRST_TOKENS)),
        )
        return model == "t5" and tokens == FIRST_TOKENS and self._field("tokenizer.ggml.scores", most=1) is not None

    def tokenizer_bytes(self) -> bytes | None:
        """The tokenizer of the metadata, written as the sentencepiece model that it was made from.

        Raises:
            CorruptWeightsError: lists of other kinds than a tokenizer's.
        """
        if not self.has_tokenizer:
            return None
        try:
            return self._sentencepiece()
        except (ValueError, TypeError, AttributeError, struct.error, OverflowError) as error:
            raise corrupt(self.path, error) from error

    def _sentencepiece(self) -> bytes | None:
        tokens = self._field("tokenizer.ggml.tokens")
        scores = self._field("tokenizer.ggml.scores")
        kinds = self._field("tokenizer.ggml.token_type") or [NORMAL] * len(tokens)
        if not len(tokens) == len(scores) == len(kinds):
            return None
        # The converter fills up to the rows of the table with pieces that nothing is ever split into.
        last = max(index for index, kind in enumerate(kinds) if kind != UNUSED)
        pieces = list(zip(tokens, scores, kinds, strict=True))[: last + 1]
        charsmap = self._field("tokenizer.ggml.precompiled_charsmap") or []
        return sentencepiece_model(pieces, bytes(value % 256 for value in charsmap))

    def _field(self, name: str, most: int | None = None) -> Any:
        """A value of the metadata, of a list the first ones; None where it is not there."""
        field = self._reader.get_field(name)
        if field is None:
            return None
        is_text = field.types[-1].name == "STRING"
        parts = [field.parts[index] for index in field.data[:most]]
        values = [bytes(part).decode("utf-8", "replace") if is_text else part[0].item() for part in parts]
        return values if field.types[0].name == "ARRAY" else values[0]

    def _shape(self, name: str) -> tuple[int, ...]:
        """GGUF writes dimensions backwards and at most four; more stand in a field of ComfyUI's converters."""
        stored = tuple(int(size) for size in reversed(self._tensors[name].shape))
        noted = self._field(f"comfy.gguf.orig_shape.{name}")
        if noted is None:
            return stored
        numbers = noted if isinstance(noted, list) else [noted]
        if any(type(size) is not int or size < 1 for size in numbers) or math.prod(numbers) != math.prod(stored):
            raise CorruptWeightsError(
                "the GGUF file notes another shape than a tensor has",
                got=f"{noted!r:.80} for {name} {stored} in {self.path}",
                expected="the same count of numbers",
            )
        return tuple(numbers)

    def _read(self, name: str) -> Tensor:
        gguf = require("gguf", "reading GGUF files")
        tensor = self._tensors[name]
        try:
            numbers = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        except (NotImplementedError, ValueError) as error:
            raise IncompatibleWeightsError(
                "a tensor of the GGUF file cannot be unpacked",
                got=f"{name} of the type {tensor.tensor_type.name} in {self.path}",
                expected="F32, F16, BF16, Q8_0 or another type that the gguf package unpacks",
            ) from error
        return torch.from_numpy(numbers.copy()).reshape(self._shape(name))
