"""Reading weight files safely: safetensors first, torch files with ``weights_only=True`` only."""

from __future__ import annotations

import json
import pickle
import pickletools
import re
import struct
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ...core.disk import is_file, reason, size_of, suffix_of, user_path, what_is_there
from ...core.errors import CorruptWeightsError, MissingModelError, OutputError, UnsafeWeightsError
from ...core.json_text import parse_json
from ...core.new_files import made_folder, remove, remove_abandoned, scratch_path
from ._archives import require_honest, require_plain_tensors
from ._safetensors import MOST_HEADER_BYTES, read_header

HALF_DOWNLOADS = (".incomplete", ".part", ".partial", ".crdownload", ".aria2", ".download", ".tmp")
SAFETENSORS_SUFFIXES = (".safetensors", ".sft")

# What the library raises for a damaged file, and for one whose tensors torch has no type for.
NOT_SAFETENSORS = (SafetensorError, OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError)
# What torch's reader raises for bytes that are no checkpoint.
NOT_A_CHECKPOINT = (
    RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError, AssertionError, MemoryError,
    struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
# How torch's safe reader names what it refuses, in each of its messages.
REFUSED_GLOBAL = re.compile(r"GLOBAL (\S+)")
# What a pickle of tensors and plain containers names: how tensors are put together again, and their types.
HARMLESS_GLOBAL = re.compile(
    r"collections\.|torch\.(?:_utils\._rebuild|_tensor\._rebuild|nn\.parameter\.|serialization\._get_layout|storage\."
    r"|(?:\w*Storage|\w*Tensor|Size|device|bool|b?float\w*|u?int\d+|complex\d+)$)"
)


def require_file(path: str | Path, what: str) -> Path:
    """The path as a ``Path`` if a file stands there.

    Raises:
        MissingModelError: nothing is there, or a folder, a pipe, or what cannot be looked at.
    """
    path = user_path(path)
    if not is_file(path):
        there = what_is_there(path)
        there = f"{there} there" if there.startswith(("a ", "nothing")) else there
        raise MissingModelError(f"{what} was not found", got=f"{path} ({there})", expected="a weight file")
    return path


def require_finished(path: Path, what: str) -> Path:
    """The path, if it is not called half a download and nothing beside it says that it is one.

    Raises:
        CorruptWeightsError: it is half a download.
    """
    # Aria2 makes a file of full length at once and keeps a note beside it for as long as there are holes in it.
    if suffix_of(path) in HALF_DOWNLOADS or is_file(path.with_name(f"{path.name}.aria2")):
        raise CorruptWeightsError(
            f"{what} is half a download",
            got=path,
            expected="a finished file",
            remedy="Start the download again; it goes on where it stopped.",
        )
    return path


def file_format(path: Path) -> str:
    """``safetensors``, ``gguf``, ``zip``, ``pickle`` or an empty text, told by the whole beginning.

    A safetensors file begins with the length of its header, which may look like the first byte of a pickle or the
    first two of a zip archive; what follows tells them apart.

    Raises:
        CorruptWeightsError: it cannot be opened.
    """
    head = read_head(path, 16)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= MOST_HEADER_BYTES:
        return "safetensors"
    if head[:4] == b"GGUF":
        return "gguf"
    if head[:4] == b"PK\x03\x04":
        return "zip"
    return "pickle" if head[:1] == b"\x80" and head[1:2] in b"\x01\x02\x03\x04\x05" else ""


def read_head(path: Path, num_bytes: int) -> bytes:
    """The first bytes of a file.

    Raises:
        CorruptWeightsError: it cannot be opened.
    """
    if not size_of(path):  # some files of the system have no size and keep their reader waiting
        return b""
    try:
        with path.open("rb") as file:
            return file.read(num_bytes)
    except OSError as error:
        raise corrupt(path, error) from error


def read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises:
        CorruptWeightsError: truncated, or not a safetensors file.
    """
    read_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except NOT_SAFETENSORS as error:
        raise corrupt(path, error) from error


def check_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, str], int]:
    """Read a safetensors file's header, which says how long the file must be, without loading its tensors.

    Returns:
        As :func:`._safetensors.read_header`.

    Raises:
        CorruptWeightsError: truncated, or not a safetensors file.
    """
    header = read_header(path)
    try:
        with safe_open(path, framework="pt"):
            return header
    except NOT_SAFETENSORS as error:
        raise corrupt(path, error) from error


def _pickled(path: Path) -> bytes:
    """The pickle of a torch file; nothing where the file is damaged in another place than that."""
    try:
        if not zipfile.is_zipfile(path):
            return path.read_bytes()
        with zipfile.ZipFile(path) as archive:
            return next((archive.read(name) for name in archive.namelist() if name.endswith("data.pkl")), b"")
    except NOT_A_CHECKPOINT:
        return b""


def read_torch_file(path: Path, *, mmap: bool = False) -> Any:
    """Contents of a torch checkpoint, read without running anything it contains.

    Args:
        path: The file.
        mmap: Leave the tensors on disk until they are used (files in torch's zip format; others are read whole).

    Raises:
        UnsafeWeightsError: a pickle that names anything but tensors and plain containers; the message names it.
        CorruptWeightsError: truncated, or not a torch file.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch advises about pickle protocols that we refuse anyway
            require_honest(path)
            contents = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap and zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        refused = list(dict.fromkeys([*REFUSED_GLOBAL.findall(str(error))[:1], *_foreign_globals(path)]))
        if not refused:
            raise corrupt(path, error) from error
        raise UnsafeWeightsError(
            "the file is a pickle that wants to run code, so it was not loaded",
            got=f"{path} naming {', '.join(refused[:3])}",
            expected="tensors only",
            remedy="Get the weights as .safetensors, or from a source you trust.",
        ) from error
    except NOT_A_CHECKPOINT as error:
        raise corrupt(path, error) from error
    require_plain_tensors(contents, path)
    return contents


def _foreign_globals(path: Path) -> list[str]:
    """Names a pickle would import that are no part of tensors and plain containers; nothing is executed."""
    data = _pickled(path)
    names: list[str] = []
    strings: list[str] = []
    remembered: dict[int, str] = {}  # texts that the pickle refers to again by number
    top = ""
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "GLOBAL":
                names.append(str(argument).replace(" ", "."))
            elif opcode.name == "STACK_GLOBAL":
                names.append(".".join(strings[-2:]))
            elif opcode.name == "MEMOIZE" or opcode.name.endswith("BINPUT"):
                remembered[len(remembered) if argument is None else argument] = top
                continue
            top = remembered.get(argument, "") if opcode.name.endswith("BINGET") else argument
            top = top if isinstance(top, str) else ""
            if top and opcode.name != "GLOBAL":
                strings.append(top)
    except ValueError:
        pass  # truncated stream: what was named before its end still counts
    return [name for name in names if not HARMLESS_GLOBAL.match(name)]


def corrupt(path: Path, error: Exception) -> CorruptWeightsError:
    """The error for a file that a library cannot read, with its size and the library's words."""
    return CorruptWeightsError(
        "the weight file cannot be read",
        got=f"{path} ({size_of(path)} bytes; {_words(error)})",
        expected="a complete safetensors file or torch checkpoint",
        remedy="Download or copy it again; it is probably incomplete or of another kind.",
    )


def _words(error: Exception) -> str:
    return reason(error)[:200] if isinstance(error, OSError) else str(error)[:200] or type(error).__name__


def read_weights(path: str | Path, what: str) -> tuple[Any, dict[str, str]]:
    """Read a weight file of either format; the format is told by its first bytes, not by its name.

    Returns:
        Contents (a dict of tensors for safetensors, whatever it holds for torch files) and metadata. Tensors of torch
        files stay on disk until they are used: copy what outlives the call.
    """
    path = require_finished(require_file(path, what), what)
    found = file_format(path)
    if not (found or size_of(path)):  # some files of the system have no size and keep their reader waiting
        raise CorruptWeightsError(f"{what} cannot be read", got=f"{path} (it is empty)", expected="a weight file")
    if found == "safetensors":
        return read_safetensors(path)
    if suffix_of(path) in SAFETENSORS_SUFFIXES:
        if found in ("zip", "pickle"):
            raise UnsafeWeightsError(
                "the file is named .safetensors but is a pickle",
                got=path,
                expected="a safetensors file",
                remedy="Get the weights as real safetensors, or rename the file to .ckpt if you trust its source.",
            )
        return read_safetensors(path)
    return read_torch_file(path, mmap=True), {}


def write_safetensors(path: str | Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file through a temporary name, so that a killed run leaves no half file.

    Raises:
        OutputError: the folder cannot be written.
    """
    path = Path(path)
    try:
        partial = scratch_path(path)
        with made_folder(path.parent):
            remove_abandoned(path.parent)
            try:
                partial.touch()
                mode = partial.stat().st_mode  # what the user's umask gives; safetensors alone writes owner-only files
                save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial, metadata=metadata)
                _sort_metadata(partial)
                partial.chmod(mode)
                partial.replace(path)
            finally:
                remove(partial)
    except (OSError, SafetensorError) as error:
        raise OutputError(
            "the weights cannot be written", got=f"{path} ({error})", expected="a folder that can be written"
        ) from error


def _sort_metadata(path: Path) -> None:
    """Safetensors writes metadata in an order that differs between processes; sorted, equal content is equal bytes."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = parse_json(file.read(size), most_bytes=MOST_HEADER_BYTES)
        header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
        file.seek(8)
        file.write(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8").ljust(size))
