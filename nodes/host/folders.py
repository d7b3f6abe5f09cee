"""What the loaders offer in their lists, and the path behind a chosen name. The same for both hosts.

A name is the path below its root with ``/``; when two roots hold the same name, the first root wins. ``pocket`` is the
bundled model and always on the list; its other bridges stand behind ``pocket/``. Folders and bridges come first, then
towers in single files (named after their transformer or checkpoint), then what Hugging Face's cache holds (named after
its repository).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path

from ...core.disk import is_file, look, suffix_of
from ...core.errors import MissingModelError
from ...models.pav_dit.finding import planes_below
from ...models.weights._tokenizers import tokenizer_places
from ...models.weights.find import (
    PEFT_CONFIG,
    POCKET,
    WEIGHT_SUFFIXES,
    find_bridges,
    find_file_sets,
    find_folders,
    find_models,
    hub_snapshots,
    inspect,
    pocket_folder,
)
from ...models.weights.layouts import StableAudioFiles, WanFiles
from ...models.weights.listing import find_alignments
from ...models.weights.refused import refused_towers
from . import lora_roots, model_roots, t5_tokenizer_folder, weight_roots

# Inputs of loader nodes whose values are names of models.
MODEL_INPUTS = {
    "video_model": "wan",
    "audio_model": "stable_audio",
    "bridge_file": "bridge",
    "pav_dit_model": "pav_dit",
    "alignment_file": "alignment",
}
KINDS = {
    "wan": "Wan 2.1",
    "stable_audio": "Stable Audio Open",
    "bridge": "bridge",
    "pav_dit": "PAV-DiT model",
    "alignment": "alignment",
}
# Stands in a list where nothing lies; the check before a run says where models belong.
NONE_FOUND = "none found"
# Kinds of which none is bundled: models that are one folder, by the family that recognises it.
WHOLE = ("pav_dit",)
NONE_YET = {
    "pav_dit": "a folder with transformer, autoencoder, text_encoder",
    "alignment": "an alignment file, as sounding-video train writes it",
}
Model = Path | WanFiles | StableAudioFiles
# Levels of LoRA folders that are listed.
LORA_DEPTH = 12


def _found(kind: str) -> dict[str, Model]:
    if kind in WHOLE:
        return _found_planes()
    found: dict[str, Model] = dict(_bundled_bridges(pocket_folder())) if kind == "bridge" else {}
    finders = {"bridge": find_bridges, "alignment": find_alignments}
    for root in model_roots():
        paths = finders[kind](root) if kind in finders else find_folders(root, kind)
        for path in paths:
            if path != root:
                found.setdefault(path.relative_to(root).as_posix(), path)
    if kind in finders:
        return found
    snapshots = hub_snapshots()
    roots = [*model_roots(), *weight_roots(), *snapshots.values()]
    for files in find_file_sets(roots, kind):
        found.setdefault(_name(files.main, roots, snapshots), files)
    for repository, folder in snapshots.items():
        if folder in find_folders(folder, kind):
            found.setdefault(repository, folder)
    return found


def _found_planes() -> dict[str, Model]:
    """Folders of PAV-DiT."""
    found: dict[str, Model] = {}
    for root, folder in planes_below(model_roots()):
        found.setdefault(folder.relative_to(root).as_posix(), folder)
    return found


@cache
def _bundled_bridges(folder: Path) -> dict[str, Model]:
    """The bundled model's bridges beside the one that ``pocket`` names; they come with the pack and do not change."""
    usual = find_models(POCKET).bridge
    paths = (path for path in find_bridges(folder) if path != usual)
    return {f"{POCKET}/{path.relative_to(folder).as_posix()}": path for path in paths}


def _bundled(kind: str) -> Path | None:
    """What ``pocket`` stands for; None where there is none of a kind."""
    if kind == "alignment":
        return next(iter(find_alignments(pocket_folder())), None)
    models = find_models(POCKET)
    return {"wan": models.video, "stable_audio": models.audio, "bridge": models.bridge}.get(kind)


