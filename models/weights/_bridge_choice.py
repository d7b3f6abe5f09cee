"""Which of the bridge files in a model folder is taken: the one that was trained for what is to be made."""

from __future__ import annotations

from pathlib import Path

from ...core.disk import is_dir, look, suffix_of, user_path
from ...core.errors import SoundingVideoError
from ..bridge_use import USES, BridgeUse, rank
from ._bridge_layouts import is_named_a_bridge
from ._header import open_weights
from .listing import BRIDGE_SUFFIXES, FILE_DEPTH, FoundFile, find_bridges, half_downloads, inspect


def pick_bridges(roots: list[Path], made: str = "joint") -> tuple[tuple[Path, ...], str]:
    """Bridges, the one to take first, and a sentence about the choice.

    Whole files come first, and of those the ones that were trained for what is made; else files that cannot be read and
    are called bridges. Loading refuses one that cannot be used, so that no clip is made without bridges that are there.
    What is neither told nor called a bridge is only spoken of.

    Args:
        roots: Where to look.
        made: ``joint``, ``v2a`` or ``a2v``.
    """
    files = [(root, inspect(path)) for root in roots for path in find_bridges(root)]
    halves = [(root, inspect(path)) for root in roots for path in half_downloads(root)]
    files += [(root, half) for root, half in halves if half.is_bridge or is_named_a_bridge(half.path, root)]
    bridges = [file for _, file in files if file.is_bridge]
    if not bridges:
        bridges = [file for root, file in files if file.is_refused and is_named_a_bridge(file.path, root)]
    passed = [(root, passed) for root in roots for passed in look(root, FILE_DEPTH).passed]
    if not bridges:  # a link to nothing, a pipe, a locked folder: loading it says why not
        called = [each.path for root, each in passed if is_named_a_bridge(each.path, root)]
        called = [path for path in called if suffix_of(path) in BRIDGE_SUFFIXES or is_dir(path)]
        bridges = [FoundFile(path, None) for path in called]
    if bridges:
        return _sorted(bridges, made)
    if files:
        first = files[0][1]
        return (), f"no bridge was found; {first.path} cannot be read (one of {len(files)}): {first.problem}"
    if passed:
        others = f" and {len(passed) - 1} more" if passed[1:] else ""
        return (), f"no bridge was found; {passed[0][1]}{others} was passed over"
    return (), ""


def _sorted(bridges: list[FoundFile], made: str) -> tuple[tuple[Path, ...], str]:
    uses = {file.path: None if file.layout is None else use_of(file.path) for file in bridges}
    first, *others = sorted(bridges, key=lambda file: (file.layout is None, rank(uses[file.path], made)))
    told = ""
    if others:
        use = uses[first.path]
        what = f", trained for {USES[use.task]}" if use else ""
        told = f"the bridge is {first.path}{what}; --bridge chooses another: {', '.join(str(o.path) for o in others)}"
    return (first.path, *(other.path for other in others)), told


def use_of(path: Path) -> BridgeUse | None:
    """What a bridge file was trained for, by its header; None where it does not say it, or cannot be read."""
    path = user_path(path)
    try:
        return BridgeUse.read(open_weights(path).metadata) if suffix_of(path) == ".safetensors" else None
    except (SoundingVideoError, OSError):  # loading it says why
        return None
