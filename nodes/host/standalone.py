"""The host when there is no ComfyUI: plain folders, the caller's progress, the V3 names as a stand-in.

What ComfyUI keeps in globals stands here in one frozen :class:`Session`, which the runner sets for the time of a run.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ...core.device import resolve_device
from ...core.disk import user_path
from ...core.errors import OutputError, SoundingVideoError
from ...core.progress import SILENT, Progress
from ...core.residency import Residency, managed_by
from ...media.files import FreeName
from . import io, ui
from .common import SavePlace, check_prefix
from .memory import MEMORY
from .newer import NestedPair, Rename
from .places import require_place
from .prefixes import filled_prefix

__all__ = [
    "NAME",
    "ComfyExtension",
    "Session",
    "VideoFile",
    "answer_posts",
    "check_place",
    "default_device",
    "embeds_metadata",
    "io",
    "lora_roots",
    "make_room",
    "managed_memory",
    "model_roots",
    "nested",
    "progress",
    "rename_nodes",
    "save_place",
    "session",
    "shows_previews",
    "t5_tokenizer_folder",
    "ui",
    "verdict",
    "video_value",
    "weight_roots",
]

NAME = "standalone"
MODELS_VARIABLE = "SOUNDING_VIDEO_MODELS"


def default_model_roots() -> tuple[Path, ...]:
    """Folders named in ``SOUNDING_VIDEO_MODELS`` (separated as in PATH), else one in the user's cache."""
    named = [user_path(part) for part in os.environ.get(MODELS_VARIABLE, "").split(os.pathsep) if part]
    return tuple(named) or (user_path("~/.cache/sounding_video/models"),)


@dataclass(frozen=True)
class Session:
    """What one standalone run works with.

    Args:
        model_roots: Folders that are searched for models.
        output_dir: Where results go.
        progress: Reporter and cancel check of the caller.
        embed_metadata: Whether the workflow is written into result files.
        device: Where the computation happens, a torch device or "auto".
        lora_roots: Folders of LoRAs beside ``loras`` below each model folder.
        temporary_dir: Where files go that are only looked at; the runner removes its own after the run.
        input_dir: Where the files lie that a workflow names.
    """

    model_roots: tuple[Path, ...] = field(default_factory=default_model_roots)
    output_dir: Path = Path("output")
    progress: Progress = SILENT
    embed_metadata: bool = True
    device: str = "auto"
    lora_roots: tuple[Path, ...] = ()
    temporary_dir: Path = field(default_factory=lambda: Path(tempfile.gettempdir()) / "sounding_video")
    input_dir: Path = Path("input")


_SESSION: ContextVar[Session | None] = ContextVar("sounding_video_session", default=None)


def current() -> Session:
    """The session of the running workflow, or the defaults outside of one."""
    return _SESSION.get() or Session()


@contextmanager
def session(value: Session) -> Iterator[Session]:
    """Make ``value`` the current session for a ``with`` block."""
    token = _SESSION.set(value)
    try:
        yield value
    finally:
        _SESSION.reset(token)


class ComfyExtension:
    """Stand-in for the base class of ComfyUI extensions."""


def answer_posts(path: str, problem: Callable[[str], str | None]) -> None:
    """Nothing to do: there is no page that could ask."""


async def rename_nodes(renames: Iterable[Rename]) -> None:
    """Nothing to do: there is no page with old workflows, and the runner names a node that it does not know."""


def nested(tensors: Iterable[torch.Tensor]) -> Any:
    """Several tensors on one LATENT."""
    return NestedPair(tensors)


def model_roots() -> list[Path]:
    """Folders that may hold models, most specific first."""
    return list(current().model_roots)


def weight_roots() -> list[Path]:
    """Further folders of single files: none here, they are looked for in the model folders too."""
    return []


def lora_roots() -> list[Path]:
    """Folders of LoRAs: ``loras`` below each model folder, and those of the session."""
    return [*(root / "loras" for root in current().model_roots), *current().lora_roots]


def t5_tokenizer_folder() -> Path | None:
    """A T5 tokenizer that the host brings along: none here."""
    return None


def default_device() -> torch.device:
    """The device models run on."""
    return resolve_device(current().device)


def managed_memory() -> AbstractContextManager[Residency]:
    """Stages inside the block keep on the device what was used last, as long as there is room."""
    return managed_by(MEMORY)


def make_room() -> None:
    """Move all models off the device; for what is loaded outside of any manager."""
    MEMORY.unload()


def progress(*stages: tuple[str, float]) -> Progress:
    """Where the running node reports to, and how it learns of a cancel; a caller's bar knows a stage by its name."""
    return current().progress


def shows_previews() -> bool:
    """Whether anybody is looking: nobody is."""
    return False


def embeds_metadata() -> bool:
    """Whether result files carry the workflow that made them."""
    return current().embed_metadata


def verdict(error: SoundingVideoError) -> str:
    """What a node says of inputs that cannot be; the runner makes a sentence of it."""
    return str(error)


def save_place(
    prefix: str, *, width: int, height: int, suffix: str, temporary: bool = False, hidden: Any = None
) -> SavePlace:
    """The next free file name for a prefix, by ComfyUI's convention ``name_00001_.mp4``.

    Args:
        prefix: Relative name; see :func:`~.prefixes.filled_prefix` for what is filled in.
        width: Pixels, for ``%width%``.
        height: Pixels, for ``%height%``.
        suffix: File name ending with its dot.
        temporary: Whether the file is only looked at: it then lies in the session's temporary folder.
        hidden: What the node knows of the workflow, for ``%Node.input%``.

    Raises:
        OutputError: the prefix leaves the output folder, or the folder cannot be looked into.
    """
    check_prefix(prefix)
    relative = Path(filled_prefix(prefix, width=width, height=height, hidden=hidden))
    folder = (current().temporary_dir if temporary else current().output_dir) / relative.parent
    numbered = re.compile(rf"{re.escape(relative.name)}_(\d+)", re.IGNORECASE)

    def free() -> Path:
        try:
            there = list(folder.iterdir()) if folder.exists() else []  # whoever writes makes it
        except OSError as error:
            raise OutputError(
                "the output folder cannot be used",
                got=folder,
                expected="a folder that can be made and written",
                remedy=str(error),
            ) from error
        counter = max((int(match[1]) for entry in there if (match := numbered.match(entry.name))), default=0) + 1
        return folder / f"{relative.name}_{counter:05}_{suffix}"

    subfolder = "" if relative.parent == Path() else relative.parent.as_posix()
    return SavePlace(FreeName(free(), free), subfolder)


@dataclass(frozen=True)
class VideoFile:
    """A VIDEO value: a file on disk."""

    path: Path

    def get_stream_source(self) -> str:
        """The file's path."""
        return str(self.path)


def check_place(prefix: str, suffix: str, *, temporary: bool = False) -> None:
    """Refuse a place that :func:`save_place` could not give, or that could not be written to.

    Raises:
        OutputError: see :func:`~.places.require_place`.
    """
    require_place(current().temporary_dir if temporary else current().output_dir, prefix, suffix)


def video_value(path: Path) -> Any:
    """Wrap a file as a VIDEO value."""
    return VideoFile(path)
