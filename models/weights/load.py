"""Load towers with their codecs and text encoders from folders or single files, strictly and without network."""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from ...core.device import Placement
from ...core.disk import is_dir, is_file, user_path, what_is_there, why_unlistable
from ...core.errors import IncompatibleWeightsError, MissingModelError
from ..attention import AttentionKernel, use_kernel
from ..codecs import CODECS
from ..own import OwnSettings, own_settings, read_note
from ..parts import AudioParts, VideoParts
from ..stock import stock_class, variant_in, variant_of
from ..storage import require_storage, store
from ..text import TEXT_ENCODERS
from ..text._encoder import PromptEncoder
from ..text._handle import TextEncoderHandle, fingerprint_files
from ..towers import TOWERS
from ._folders import load_part
from ._header import WeightFile
from ._parts import open_part
from ._stable_audio import TEXT_LENGTH, load_checkpoint, load_t5
from ._tokenizers import (
    find_tokenizer,
    further_places,
    load_tokenizer,
    tokenizer_from_folder,
    tokenizer_from_sentencepiece,
)
from ._wan import load_transformer, load_umt5, load_vae
from .find import PARTS, TOWER_TITLES, find_file_sets, tower_kind
from .layouts import TITLES, Layout, StableAudioFiles, WanFiles, require_kind

OFFICIAL_TEXT_LENGTH = 1024
# Parts of a folder that are modules with a variant each.
MODULES = ("transformer", "vae", "text_encoder")
# What follows the name of a model in those of its files.
SUFFIXES = r"(?:-\d+-of-\d+)?\.safetensors(?:\.index.*)?$"


def load_wan(
    source: str | Path | WanFiles,
    placement: Placement,
    *,
    text_length: int | None = None,
    free_text: bool = False,
    codec_only: bool = False,
) -> VideoParts:
    """The video side of Wan 2.1.

    Args:
        source: A diffusers folder (transformer, vae, text_encoder, tokenizer), another folder that holds single
            files of all parts, or these files.
        placement: dtype and kernel; weights stay on the CPU until a stage runs.
        text_length: Text tokens, zero-padded, which changes what the tower computes: 1024 as the published system
            samples, 512 as stock Wan. None takes what the bundled model was made for, else 1024.
        free_text: Read the text encoder when it is used and let go of it afterwards.
        codec_only: Leave out the tower and the text encoder.

    Raises:
        MissingModelError, CorruptWeightsError, IncompatibleWeightsError: see the messages.
    """
    placement = require_storage(placement)
    source = _source(source, "wan")
    length = text_length_of(source) if text_length is None else text_length
    read = _wan_from_files if isinstance(source, WanFiles) else _wan_from_folder
    transformer, vae, read_text = read(source, placement, codec_only)

    def load_text() -> PromptEncoder:
        encoder, tokenizer = read_text()
        wrap = variant_of(TEXT_ENCODERS, encoder)
        return wrap(tokenizer, store(_prepare(encoder, placement), placement), max_length=length)

    tower = None if codec_only else variant_of(TOWERS, transformer)(store(_prepare(transformer, placement), placement))
    return VideoParts(
        tower,
        variant_of(CODECS, vae)(_prepare(vae, placement)),
        None
        if codec_only
        else TextEncoderHandle(load_text, _text_fingerprint(source, length, *_rounded(placement)), source, length)
        if free_text
        else load_text(),
        placement,
        _name(source),
        *_noted(source),
    )


def load_stable_audio(
    source: str | Path | StableAudioFiles, placement: Placement, *, free_text: bool = False, codec_only: bool = False
) -> AudioParts:
    """The audio side from Stable Audio Open; arguments and errors as :func:`load_wan`."""
    placement = require_storage(placement)
    source = _source(source, "stable_audio")
    read = _stable_audio_from_files if isinstance(source, StableAudioFiles) else _stable_audio_from_folder
    transformer, vae, read_text = read(source, placement, codec_only)

    def load_text() -> PromptEncoder:
        encoder, projection, tokenizer = read_text()
        wrap = variant_of(TEXT_ENCODERS, encoder)
        return wrap(tokenizer, store(_prepare(encoder, placement), placement), _prepare(projection, placement))

    tower = None if codec_only else variant_of(TOWERS, transformer)(store(_prepare(transformer, placement), placement))
    return AudioParts(
        tower,
        variant_of(CODECS, vae)(_prepare(vae, placement)),
        None
        if codec_only
        else TextEncoderHandle(load_text, _text_fingerprint(source, *_rounded(placement)), source)
        if free_text
        else load_text(),
        placement,
        _name(source),
        *_noted(source),
    )


