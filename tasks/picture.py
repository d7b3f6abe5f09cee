"""A picture for a sound: the sound is given and stays as it is, the picture is made as long as it."""

from __future__ import annotations

import math
from dataclasses import replace

from ..core.clock import MAX_FRAMES
from ..core.errors import InputError
from ..core.pair import Pair
from ..core.types import AVClip, JointLatents
from ..media.own import with_own_sound
from ..media.user_file import UserFile, fit_file
from ..models.clip_encoding import encode_clip
from ..pipeline import decode_latents, sample_latents
from ..sampling.given import Given
from .base import Run, own_timeline


def picture_for(run: Run, file: UserFile) -> tuple[AVClip, list[str]]:
    """Make the picture of a user's sound.

    Args:
        run: Model, captions, options. The sound is shown to the model as ``options.given_how`` says.
        file: What is heard, of any rate and length.

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
    own = own_timeline(run.model)
    stride = own.geometry.temporal_stride
    wanted = math.ceil(file.sound.seconds * own.fps)
    num_frames = min(MAX_FRAMES, max(1, math.ceil((wanted - 1) / stride)) * stride + 1)
    timeline = replace(own, num_frames=num_frames)
    clip, report = fit_file(replace(file, picture=None, size=None), timeline)
    notes = [*file.notes, *report.sentences()]
    if num_frames > 2 * own.num_frames:
        notes.append(
            f"the picture is {float(timeline.seconds):g} s long; the model was made for {float(own.seconds):g} s"
        )
    sound = encode_clip(clip, timeline, **run.codecs()).audio
    latents = sample_latents(
        run.model,
        run.conditioning(timeline),
        video_shape=(1, *timeline.video_latent_shape),
        audio_shape=tuple(sound.shape),
        options=run.options,
        given=Pair(None, Given(sound, how=run.options.given_how, time=run.options.given_level)),
        progress=run.progress,
        times=timeline.times,
    )
    made = decode_latents(JointLatents(video=latents.video), fps=timeline.fps, **run.codecs())
    return with_own_sound(file.sound, made.video), notes
