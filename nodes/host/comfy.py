"""The host inside ComfyUI: every name is ComfyUI's own. Only this and ``native*.py`` import ComfyUI."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import comfy.model_management as model_management
import comfy.utils
import folder_paths
import torch
from aiohttp import web
from comfy.cli_args import args
from comfy_api.latest import ComfyAPI, ComfyExtension, InputImpl, io, ui
from comfy_execution.progress import get_progress_state
from comfy_execution.utils import get_executing_context
from server import PromptServer

from ...core.errors import SoundingVideoError
from ...core.progress import Progress
from ...core.residency import Residency, managed_by
from ...media.files import FreeName
from ...media.preview import Preview
from .comfy_memory import MEMORY
from .common import Pace, SavePlace, StageBar, StageClock, check_prefix
from .newer import NestedPair, Rename
from .places import require_place
from .prefixes import filled_prefix

__all__ = [
    "NAME",
    "ComfyExtension",
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
    "shows_previews",
    "t5_tokenizer_folder",
    "ui",
    "verdict",
    "video_value",
    "weight_roots",
]

try:
    from comfy.nested_tensor import NestedTensor
except ImportError:  # an older ComfyUI
    NestedTensor = NestedPair

NAME = "comfyui"
PREVIEW_EVENT = "sounding_video.preview"
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


def answer_posts(path: str, problem: Callable[[str], str | None]) -> None:
    """Let the page post a text to ``path``; it gets ``{"problem": …}``, a sentence or null."""

    @PromptServer.instance.routes.post(path)
    async def _(request: web.Request) -> web.Response:
        return web.json_response({"problem": problem(await request.text())})


async def rename_nodes(renames: Iterable[Rename]) -> None:
    """Let the page and the queue put new nodes in the place of old ones, where ComfyUI has this."""
    replacement = getattr(ComfyAPI(), "node_replacement", None)
    for rename in renames if replacement is not None else ():
        inputs = [{"new_id": new, "old_id": old} for new, old in rename.inputs.items()]
        values = [{"new_id": new, "set_value": value} for new, value in rename.values.items()]
        await replacement.register(
            io.NodeReplace(
                new_node_id=rename.new,
                old_node_id=rename.old,
                old_widget_ids=list(rename.widgets),
                input_mapping=[*inputs, *values],
                output_mapping=[{"new_idx": new, "old_idx": old} for new, old in rename.outputs.items()],
            )
        )


def nested(tensors: Iterable[torch.Tensor]) -> Any:
    """Several tensors on one LATENT: ComfyUI's own kind, which 0.3.64 does not have."""
    return NestedTensor(tensors)


def model_roots() -> list[Path]:
    """Folders that may hold models: our own first, then ComfyUI's ``diffusers``."""
    named = [*folder_paths.get_folder_paths(_FOLDER_KEY), *folder_paths.get_folder_paths("diffusers")]
    return [Path(path) for path in named]


def weight_roots() -> list[Path]:
    """ComfyUI's folders of single files, also those of extra_model_paths.yaml."""
    known = [key for key in _WEIGHT_KEYS if key in folder_paths.folder_names_and_paths]
    return [Path(path) for key in known for path in folder_paths.get_folder_paths(key)]


def lora_roots() -> list[Path]:
    """ComfyUI's folders of LoRAs, also those of extra_model_paths.yaml."""
    return [Path(path) for path in folder_paths.get_folder_paths("loras")]


def t5_tokenizer_folder() -> Path | None:
    """T5's tokenizer, which ComfyUI brings along for its own text encoders."""
    folder = Path(comfy.utils.__file__).parent / "text_encoders" / "t5_tokenizer"
    return folder if folder.is_dir() else None


def default_device() -> torch.device:
    """The device ComfyUI computes on."""
    return model_management.get_torch_device()


def managed_memory() -> AbstractContextManager[Residency]:
    """Stages inside the block load through ComfyUI's memory management, which evicts and frees what they leave."""
    return managed_by(MEMORY)


