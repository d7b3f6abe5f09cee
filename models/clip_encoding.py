"""From a fitted clip to latents: the way of ``decode_latents`` backwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..core.clock import Timeline
from ..core.errors import InputError
from ..core.progress import SILENT, Progress, stoppable
from ..core.types import AVClip, JointLatents
from .plan.runs import encoding_audio, encoding_video

if TYPE_CHECKING:
    from ..core.device import Placement
    from ..core.protocols import AudioCodec, VideoCodec


def encode_clip(
    clips: AVClip | Sequence[AVClip],
    timeline: Timeline,
    *,
    video_codec: VideoCodec | None,
    audio_codec: AudioCodec | None,
    placement: Placement,
    tiling: str = "auto",
    progress: Progress = SILENT,
) -> JointLatents:
    """Encode clips that fit a timeline (:func:`~..media.fit.fit_clip`), one a row.

    The same clip always gives the same latents: the mode of the posterior is taken, nothing is drawn. Encoding a sound
    rounds its length up to whole latents and the timeline rounds it down, so the last, partial latent is left out, as
    in training.

    Args:
        clips: One, or several with the same modalities; each modality may be absent.
        timeline: Frames, rate, size and geometry of the codecs.
        video_codec: Needed when the clips have a picture.
        audio_codec: Needed when they have a sound.
        placement: Where the codecs run.
        tiling: Of the video encoder: ``auto``, ``on`` or ``off``.
        progress: Stage ``encode picture`` with a unit a latent frame (and tile), then ``encode sound`` with one a block
            of its encoder; both once a clip. A stop is honoured within one layer.

    Returns:
        Normalised latents as the sampler's, float32, on the CPU: ``(B, *timeline.video_latent_shape)`` and
        ``(B, *timeline.audio_latent_shape)``, each None where the clips lack it.

    Raises:
        InputError: a codec is missing, a clip was not fitted, or the clips differ in what they have.
        PlacementError: no plan fits the memory.
    """
    clips = [clips] if isinstance(clips, AVClip) else list(clips)
    _require_alike(clips)
    for clip in clips:
        _require_fitted(clip, timeline)
    pictures = [clip.video.frames for clip in clips if clip.video is not None]
    sounds = [clip.audio.waveform for clip in clips if clip.audio is not None]
    _require_codec("video", pictures, video_codec)
    _require_codec("audio", sounds, audio_codec)
    with stoppable(progress):
        video = _encode_pictures(pictures, timeline, video_codec, placement, tiling, progress) if pictures else None
        audio = _encode_sounds(sounds, timeline, audio_codec, placement, progress) if sounds else None
    return JointLatents(video, audio)


def _encode_pictures(
    pictures: Sequence[Tensor],
    timeline: Timeline,
    codec: VideoCodec,
    placement: Placement,
    tiling: str,
    progress: Progress,
) -> Tensor:
    """``(B, C, T, H, W)`` of each clip's frames."""
    stage, told = encoding_video(codec, (1, *timeline.video_latent_shape), tiling), progress.told_as("encode picture")
    return torch.cat(
        [
            stage.run(placement, lambda how, f=frames: codec.encode(f, tiling=how.tiling, progress=told))
            for frames in pictures
        ]
    )


def _encode_sounds(
    sounds: Sequence[Tensor], timeline: Timeline, codec: AudioCodec, placement: Placement, progress: Progress
) -> Tensor:
    """``(B, C, L)`` of each clip's waveform."""
    stage, told = encoding_audio(codec, (1, *timeline.audio_latent_shape)), progress.told_as("encode sound")
    encoded = [stage.run(placement, lambda _, w=waveform: codec.encode(w, progress=told)) for waveform in sounds]
    return torch.cat(encoded)[:, :, : timeline.audio_latent_shape[1]].contiguous()


def _require_alike(clips: Sequence[AVClip]) -> None:
    if not clips or len({(clip.video is None, clip.audio is None) for clip in clips}) > 1:
        raise InputError(
            "the clips cannot be encoded together",
            got=f"{len(clips)} clips, some without picture or sound" if clips else "no clip",
            expected="clips that all have a picture, all a sound, or all both",
        )


def _require_codec(name: str, media: Sequence[Tensor], codec: object | None) -> None:
    if media and codec is None:
        thing = "picture" if name == "video" else "sound"
        raise InputError(f"there is a {thing} but no {name} codec", expected=f"the {name} codec of the loader")


def _require_fitted(clip: AVClip, timeline: Timeline) -> None:
    """Refuse a clip of another extent: encoded, it would stand at another time or in another size."""
    got = expected = None
    if clip.video is not None:
        got = (*clip.video.frames.shape[:3], clip.video.fps)
        expected = (timeline.num_frames, timeline.height, timeline.width, timeline.fps)
    if got == expected and clip.audio is not None:
        got = (clip.audio.waveform.shape[1], clip.audio.sample_rate)
        expected = (timeline.num_samples, timeline.geometry.sample_rate)
    if got != expected:
        *counts, rate = got
        *wanted, wanted_rate = expected
        raise InputError(
            "the clip does not fit the timeline",
            got=f"{'×'.join(map(str, counts))} at {rate}",
            expected=f"{'×'.join(map(str, wanted))} at {wanted_rate}",
            remedy="Fit it first: media.fit.fit_clip.",
        )
