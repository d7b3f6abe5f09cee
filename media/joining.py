"""One clip of the windows that it was made in (:func:`~..core.clock.windows`): what they share is in it once.

Each window after the first is made with the end of the one before it as known latents (:func:`known_end`). Known
latents come back bit for bit, so latents are joined by putting one behind the other, and a sound that is decoded from
the joined latents has no seam at all. Where that takes too much memory, windows are decoded one by one and
:func:`join_sound` goes over from one to the next in the middle of what both share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..core.clock import Window, samples_for
from ..core.errors import InputError
from ..core.types import AudioClip, VideoClip

CROSSFADE_SECONDS = 0.02


def known_end(latents: Tensor, window: Window) -> Tensor:
    """What a window is given of the sound before it: the last ``window.known_latents`` of the latents.

    Args:
        latents: Audio latents ``(B, C, L)`` of the window before it.
        window: Which begins inside them.

    Returns:
        ``(B, C, known_latents)``, the first latents of the window.
    """
    return latents[..., latents.shape[-1] - window.known_latents :]


def join_latents(parts: Sequence[Tensor], plan: Sequence[Window]) -> Tensor:
    """Audio latents of all windows as one.

    Args:
        parts: ``(B, C, L)`` a window.
        plan: The windows.

    Returns:
        ``(B, C, L_all)``.

    Raises:
        InputError: another number of parts than windows.
    """
    _require_all(parts, plan)
    return torch.cat([part[..., window.known_latents :] for part, window in zip(parts, plan, strict=True)], dim=-1)


def join_pictures(parts: Sequence[VideoClip], plan: Sequence[Window]) -> VideoClip:
    """Pictures of all windows as one; shared frames are the earlier window's.

    Raises:
        InputError: another number of parts than windows.
    """
    _require_all(parts, plan)
    frames = [part.frames[window.known_frames :] for part, window in zip(parts, plan, strict=True)]
    return VideoClip(torch.cat(frames), parts[0].fps)


def join_sound(
    parts: Sequence[AudioClip], plan: Sequence[Window], *, crossfade_seconds: float = CROSSFADE_SECONDS
) -> AudioClip:
    """Decoded sounds of all windows as one.

    Neighbours decoded what they share from the same latents, so they differ at the ends only, where one of them did
    not see what comes next: one goes over into the other in the middle. Being alike, they are weighted to a sum of one.

    Args:
        parts: ``(C, samples)`` a window, of whole latents.
        plan: The windows.
        crossfade_seconds: Length of the change; shorter where less is shared, 0 for none.

    Raises:
        InputError: another number of parts than windows.
    """
    _require_all(parts, plan)
    rate = parts[0].sample_rate
    whole = parts[0].waveform
    for part, window in zip(parts[1:], plan[1:], strict=True):
        first = samples_for(window.start, rate)
        shared = whole.shape[1] - first
        fade = min(shared, samples_for(crossfade_seconds, rate))
        middle = (shared - fade) // 2
        phase = (torch.arange(fade, dtype=torch.float64) + 0.5) * (math.pi / max(1, fade))
        rising = (0.5 - 0.5 * torch.cos(phase)).to(whole)
        change = slice(first + middle, first + middle + fade)
        mixed = whole[:, change] * (1 - rising) + part.waveform[:, middle : middle + fade] * rising
        whole = torch.cat([whole[:, : change.start], mixed, part.waveform[:, middle + fade :]], dim=1)
    return AudioClip(whole, rate)


def _require_all(parts: Sequence[object], plan: Sequence[Window]) -> None:
    if len(parts) != len(plan) or not plan:
        raise InputError("the parts are not those of the plan", got=f"{len(parts)} parts", expected=f"{len(plan)}")
