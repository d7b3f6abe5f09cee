"""Which files a sharded model consists of: by its index, or by the numbers in the shards' names."""

from __future__ import annotations

import re
from pathlib import Path

from ...core.disk import is_file
from ...core.errors import CorruptWeightsError, MissingModelError
from ...core.json_text import read_json
from .files import corrupt, require_file

# "model.safetensors.index.json", and of a variant "model.safetensors.index.fp16.json".
INDEX = re.compile(r"\.safetensors\.index(?:\.[\w-]+)?\.json$")
# "model-00001-of-00002.safetensors"; a variant stands before or behind the numbers.
SHARD = re.compile(r"^(.+?)(\.[\w-]+)?-(\d+)-of-(\d+)(\.[\w-]+)?\.safetensors$")


def is_index(path: Path) -> bool:
    """Whether a file is called like the index of a sharded model."""
    return bool(INDEX.search(path.name))


def shard_group(path: Path) -> tuple[Path, ...] | None:
    """The same for all shards of one model; None for a file that is not called like a shard."""
    match = SHARD.match(path.name)
    if match is None:
        return None
    stem, before, _, count, behind = match.groups(default="")
    return path.parent, Path(stem), Path(before or behind), Path(count)


def index_beside(path: Path) -> Path | None:
    """The index of a shard's model, if it is there."""
    match = SHARD.match(path.name)
    if match is None:
        return None
    stem, before, _, _, behind = match.groups(default="")
    variant = before or behind
    places = [path.parent / f"{stem}{before}.safetensors.index.json"]
    places += [path.parent / f"{stem}.safetensors.index{variant}.json"] if variant else []
    return next((place for place in places if is_file(place)), None)


def shard_files(path: Path) -> list[Path]:
    """The files of a model: those an index names, all shards of one of them, or the file alone.

    Raises:
        CorruptWeightsError: an index that cannot be read or names files elsewhere.
        MissingModelError: one of the files is not there; the message names it.
    """
    if is_index(path):
        return index_shards(path)
    match, index = SHARD.match(path.name), index_beside(path)
    if match is None:
        return [path]
    if index is not None and path in (found := index_shards(index)):
        return found
    number, count = match[3], int(match[4])
    first, last = path.name[: match.start(3)], path.name[match.end(3) :]
    names = [f"{first}{index:0{len(number)}}{last}" for index in range(1, count + 1)]
    missing = [name for name in names if not is_file(path.parent / name)]
    if missing or path.name not in names:
        raise MissingModelError(
            "a part of the sharded model was not found",
            got=f"{path.parent} without {', '.join(missing[:3])}" if missing else f"{path} of {count}",
            expected=f"all {count} parts beside each other",
            remedy="Download or copy what is missing.",
        )
    return [path.parent / name for name in names]


def index_shards(index: Path) -> list[Path]:
    """The files that the index of a sharded model names.

    Raises:
        CorruptWeightsError: not an index, or one that names files elsewhere.
        MissingModelError: a file is not there.
    """
    try:
        names = sorted(set(read_json(index)["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise corrupt(index, error) from error
    outside = [name for name in names if not isinstance(name, str) or not name or Path(name).name != name]
    if outside:
        raise CorruptWeightsError(
            "the index names files outside of its folder", got=outside[0], expected="file names only"
        )
    return [require_file(index.parent / name, "a part of the sharded model") for name in names]
