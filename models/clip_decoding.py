"""From latents to a clip, as the codecs give it: the way of ``encode_clip`` backwards."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from torch import Tensor

from ..core.errors import InputError
from ..core.pair import Pair
from ..core.progress import SILENT, Progress, stoppable
from ..core.types import AudioClip, AVClip, JointLatents, VideoClip
from .plan.fit import note
from .plan.runs import decoding_audio, decoding_both, decoding_video

if TYPE_CHECKING:
    from ..core.device import Placement
    from ..core.protocols import AudioCodec, JointCodec, VideoCodec


def decode_clip(
    latents: JointLatents,
    codecs: Pair[VideoCodec | AudioCodec],
    *,
    fps: Fraction,
    placement: Placement,
    tiling: str = "auto",
    progress: Progress = SILENT,
) -> AVClip:
    """Decode one clip; its sound is as long as the audio latents, which need not be the picture's length.

    Args:
        latents: Normalised, batch of one.
        codecs: One for every latent that is there.
        fps: Frame rate of the picture.
        placement: Where the codecs run.
        tiling: Of the picture's codec: ``auto``, ``on`` or ``off``.
        progress: Stage ``decode`` with a unit a latent frame (and tile) of the picture, then ``decode sound`` with one
            a block of its decoder. What decodes both at once tells ``decode``.

    Raises:
        InputError: a latent without its codec.
        PlacementError: no plan fits the memory.
    """
    for modality in Pair.of(latents).present:
        _require_codec(codecs[modality], modality)
    with stoppable(progress):
        decoded = _decoded(latents, codecs, placement, tiling, progress)
    return AVClip(
        None if decoded.video is None else VideoClip(decoded.video, fps),
        None if decoded.audio is None else AudioClip(decoded.audio, codecs.audio.sample_rate),
    )


def _decoded(
    latents: JointLatents, codecs: Pair[VideoCodec | AudioCodec], placement: Placement, tiling: str, progress: Progress
) -> Pair[Tensor]:
    """Frames and waveform."""
    whole = _whole(latents, codecs)
    if whole is not None:
        stage = decoding_both(whole, latents.video.shape, latents.audio.shape)
        both = stage.run(placement, lambda _: whole.decode_both(latents.video, latents.audio, progress=progress))
        return Pair(*both)
    frames = waveform = None
    if latents.video is not None:
        stage = decoding_video(codecs.video, latents.video.shape, tiling)
        frames = stage.run(
            placement, lambda how: codecs.video.decode(latents.video, tiling=how.tiling, progress=progress)
        )
    if latents.audio is not None:
        stage, told = decoding_audio(codecs.audio, latents.audio.shape), progress.told_as("decode sound")
        waveform = stage.run(placement, lambda _: codecs.audio.decode(latents.audio, progress=told))
    return Pair(frames, waveform)


def _whole(latents: JointLatents, codecs: Pair[VideoCodec | AudioCodec]) -> JointCodec | None:
    """The autoencoder of which both codecs are faces; None for codecs of their own, or where one latent is absent."""
    wholes = codecs.map(lambda codec: getattr(codec, "whole", None))
    if latents.video is not None and latents.audio is not None:
        return wholes.video if wholes.video is wholes.audio else None
    shown, other = ("picture", "sound") if latents.audio is None else ("sound", "picture")
    if wholes["video" if latents.audio is None else "audio"] is not None:
        note(f"the {shown} is decoded without the {other}, though this model decodes them together")
    return None


def _require_codec(codec: object | None, modality: str) -> None:
    if codec is None:
        raise InputError(
            f"there is a {modality} latent but no {modality} codec", expected=f"the {modality} codec of the loader"
        )