def make_room() -> None:
    """Move all models off the device, ours among them; for what is loaded outside of any manager."""
    model_management.unload_all_models()
    model_management.soft_empty_cache()


def progress(*stages: tuple[str, float]) -> Progress:
    """The running node's bar, text and live preview on the page, and ComfyUI's interrupt. Call it inside ``execute``.

    Args:
        stages: Name and share of each stage of the node, where it has several (:class:`~.common.StageBar`).

    A preview goes out as ComfyUI's own preview image, which any client shows; the message before it says how its
    tiles are laid out, and with that our page extension plays them.
    """
    bar, stage_bar, clock, pace = comfy.utils.ProgressBar(1), StageBar(stages), StageClock(), Pace()
    page, node_id = PromptServer.instance, _node_on_the_page()

    def report(stage: str, done: int, total: int, preview: Callable[[], Any] | None = None) -> None:
        text = clock.text(stage, done, total)
        if text is not None:
            page.send_progress_text(text, node_id, page.client_id)
        image = None
        if preview is not None and page.sockets and (pace.due() or done == total):
            with pace.measured():
                shown = preview()
                if isinstance(shown, Preview):
                    sheet = shown.sheet()
                    page.send_sync(PREVIEW_EVENT, {"node": node_id, **sheet.as_json()}, page.client_id)
                    image = ("JPEG", sheet.picture, None)
        moved = stage_bar.move(stage, done, total)
        if moved is not None or image is not None:
            bar.update_absolute(*(moved or (bar.current, bar.total)), image)

    def check_cancelled() -> None:
        try:
            model_management.throw_exception_if_processing_interrupted()
        except model_management.InterruptProcessingException:
            if clock.has_spoken:  # how long the rest would have taken is no longer true
                page.send_progress_text("", node_id, page.client_id)
            raise

    def tell(sentence: str) -> None:
        clock.has_spoken = True
        page.send_progress_text(sentence, node_id, page.client_id)

    return Progress(report, check_cancelled, tell)


def _node_on_the_page() -> str:
    """Id of the running node as the page knows it: inside an expanded graph that is the node it came from."""
    running = get_executing_context().node_id
    return get_progress_state().dynprompt.get_display_node_id(running)


def shows_previews() -> bool:
    """Whether anybody is looking: a page or another client is connected."""
    return bool(PromptServer.instance.sockets)


def embeds_metadata() -> bool:
    """False when ComfyUI was started with ``--disable-metadata``."""
    return not args.disable_metadata


def verdict(error: SoundingVideoError) -> str:
    """Refuse a node's inputs. ComfyUI repeats a verdict for every input that was looked at, an exception it tells once.

    Raises:
        SoundingVideoError: the one that was given.
    """
    raise error


def save_place(
    prefix: str, *, width: int, height: int, suffix: str, temporary: bool = False, hidden: Any = None
) -> SavePlace:
    """The next free file name in ComfyUI's output folder, by its own convention; or in its temporary folder.

    Words of the page's own savers are filled in here, from the workflow in ``hidden``.

    Raises:
        OutputError: the prefix leaves the output folder.
    """
    check_prefix(prefix)
    prefix = filled_prefix(prefix, width=width, height=height, hidden=hidden)
    output = folder_paths.get_temp_directory() if temporary else folder_paths.get_output_directory()

    def free() -> tuple[Path, str]:
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(prefix, output, width, height)
        return Path(folder) / f"{name}_{counter:05}_{suffix}", subfolder

    path, subfolder = free()
    return SavePlace(FreeName(path, lambda: free()[0]), subfolder)


def check_place(prefix: str, suffix: str, *, temporary: bool = False) -> None:
    """Refuse a place that :func:`save_place` could not give, or that could not be written to.

    Raises:
        OutputError: see :func:`~.places.require_place`.
    """
    output = folder_paths.get_temp_directory() if temporary else folder_paths.get_output_directory()
    require_place(Path(output), prefix, suffix)


def video_value(path: Path) -> Any:
    """Wrap a file as a VIDEO value."""
    return InputImpl.VideoFromFile(str(path))


register_model_folder()
