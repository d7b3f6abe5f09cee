"""What lies in a model folder. A folder is told by the class in its ``transformer/config.json``, a file by its header.

Nothing here raises for what it meets on disk: what cannot be read keeps its reason, for lists and for the message
that says what is missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ...core.disk import PassedOver, Tree, is_dir, is_file, look, reason, status_of, suffix_of
from ...core.errors import (
    CorruptWeightsError,
    IncompatibleWeightsError,
    MissingModelError,
    MissingPackageError,
    WeightsError,
)
from ...core.json_text import read_json
from ..stock import variant_named
from ..towers import TOWERS
from . import hub
from ._complete import require_complete
from ._folders import is_hidden, weights_in
from ._header import open_weights, require_float
from ._parts import one_prefix, parts_of, require_known_parts, transformer_prefix
from ._shards import index_beside, is_index, shard_group
from ._weight_file import WeightFile
from .files import HALF_DOWNLOADS, file_format, read_head
from .layouts import Layout, identify, kind_of

BRIDGE_SUFFIXES = (".safetensors", ".sft", ".ckpt", ".pt", ".bin")
WEIGHT_SUFFIXES = (".safetensors", ".sft", ".gguf", ".ckpt", ".pt", ".pth", ".bin")
# Levels below a root: of diffusers folders, and of files.
FOLDER_DEPTH, FILE_DEPTH = 2, 4
# Sub-folders of a diffusers folder.
PARTS = {
    "wan": ("transformer", "vae", "text_encoder", "tokenizer"),
    "stable_audio": ("transformer", "vae", "text_encoder", "tokenizer", "projection_model"),
}
# Names that only a model of that kind has, as they stand at the beginning of a file of any format, cut short or not.
SIGNS = {
    "wan": (b"head.modulation", b"condition_embedder.text_embedder.linear_1.weight"),
    "wan_vae": (b"decoder.middle.0.residual.0.gamma", b"decoder.mid_block.resnets.0.norm1.gamma"),
    "umt5": (
        b"blocks.0.pos_embedding.embedding.weight",
        b"encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight",
        b"enc.blk.1.attn_rel_b.weight",
    ),
    "stable_audio": (b"to_cond_embed.0.weight",),
    "t5": (b"encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",),
    "alignment": (b"sounding_video.alignment",),
    "bridge": (
        b"attn.q_proj_1.weight",
        b"video_to_audio_proj.weight",
        b"audio_time_token.weight",
        b"sounding_video.bridge",
    ),
}
# A torch file begins with its names, a GGUF file with its tokenizer and then its names.
SIGN_BYTES = 16 << 20


@dataclass(frozen=True)
class FoundFile:
    """A weight file and what its header says.

    Args:
        path: The file.
        layout: What it is; None when it is none of ours or cannot be used.
        problem: Why there is no layout, as a sentence.
        is_foreign: It was read, and is another kind of model.
        looks: Of such a file, its path and what it looks like.
        likely: Of a file that cannot be used, the kinds whose names stand at its beginning; of another model, the kinds
            of which it has such names all the same.
        is_unread: It was not looked into, so that nothing speaks for or against it.
        is_part: It is one of several models in the file.
    """

    path: Path
    layout: Layout | None
    problem: str = ""
    is_foreign: bool = False
    looks: str = ""
    likely: tuple[str, ...] = ()
    is_unread: bool = False
    is_part: bool = False

    @property
    def is_bridge(self) -> bool:
        """Whether its header names a bridge's tensors, be the file whole or cut short."""
        return self.layout.kind == "bridge" if self.layout else "bridge" in self.likely

    @property
    def is_alignment(self) -> bool:
        """Whether its header says that it is an alignment file, be the file whole or cut short."""
        return self.layout.kind == "alignment" if self.layout else "alignment" in self.likely

    @property
    def is_refused(self) -> bool:
        """Whether it may be one of ours and cannot be used."""
        return self.layout is None and not self.is_foreign and (bool(self.likely) or not self.is_unread)


def transformer_class(folder: Path) -> tuple[str | None, str]:
    """The class in a folder's ``transformer/config.json``, and why it cannot be told where something is there."""
    config = folder / "transformer" / "config.json"
    if not is_file(config):
        bare = is_dir(config.parent) and bool(weights_in(config.parent))
        return None, f"{config.parent} has no config.json." if bare else ""
    try:
        return read_json(config)["_class_name"], ""
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return None, f"{config} cannot be read: {reason(error)}."


