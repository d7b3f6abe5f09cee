"""What the loaders offer in their lists, and the path behind a chosen name. The same for both hosts.

A name is the path below its root with ``/``; when two roots hold the same name, the first root wins. ``pocket`` is the
bundled model and always on the list.
"""

from __future__ import annotations

from pathlib import Path

from ...core.errors import MissingModelError
from ...models.weights.find import POCKET, find_bridges, find_folders, find_models
from . import model_roots

KINDS = {"wan": "Wan 2.1", "stable_audio": "Stable Audio Open", "bridge": "bridge"}


def _found(kind: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for root in model_roots():
        paths = find_bridges(root) if kind == "bridge" else find_folders(root, kind)
        for path in paths:
            if path != root:
                found.setdefault(path.relative_to(root).as_posix(), path)
    return found


def list_models(kind: str) -> list[str]:
    """Names to choose from.

    Args:
        kind: "wan", "stable_audio" or "bridge".
    """
    return [POCKET, *(name for name in sorted(_found(kind)) if name != POCKET)]


def resolve_model(kind: str, name: str) -> Path:
    """The folder or file behind a chosen name.

    Raises:
        MissingModelError: nothing of that name is there; the message lists what is, and where was looked.
    """
    if name == POCKET:
        models = find_models(POCKET)
        path = {"wan": models.video, "stable_audio": models.audio, "bridge": models.bridge}[kind]
        if path is None:
            raise MissingModelError("the bundled model has no bridge file")
        return path
    found = _found(kind)
    if name not in found:
        raise MissingModelError(
            f"no {KINDS[kind]} of that name was found",
            got=repr(name),
            expected="one of " + ", ".join([POCKET, *sorted(found)]),
            remedy=f"Models are looked for in {', '.join(str(root) for root in model_roots())}.",
        )
    return found[name]
