"""Picture and sound on one LATENT: ComfyUI's nested latents, as its *Concat AV Latent* makes them."""

from __future__ import annotations

from typing import Any

import torch

from ..core.clock import ClipTimes, LatentGeometry
from ..core.errors import GeometryError, InputError
from .host import io, nested

Latent = dict[str, Any]
# Beside the samples of a LATENT: pictures a second. Other packs' nodes keep it where they copy a latent.
FPS_KEY = "fps"


def av_input(name: str, alone: str) -> io.Input:
    """A socket that stands for two others.

    Args:
        name: Of the input.
        alone: Names of the two.
    """
    return io.Latent.Input(
        name, optional=True, tooltip=f"Picture and sound on one socket, instead of {alone}; also ComfyUI's AV latents."
    )


def av_output(name: str) -> io.Output:
    """Both results on one socket."""
    return io.Latent.Output(
        name, display_name=name, tooltip="Both on one socket, as ComfyUI's Separate AV Latent takes them."
    )


def joined(video: Latent | None, audio: Latent | None) -> Latent | None:
    """Both latents as one; None where there is only one. Masks go with them: 1 is to be made, which all is without."""
    if video is None or audio is None:
        return None
    both = {"samples": nested((video["samples"], audio["samples"])), **rate_of(video, audio)}
    masks = [latent.get("noise_mask") for latent in (video, audio)]
    if any(mask is not None for mask in masks):
        whole = [torch.ones_like(latent["samples"][:, :1]) for latent in (video, audio)]
        pairs = zip(masks, whole, strict=True)
        both["noise_mask"] = nested(tuple(ones if mask is None else mask for mask, ones in pairs))
    return both


def rate_of(*latents: Latent | None) -> Latent:
    """The frame rate that a latent carries, to be kept on another one; nothing where none does."""
    rates = [latent[FPS_KEY] for latent in latents if latent is not None and FPS_KEY in latent]
    return {FPS_KEY: rates[0]} if rates else {}


def times_of(geometry: LatentGeometry, *latents: Latent | None) -> ClipTimes | None:
    """When the steps of these latents lie; None where none carries a frame rate, or one that is no rate."""
    try:
        return geometry.times(rate_of(*latents)[FPS_KEY])
    except (KeyError, GeometryError):
        return None


def parted(
    both: Latent | None, video: Latent | None, audio: Latent | None, *, wanted: tuple[bool, bool] = (True, True)
) -> tuple[Latent | None, Latent | None]:
    """The picture's and the sound's latent of a node's three inputs.

    Args:
        both: A nested latent.
        video: The picture's latent, or a nested one of which it is a half.
        audio: The sound's, or a nested one.
        wanted: Which halves of ``both`` there is a model for; the other is left out.

    Raises:
        InputError: one thing is given twice, or what should be two is one.
    """
    if both is None:
        return video and _halves(video, 0), audio and _halves(audio, 1)
    twice = [name for name, value in (("picture", video), ("sound", audio)) if value is not None]
    if twice:
        raise InputError(
            "a latent is given twice",
            got=f"both on one socket, and {' and '.join(twice)} on another",
            expected="the AV latent alone, or the two others",
        )
    if not _is_nested(both):
        raise InputError(
            "the AV latent holds one latent only",
            got=f"shape {tuple(both['samples'].shape)}",
            expected="picture and sound, from Empty AV Latent, a Joint Sampler or ComfyUI's Concat AV Latent",
        )
    picture, sound = (_halves(both, index) if wanted[index] else None for index in (0, 1))
    return picture, sound


def _is_nested(latent: Latent) -> bool:
    return bool(getattr(latent["samples"], "is_nested", False))


def _halves(latent: Latent, index: int) -> Latent:
    """The picture (0) or the sound (1) of a nested latent; another one as it is."""
    if not _is_nested(latent):
        return latent
    streams = latent["samples"].unbind()
    if len(streams) != 2:
        raise InputError("the AV latent does not hold two latents", got=len(streams), expected="picture and sound")
    mask = latent.get("noise_mask")
    if getattr(mask, "is_nested", False):
        mask = mask.unbind()[index]
    elif index:
        mask = None  # one mask for two latents is the picture's
    return {"samples": streams[index], **rate_of(latent), **({} if mask is None else {"noise_mask": mask})}