def tower_kind(folder: Path) -> str | None:
    """``wan``, ``stable_audio`` or None, by the transformer's configuration."""
    class_name, _ = transformer_class(folder)
    tower = variant_named(TOWERS, class_name) if isinstance(class_name, str) else None
    return tower and tower.folder_kind


def find_folders(root: Path, kind: str) -> list[Path]:
    """Diffusers folders of one tower kind: ``root`` itself or up to two levels below it, sorted."""
    return [folder for folder in (root, *look(root, FOLDER_DEPTH).folders) if tower_kind(folder) == kind]


def whats_missing(folder: Path, kind: str) -> str:
    """What a diffusers folder lacks, as a sentence; empty for a whole one: half a download lacks something."""
    for part in PARTS[kind]:
        if not is_dir(folder / part):
            return f"{folder} is incomplete: it has no {part}."
        if part == "tokenizer":
            continue
        weights = weights_in(folder / part)
        if not weights:
            return f"{folder} is incomplete: {part} has no .safetensors file."
        problem = next(filter(None, (_why_closed(file) for file in weights)), "")
        if problem:
            return problem
    return ""


def is_whole(folder: Path, kind: str) -> bool:
    """Whether a diffusers folder holds all parts, each with weights that can be opened."""
    return not whats_missing(folder, kind)


def _why_closed(path: Path) -> str:
    status = status_of(path)
    return _opens(path, status.st_mtime_ns, status.st_size) if status else f"{path} has gone."


@lru_cache(maxsize=4096)
def _opens(path: Path, changed_ns: int, num_bytes: int) -> str:
    try:
        open_weights(path)
    except (WeightsError, MissingModelError) as error:
        return str(error)
    return ""


def inspect_dtype(path: Path) -> str | None:
    """The type that holds most numbers of a file; None where it cannot be opened."""
    try:
        return open_weights(path).dtype
    except (WeightsError, MissingModelError):
        return None


def _towers(root: Path) -> set[Path]:
    return {folder for folder in (root, *look(root, FOLDER_DEPTH).folders) if tower_kind(folder) is not None}


def find_bridges(root: Path) -> list[Path]:
    """Bridge files in ``root`` or its sub-folders up to four levels down, outside of tower folders, sorted.

    Files that cannot be read are among them, so that choosing one says why; files of other models are not.
    """
    towers = _towers(root)
    suffixes = (*BRIDGE_SUFFIXES, ".pth")  # other models are kept so too: a bridge only if it says so
    files = [file for file in look(root, FILE_DEPTH).files if suffix_of(file) in suffixes and not is_hidden(file)]
    looked = (inspect(file) for file in files if not towers.intersection(file.parents))
    return sorted(
        found.path
        for found in looked
        if found.is_bridge or not (found.layout or found.is_foreign or suffix_of(found.path) not in BRIDGE_SUFFIXES)
    )


def find_alignments(root: Path) -> list[Path]:
    """Alignment files in ``root`` or its sub-folders up to four levels down, outside of tower folders, sorted."""
    towers = _towers(root)
    files = (
        file for file in look(root, FILE_DEPTH).files if suffix_of(file) in BRIDGE_SUFFIXES and not is_hidden(file)
    )
    looked = (inspect(file) for file in files if not towers.intersection(file.parents))
    return sorted(found.path for found in looked if found.is_alignment)


def inspect(path: Path) -> FoundFile:
    """What a weight file is, without raising; of an all-in-one checkpoint the first part."""
    return inspect_parts(path)[0]


def inspect_parts(path: Path) -> tuple[FoundFile, ...]:
    """The same, one a model of an all-in-one checkpoint; looked up once as long as the file does not change."""
    status = status_of(path)
    if status is None:
        return (FoundFile(path, None, f"{path} has gone or cannot be looked at."),)
    return _inspect(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4096)
