"""Bridge checkpoints of any known layout to one safetensors file that says what it is."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ...core.disk import is_file, look, printable, status_of, suffix_of, user_path
from ...core.errors import InputError
from ._bridge_layouts import PROGRESS, bridge_file
from ._shards import is_index, shard_files
from .bridges import BridgeOptions, LoadedBridges, load_bridges, save_bridges
from .files import corrupt, file_format

LICENCE_NOTE = (
    "Bridges trained between Wan 2.1 (Apache-2.0) and Stable Audio Open (Stability AI Community License). Fine-tuned "
    "blocks of either tower that this file holds are under that tower's licence. See the source for its own terms."
)


@dataclass(frozen=True)
class Conversion:
    """What was written.

    Args:
        path: The new file.
        bridges: What it holds, read back from it.
        metadata: What stands in its header.
    """

    path: Path
    bridges: LoadedBridges
    metadata: dict[str, str]


def convert_bridges(
    source: str | Path,
    target: str | Path,
    *,
    options: BridgeOptions | None = None,
    towers: dict[str, Path] | None = None,
    recipe: str | None = None,
    overwrite: bool = False,
) -> Conversion:
    """Write a bridge checkpoint as safetensors with kind, points, widths, source, recipe and licence in its header.

    Tuned tower blocks go with it, and the target is read back, strictly, before this returns. What a file of ours
    already says of itself is kept, its source among it.

    Args:
        source: Lightning or DeepSpeed checkpoint, or a bridge file of ours.
        target: The ``.safetensors`` file to write.
        options: What the source does not say.
        towers: Files or diffusers folders of the towers by modality, whose names and hashes are noted.
        recipe: How it was trained; None keeps what the source says, which for a checkpoint is its epoch and step.
        overwrite: Replace a file that is there.

    Raises:
        InputError: a target that is not .safetensors, exists, or is the source.
        MissingModelError, CorruptWeightsError, UnsafeWeightsError, IncompatibleWeightsError: the source.
        OutputError: the target cannot be written.
    """
    source, target = user_path(source), user_path(target)
    if target.suffix != ".safetensors":
        raise InputError("the target is not a safetensors file", got=target, expected="a name with .safetensors")
    if status_of(target) is not None and (not overwrite or target.resolve() == source.resolve()):
        raise InputError(
            "the target exists", got=target, expected="a new file", remedy="Choose another name, or say --overwrite."
        )
    loaded = load_bridges(source, options)
    notes = {"source": printable(source.name), "source_sha256": hash_file(bridge_file(source)), "licence": LICENCE_NOTE}
    notes |= loaded.notes | _recipe(loaded, recipe)
    for modality, path in (towers or {}).items():
        notes[f"{modality}_tower"] = printable(path.name)
        notes[f"{modality}_tower_sha256"] = json.dumps(hash_tower(path))
    save_bridges(target, loaded.stack, tower_weights=loaded.tower_weights, trained=loaded.trained, notes=notes)
    written = load_bridges(target)
    config = asdict(written.stack.config)
    points = {"video": list(written.stack.points.video), "audio": list(written.stack.points.audio)}
    return Conversion(
        target,
        written,
        {**notes, "fusion": written.stack.kind, "config": json.dumps(config), "points": json.dumps(points)},
    )


def _recipe(loaded: LoadedBridges, said: str | None) -> dict[str, str]:
    progress = ", ".join(f"{name} {loaded.notes[name]}" for name in PROGRESS if name in loaded.notes)
    recipe = said or loaded.notes.get("recipe") or progress
    return {"recipe": recipe} if recipe else {}


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes.

    Raises:
        CorruptWeightsError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise corrupt(path, error) from error
    return digest.hexdigest()


def hash_tower(path: Path) -> dict[str, str]:
    """SHA-256 of a tower's weight files by name: a file or its shards, or a diffusers folder's ``transformer``."""
    if is_file(path):
        files = shard_files(path) if is_index(path) or file_format(path) else []
    else:
        files = [file for file in look(path / "transformer", 1).files if suffix_of(file) == ".safetensors"]
    if not files:
        raise InputError(
            "the tower has no weights to hash",
            got=path,
            expected="a weight file or a diffusers folder with transformer/",
        )
    return {printable(file.name): hash_file(file) for file in files}