def _name(path: Path, roots: Iterable[Path], snapshots: dict[str, Path]) -> str:
    root = next(root for root in roots if root in path.parents)
    repository = next((name for name, folder in snapshots.items() if folder == root), None)
    below = path.relative_to(root).as_posix()
    return f"{repository}/{below}" if repository else below


def list_models(kind: str) -> list[str]:
    """Names to choose from.

    Args:
        kind: "wan", "stable_audio", "bridge", "pav_dit" or "alignment".
    """
    return _listed(kind, _found(kind))


def _listed(kind: str, found: Iterable[str]) -> list[str]:
    no_bundle = kind in WHOLE or (kind == "alignment" and _bundled(kind) is None)
    bundled = [] if no_bundle else [POCKET]
    return [*bundled, *(name for name in sorted(found) if name not in bundled)]


def resolve_model(kind: str, name: str) -> Model:
    """The folder, file or set of files behind a chosen name.

    Raises:
        MissingModelError: nothing of that name is there; the message lists what is, and where was looked.
    """
    if name == POCKET and kind not in WHOLE:
        path = _bundled(kind)
        if path is None and kind == "bridge":
            raise MissingModelError("the bundled model has no bridge file")
        if path is not None:
            return path
    found = _found(kind)
    if name not in found:
        raise _missing(kind, name, _listed(kind, found))
    model = found[name]
    if isinstance(model, StableAudioFiles) and not tokenizer_places(model.text_encoder.parent):
        return replace(model, tokenizer=t5_tokenizer_folder())
    return model


def why_unusable(port: str, name: str) -> list[str]:
    """Why a name is not on the list of a loader's input, a sentence each; nothing for other inputs.

    The file of that name says it if there is one, else all that lies there and cannot be used.
    """
    kind = MODEL_INPUTS.get(port)
    if kind is None or kind in WHOLE or Path(name).is_absolute() or ".." in Path(name).parts:
        return []
    roots = [*model_roots(), *weight_roots()]
    problems = [inspect(root / name).problem for root in roots if is_file(root / name)]
    return [problem for problem in problems if problem] or (
        [] if kind in ("bridge", "alignment") else refused_towers(kind, roots)
    )


def why_not_listed(port: str, name: str | None) -> str | bool:
    """What is wrong with a loader's model name, for ComfyUI's check before a run; True for a name on the list."""
    if name is None or name in list_models(MODEL_INPUTS[port]):
        return True
    return str(_missing(MODEL_INPUTS[port], name, list_models(MODEL_INPUTS[port])))


def _missing(kind: str, name: str, listed: list[str]) -> MissingModelError:
    port = next(port for port, named in MODEL_INPUTS.items() if named == kind)
    return MissingModelError(
        f"no {KINDS[kind]} of that name was found",
        got=repr(name),
        expected="one of " + ", ".join(listed) if listed else NONE_YET[kind],
        refused=why_unusable(port, name),
        remedy=f"Models are looked for in {', '.join(str(root) for root in model_roots())}.",
    )


def _found_loras() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for root in lora_roots():
        for file in sorted(file for file in look(root, LORA_DEPTH).files if suffix_of(file) in WEIGHT_SUFFIXES):
            # A peft folder is one LoRA: its weights are called adapter_model in every one of them.
            path = file.parent if is_file(file.parent / PEFT_CONFIG) and file.parent != root else file
            found.setdefault(path.relative_to(root).as_posix(), path)
    return found


def list_loras() -> list[str]:
    """LoRA files and peft folders in the host's ``loras`` folders; they are read when one is chosen."""
    return sorted(_found_loras())


def resolve_lora(name: str) -> Path:
    """The file or peft folder behind a chosen name.

    Raises:
        MissingModelError: nothing of that name is there; the message lists what is, and where was looked.
    """
    found = _found_loras()
    if name not in found:
        raise MissingModelError(
            "no LoRA of that name was found",
            got=repr(name),
            expected="one of " + (", ".join(sorted(found)[:20]) or "none: the folders are empty"),
            remedy=f"LoRAs are looked for in {', '.join(str(root) for root in lora_roots())}.",
        )
    return found[name]