def _rounded(placement: Placement) -> tuple[str, ...]:
    """Storage as a setting of what an encoder computes; none where its weights are kept as they are."""
    return () if placement.storage == "native" else (placement.storage,)


def _text_fingerprint(source: Path | WanFiles | StableAudioFiles, *settings: object) -> str:
    """Of what makes a text encoder: weights, configuration and tokenizer, and Stable Audio's projection."""
    if isinstance(source, Path):
        parts = [source / part for part in ("text_encoder", "tokenizer", "projection_model")]
        return fingerprint_files([part for part in parts if is_dir(part)], *settings)
    files = [source.text_encoder, *([source.tokenizer] if source.tokenizer else [])]
    if isinstance(source, StableAudioFiles):
        files.append(source.checkpoint)
    return fingerprint_files(files, *settings)


def _source(source: str | Path | WanFiles | StableAudioFiles, kind: str) -> Path | WanFiles | StableAudioFiles:
    """A diffusers folder, checked, or single files; a folder without ``transformer/`` is searched for them."""
    if isinstance(source, WanFiles | StableAudioFiles):
        return source
    folder = user_path(source)
    if is_file(folder):
        raise MissingModelError(
            f"one file is not a whole {TOWER_TITLES[kind]}",
            got=folder,
            expected="a folder that also holds its " + ("VAE and text encoder" if kind == "wan" else "text encoder"),
            remedy=f"Give the folder, or the files as {'WanFiles' if kind == 'wan' else 'StableAudioFiles'}.",
        )
    if is_dir(folder) and not any(is_dir(folder / part) for part in PARTS[kind]):
        sets = find_file_sets([folder], kind)
        if sets:
            return sets[0]
    return _require_folder(folder, kind)


def _name(source: Path | WanFiles | StableAudioFiles) -> str:
    return source.name if isinstance(source, Path) else re.sub(SUFFIXES, "", source.main.name)


def folder_classes(folder: Path, usual: str) -> dict[str, Any]:
    """The classes of a folder's parts, by what its configurations say.

    Args:
        folder: A diffusers folder.
        usual: Key of the tower where the configuration does not say it.
    """
    tower = variant_in(TOWERS, folder / "transformer", usual)
    codec = variant_in(CODECS, folder / "vae", tower.usual_codec)
    text = variant_in(TEXT_ENCODERS, folder / "text_encoder", tower.usual_text)
    return {part: stock_class(each) for part, each in zip(MODULES, (tower, codec, text), strict=True)}


def _wan_from_folder(folder: Path, placement: Placement, codec_only: bool) -> tuple[Any, ...]:
    classes = folder_classes(folder, "wan")
    return (
        None if codec_only else load_part(classes["transformer"], folder, "transformer", placement.dtype),
        load_part(classes["vae"], folder, "vae", _vae_dtype(placement)),
        lambda: (
            load_part(classes["text_encoder"], folder, "text_encoder", placement.dtype),
            _folder_tokenizer(folder),
        ),
    )


def _wan_from_files(files: WanFiles, placement: Placement, codec_only: bool) -> tuple[Any, ...]:
    opened = _open(wan=files.transformer, wan_vae=files.vae, umt5=files.text_encoder)
    transformer, encoder = require_kind(opened["wan"], "wan"), require_kind(opened["umt5"], "umt5")
    require_kind(opened["wan_vae"], "wan_vae")
    _require_text_width(transformer, encoder, files)

    def read_text() -> tuple[Any, Any]:
        model = load_umt5(opened["umt5"], placement.dtype)
        return model, _file_tokenizer(opened["umt5"], model, files.tokenizer, None, files.spare_tokenizer)

    return (
        None if codec_only else load_transformer(opened["wan"], placement.dtype),
        load_vae(opened["wan_vae"], _vae_dtype(placement)),
        read_text,
    )


def _stable_audio_from_folder(folder: Path, placement: Placement, codec_only: bool) -> tuple[Any, ...]:
    from diffusers import StableAudioProjectionModel

    classes = folder_classes(folder, "stable_audio")
    return (
        None if codec_only else load_part(classes["transformer"], folder, "transformer", placement.dtype),
        load_part(classes["vae"], folder, "vae", _vae_dtype(placement)),
        lambda: (
            load_part(classes["text_encoder"], folder, "text_encoder", placement.dtype),
            load_part(StableAudioProjectionModel, folder, "projection_model", placement.dtype),
            _folder_tokenizer(folder),
        ),
    )


