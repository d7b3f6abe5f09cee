"""The host inside ComfyUI: every name is ComfyUI's own. No other file of this project imports ComfyUI."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.model_management as model_management
import comfy.utils
import folder_paths
import torch
from comfy.cli_args import args
from comfy_api.latest import ComfyExtension, InputImpl, io, ui

from ...core.progress import Progress
from .common import SavePlace, check_prefix

__all__ = [
    "NAME",
    "ComfyExtension",
    "default_device",
    "embeds_metadata",
    "io",
    "make_room",
    "model_roots",
    "progress",
    "save_place",
    "t5_tokenizer_folder",
    "ui",
    "video_value",
    "weight_roots",
]

NAME = "comfyui"
_FOLDER_KEY = "sounding_video"
# "unet" and "clip" are older names of two of them, which get_folder_paths reads as the new ones.
_WEIGHT_KEYS = ("diffusion_models", "text_encoders", "vae", "checkpoints")


def register_model_folder() -> None:
    """Tell ComfyUI of ``models/sounding_video``; entries of extra_model_paths.yaml under that key are kept."""
    folder_paths.add_model_folder_path(_FOLDER_KEY, os.path.join(folder_paths.models_dir, _FOLDER_KEY))  # noqa: PTH118
    paths, extensions = folder_paths.folder_names_and_paths[_FOLDER_KEY]
    # A new key starts with an empty set, which means "every file".
    folder_paths.folder_names_and_paths[_FOLDER_KEY] = (
        paths,
        set(extensions) | set(folder_paths.supported_pt_extensions),
    )


def model_roots() -> list[Path]:
    """Folders that may hold models: our own first, then ComfyUI's ``diffusers``."""
    named = [*folder_paths.get_folder_paths(_FOLDER_KEY), *folder_paths.get_folder_paths("diffusers")]
    return [Path(path) for path in named]


def weight_roots() -> list[Path]:
    """ComfyUI's folders of single files, also those of extra_model_paths.yaml."""
    known = [key for key in _WEIGHT_KEYS if key in folder_paths.folder_names_and_paths]
    return [Path(path) for key in known for path in folder_paths.get_folder_paths(key)]


def t5_tokenizer_folder() -> Path | None:
    """T5's tokenizer, which ComfyUI brings along for its own text encoders."""
    folder = Path(comfy.utils.__file__).parent / "text_encoders" / "t5_tokenizer"
    return folder if folder.is_dir() else None


def default_device() -> torch.device:
    """The device ComfyUI computes on."""
    return model_management.get_torch_device()


def make_room() -> None:
    """Move the models that ComfyUI manages off the device; ours are not known to its memory manager."""
    model_management.unload_all_models()
    model_management.soft_empty_cache()


def progress() -> Progress:
    """The running node's progress bar on the page, and ComfyUI's interrupt. Call it inside ``execute``."""
    bar = comfy.utils.ProgressBar(1)

    def report(stage: str, done: int, total: int, preview: Callable[[], Any] | None = None) -> None:
        bar.update_absolute(done, total)

    return Progress(report=report, check_cancelled=model_management.throw_exception_if_processing_interrupted)


def embeds_metadata() -> bool:
    """False when ComfyUI was started with ``--disable-metadata``."""
    return not args.disable_metadata


def save_place(prefix: str, *, width: int, height: int, suffix: str) -> SavePlace:
    """The next free file name in ComfyUI's output folder, by its own convention.

    Raises:
        OutputError: the prefix leaves the output folder.
    """
    check_prefix(prefix)
    output = folder_paths.get_output_directory()
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(prefix, output, width, height)
    return SavePlace(path=Path(folder) / f"{name}_{counter:05}_{suffix}", subfolder=subfolder)


def video_value(path: Path) -> Any:
    """Wrap a file as a VIDEO value."""
    return InputImpl.VideoFromFile(str(path))


register_model_folder()
