"""One clip of several: what they share is in it once.

A clip that goes on is joined to what was made for its end (:func:`put_behind`).

Of the windows that a clip was made in (:func:`~..core.windows.windows`), each after the first is made with the end of
the one before it as known latents (:func:`known_end`). Known latents come back bit for bit, so latents are joined by
putting one behind the other, and a sound that is decoded from the joined latents has no seam at all. Where that takes
too much memory, windows are decoded one by one and :func:`join_sound` goes over from one to the next in the middle of
what both share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.clock import samples_for
from ..core.errors import InputError
from ..core.types import AudioClip, AVClip, VideoClip
from ..core.windows import Window
from .audio import fade_out, fit_length, resample

CROSSFADE_SECONDS = 0.02


def known_end(latents: Tensor, window: Window) -> Tensor:
    """What a window is given of the sound before it: the last ``window.known_latents`` of the latents.

    Args:
        latents: Audio latents ``(B, C, L)`` of the window before it.
        window: Which begins inside them.

    Returns:
        ``(B, C, known_latents)``, the first latents of the window.
    """
    return latents[..., latents.shape[-1] - window.known_latents :]


def join_latents(parts: Sequence[Tensor], plan: Sequence[Window]) -> Tensor:
    """Audio latents of all windows as one.

    Args:
        parts: ``(B, C, L)`` a window.
        plan: The windows.

    Returns:
        ``(B, C, L_all)``.

    Raises:
        InputError: another number of parts than windows.
    """
    _require_all(parts, plan)
    return torch.cat([part[..., window.known_latents :] for part, window in zip(parts, plan, strict=True)], dim=-1)


def join_pictures(parts: Sequence[VideoClip], plan: Sequence[Window]) -> VideoClip:
    """Pictures of all windows as one; shared frames are the earlier window's.

    Raises:
        InputError: another number of parts than windows.
    """
    _require_all(parts, plan)
    frames = [part.frames[window.known_frames :] for part, window in zip(parts, plan, strict=True)]
    return VideoClip(torch.cat(frames), parts[0].fps)


def join_sound(
    parts: Sequence[AudioClip], plan: Sequence[Window], *, crossfade_seconds: float = CROSSFADE_SECONDS
) -> AudioClip:
    """Decoded sounds of all windows as one.

    Neighbours decoded what they share from the same latents, so they differ at the ends only, where one of them did
    not see what comes next: one goes over into the other in the middle. Being alike, they are weighted to a sum of one.

    Args:
        parts: ``(C, samples)`` a window, of whole latents.
        plan: The windows.
        crossfade_seconds: Length of the change; shorter where less is shared, 0 for none.

    Raises:
        InputError: another number of parts than windows.
    """
    _require_all(parts, plan)
    rate = parts[0].sample_rate
    joined = JoinedSound(samples_for(plan[-1].start, rate) + parts[-1].waveform.shape[1], crossfade_seconds)
    for part, window in zip(parts, plan, strict=True):
        joined.add(part, window)
    return joined.whole()


class JoinedSound:
    """What :func:`join_sound` makes, taken window by window: each sample is kept once, in a sound of a wanted length.

    Args:
        num_samples: Wanted samples per channel; what lies behind them is left out.
        crossfade_seconds: See :func:`join_sound`.
    """

    def __init__(self, num_samples: int, crossfade_seconds: float = CROSSFADE_SECONDS) -> None:
        self._wanted, self._crossfade = num_samples, crossfade_seconds
        self._sound: AudioClip | None = None
        self._end = 0

    def add(self, part: AudioClip, window: Window) -> None:
        """The next window's sound ``(C, samples)``."""
        wave, rate = part.waveform, part.sample_rate
        if self._sound is None:
            self._sound = AudioClip(wave.new_zeros(wave.shape[0], self._wanted), rate)
            self._write(0, wave)
        else:
            first = samples_for(window.start, rate)
            shared = self._end - first
            fade = min(shared, samples_for(self._crossfade, rate))
            middle = (shared - fade) // 2
            phase = (torch.arange(fade, dtype=torch.float64) + 0.5) * (math.pi / max(1, fade))
            rising = (0.5 - 0.5 * torch.cos(phase)).to(wave)
            before = self._sound.waveform[:, first + middle : first + middle + fade]
            count = before.shape[1]
            mixed = before * (1 - rising[:count]) + wave[:, middle : middle + count] * rising[:count]
            self._write(first + middle, mixed)
            self._write(first + middle + fade, wave[:, middle + fade :])
            self._end = first
        self._end += wave.shape[1]

    def _write(self, start: int, wave: Tensor) -> None:
        room = self._sound.waveform[:, start : start + wave.shape[1]]
        room.copy_(wave[:, : room.shape[1]])

    def whole(self, fade_seconds: float = 0.0) -> AudioClip:
        """The sound, exactly as long as wanted; faded where it ended early or was left out, as by ``fit_length``."""
        if self._end != self._wanted:
            made = self._sound.waveform[:, : min(self._end, self._wanted)]
            fade_out(made, samples_for(fade_seconds, self._sound.sample_rate))
        return self._sound


