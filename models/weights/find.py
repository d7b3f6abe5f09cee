"""Finding models on disk. A folder is recognised by the class its ``transformer/config.json`` names."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import MissingModelError

POCKET = "pocket"
BRIDGE_SUFFIXES = (".safetensors", ".ckpt", ".pt", ".bin")
TRANSFORMER_CLASSES = {"WanTransformer3DModel": "wan", "StableAudioDiTModel": "stable_audio"}


@dataclass(frozen=True)
class ModelSet:
    """A pair of towers and, if there is one, the bridge file beside them."""

    video: Path
    audio: Path
    bridge: Path | None


def pocket_folder() -> Path:
    """The bundled model's folder."""
    return Path(__file__).resolve().parents[1] / POCKET


def tower_kind(folder: Path) -> str | None:
    """``wan``, ``stable_audio`` or None, by the transformer's configuration."""
    config = folder / "transformer" / "config.json"
    if not config.is_file():
        return None
    try:
        class_name = json.loads(config.read_text(encoding="utf-8")).get("_class_name")
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError):
        return None
    return TRANSFORMER_CLASSES.get(class_name)


def find_folders(root: Path, kind: str) -> list[Path]:
    """Diffusers folders of one tower kind: ``root`` itself or up to two levels below it, sorted."""
    candidates = [root, *sorted(root.glob("*")), *sorted(root.glob("*/*"))] if root.is_dir() else []
    return [folder for folder in candidates if folder.is_dir() and tower_kind(folder) == kind]


def find_bridges(root: Path) -> list[Path]:
    """Bridge files in ``root`` or its sub-folders up to three levels, outside of tower folders, sorted."""
    if not root.is_dir():
        return []
    files = [file for depth in ("*", "*/*", "*/*/*") for file in root.glob(depth) if file.suffix in BRIDGE_SUFFIXES]
    towers = {folder for kind in TRANSFORMER_CLASSES.values() for folder in find_folders(root, kind)}
    return sorted(file for file in files if file.is_file() and not towers.intersection(file.parents))


def find_models(folder: str | Path = POCKET) -> ModelSet:
    """The Wan folder, the Stable Audio folder and the bridge under one root; ``pocket`` is the bundled model.

    Raises:
        MissingModelError: the root or one of the towers is not there; the message says what was looked for.
    """
    root = pocket_folder() if str(folder) == POCKET else Path(folder).expanduser()
    if not root.is_dir():
        raise MissingModelError("the model folder was not found", got=root, expected="a folder with both towers")
    found = {}
    for kind, title in (("wan", "Wan 2.1"), ("stable_audio", "Stable Audio Open")):
        folders = find_folders(root, kind)
        if not folders:
            raise MissingModelError(
                f"no {title} model was found",
                got=root,
                expected="a diffusers folder with transformer/config.json in it, or below it",
                remedy="Put the model's diffusers folder there, or use --models pocket for the bundled one.",
            )
        found[kind] = folders[0]
    bridges = find_bridges(root)
    return ModelSet(found["wan"], found["stable_audio"], bridges[0] if bridges else None)
