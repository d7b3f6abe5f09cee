"""The one door to ComfyUI. Nodes import these names from here and are written once.

Inside a ComfyUI process the names are ComfyUI's own (``comfy.py``); anywhere else they are a stand-in that needs
nothing but this package (``standalone.py``).
"""

from __future__ import annotations

import sys

from .newer import Rename, newer


def inside_comfyui() -> bool:
    """Whether this process is ComfyUI: its own modules are loaded, not merely somewhere on disk."""
    return all(name in sys.modules for name in ("folder_paths", "comfy_api", "comfy.model_management"))


if inside_comfyui():
    from . import comfy as current_host
else:
    from . import standalone as current_host

HOST_NAME = current_host.NAME
ComfyExtension = current_host.ComfyExtension
answer_posts = current_host.answer_posts
check_place = current_host.check_place
io = current_host.io
ui = current_host.ui
default_device = current_host.default_device
embeds_metadata = current_host.embeds_metadata
lora_roots = current_host.lora_roots
make_room = current_host.make_room
managed_memory = current_host.managed_memory
model_roots = current_host.model_roots
nested = current_host.nested
progress = current_host.progress
rename_nodes = current_host.rename_nodes
save_place = current_host.save_place
shows_previews = current_host.shows_previews
t5_tokenizer_folder = current_host.t5_tokenizer_folder
verdict = current_host.verdict
video_value = current_host.video_value
weight_roots = current_host.weight_roots

__all__ = [
    "HOST_NAME",
    "ComfyExtension",
    "Rename",
    "answer_posts",
    "check_place",
    "default_device",
    "embeds_metadata",
    "inside_comfyui",
    "io",
    "lora_roots",
    "make_room",
    "managed_memory",
    "model_roots",
    "nested",
    "newer",
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
