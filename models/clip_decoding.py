"""From latents to a clip, as the codecs give it: the way of ``encode_clip`` backwards."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

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
    raw: bool = False,
    tiling: str = "auto",
    progress: Progress = SILENT,
    own_seconds: float | None = None,
) -> AVClip:
    """Decode one clip; its sound is as long as the audio latents, which need not be the picture's length.

    Args:
        latents: Normalised, batch of one.
        codecs: One for every latent that is there.
        fps: Frame rate of the picture.
        placement: Where the codecs run.
        raw: The latents are in the codecs' own spaces instead.
        tiling: Of the picture's codec: ``auto``, ``on`` or ``off``.
        progress: Stage ``decode`` with a unit a latent frame (and tile) of the picture, then ``decode sound`` with one
            a block of its decoder. What decodes both at once tells ``decode``.
        own_seconds: How long the model's own clip is: a longer sound is decoded in pieces of that, which takes the
            memory of one. None decodes it as a whole. (A picture's codec goes from latent frame to latent frame.)

    Raises:
        InputError: a latent without its codec.
        PlacementError: no plan fits the memory.
    """
    for modality in Pair.of(latents).present:
        _require_codec(codecs[modality], modality)
    with stoppable(progress):
        decoded = _decoded(latents, codecs, placement, raw, tiling, progress, own_seconds)
    return AVClip(
        None if decoded.video is None else VideoClip(decoded.video, fps),
        None if decoded.audio is None else AudioClip(decoded.audio, codecs.audio.sample_rate),
    )


def _decoded(
    latents: JointLatents,
    codecs: Pair[VideoCodec | AudioCodec],
    placement: Placement,
    raw: bool,
    tiling: str,
    progress: Progress,
    own_seconds: float | None,
) -> Pair[Tensor]:
    """Frames and waveform."""
    whole = _whole(latents, codecs)
    if whole is not None:
        stage = decoding_both(whole, latents.video.shape, latents.audio.shape)
        both = stage.run(
            placement, lambda _: whole.decode_both(latents.video, latents.audio, raw=raw, progress=progress)
        )
        return Pair(*both)
    frames = waveform = None
    if latents.video is not None:
        stage = decoding_video(codecs.video, latents.video.shape, tiling)
        frames = stage.run(
            placement, lambda how: codecs.video.decode(latents.video, raw=raw, tiling=how.tiling, progress=progress)
        )
    if latents.audio is not None:
        told, size = progress.told_as("decode sound"), _piece(codecs.audio, own_seconds, latents.audio.shape[2])
        stage = decoding_audio(codecs.audio, (*latents.audio.shape[:2], size))
        waveform = stage.run(placement, lambda _: decode_sound(codecs.audio, latents.audio, size, told, raw=raw))
    return Pair(frames, waveform)


def _piece(codec: AudioCodec, own_seconds: float | None, count: int) -> int:
    """Latents that are decoded at once: all, or as many as the model's own clip has."""
    context = getattr(codec, "context", None)
    if own_seconds is None or context is None:
        return count
    return min(count, max(3 * context, round(own_seconds * codec.sample_rate / codec.hop)))


def decode_sound(
    codec: AudioCodec, latents: Tensor, size: int, progress: Progress = SILENT, *, raw: bool = False
) -> Tensor:
    """Decode a sound in pieces that see all that reaches them from their neighbours, so that they have no seams.

    Args:
        codec: Of a finite reach: ``context`` latents to either side.
        latents: ``(1, C, L)``.
        size: Latents of a piece with its context.
        progress: Told of the blocks of all pieces; asked for a stop after each.
        raw: The latents are in the codec's own space.

    Returns:
        ``(channels, L · hop)``; from several pieces it is that of one, to a rounding.
    """
    count = latents.shape[2]
    if size >= count:
        return codec.decode(latents, raw=raw, progress=progress)
    context, hop = codec.context, codec.hop
    step = size - 2 * context
    starts = range(0, max(1, count - 2 * context), step)
    whole: Tensor | None = None
    for number, start in enumerate(starts):
        # Pieces are of one size; the last one begins as early as the end asks for.
        first = min(start, count - size)

        def report(stage: str, done: int, total: int, preview: Any = None, number: int = number) -> None:
            progress.report(stage, number * total + done, len(starts) * total, preview)

        part = latents[:, :, first : first + size]
        piece = codec.decode(part, raw=raw, progress=replace(progress, report=report))
        if whole is None:
            whole = piece.new_empty(piece.shape[0], count * hop)
        skipped = context if first else 0
        whole[:, (first + skipped) * hop : (first + size) * hop] = piece[:, skipped * hop :]
    return whole


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
