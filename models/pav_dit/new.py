"""A new PAV-DiT folder: random weights of a named form, and the text encoder of a model that is there."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ...core.errors import require_choice
from ...core.json_text import read_json
from ..own import MODEL_NOTE
from . import forms, stdit
from .mdsa import PavDitAutoencoder

# Settings of the autoencoder and of the transformer.
FORMS: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "pocket": (forms.POCKET, stdit.POCKET),
    "published": (forms.PUBLISHED, stdit.PUBLISHED),
}
TEXT_PARTS = ("text_encoder", "tokenizer")
# What such a model is sampled with until somebody finds better numbers: 30 even steps.
NOTE = {"num_steps": 30, "video_cfg": 3.0, "audio_cfg": 3.0, "flow_shift": 1.0, "captions": "short"}
TRAINED = "trained_parts"


def write_new(
    folder: Path, form: str, texts: Path, *, text_length: int, seed: int, note: Mapping[str, Any] | None = None
) -> None:
    """Write the folder.

    Args:
        folder: Where to.
        form: A key of :data:`FORMS`.
        texts: A diffusers folder whose ``text_encoder`` and ``tokenizer`` it gets.
        text_length: Tokens of a caption.
        seed: Of the weights.
        note: What ``model.json`` says beside how it is sampled.

    Raises:
        InputError: an unknown form.
        WeightsError: a text encoder whose configuration cannot be read.
    """
    require_choice("form", form, tuple(FORMS))
    autoencoder, transformer = FORMS[form]
    for part in TEXT_PARTS:
        link_tree(texts / part, folder / part)
    settings = folder / "tokenizer" / "tokenizer_config.json"
    said = read_json(settings) if settings.is_file() else {}
    settings.unlink(missing_ok=True)  # it may be the other folder's own file
    settings.write_text(json.dumps({**said, "model_max_length": text_length}, indent=2) + "\n", encoding="utf-8")
    width = read_json(folder / "text_encoder" / "config.json")["d_model"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = PavDitAutoencoder(**autoencoder), stdit.PavDitTransformer(**{**transformer, "text_width": width})
    for part, module in zip(("autoencoder", "transformer"), made, strict=True):
        module.save_pretrained(folder / part, safe_serialization=True)
    write_note(folder, {**NOTE, **(note or {}), TRAINED: []})


def write_note(folder: Path, note: Mapping[str, Any]) -> None:
    """Write ``model.json``; a model is trained when both of its own parts are."""
    said = {**note, "trained": {"autoencoder", "transformer"} <= set(note.get(TRAINED, ()))}
    (folder / MODEL_NOTE).write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")


def read_own_note(folder: Path, name: str = MODEL_NOTE) -> dict[str, Any]:
    """What a note of a folder says; nothing where there is none, or where it is no object."""
    note = folder / name
    said = read_json(note) if note.is_file() else {}
    return said if isinstance(said, dict) else {}


def link_tree(source: Path, target: Path) -> None:
    """The same files once more, without their bytes where the file system can; nobody writes into them later."""
    shutil.copytree(source, target, copy_function=_link, dirs_exist_ok=True)


def _link(source: str, target: str) -> None:
    real = Path(source).resolve()  # a hub's cache holds links to its blobs
    try:
        os.link(real, target)
    except OSError:  # another file system
        shutil.copy2(real, target)
