"""Initial noise: always drawn on the CPU in float32, so that a seed gives the same clip on any device."""

from __future__ import annotations

import torch

from ..core.errors import InputError
from ..core.types import JointLatents
from .words import MAX_SEED


def seeded_generator(seed: int) -> torch.Generator:
    """A CPU generator that starts at ``seed``.

    Raises:
        InputError: the seed is not a whole number from 0 to 2**64 − 1.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
        raise InputError("the seed cannot be used", got=repr(seed), expected=f"a whole number from 0 to {MAX_SEED}")
    return torch.Generator("cpu").manual_seed(seed)


def draw_noise(
    seed: int, *, video_shape: tuple[int, ...] | None = None, audio_shape: tuple[int, ...] | None = None
) -> JointLatents:
    """Unscaled N(0, 1) noise for both modalities from one generator, audio first, as the official system draws it.

    A modality that is left out is not drawn: video alone gets the noise the stock Wan pipeline would draw, which is
    another than the same seed gives it beside a sound. So where bridges leave the picture alone (SyncFlow), the picture
    of a joint run is that of a silent run only if both get one noise: sample both, and decode one.

    Args:
        seed: 0 to 2**64 − 1.
        video_shape: ``(B, C, T, H, W)`` or None.
        audio_shape: ``(B, C, L)`` or None.

    Returns:
        float32 latents on the CPU.

    Raises:
        InputError: an unusable seed, a shape with another number of dimensions, or no shape at all.
    """
    # device is explicit: a default device set by the host must not move the draw to its own random numbers.
    settings = {"generator": seeded_generator(seed), "dtype": torch.float32, "device": "cpu"}
    audio = None if audio_shape is None else torch.randn(audio_shape, **settings)
    video = None if video_shape is None else torch.randn(video_shape, **settings)
    return JointLatents(video=video, audio=audio)
