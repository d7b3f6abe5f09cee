"""One view of every weight file: names, shapes and types from the header, tensors read one at a time.

Formats are told by the first bytes: safetensors (one file or an index with shards), GGUF, and torch checkpoints (read
with ``weights_only=True``). Scales and packings of ComfyUI's files are undone when a tensor is read.
"""

from __future__ import annotations

import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from ...core.disk import suffix_of
from ...core.errors import CorruptWeightsError, IncompatibleWeightsError, UnsafeWeightsError
from ._gguf import GgufFile
from ._safetensors import WORDS
from ._shards import is_index, shard_files, shard_group
from ._weight_file import TensorInfo, WeightFile, joined_metadata
from .files import (
    NOT_SAFETENSORS,
    SAFETENSORS_SUFFIXES,
    check_safetensors,
    corrupt,
    file_format,
    read_head,
    read_torch_file,
    require_file,
    require_finished,
)

WANTED_TYPES = "float32, float16, bfloat16, fp8 or scaled fp8, int8_tensorwise, mxfp8 or nvfp4 weights, or GGUF"
# What is no number that a model computes with: whole numbers, powers of two, pairs.
NO_NUMBERS = re.compile(r"u?int\d+|bool|nvfp4|float8_e8m0fnu|float4\w*|complex\d+")
# Tensors of a model; whole numbers under other names count something.
TRAINED = ("weight", "bias", "modulation", "scale_shift_table", "gamma", "beta", "alpha", "weight_g", "weight_v")


class SafetensorsFile(WeightFile):
    """One safetensors file, or the shards of one model.

    Args:
        path: The file, the index or a shard.
        shards: The files that hold the tensors.
    """

    format = "safetensors"

    def __init__(self, path: Path, shards: list[Path]) -> None:
        infos, metadata = {}, {}
        self._where: dict[str, Path] = {}
        self._spans: dict[str, tuple[int, int]] = {}
        for shard in shards:
            header, own, start = check_safetensors(shard)
            metadata = joined_metadata(metadata, own)
            for name, entry in header.items():
                _refuse_twice(name, self._where.get(name), shard)
                dtype = WORDS.get(entry["dtype"], entry["dtype"])
                infos[name], self._where[name] = TensorInfo(tuple(entry["shape"]), dtype), shard
                first, last = entry["data_offsets"]
                self._spans[name] = (start + first, last - first)
        self._shards = shards
        super().__init__(path, infos, metadata)

    @property
    def num_bytes(self) -> int:
        """Size of all shards."""
        return sum(shard.stat().st_size for shard in self._shards)

    def _contents(self, names: list[str]) -> dict[str, bytes]:
        """Read from where the header says: the library reads its header anew for each tensor."""
        found = {}
        for shard in self._shards:
            own = [name for name in names if self._where[name] == shard]
            try:
                with shard.open("rb") if own else nullcontext() as file:
                    for name in own:
                        start, size = self._spans[name]
                        file.seek(start)
                        found[name] = file.read(size)
            except OSError as error:
                raise corrupt(shard, error) from error
        return found

    def _read(self, name: str) -> Tensor:
        shard = self._where[name]
        try:
            with safe_open(shard, framework="pt") as file:
                return file.get_tensor(name)
        except NOT_SAFETENSORS as error:
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
        if isinstance(contents, dict) and not any(isinstance(value, Tensor) for value in contents.values()):
            inside = [value for value in contents.values() if isinstance(value, dict) and _has_tensors(value)]
            contents = inside[0] if len(inside) == 1 else contents
        tensors = {n: t for n, t in contents.items() if isinstance(t, Tensor)} if isinstance(contents, dict) else {}
        self._tensors: dict[str, Tensor] = {str(name): tensor for name, tensor in tensors.items()}
        infos = {n: TensorInfo(tuple(t.shape), str(t.dtype).removeprefix("torch.")) for n, t in self._tensors.items()}
        super().__init__(path, infos, {})

    def _read(self, name: str) -> Tensor:
        return self._tensors[name]


def _has_tensors(value: dict[Any, Any]) -> bool:
    return any(isinstance(each, Tensor) for each in value.values())


def open_weights(path: str | Path, what: str = "the weight file") -> WeightFile:
    """Open a file of any known format by its header.

    Args:
        path: The file; of a sharded model its index or any of its shards.
        what: What it is wanted for, in messages.

    Raises:
        MissingModelError: nothing is there.
        CorruptWeightsError: truncated, half a download, or no weight file.
        UnsafeWeightsError: a pickle that wants to run code.
    """
    path = require_finished(require_file(path, what), what)
    if is_index(path) or shard_group(path):
        return SafetensorsFile(path, shard_files(path))
    found = file_format(path)
    if found == "gguf":
        return GgufFile(path)
    if found == "safetensors":
        return SafetensorsFile(path, [path])
    _refuse_placeholders(path, read_head(path, 64))
    if suffix_of(path) in SAFETENSORS_SUFFIXES:
        if found in ("zip", "pickle"):
            raise UnsafeWeightsError(
                "the file is named .safetensors but is a pickle", got=path, expected="a safetensors file"
            )
        check_safetensors(path)  # says in the library's words what is wrong with it
    return TorchFile(path)


def _refuse_twice(name: str, first: Path | None, second: Path) -> None:
    if first is not None:
        raise CorruptWeightsError(
            "two parts of the sharded model hold one tensor",
            got=f"{name} in {first} and in {second.name}",
            expected="each tensor in one part",
            remedy="The parts are of different models: download or copy them again.",
        )


def require_float(file: WeightFile) -> None:
    """Refuse weights that are packed in a way that cannot be undone: those that say so, and bare whole numbers.

    Raises:
        IncompatibleWeightsError: names the packing or the type.
        CorruptWeightsError: what the file says of it cannot be read.
    """
    try:
        packed = {f"{name}.weight" for name in file.packings}
        bare = [name for name, info in file.infos.items() if NO_NUMBERS.fullmatch(info.dtype)]
        problem = next((file.infos[name].dtype for name in bare if name.endswith(TRAINED) and name not in packed), "")
    except IncompatibleWeightsError as error:
        problem = str(error.got)
    if problem:
        raise IncompatibleWeightsError(
            "the weights are quantised in a way that cannot be undone here",
            got=f"{file.path} ({problem.removeprefix(f'{file.path}: ')})",
            expected=WANTED_TYPES,
            remedy="Get the weights in one of these types; --storage fp8, int8 and nf4 pack them after loading.",
        )


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
