"""What models lie on disk. A folder is told by the class in its ``transformer/config.json``, a file by its header.

Looked at: folders that the caller names (also a whole ComfyUI ``models`` folder) and Hugging Face's cache, offline.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ...core.disk import is_dir, is_file, user_path, what_is_there, why_unlistable
from ...core.errors import InputError, MissingModelError
from ..own import OwnSettings, joint_settings, own_settings
from ._bridge_choice import pick_bridges
from ._parts import open_part
from .hub import expand_root, hub_snapshots, listed_name
from .layouts import GET, TITLES, StableAudioFiles, WanFiles, require_kind
from .listing import (
    PARTS,
    WEIGHT_SUFFIXES,
    FoundFile,
    find_bridges,
    find_files,
    find_folders,
    inspect,
    is_whole,
    tower_kind,
)
from .refused import refused_parts, refused_towers

__all__ = [
    "PARTS",
    "WEIGHT_SUFFIXES",
    "FoundFile",
    "ModelSet",
    "file_set",
    "find_bridges",
    "find_downloaded",
    "find_file_sets",
    "find_files",
    "find_folders",
    "find_models",
    "find_towers",
    "hub_snapshots",
    "inspect",
    "is_whole",
    "main_path",
    "pocket_folder",
    "roots_of",
    "tower_kind",
]

log = logging.getLogger(__name__)
Tower = Path | WanFiles | StableAudioFiles

POCKET = "pocket"
# Beside the weights of an adapter that peft saved.
PEFT_CONFIG = "adapter_config.json"
# What else a tower in single files needs, and how the set is called.
COMPANIONS = {"wan": ("wan_vae", "umt5"), "stable_audio": ("t5",)}
# Of several files of one kind the most exact is taken: rounding is done once, when loading.
EXACT_FIRST = ("float32", "bfloat16", "float16")
TOWER_TITLES = {"wan": "Wan 2.1", "stable_audio": "Stable Audio Open"}
OPTIONS = {"wan": "--wan", "stable_audio": "--stable-audio"}
# ComfyUI's folders of transformers and checkpoints; the other parts lie in folders beside these.
COMFYUI_FOLDERS = ("diffusion_models", "unet", "checkpoints")


@dataclass(frozen=True)
class ModelSet:
    """A pair of towers and, if there is one, the bridge file beside them.

    Args:
        video: A diffusers folder or single files.
        audio: The same.
        bridge: The bridge file.
        roots: The folders that were searched.
        notes: Which towers were picked where others might have been, a sentence each, for the user.
        bridge_note: The same of the bridge, or why there is none; empty where there was no choice.
        bridges: All that are there, ``bridge`` first.
    """

    family: ClassVar[str] = "bridged"
    video: Path | WanFiles
    audio: Path | StableAudioFiles
    bridge: Path | None
    roots: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    bridge_note: str = ""
    bridges: tuple[Path, ...] = ()

    @property
    def own(self) -> OwnSettings:
        """What the towers were made for.

        Raises:
            CorruptWeightsError: a note beside them cannot be read.
        """
        return joint_settings(own_settings(self.video), own_settings(self.audio))

    @property
    def video_path(self) -> Path:
        """The folder, or the file of the transformer."""
        return main_path(self.video)

    @property
    def audio_path(self) -> Path:
        """The folder, or the checkpoint."""
        return main_path(self.audio)

    @property
    def name(self) -> str:
        """``pocket`` for the bundled model; of others how lists name both towers."""
        if pocket_folder() in self.video_path.parents:
            return POCKET
        return " + ".join(listed_name(path, self.roots) for path in (self.video_path, self.audio_path))


def pocket_folder() -> Path:
    """The bundled model's folder."""
    return Path(__file__).resolve().parents[1] / POCKET


def find_file_sets(roots: Iterable[Path], kind: str) -> list[WanFiles | StableAudioFiles]:
    """Towers in single files whose other parts were found too.

    Args:
        roots: Where to look.
        kind: "wan" or "stable_audio".

    Returns:
        One set for each transformer or checkpoint, in the order of their paths.
    """
    files = find_files(roots)
    towers = (file for file in files if file.layout and file.layout.kind == kind)
    return [found for found in (file_set(files, tower) for tower in towers) if found is not None]


def file_set(files: list[FoundFile], tower: FoundFile) -> WanFiles | StableAudioFiles | None:
    """A tower with the best of its other parts among the files; None where one is missing."""
    parts = [_companion(files, tower, part) for part in COMPANIONS[tower.layout.kind]]
    if any(part is None for part in parts):
        return None
    log.info("%s with %s", tower.path.name, ", ".join(part.path.name for part in parts))
    if tower.layout.kind == "stable_audio":
        return StableAudioFiles(tower.path, parts[0].path)
    vae, encoder = parts
    with_tokenizer = (f for f in files if f.layout and f.layout.kind == "umt5" and f.layout.has_tokenizer)
    spare = None if encoder.layout.has_tokenizer else next(with_tokenizer, None)
    return WanFiles(tower.path, vae.path, encoder.path, spare_tokenizer=spare and spare.path)