def put_behind(first: AVClip, second: AVClip, *, start: Fraction | None = None) -> AVClip:
    """A clip, and behind it what the second one has beyond it.

    The first stays as it is, but that a sound beside a picture becomes as long as the picture, by silence or a cut.
    Frames of the second are taken by the nearest earlier time at the first one's rate and brought to its size; its
    sound is resampled, and the two meet in a crossfade of 20 ms before the first one's end.
    A sound that only the second has begins with silence; one that only the first has ends where it ends.

    Args:
        first: Picture, sound or both.
        second: Which begins inside the first, or where it ends.
        start: Second of the first clip at which the other one begins; None, or beyond the end, for its end.

    Raises:
        InputError: only one of the two has a picture, or the second one does not reach beyond the first.
    """
    if (first.video is None) != (second.video is None):
        without = "first" if first.video is None else "second"
        raise InputError(f"the {without} clip has no picture", expected="pictures in both clips, or in neither")
    seconds, later = first.seconds, second.seconds
    known = max(Fraction(0), seconds - (seconds if start is None else max(Fraction(0), start)))
    if later <= known:
        raise InputError(
            "the second clip ends inside the first",
            got=f"{float(later):g} s from {float(seconds - known):g} s on, of a clip of {float(seconds):g} s",
            expected="a second clip that reaches beyond the first, or a later start",
        )
    picture = None
    if first.video is not None:
        fps, (height, width) = first.video.fps, first.video.frames.shape[1:3]
        times = [known + index / fps for index in range(math.floor((later - known) * fps))]
        last = second.video.frames.shape[0] - 1
        picks = [min(last, math.floor(time * second.video.fps)) for time in times]
        picture = VideoClip(torch.cat([first.video.frames, _sized(second.video.frames[picks], height, width)]), fps)
    if second.audio is None:
        return AVClip(picture, first.audio)
    return AVClip(picture, _sound_behind(first.audio, second.audio, seconds, known))


def _sound_behind(before: AudioClip | None, after: AudioClip, seconds: Fraction, known: Fraction) -> AudioClip:
    """The first sound to the clip's end, then the second one; as many channels and samples a second as the first."""
    rate = after.sample_rate if before is None else before.sample_rate
    channels = after.waveform.shape[0] if before is None else before.waveform.shape[0]
    wave = resample(after, rate).waveform
    if channels != wave.shape[0]:
        wave = wave.mean(0, keepdim=True).expand(channels, -1)
    if before is None or not before.waveform.shape[1]:
        before = AudioClip(wave.new_zeros(channels, samples_for(seconds, rate)), rate)
    known_wave = fit_length(before, samples_for(seconds, rate)).waveform
    return AudioClip(_crossed(known_wave, wave, samples_for(known, rate), rate), rate)


def _sized(frames: Tensor, height: int, width: int) -> Tensor:
    if frames.shape[1:3] == (height, width):
        return frames
    planes = frames.permute(0, 3, 1, 2)
    scaled = F.interpolate(planes, size=(height, width), mode="bicubic", align_corners=False, antialias=True)
    return scaled.permute(0, 2, 3, 1).clamp(0, 1).contiguous()


def _crossed(before: Tensor, after: Tensor, known_samples: int, rate: int) -> Tensor:
    """The old sound to its end, then the new one from the known part's end on, with a crossfade before the seam."""
    fade = min(samples_for(CROSSFADE_SECONDS, rate), known_samples, before.shape[1])
    if fade == 0:
        return torch.cat([before, after[:, known_samples:]], dim=1)
    rising = (0.5 - 0.5 * torch.cos((torch.arange(fade) + 0.5) * (math.pi / fade))).to(before)
    mixed = before[:, -fade:] * (1 - rising) + after[:, known_samples - fade : known_samples] * rising
    return torch.cat([before[:, :-fade], mixed, after[:, known_samples:]], dim=1)


def _require_all(parts: Sequence[object], plan: Sequence[Window]) -> None:
    if len(parts) != len(plan) or not plan:
        raise InputError("the parts are not those of the plan", got=f"{len(parts)} parts", expected=f"{len(plan)}")
