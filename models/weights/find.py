"""Finding models on disk. A folder is told by the class in its ``transformer/config.json``, a file by its header.

Looked at: folders that the caller names (also a whole ComfyUI ``models`` folder) and Hugging Face's cache, offline.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ...core.errors import IncompatibleWeightsError, MissingModelError, MissingPackageError, WeightsError
from .layouts import GET, TITLES, Layout, StableAudioFiles, WanFiles, identify

log = logging.getLogger(__name__)

POCKET = "pocket"
BRIDGE_SUFFIXES = (".safetensors", ".ckpt", ".pt", ".bin")
WEIGHT_SUFFIXES = (".safetensors", ".sft", ".gguf", ".ckpt", ".pt", ".pth", ".bin")
# First byte of torch files before the zip format.
OLD_PICKLE = b"\x80"
INDEX_SUFFIX = ".safetensors.index.json"
# Beside the weights of an adapter that peft saved.
PEFT_CONFIG = "adapter_config.json"
# What else a tower in single files needs, and how the set is called.
COMPANIONS = {"wan": ("wan_vae", "umt5"), "stable_audio": ("t5",)}
FILE_DEPTHS = ("*", "*/*", "*/*/*", "*/*/*/*")
# Of several files of one kind the most exact is taken: rounding is done once, when loading.
EXACT_FIRST = ("float32", "bfloat16", "float16")
TRANSFORMER_CLASSES = {"WanTransformer3DModel": "wan", "StableAudioDiTModel": "stable_audio"}


@dataclass(frozen=True)
class ModelSet:
    """A pair of towers and, if there is one, the bridge file beside them."""

    video: Path | WanFiles
    audio: Path | StableAudioFiles
    bridge: Path | None

    @property
    def video_path(self) -> Path:
        """The folder, or the file of the transformer."""
        return self.video if isinstance(self.video, Path) else self.video.main

    @property
    def audio_path(self) -> Path:
        """The folder, or the checkpoint."""
        return self.audio if isinstance(self.audio, Path) else self.audio.main


@dataclass(frozen=True)
class FoundFile:
    """A weight file and what its header says.

    Args:
        path: The file.
        layout: What it is; None when it is none of ours or cannot be read.
        problem: Why there is no layout, as a sentence.
        is_foreign: It was read, and is another kind of model.
    """

    path: Path
    layout: Layout | None
    problem: str = ""
    is_foreign: bool = False


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
    """Bridge files in ``root`` or its sub-folders up to four levels down, outside of tower folders, sorted.

    Files that cannot be read are among them, so that choosing one says why; files of other models are not.
    """
    if not root.is_dir():
        return []
    files = [file for depth in FILE_DEPTHS for file in root.glob(depth) if file.suffix in BRIDGE_SUFFIXES]
    towers = {folder for kind in TRANSFORMER_CLASSES.values() for folder in find_folders(root, kind)}
    outside = (file for file in files if file.is_file() and not towers.intersection(file.parents))
    looked = (inspect(file) for file in outside)
    return sorted(
        found.path for found in looked if not found.is_foreign and (not found.layout or found.layout.kind == "bridge")
    )


def inspect(path: Path) -> FoundFile:
    """What a weight file is, without raising; looked up once as long as the file does not change."""
    stat = path.stat()
    return _inspect(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4096)
def _inspect(path: Path, changed_ns: int, num_bytes: int) -> FoundFile:
    try:
        with path.open("rb") as file:
            is_old = file.read(1) == OLD_PICKLE
        if is_old:  # its tensors cannot be left on disk, so looking into it would read gigabytes for a list
            return FoundFile(path, None, "A torch file of the format before 1.6, which is not looked into for lists.")
        return FoundFile(path, identify(path))
    except IncompatibleWeightsError as error:
        return FoundFile(path, None, str(error), is_foreign=True)
    except (WeightsError, MissingModelError, MissingPackageError, PermissionError) as error:
        return FoundFile(path, None, str(error))


def find_files(roots: Iterable[Path]) -> list[FoundFile]:
    """Weight files up to four levels below the roots, outside of diffusers towers; of a sharded model its index."""
    found: dict[Path, FoundFile] = {}
    for root in roots:
        towers = {folder for kind in TRANSFORMER_CLASSES.values() for folder in find_folders(root, kind)}
        files = [file for depth in FILE_DEPTHS for file in sorted(root.glob(depth)) if _is_weight_file(file)]
        for file in files:
            if file not in found and file.is_file() and not towers.intersection(file.parents):
                found[file] = inspect(file)
    return list(found.values())


def _is_weight_file(path: Path) -> bool:
    if path.name.endswith(INDEX_SUFFIX):
        return True
    if path.suffix not in WEIGHT_SUFFIXES or path.name.startswith("."):
        return False
    stem, marker, _ = path.name.partition("-00")
    return not (marker and (path.parent / f"{stem}{INDEX_SUFFIX}").is_file())


def find_file_sets(roots: Iterable[Path], kind: str) -> list[WanFiles | StableAudioFiles]:
    """Towers in single files whose other parts were found too.

    Args:
        roots: Where to look.
        kind: "wan" or "stable_audio".

    Returns:
        One set for each transformer or checkpoint, in the order of their paths.
    """
    files = find_files(roots)
    sets: list[WanFiles | StableAudioFiles] = []
    for tower in (file for file in files if file.layout and file.layout.kind == kind):
        parts = [_companion(files, tower, part) for part in COMPANIONS[kind]]
        if all(part is not None for part in parts):
            log.info("%s with %s", tower.path.name, ", ".join(part.path.name for part in parts))
            maker = WanFiles if kind == "wan" else StableAudioFiles
            sets.append(maker(tower.path, *(part.path for part in parts)))
    return sets


def _companion(files: list[FoundFile], tower: FoundFile, kind: str) -> FoundFile | None:
    """The most exact file of a kind that fits the tower; of equal ones that in the tower's folder, then by name."""
    width = tower.layout.text_width

    def fits(file: FoundFile) -> bool:
        return file.layout is not None and file.layout.kind == kind and file.layout.text_width in (0, width)

    def order(file: FoundFile) -> tuple[int, bool, str]:
        dtype = file.layout.dtype
        exactness = EXACT_FIRST.index(dtype) if dtype in EXACT_FIRST else len(EXACT_FIRST)
        return exactness, file.path.parent != tower.path.parent, str(file.path)

    return min(filter(fits, files), key=order, default=None)


