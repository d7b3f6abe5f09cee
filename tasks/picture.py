"""A picture for a sound: the sound is given and stays as it is, the picture is made as long as it.

A sound of up to twice the model's length has its picture in one pass, a longer one in windows of the model's length:
each is given the end of the picture before it as known frames.
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

from ..core.clock import Timeline
from ..core.errors import InputError
from ..core.pair import Pair
from ..core.types import AVClip, Conditioning, JointLatents, VideoClip
from ..core.windows import Window
from ..media.fit import fit_clip
from ..media.joining import join_pictures
from ..media.own import with_own_sound
from ..media.user_file import UserFile, fit_file
from ..models.clip_encoding import encode_clip
from ..pipeline import decode_latents, sample_latents
from ..sampling.given import Given, known
from .base import OVERLAP_SECONDS, Run, captions_of_windows, fit_told, made_alone, own_timeline, planned_windows

# The model is asked for this many times its own length before windows are made.
LONGEST_PASS = 2


def picture_for(run: Run, file: UserFile, *, overlap: float = OVERLAP_SECONDS) -> tuple[AVClip, list[str]]:
    """Make the picture of a user's sound.

    Args:
        run: Model, captions, options. The sound is shown to the model as ``options.given_how`` says.
        file: What is heard, of any rate and length.
        overlap: Seconds that neighbouring windows share.

    Returns:
        The picture with the user's own sound, and sentences about how the sound was fitted to the model.

    Raises:
        InputError: a file without sound, a model without towers for both, bridges that do not lead to the picture.
    """
    if file.sound is None:
        raise InputError(
            "there is no sound to make a picture for", got=file.path, expected="a sound, or a video with one"
        )
    if not (run.model.makes("video") and run.model.makes("audio")):
        raise InputError("a picture for a sound needs both towers", got=run.model.description)
    if run.reading is not None:
        run.reading.require(run.model, "video")
    heard, timeline = replace(file, picture=None, size=None), own_timeline(run.model)
    stride = timeline.geometry.temporal_stride
    num_frames = max(1, math.ceil((math.ceil(file.sound.seconds * timeline.fps) - 1) / stride)) * stride + 1
    if not timeline.geometry.in_time and file.sound.seconds <= timeline.seconds:
        num_frames = timeline.num_frames  # it makes no shorter clip; silence follows
    if num_frames <= LONGEST_PASS * timeline.num_frames:
        timeline = replace(timeline, num_frames=num_frames)
        plan, told = (Window(0, 0, 0, 0, Fraction(0), Fraction(0)),), []
    else:
        plan, told = planned_windows(timeline, file.sound.seconds, overlap)
    told_each = captions_of_windows(run.conditioning(timeline), timeline, plan, run.progress)
    notes, parts = list(file.notes), []
    for number, window in enumerate(plan):
        clip, report = fit_file(heard, timeline, start=window.first_frame / timeline.fps)
        if number == 0:
            notes += fit_told(report, plan)
        parts.append(_window(run.seeded(number), timeline, told_each[number], clip, _end(parts, window)))
    return with_own_sound(file.sound, join_pictures(parts, plan)), [*notes, *told]


def _end(parts: list[VideoClip], window: Window) -> VideoClip | None:
    """The frames that a window begins with."""
    if not parts or not window.known_frames:
        return None
    return VideoClip(parts[-1].frames[-window.known_frames :], parts[-1].fps)


def _window(
    run: Run, timeline: Timeline, conditioning: Conditioning, heard: AVClip, before: VideoClip | None
) -> VideoClip:
    """The picture of one window of the sound, which begins with the last frames of the one before it."""
    sound = encode_clip(heard, timeline, **run.codecs()).audio
    seen = None
    if before is not None:
        # The codec is causal: what stands behind the known frames does not reach their latents.
        fitted, _ = fit_clip(AVClip(before), timeline)
        num_latents = (before.frames.shape[0] - 1) // timeline.geometry.temporal_stride + 1
        seen = known(encode_clip(fitted, timeline, **run.codecs()).video, stop=num_latents)
    if run.reading is not None:
        latents = made_alone(run, "video", timeline, conditioning, told_of=sound, known=seen)
        return decode_latents(JointLatents(video=latents), fps=timeline.fps, **run.codecs()).video
    latents = sample_latents(
        run.model,
        conditioning,
        video_shape=(1, *timeline.video_latent_shape),
        audio_shape=tuple(sound.shape),
        options=run.options,
        given=Pair(seen, Given(sound, how=run.options.given_how, time=run.options.given_level)),
        progress=run.progress,
        times=timeline.times,
    )
    return decode_latents(JointLatents(video=latents.video), fps=timeline.fps, **run.codecs()).video