def _stable_audio_from_files(files: StableAudioFiles, placement: Placement, codec_only: bool) -> tuple[Any, ...]:
    opened = _open(stable_audio=files.checkpoint, t5=files.text_encoder)
    checkpoint, encoder = require_kind(opened["stable_audio"], "stable_audio"), require_kind(opened["t5"], "t5")
    _require_text_width(checkpoint, encoder, files)
    transformer, vae, projection = load_checkpoint(opened["stable_audio"], placement.dtype, _vae_dtype(placement))

    def read_text() -> tuple[Any, Any, Any]:
        model = load_t5(opened["t5"], placement.dtype)
        return model, projection, _file_tokenizer(opened["t5"], model, files.tokenizer, TEXT_LENGTH)

    return None if codec_only else transformer, vae, read_text


def _open(**paths: Path) -> dict[str, WeightFile]:
    return {kind: open_part(path, kind, f"the {TITLES[kind]}") for kind, path in paths.items()}


def _require_text_width(tower: Layout, encoder: Layout, files: WanFiles | StableAudioFiles) -> None:
    if tower.text_width != encoder.text_width:
        raise IncompatibleWeightsError(
            "the text encoder does not fit the tower",
            got=f"{files.text_encoder} of width {encoder.text_width}",
            expected=f"width {tower.text_width}, which {files.main.name} takes",
        )


def _file_tokenizer(
    file: WeightFile, model: Any, chosen: Path | None, max_length: int | None, spare: Path | None = None
) -> Any:
    """The tokenizer that was chosen, else the one inside the file, else one beside it or elsewhere."""
    if chosen is not None:
        return load_tokenizer(chosen, max_length)
    inside = file.tokenizer_bytes()
    if inside is not None:
        return tokenizer_from_sentencepiece(inside, max_length)
    further = chain([spare] if spare else [], further_places(file.path))
    return find_tokenizer(file.path, model.config.vocab_size, max_length=max_length, further=further)


def _folder_tokenizer(folder: Path) -> Any:
    return tokenizer_from_folder(folder / "tokenizer")


def text_length_of(source: Path | WanFiles) -> int:
    """Text tokens that a video tower is made for, as its note says; the published system's without one."""
    note = read_note(source) if isinstance(source, Path) else {}
    return note.get("text_length", OFFICIAL_TEXT_LENGTH)


def _noted(source: Path | WanFiles | StableAudioFiles) -> tuple[bool, OwnSettings]:
    """Whether a model is trained, and what it was made for."""
    return is_trained(source) if isinstance(source, Path) else True, own_settings(source)


def is_trained(folder: Path) -> bool:
    """False only while the note beside a folder says that its weights are random."""
    return read_note(folder).get("trained", True)


def _vae_dtype(placement: Placement) -> torch.dtype:
    """Codecs decode in float32, which is visibly and audibly better, unless the official rounding is asked for."""
    return placement.dtype if placement.cast_everything else torch.float32


def _prepare(module: torch.nn.Module, placement: Placement) -> torch.nn.Module:
    module = module.eval().requires_grad_(False)
    if placement.cast_everything:
        module = torch.nn.Module.to(module, placement.dtype)
    if placement.attention != "auto":
        kernel = AttentionKernel(placement.attention)
        kernel.probe(placement.device, placement.dtype)
        use_kernel(module, kernel)
    return module


def _require_folder(folder: str | Path, kind: str) -> Path:
    folder = user_path(folder)
    if not is_dir(folder) or why_unlistable(folder):
        there = why_unlistable(folder) if is_dir(folder) else what_is_there(folder)
        raise MissingModelError(
            f"the {TOWER_TITLES[kind]} folder was not found", got=f"{folder} ({there})", expected="a diffusers folder"
        )
    missing = [name for name in PARTS[kind] if not is_dir(folder / name)]
    if missing:
        raise MissingModelError(
            f"the {TOWER_TITLES[kind]} folder is incomplete",
            got=f"{folder} without {', '.join(missing)}",
            expected="the sub-folders " + ", ".join(PARTS[kind]),
            remedy="Copy the whole diffusers repository of the model, not single files.",
        )
    found = tower_kind(folder)
    if found != kind:
        what = TOWER_TITLES[found] if found else "an unknown model or no transformer/config.json"
        raise IncompatibleWeightsError(
            f"the folder is not a {TOWER_TITLES[kind]} model", got=f"{folder} ({what})", expected=TOWER_TITLES[kind]
        )
    return folder