def _companion(files: list[FoundFile], tower: FoundFile, kind: str) -> FoundFile | None:
    """Of the files of a kind that fit a tower its own part, else the most exact one; then by folder, then by name.

    Parts of all-in-one checkpoints are lent to other towers only where there is no file of their own.
    """
    width = tower.layout.text_width

    def fits(file: FoundFile) -> bool:
        return file.layout is not None and file.layout.kind == kind and file.layout.text_width in (0, width)

    def order(file: FoundFile) -> tuple[bool, bool, int, bool, str]:
        dtype = file.layout.dtype
        exactness = EXACT_FIRST.index(dtype) if dtype in EXACT_FIRST else len(EXACT_FIRST)
        is_elsewhere = file.path.parent != tower.path.parent
        return file.path != tower.path, file.is_part, exactness, is_elsewhere, str(file.path)

    return min(filter(fits, files), key=order, default=None)


def main_path(tower: Tower) -> Path:
    """The folder, or the file that gives the whole its name."""
    return tower if isinstance(tower, Path) else tower.main


def find_towers(roots: list[Path], kind: str) -> list[Tower]:
    """Whole towers of one kind: diffusers folders in the order of the roots, then single files."""
    folders = [folder for root in roots for folder in find_folders(root, kind) if is_whole(folder, kind)]
    return [*dict.fromkeys(folders), *find_file_sets(roots, kind)]


def find_models(
    models: str | Path | Iterable[str | Path] | ModelSet = POCKET,
    *,
    video: str | None = None,
    audio: str | None = None,
    made: str = "joint",
) -> ModelSet:
    """A Wan, a Stable Audio and a bridge from one place; a tower that is not there may be in Hugging Face's cache.

    Args:
        models: ``pocket`` for the bundled model, a folder (also Hugging Face's cache), the id of a model in that cache,
            or several folders. What was found before is given back.
        video: Which Wan: a name among those found there, a hub id, or the path of a folder or file.
        audio: Which Stable Audio, the same way.
        made: What the bridge is for, of several: ``joint``, ``v2a`` or ``a2v``.

    Raises:
        MissingModelError: the place or one of the towers is not there; the message says what was looked for.
        InputError: a name that several models have, or a tower chosen for the bundled model.
        WeightsError: a file that was chosen is another model.
    """
    if isinstance(models, ModelSet):
        return models
    if str(models) != POCKET:
        folders = [models] if isinstance(models, str | Path) else models
        return _search([root for folder in folders for root in roots_of(folder)], video, audio, made)
    if video is not None or audio is not None:
        raise InputError("the bundled model has towers of its own", got=f"{video or audio} beside it", expected=POCKET)
    return _search([pocket_folder()], None, None, made)


def find_downloaded(
    folder: Path, *, video: str | None = None, audio: str | None = None, made: str = "joint"
) -> ModelSet:
    """The same from what was downloaded: a folder, which may not exist, and then Hugging Face's cache.

    Nothing of it was asked for by name, so half a download is passed over.

    Raises:
        MissingModelError, InputError, WeightsError: as :func:`find_models`.
    """
    roots = [*([folder] if is_dir(folder) else []), *hub_snapshots().values()]
    return _search(roots, video, audio, made, is_named=False)


def roots_of(folder: str | Path) -> list[Path]:
    """Where models are looked for in a place that was named: a folder, or the id of a model in Hugging Face's cache.

    Raises:
        MissingModelError: it is not there.
    """
    path = user_path(folder)
    if is_dir(path):
        return expand_root(require_listable(path))
    snapshots = hub_snapshots()
    if str(folder) in snapshots:
        return list(dict.fromkeys([snapshots[str(folder)], *snapshots.values()]))
    raise MissingModelError(
        "the model folder was not found",
        got=f"{path} ({what_is_there(path)})",
        expected="a folder with both towers, or the id of a model in Hugging Face's cache",
    )


def require_listable(folder: Path) -> Path:
    """A folder that was named, if its entries can be listed.

    Raises:
        MissingModelError: they cannot.
    """
    why = why_unlistable(folder)
    if why:
        raise MissingModelError(
            "the model folder cannot be looked into",
            got=f"{folder} ({why})",
            expected="a folder that can be read",
            remedy="Mend its rights, or the drive it lies on, or name another folder.",
        )
    return folder


def _search(roots: list[Path], video: str | None, audio: str | None, made: str, *, is_named: bool = True) -> ModelSet:
    notes: list[str] = []
    towers = [
        _pick(kind, roots, notes, is_named=is_named) if choice is None else _chosen(kind, choice, roots)
        for kind, choice in (("wan", video), ("stable_audio", audio))
    ]
    bridges, bridge_note = pick_bridges(roots, made)
    bridge = bridges[0] if bridges else None
    return ModelSet(*towers, bridge, tuple(roots), tuple(notes), bridge_note, bridges)


