"""Hugging Face's cache on disk: which models it holds, where, and how lists name them. Nothing is ever fetched."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

# The cache names a model's folder so, and its id with "--" for "/".
FOLDER_PREFIX = "models--"


def hub_cache() -> Path:
    """The folder of the user's Hugging Face cache; it may not exist."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def hub_snapshots(cache: Path | None = None) -> dict[str, Path]:
    """Newest snapshot of every model in Hugging Face's cache, by repository id; nothing is fetched.

    Args:
        cache: The cache folder; None takes the user's.
    """
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        repositories = scan_cache_dir(cache or hub_cache()).repos
    except CacheNotFound:
        return {}
    models = (repo for repo in repositories if repo.repo_type == "model" and repo.revisions)
    newest = {repo.repo_id: max(repo.revisions, key=lambda revision: revision.last_modified) for repo in models}
    return {repo_id: revision.snapshot_path for repo_id, revision in sorted(newest.items())}


def expand_root(root: Path) -> list[Path]:
    """The folder itself; of a Hugging Face cache, or the folder around one, its newest snapshots."""
    for cache in (root, root / "hub"):
        if any(cache.glob(f"{FOLDER_PREFIX}*")):
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
