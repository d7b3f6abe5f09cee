"""What is a user's own stays so: generated sound goes to the own picture, a generated picture to the own sound.

Neither is ever decoded from latents: the fitted copies (:mod:`.fit`) are for the model alone.
"""

from __future__ import annotations

import math

from ..core.types import AudioClip, AVClip, VideoClip
from .audio import FADE_SECONDS, fit_length


def with_own_picture(picture: VideoClip, sound: AudioClip, *, fade_seconds: float = FADE_SECONDS) -> AVClip:
    """The user's pictures at their own rate, size and length, with a sound that is exactly as long.

    Args:
        picture: The original.
        sound: Generated; cut, or followed by silence, to the picture's length.
        fade_seconds: Fade where its length changes.
    """
    clip = AVClip(picture, sound)
    return AVClip(picture, fit_length(sound, clip.num_samples, fade_seconds=fade_seconds))


def with_own_sound(sound: AudioClip, picture: VideoClip) -> AVClip:
    """The user's sound at its own rate, channels and length, with a picture that lasts as long.

    Args:
        sound: The original.
        picture: Generated; cut after the frame in which the sound ends, or its last frame is held until then. The rest
            of that frame, less than a frame, is silent in the file.
    """
    wanted = max(1, math.ceil(sound.seconds * picture.fps))
    frames = picture.frames[:wanted]
    missing = wanted - frames.shape[0]
    if missing:
        frames = frames[[*range(frames.shape[0]), *[-1] * missing]]
    return AVClip(VideoClip(frames, picture.fps), sound)
