"""A clip that goes on: its end is given in both modalities, what comes after it is made."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

from ..core.clock import Timeline
from ..core.errors import InputError
from ..core.pair import Pair
from ..core.types import AVClip
from ..media.joining import put_behind
from ..media.probe import read_clip
from ..media.user_file import UserFile, fit_file
from ..models.clip_encoding import encode_clip
from ..pipeline import decode_latents, sample_latents
from ..sampling.given import known
from .base import Run, own_timeline, sizes_told


def go_on(run: Run, file: UserFile) -> tuple[AVClip, list[str]]:
    """Continue a user's clip by half of the model's own length.

    What the clip has stays as it is, at its own size and rate; the new frames are brought to them, and the sounds meet
    in a crossfade of 20 ms before the clip's end.

    Args:
        run: Model, captions, options.
        file: A video, with or without sound.

    Returns:
        The longer clip, and sentences about how the end of the clip was fitted to the model.

    Raises:
        InputError: a file without a picture, a model without a video tower, a clip shorter than a latent frame.
        GeometryError: a model whose latents hold a clip as a whole.
    """
    if file.picture is None or not run.model.makes("video"):
        raise InputError("only a video can go on", got=file.path, expected="a video, and a model with a video tower")
    timeline = own_timeline(run.model, file)
    timeline.require_parts()
    frames, latent_frames = _known_frames(timeline, file.seconds)
    start = max(Fraction(0), file.seconds - frames / timeline.fps)
    clip, report = fit_file(file, timeline, start=start)
    if not run.model.makes("audio"):
        clip = replace(clip, audio=None)
    given = encode_clip(clip, timeline, **run.codecs())
    known_seconds = frames / timeline.fps
    audio = given.audio
    if audio is not None:
        hop = Fraction(timeline.geometry.audio_hop, timeline.geometry.sample_rate)
        audio = known(audio, stop=max(1, int(known_seconds / hop)))
    latents = sample_latents(
        run.model,
        run.conditioning(timeline),
        video_shape=tuple(given.video.shape),
        audio_shape=run.model.shapes(timeline).audio,
        options=run.options,
        given=Pair(known(given.video, stop=latent_frames), audio),
        progress=run.progress,
        times=timeline.times,
    )
    made = decode_latents(latents, fps=timeline.fps, **run.codecs())
    before = read_clip(file.path)
    return put_behind(before, made, start=before.seconds - known_seconds), [*file.notes, *sizes_told(report)]


def _known_frames(timeline: Timeline, seconds: Fraction) -> tuple[int, int]:
    """How many frames of the clip's end are shown to the model, 4k+1, and how many latent frames they are."""
    stride = timeline.geometry.temporal_stride
    most = min((timeline.num_frames - 1) // 2, math.floor(seconds * timeline.fps) - 1)
    if most < 0:
        raise InputError("the clip is too short to go on", got=f"{float(seconds):g} s", expected="one frame or more")
    return most // stride * stride + 1, most // stride + 1