def hub_snapshots(cache: Path | None = None) -> dict[str, Path]:
    """Newest snapshot of every model in Hugging Face's cache, by repository id; nothing is fetched.

    Args:
        cache: The cache folder; None takes the user's.
    """
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        repositories = scan_cache_dir(cache).repos
    except CacheNotFound:
        return {}
    models = (repo for repo in repositories if repo.repo_type == "model" and repo.revisions)
    newest = {repo.repo_id: max(repo.revisions, key=lambda revision: revision.last_modified) for repo in models}
    return {repo_id: revision.snapshot_path for repo_id, revision in sorted(newest.items())}


def find_models(folder: str | Path = POCKET) -> ModelSet:
    """The Wan folder, the Stable Audio folder and the bridge under one root; ``pocket`` is the bundled model.

    Raises:
        MissingModelError: the root or one of the towers is not there; the message says what was looked for.
    """
    root = pocket_folder() if str(folder) == POCKET else Path(folder).expanduser()
    if not root.is_dir():
        raise MissingModelError("the model folder was not found", got=root, expected="a folder with both towers")
    bridges = find_bridges(root)
    return ModelSet(_tower(root, "wan"), _tower(root, "stable_audio"), bridges[0] if bridges else None)


def _tower(root: Path, kind: str) -> Path | WanFiles | StableAudioFiles:
    """The first diffusers folder, else the first set of single files."""
    folders = find_folders(root, kind)
    if folders:
        return folders[0]
    sets = find_file_sets([root], kind)
    if sets:
        return sets[0]
    title = {"wan": "Wan 2.1", "stable_audio": "Stable Audio Open"}[kind]
    files = find_files([root])
    tower = next((file for file in files if file.layout and file.layout.kind == kind), None)
    if tower is not None:
        absent = [part for part in COMPANIONS[kind] if _companion(files, tower, part) is None]
        raise MissingModelError(
            f"the {title} model is incomplete",
            got=f"{tower.path} without a {' and a '.join(TITLES[part] for part in absent)} that fits",
            expected="all parts below one folder",
            remedy=f"Put there for example {'; '.join(GET[part] for part in absent)}.",
        )
    raise MissingModelError(
        f"no {title} model was found",
        got=root,
        expected="a diffusers folder with transformer/config.json in it, or below it, or single files of all parts",
        remedy="Put the model's diffusers folder there, or use --models pocket for the bundled one.",
    )