def _pick(kind: str, roots: list[Path], notes: list[str], *, is_named: bool) -> Tower:
    """The first tower of the roots, else of Hugging Face's cache."""
    title, towers = TOWER_TITLES[kind], find_towers(roots, kind)
    if not towers and is_named:
        towers = _half_there(kind, roots)
        if not towers and roots != [pocket_folder()]:
            towers = find_towers([path for path in hub_snapshots().values() if path not in roots], kind)
            notes += [f"{title} is {listed_name(main_path(towers[0]))} of Hugging Face's cache"] if towers else []
    if not towers:
        raise _not_found(kind, roots)
    names = [listed_name(main_path(tower), roots) for tower in towers]
    if len(names) > 1:
        notes.append(f"{title} is {names[0]}; {OPTIONS[kind]} chooses another: {', '.join(names[1:])}")
    return towers[0]


def _half_there(kind: str, roots: list[Path]) -> list[Tower]:
    """A folder that lacks something, so that loading says what; single files that lack something are refused here."""
    folders = [folder for root in roots for folder in find_folders(root, kind)]
    files = [] if folders else find_files(roots)
    tower = next((file for file in files if file.layout and file.layout.kind == kind), None)
    return folders[:1] if tower is None else [_require_set(files, tower, roots)]


def _not_found(kind: str, roots: list[Path]) -> MissingModelError:
    return MissingModelError(
        f"no {TOWER_TITLES[kind]} model was found",
        got=", ".join(map(str, roots[:3])) + (f" and {len(roots) - 3} more" if roots[3:] else "") or "no folder",
        expected="a diffusers folder with transformer/config.json in it, or below it, or single files of all parts",
        refused=refused_towers(kind, roots),
        remedy="Put the model's diffusers folder there, or use --models pocket for the bundled one.",
    )


def _require_set(files: list[FoundFile], tower: FoundFile, roots: list[Path]) -> WanFiles | StableAudioFiles:
    found = file_set(files, tower)
    if found is None:
        absent = [part for part in COMPANIONS[tower.layout.kind] if _companion(files, tower, part) is None]
        raise MissingModelError(
            f"the {TOWER_TITLES[tower.layout.kind]} model is incomplete",
            got=f"{tower.path} without a {' and a '.join(TITLES[part] for part in absent)} that fits",
            expected="all parts below one folder",
            refused=refused_parts(files, tower.layout.kind, absent, roots),
            remedy=f"Put there for example {'; '.join(GET[part] for part in absent)}.",
        )
    return found


def _chosen(kind: str, choice: str, roots: list[Path]) -> Tower:
    """The tower that a name, a hub id or a path stands for."""
    snapshots, path = hub_snapshots(), user_path(choice)
    names: dict[str, Tower] = {}
    if not (path.is_absolute() or choice.startswith(".")):
        for tower in find_towers(list(dict.fromkeys([*roots, *snapshots.values()])), kind):
            names.setdefault(listed_name(main_path(tower), roots), tower)
        found = [choice] if choice in names else [n for n in names if choice in (Path(n).name, Path(n).stem)]
        if len(found) > 1:
            raise InputError("several models have that name", got=choice, expected=f"one of {', '.join(found)}")
        if found:
            return names[found[0]]
        path = snapshots.get(choice, path)
    if is_dir(path):
        inside = [t for t in find_towers([path, *roots], kind) if path in (main_path(t), *main_path(t).parents)]
        inside = inside or _half_there(kind, [path])
        if not inside:
            raise _not_found(kind, [path])
        return inside[0]
    if is_file(path):
        tower = FoundFile(path, require_kind(open_part(path, kind), kind))
        around = next((p.parent for p in path.absolute().parents if p.name in COMFYUI_FOLDERS), path.absolute().parent)
        places = list(dict.fromkeys([*roots, around]))
        return _require_set(find_files(places), tower, places)
    raise MissingModelError(
        f"no {TOWER_TITLES[kind]} of that name was found",
        got=repr(choice) if (there := what_is_there(path)) == "nothing" else f"{choice!r} ({there})",
        expected=f"one of {', '.join(names)}" if names else "a folder, a file or the id of a model in the cache",
        refused=_refused_of_name(kind, choice, roots),
        remedy="sounding-video models lists what is there.",
    )


def _refused_of_name(kind: str, choice: str, roots: list[Path]) -> list[str]:
    """Why no tower of a name is there: the files that are called so, else all that cannot be used."""
    refused = [file for file in find_files(roots) if file.problem]
    called = [f for f in refused if choice in (f.path.name, f.path.stem, listed_name(f.path, roots))]
    return [file.problem for file in called] or refused_towers(kind, roots)
