"""A clip that goes on: its end is given in both modalities, what comes after it is made."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.clock import Timeline, samples_for
from ..core.errors import InputError
from ..core.pair import Pair
from ..core.types import AudioClip, AVClip, VideoClip
from ..media.audio import resample
from ..media.probe import read_clip
from ..media.user_file import UserFile, fit_file
from ..models.clip_encoding import encode_clip
from ..pipeline import decode_latents, sample_latents
from ..sampling.given import known
from .base import Run, own_timeline, sizes_told

CROSSFADE_SECONDS = 0.02


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
    """
    if file.picture is None or run.model.video is None:
        raise InputError("only a video can go on", got=file.path, expected="a video, and a model with a video tower")
    timeline = own_timeline(run.model, file)
    frames, latent_frames = _known_frames(timeline, file.seconds)
    start = max(Fraction(0), file.seconds - frames / timeline.fps)
    clip, report = fit_file(file, timeline, start=start)
    if run.model.audio is None:
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
        audio_shape=(1, *timeline.audio_latent_shape) if run.model.audio else None,
        options=run.options,
        given=Pair(known(given.video, stop=latent_frames), audio),
        progress=run.progress,
        times=timeline.times,
    )
    made = decode_latents(latents, fps=timeline.fps, **run.codecs())
    joined = AVClip(*_joined(read_clip(file.path), made, file, known_seconds))
    return joined, [*file.notes, *sizes_told(report)]


def _known_frames(timeline: Timeline, seconds: Fraction) -> tuple[int, int]:
    """How many frames of the clip's end are shown to the model, 4k+1, and how many latent frames they are."""
    stride = timeline.geometry.temporal_stride
    most = min((timeline.num_frames - 1) // 2, math.floor(seconds * timeline.fps) - 1)
    if most < 0:
        raise InputError("the clip is too short to go on", got=f"{float(seconds):g} s", expected="one frame or more")
    return most // stride * stride + 1, most // stride + 1


def _joined(clip: AVClip, made: AVClip, file: UserFile, known_seconds: Fraction) -> tuple[VideoClip, AudioClip | None]:
    """The user's clip with what comes after the known part."""
    fps, (height, width) = clip.video.fps, clip.video.frames.shape[1:3]
    later = made.video.seconds - known_seconds
    times = [known_seconds + index / fps for index in range(math.floor(later * fps))]
    picks = [min(made.video.frames.shape[0] - 1, math.floor(time * made.video.fps)) for time in times]
    frames = torch.cat([clip.video.frames, _sized(made.video.frames[picks], height, width)])
    picture = VideoClip(frames, fps)
    if made.audio is None:
        return picture, clip.audio
    before = clip.audio
    rate = made.audio.sample_rate if before is None else before.sample_rate
    new = resample(made.audio, rate)
    channels = 2 if before is None else before.waveform.shape[0]
    wave = new.waveform if channels == 2 else new.waveform.mean(0, keepdim=True)
    if before is None:
        before = AudioClip(wave.new_zeros(channels, samples_for(file.seconds, rate)), rate)
    return picture, AudioClip(_crossed(before.waveform, wave, samples_for(known_seconds, rate), rate), rate)


def _sized(frames: Tensor, height: int, width: int) -> Tensor:
    if frames.shape[1:3] == (height, width):
        return frames
    planes = frames.permute(0, 3, 1, 2)
    scaled = F.interpolate(planes, size=(height, width), mode="bicubic", align_corners=False, antialias=True)
    return scaled.permute(0, 2, 3, 1).clamp(0, 1).contiguous()


def _crossed(before: Tensor, after: Tensor, known_samples: int, rate: int) -> Tensor:
    """The old sound to its end, then the new one from the known part's end on, with a crossfade before the seam."""
    fade = min(samples_for(Fraction(CROSSFADE_SECONDS).limit_denominator(1000), rate), known_samples, before.shape[1])
    if fade == 0:
        return torch.cat([before, after[:, known_samples:]], dim=1)
    rising = (0.5 - 0.5 * torch.cos((torch.arange(fade) + 0.5) * (math.pi / fade))).to(before)
    mixed = before[:, -fade:] * (1 - rising) + after[:, known_samples - fade : known_samples] * rising
    return torch.cat([before[:, :-fade], mixed, after[:, known_samples:]], dim=1)
