"""A clip that begins with a user's picture: the first latent frame is given, everything after it is made."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F

from ..core.clock import Timeline
from ..core.errors import InputError
from ..core.pair import Pair
from ..core.types import AVClip, VideoClip
from ..media.user_file import UserFile, fit_file
from ..models.clip_encoding import encode_clip
from ..pipeline import decode_latents, sample_latents
from ..sampling.given import known
from .base import Run, sizes_told


def from_first_frame(run: Run, file: UserFile, timeline: Timeline) -> tuple[AVClip, list[str]]:
    """Make a clip whose first frame is a user's picture, fitted to the clip's size.

    Args:
        run: Model, captions, options.
        file: A picture; of a video the first frame.
        timeline: Of the clip.

    Returns:
        The clip, and sentences about how the picture was fitted.

    Raises:
        InputError: a file without a picture, a model without a video tower.
        GeometryError: a model whose latents hold a clip as a whole.
    """
    if file.picture is None:
        raise InputError("there is no picture to begin with", got=file.path, expected="a picture or a video")
    if not run.model.makes("video"):
        raise InputError("a first frame needs a video tower", got=run.model.description)
    timeline.require_parts()
    # Only frame 0 counts: the video codec is causal, so its latent depends on nothing after it.
    extent = replace(timeline, num_frames=min(timeline.num_frames, run.model.own.num_frames))
    clip, report = fit_file(replace(file, sound=None), extent)
    still = VideoClip(clip.video.frames[:1].expand_as(clip.video.frames), timeline.fps)
    picture = encode_clip(AVClip(still), extent, **run.codecs()).video
    picture = F.pad(picture, (0, 0, 0, 0, 0, timeline.video_latent_shape[1] - picture.shape[2]))
    latents = sample_latents(
        run.model,
        run.conditioning(timeline),
        video_shape=tuple(picture.shape),
        audio_shape=run.model.shapes(timeline).audio,
        options=run.options,
        given=Pair(known(picture, stop=1)),
        progress=run.progress,
        times=timeline.times,
    )
    made = decode_latents(latents, fps=timeline.fps, **run.codecs(), own_seconds=run.model.own.seconds)
    frames = torch.cat([clip.video.frames[:1], made.video.frames[1:]])
    return AVClip(VideoClip(frames, timeline.fps), made.audio), [*file.notes, *sizes_told(report)]
