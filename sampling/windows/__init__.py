"""Ways to make a clip that is longer than what a model makes at once, window by window; one a file.

A window always has the model's own size, so the memory is that of one window: windows are run one after the other, and
only latents of the whole clip are kept. What windows share is in the clip once, so what is decoded has no seam.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.registry import Registry

if TYPE_CHECKING:
    from .base import Windows

WINDOWS: Registry[type[Windows]] = Registry("way of windows", __name__)
OFF = "off"


def window_names() -> tuple[str, ...]:
    """What can be asked for: nothing, or a way."""
    return (OFF, *WINDOWS.names())
