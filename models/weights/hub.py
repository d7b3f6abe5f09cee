"""Hugging Face's cache on disk: which models it holds, where, and how lists name them. Nothing is ever fetched."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ...core.disk import look, status_of

# The cache names a model's folder so, and its id with "--" for "/".
FOLDER_PREFIX = "models--"
# Repositories keep their files in sub-folders; this many levels are looked at for the newest.
DEPTH = 4


def hub_cache() -> Path:
    """The folder of the user's Hugging Face cache; it may not exist."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def hub_snapshots(cache: Path | None = None) -> dict[str, Path]:
    """Newest snapshot of every model in Hugging Face's cache, by repository id; nothing is fetched.

    Looked at here and not by the hub's own scan, which ends at the first folder it may not enter and hides a
    repository of which one file is missing.

    Args:
        cache: The cache folder; None takes the user's.
    """
    found = {}
    for folder in look(cache or hub_cache(), 1).folders:
        snapshots = look(folder / "snapshots", 1).folders if folder.name.startswith(FOLDER_PREFIX) else ()
        if snapshots:
            repository = folder.name.removeprefix(FOLDER_PREFIX).replace("--", "/")
            found[repository] = max(snapshots, key=_changed)
    return dict(sorted(found.items()))


def _changed(snapshot: Path) -> float:
    """When the newest file of a snapshot was changed; of an empty one the folder itself."""
    times = [status.st_mtime for path in look(snapshot, DEPTH).files if (status := status_of(path))]
    own = status_of(snapshot)
    return max(times, default=own.st_mtime if own else 0.0)


def expand_root(root: Path) -> list[Path]:
    """The folder itself; of a Hugging Face cache, or the folder around one, its newest snapshots."""
    for cache in (root, root / "hub"):
        if any(folder.name.startswith(FOLDER_PREFIX) for folder in look(cache, 1).folders):
            return list(hub_snapshots(cache).values())
    return [root]


def is_cached(path: Path) -> bool:
    """Whether the path lies in a Hugging Face cache."""
    return _repository(path) is not None


def listed_name(path: Path, roots: Iterable[Path] = ()) -> str:
    """How lists name a model: below its root; in Hugging Face's cache with the repository's id in front."""
    repository = _repository(path)
    if repository is not None:
        return repository
    root = next((root for root in roots if root in path.parents), None)
    return path.relative_to(root).as_posix() if root else path.name


def _repository(path: Path) -> str | None:
    """The repository's id and what stands below its snapshot."""
    for index, part in enumerate(path.parts):
        if part.startswith(FOLDER_PREFIX) and path.parts[index + 1 : index + 2] == ("snapshots",):
            return "/".join([part.removeprefix(FOLDER_PREFIX).replace("--", "/"), *path.parts[index + 3 :]])
    return None