def _inspect(path: Path, changed_ns: int, num_bytes: int) -> tuple[FoundFile, ...]:
    try:
        # Its tensors cannot be left on disk, so looking into one would read gigabytes for a list.
        if is_file(path) and file_format(path) == "pickle":
            text = f"{path} is a torch file of the format before 1.6, which is not looked into for lists."
            return (FoundFile(path, None, text, likely=_likely(path), is_unread=True),)
        file = open_weights(path)
        if file.format == "safetensors" and not file.all_infos:
            raise CorruptWeightsError("the weight file holds no tensors", got=path, expected="weights")
        parts = [(part, kind) for part in parts_of(file) if (kind := kind_of(part)) is not None]
        whole = kind_of(file) == "stable_audio"
        if not parts or whole:
            return (_told(path, file), *(_told(path, part) for part, kind in parts if kind == "t5"))
        if one_prefix(file):
            return (_told(path, parts[0][0]),)
        found = tuple(_told(path, part, file) for part, _ in parts)
        is_strange = transformer_prefix(file.all_infos) and not any(kind == "wan" for _, kind in parts)
        return (*found, _told(path, file)) if is_strange else found
    except (WeightsError, MissingModelError, MissingPackageError) as error:
        return (FoundFile(path, None, str(error), likely=_likely(path)),)


def _told(path: Path, file: WeightFile, whole: WeightFile | None = None) -> FoundFile:
    """What a file or a part of one is; what loading would refuse by the header alone is refused here."""
    try:
        layout = identify(file)
    except IncompatibleWeightsError as error:
        named = tuple(kind for kind, signs in SIGNS.items() if kind != "bridge" and _has_any(file, signs))
        return FoundFile(path, None, str(error), is_foreign=True, looks=str(error.got), likely=named)
    try:
        require_float(file)
        require_complete(file, layout.kind)
        if whole is not None and layout.kind == "wan":
            require_known_parts(whole)
    except WeightsError as error:
        return FoundFile(path, None, str(error), likely=(layout.kind,))
    return FoundFile(path, layout, is_part=whole is not None)


def _has_any(file: WeightFile, signs: tuple[bytes, ...]) -> bool:
    ends = tuple(sign.decode() for sign in signs)
    return any(name.endswith(ends) for name in file)


def _likely(path: Path) -> tuple[str, ...]:
    try:
        head = read_head(path, SIGN_BYTES)
    except WeightsError:
        return ()
    found = tuple(kind for kind, signs in SIGNS.items() if any(sign in head for sign in signs))
    if "bridge" in found:  # which may bring the towers' blocks with it
        return ("bridge",)
    return tuple(kind for kind in found if kind != "t5" or "umt5" not in found)


def find_files(roots: Iterable[Path]) -> list[FoundFile]:
    """Weight files up to four levels below the roots, outside of diffusers towers; parts of all-in-one ones each.

    A sharded model is its index, or without one the first of its shards.
    """
    found: dict[Path, tuple[FoundFile, ...]] = {}
    for root in roots:
        towers = _towers(root)
        groups: set[tuple[Path, ...]] = set()
        for file in look(root, FILE_DEPTH).files:
            group = shard_group(file)
            if not _is_weight_file(file) or file in found or group in groups or towers.intersection(file.parents):
                continue
            groups.update([group] if group else [])
            found[file] = inspect_parts(file)
    return [part for parts in found.values() for part in parts]


def _is_weight_file(path: Path) -> bool:
    if is_index(path):
        return True
    return not is_hidden(path) and (
        is_half(path) or (suffix_of(path) in WEIGHT_SUFFIXES and index_beside(path) is None)
    )


def half_downloads(root: Path) -> list[Path]:
    """What a stopped download has left of weight files, up to four levels below a root."""
    return [file for file in look(root, FILE_DEPTH).files if is_half(file) and not is_hidden(file)]


def is_half(path: Path) -> bool:
    """Whether a file is called like half a download of weights."""
    whole = path.with_suffix("")
    return suffix_of(path) in HALF_DOWNLOADS and suffix_of(whole) in WEIGHT_SUFFIXES and not is_file(whole)


def passed_over(roots: Iterable[Path]) -> list[PassedOver]:
    """What could not be looked into below the roots and in Hugging Face's cache."""
    trees: list[Tree] = [look(root, FILE_DEPTH) for root in roots]
    return list(dict.fromkeys(passed for tree in (*trees, look(hub.hub_cache(), 1)) for passed in tree.passed))
