"""ComfyUI-SoundingVideo: text in, video with the sound that belongs to it out.

Importing this package imports nothing heavy and changes nothing: no torch, no logging set-up, no patching.
ComfyUI finds ``WEB_DIRECTORY`` and ``comfy_entrypoint`` here; everything else lives in the sub-packages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .nodes import SoundingVideoExtension

__version__ = "0.1.0"

WEB_DIRECTORY = "./web"
__all__ = ["WEB_DIRECTORY", "__version__", "comfy_entrypoint"]


async def comfy_entrypoint() -> SoundingVideoExtension:
    """Give ComfyUI the extension object that lists our nodes (called once, at ComfyUI's start)."""
    from .nodes import extension

    return extension()
