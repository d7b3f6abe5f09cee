"""Which folders are PAV-DiT's: told by the class that the transformer's configuration names, without any library."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from ...core.disk import is_file, look
from ...core.errors import SoundingVideoError
from ...core.json_text import read_json
from ..weights.listing import FOLDER_DEPTH

CLASS_NAME = "PavDitTransformer"


def is_planes(folder: Path) -> bool:
    """Whether it is one; nothing raises."""
    config = folder / "transformer" / "config.json"
    try:
        said = read_json(config) if is_file(config) else None
    except (SoundingVideoError, OSError):
        return False
    return isinstance(said, dict) and said.get("_class_name") == CLASS_NAME


def planes_below(roots: Iterable[Path]) -> Iterator[tuple[Path, Path]]:
    """Each root and the folders below it that are."""
    for root in roots:
        yield from ((root, folder) for folder in look(root, FOLDER_DEPTH).folders if is_planes(folder))
