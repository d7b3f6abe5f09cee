"""A text encoder that is in memory only while it works, and names for what encoders compute."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from ...core.disk import is_dir, look, reason, size_of
from ...core.errors import CorruptWeightsError
from ._encoder import PromptEncoder

# Of a large file its beginning (which holds the header) and this many blocks spread over it are read.
_NUM_BLOCKS, _BLOCK_BYTES = 64, 4096
_NUM_VALUES = 64
# Levels of a folder; text encoders and tokenizers have one.
_DEPTH = 4
_VOCABULARIES: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


class TextEncoderHandle:
    """Stands for a text encoder that is read from disk for each use and let go of afterwards.

    Whatever else is asked of it is asked of the encoder, which is read for that.

    Args:
        load: Reads the encoder.
        fingerprint: Names what the encoder computes; equal for equal weights, tokenizer and settings.
        source: What it is read from (a folder or single files), for whoever plans its memory; None leaves it out.
        text_length: Tokens of a text, where the source does not say it.
    """

    def __init__(
        self,
        load: Callable[[], PromptEncoder],
        fingerprint: str,
        source: Any | None = None,
        text_length: int | None = None,
    ) -> None:
        self._load, self.fingerprint = load, fingerprint
        self.source, self.text_length = source, text_length
        self._encoder: PromptEncoder | None = None

    @property
    def is_loaded(self) -> bool:
        """Whether the encoder is in memory."""
        return self._encoder is not None

    def get(self) -> PromptEncoder:
        """The encoder; read now if it is not there."""
        if self._encoder is None:
            self._encoder = self._load()
        return self._encoder

    def free(self) -> None:
        """Let go of the encoder; its memory is free as soon as nobody else holds it."""
        self._encoder = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # copies and pickles ask for these before anything is there
            raise AttributeError(name)
        return getattr(self.get(), name)


def fingerprint_files(paths: Iterable[Path], *settings: object) -> str:
    """A hash of files by size, beginning and samples, and of settings.

    Reading 11 GB takes longer than using them; another training changes every block, so samples tell.

    Args:
        paths: Files, or folders of which every file counts; their place on disk does not.
        settings: What else changes the result.

    Raises:
        CorruptWeightsError: a file cannot be read.
    """
    digest = hashlib.sha256(repr(settings).encode())
    for path in paths:
        for file in look(path, _DEPTH).files if is_dir(path) else [path]:
            name = file.relative_to(path) if file != path else ""
            digest.update(f"{name}|{size_of(file)}|".encode(errors="surrogateescape"))
            try:
                _update_with_samples(digest, file)
            except OSError as error:
                raise CorruptWeightsError(
                    "a file of the text encoder cannot be read",
                    got=f"{file} ({reason(error)})",
                    expected="a file that can be read",
                ) from error
    return digest.hexdigest()


def _update_with_samples(digest: Any, path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        digest.update(file.read(16 * _BLOCK_BYTES))
        for index in range(1, _NUM_BLOCKS + 1):
            file.seek(max(0, (size - _BLOCK_BYTES) * index // _NUM_BLOCKS))
            digest.update(file.read(_BLOCK_BYTES))


def fingerprint_encoder(encoder: PromptEncoder) -> str:
    """A hash of an encoder that is in memory: every tensor's name, shape and type, and values spread over it."""
    digest = hashlib.sha256(f"{type(encoder).__name__}|{encoder.max_length}".encode())
    if encoder.tokenizer not in _VOCABULARIES:
        vocabulary = repr(sorted(encoder.tokenizer.get_vocab().items())).encode("utf-8", "surrogatepass")
        _VOCABULARIES[encoder.tokenizer] = hashlib.sha256(vocabulary).hexdigest()
    digest.update(_VOCABULARIES[encoder.tokenizer].encode())
    for name, tensor in encoder.state_dict().items():
        for plain in _plain_tensors(tensor):
            digest.update(f"{name}{tuple(plain.shape)}{plain.dtype}".encode())
            step = max(1, plain.numel() // _NUM_VALUES)
            values = plain.detach().flatten()[::step].to("cpu", torch.float32)
            digest.update(values.numpy().tobytes())
    return digest.hexdigest()


def _plain_tensors(tensor: Tensor) -> list[Tensor]:
    """A tensor, or those that a packed one is made of."""
    if not is_traceable_wrapper_subclass(tensor):
        return [tensor]
    return [plain for name in tensor.__tensor_flatten__()[0] for plain in _plain_tensors(getattr(tensor, name))]
