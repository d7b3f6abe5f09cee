"""Which files a sharded model consists of: by its index, or by the numbers in the shards' names."""

from __future__ import annotations

import re
from pathlib import Path

from ...core.disk import is_file, suffix_of
from ...core.errors import CorruptWeightsError, MissingModelError
from ...core.json_text import read_json
from .files import SAFETENSORS_SUFFIXES, require_file

# "model.safetensors.index.json", and of a variant "model.safetensors.index.fp16.json".
INDEX = re.compile(r"\.safetensors\.index(?:\.[\w-]+)?\.json$")
# "model-00001-of-00002.safetensors"; a variant stands before or behind the numbers.
SHARD = re.compile(r"^(.+?)(\.[\w-]+)?-(\d+)-of-(\d+)(\.[\w-]+)?\.safetensors$")


# Two thousand parts of 5 GB each are more than any model has.
MOST_SHARDS = 2000


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
    number, count = match[3], int(match[4][:12])
    if count > MOST_SHARDS:
        raise CorruptWeightsError(
            "the name of the file counts more parts than a model has",
            got=path.name,
            expected=f"at most {MOST_SHARDS}",
            remedy="Rename the file.",
        )
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
    content = read_json(
        index,
        what="the index of the sharded model",
        error=CorruptWeightsError,
        expected="a JSON object with a weight_map",
        remedy="Download or copy it again.",
    )
    try:
        named = content["weight_map"].values()
    except (LookupError, AttributeError, TypeError) as error:
        raise CorruptWeightsError(
            "this is no index of a sharded model", got=index, expected="a JSON object with a weight_map"
        ) from error
    outside = [name for name in named if not isinstance(name, str) or name in ("", ".", "..") or _leads_away(name)]
    if outside:
        raise CorruptWeightsError(
            "the index names files outside of its folder", got=f"{outside[0]!r:.200}", expected="file names only"
        )
    names = sorted(set(named))
    strange = [name for name in names if suffix_of(Path(name)) not in SAFETENSORS_SUFFIXES]
    if strange or not names:
        raise CorruptWeightsError(
            "the index names no safetensors files",
            got=f"{index} naming {strange[0]!r:.200}" if strange else index,
            expected="files that end in .safetensors",
        )
    return [require_file(index.parent / name, "a part of the sharded model") for name in names]


def _leads_away(name: str) -> bool:
    """Whether a name is more than a file's own, on any system: the index may come from another one."""
    return any(sign in name for sign in "/\\:\0")
