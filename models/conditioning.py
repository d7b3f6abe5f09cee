"""Captions to conditioning: what each tower is told, and whether it is told the duration as tokens too."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ..core.dialect import Text, plain_of
from ..core.disk import is_file, look, status_of
from ..core.errors import CorruptWeightsError, InputError
from ..core.protocols import TextEncoder
from ..core.types import ModalityConditioning
from .weights.files import read_safetensors, write_safetensors

# A pair of captions takes 17 MB at the published sizes.
MEMORY_BYTES = 512 * 2**20
# As many as the bytes hold of UMT5's; of small encoders' more would only make a long-running process grow.
NUM_IN_MEMORY = 64
NUM_FILES = 256
_FIELDS = ("positive", "negative", "duration")


class SoundTextEncoder(TextEncoder, Protocol):
    """A text encoder that also embeds durations, as :class:`~.text.t5.T5TextEncoder` does."""

    def duration(self, seconds_start: float, seconds_end: float, batch: int = 1) -> Tensor:
        """``(B, 1, 2D)``."""
        ...

    def duration_tokens(self, seconds_start: float, seconds_end: float, batch: int = 1) -> Tensor:
        """``(B, 2, D)``."""
        ...


def encode_video(
    encoder: TextEncoder,
    positive: Text | list[Text],
    negative: Text | list[Text] | None,
    *,
    may_be_empty: bool = False,
) -> ModalityConditioning:
    """Encode the video tower's captions.

    Args:
        encoder: ``umt5`` or another video text encoder.
        positive: What to show; one caption, or one for each clip of a batch.
        negative: What to avoid: one for all or one for each; ``""`` is a choice; None turns guidance off.
        may_be_empty: Whether ``""`` is a caption too.

    Raises:
        InputError: an empty caption, or lists of different lengths.
    """
    positives, negatives = _captions("video", positive, negative, may_be_empty)
    # One after the other: a caption's embedding must not depend on whether guidance is on.
    return ModalityConditioning(
        positive=encoder.encode(positives), negative=None if negatives is None else encoder.encode(negatives)
    )


def encode_audio(
    encoder: SoundTextEncoder | TextEncoder,
    positive: Text | list[Text],
    negative: Text | list[Text] | None,
    *,
    seconds: float,
    duration_tokens: bool = False,
    may_be_empty: bool = False,
) -> ModalityConditioning:
    """Encode the audio tower's captions and the clip's duration.

    Args:
        encoder: ``t5`` or another audio text encoder; one that embeds no durations leaves them out.
        positive: What to hear; one caption, or one for each clip of a batch.
        negative: What to avoid: one for all or one for each; ``""`` is a choice; None turns guidance off.
        seconds: Length of the clip; the sound starts at 0.
        duration_tokens: False is the published joint system: cross-attention reads the text only and the duration
            comes in through the global token. True is stock Stable Audio, which appends two duration tokens
            to the text (BridgeDiT reference, section 4).
        may_be_empty: Whether ``""`` is a caption too.

    Raises:
        InputError: an empty caption, or lists of different lengths.
        NonFiniteError: a duration that is NaN or infinite.
        GeometryError: a duration that the audio model does not know.
    """
    positives, negatives = _captions("audio", positive, negative, may_be_empty)
    batch = len(positives)
    duration = encoder.duration(0.0, seconds, batch) if hasattr(encoder, "duration") else None

    def embed(texts: list[Text]) -> Tensor:
        text = encoder.encode(texts)
        return torch.cat([text, encoder.duration_tokens(0.0, seconds, batch)], dim=1) if duration_tokens else text

    return ModalityConditioning(
        positive=embed(positives), negative=None if negatives is None else embed(negatives), duration=duration
    )


def _captions(
    name: str, positive: Text | list[Text], negative: Text | list[Text] | None, may_be_empty: bool
) -> tuple[list[Text], list[Text] | None]:
    positives = positive if isinstance(positive, list) else [positive]
    if not positives or not (may_be_empty or all(plain_of(text).strip() for text in positives)):
        raise InputError(
            f"the {name} caption is empty",
            got=repr(positive),
            expected="a description",
            remedy="Write what the clip should contain.",
        )
    if negative is None:
        return positives, None
    negatives = negative if isinstance(negative, list) else [negative] * len(positives)
    if len(negatives) != len(positives):
        raise InputError(
            f"the {name} captions do not pair up",
            got=f"{len(negatives)} negative for {len(positives)} positive",
            expected="one negative for all, or one for each",
        )
    return positives, negatives


class ConditioningCache:
    """Encoded captions by what they were made from, the newest in memory and, if asked for, on disk.

    Args:
        folder: Where files go; None keeps them in memory only.
        max_bytes: Of tensors in memory, at most 64 of them; the ones not used for longest go first.
        max_files: On disk; the ones not used for longest are deleted.
    """

    def __init__(
        self, folder: Path | None = None, *, max_bytes: int = MEMORY_BYTES, max_files: int = NUM_FILES
    ) -> None:
        self.folder, self._max_bytes, self._max_files = folder, max_bytes, max_files
        self._entries: OrderedDict[str, ModalityConditioning] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, *made_from: object) -> ModalityConditioning | None:
        """What was made from these values, or None; a file that cannot be read counts as absent and is deleted."""
        key = _key(made_from)
        if key not in self._entries and self.folder is not None and is_file(path := self._path(key)):
            try:
                self._remember(key, ModalityConditioning(**read_safetensors(path)[0]))
                path.touch()
            except (CorruptWeightsError, InputError, TypeError):
                path.unlink(missing_ok=True)
        if key in self._entries:
            self._entries.move_to_end(key)
        return self._entries.get(key)

    def put(self, conditioning: ModalityConditioning, *made_from: object) -> ModalityConditioning:
        """Keep a copy on the CPU; gives it back."""
        tensors = {name: getattr(conditioning, name) for name in _FIELDS}
        tensors = {name: tensor.to("cpu") for name, tensor in tensors.items() if tensor is not None}
        conditioning = ModalityConditioning(**tensors)
        key = _key(made_from)
        self._remember(key, conditioning)
        if self.folder is not None:
            write_safetensors(self._path(key), tensors, {})
            kept = [file for file in look(self.folder, 1).files if file.suffix == ".safetensors"]
            ages = {file: status.st_mtime for file in kept if (status := status_of(file))}
            for file in sorted(ages, key=ages.__getitem__)[: -self._max_files]:
                file.unlink(missing_ok=True)
        return conditioning

    def clear(self) -> None:
        """Forget what is in memory."""
        self._entries.clear()

    def _remember(self, key: str, conditioning: ModalityConditioning) -> None:
        self._entries[key] = conditioning
        while len(self._entries) > NUM_IN_MEMORY or (
            len(self._entries) > 1 and sum(map(_size, self._entries.values())) > self._max_bytes
        ):
            self._entries.popitem(last=False)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"


def _key(made_from: tuple[object, ...]) -> str:
    return hashlib.sha256(repr(made_from).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _size(conditioning: ModalityConditioning) -> int:
    tensors = (getattr(conditioning, name) for name in _FIELDS)
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)


# Shared by the command line and the nodes of one process.
REMEMBERED = ConditioningCache()
