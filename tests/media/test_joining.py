"""Windows become one clip: shared parts once, no click where one goes over into the next."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from sounding_video.core.clock import Timeline
from sounding_video.core.errors import InputError
from sounding_video.core.types import AudioClip, AVClip, VideoClip
from sounding_video.core.windows import num_latents_of, windows
from sounding_video.media.audio import FADE_SECONDS, fit_length
from sounding_video.media.joining import (
    JoinedSound,
    join_latents,
    join_pictures,
    join_sound,
    known_end,
    put_behind,
)

TIMELINE = Timeline(33, Fraction(15), 64, 64)
HOP, RATE = TIMELINE.geometry.audio_hop, TIMELINE.geometry.sample_rate


def test_latents_of_windows_are_those_of_the_whole() -> None:
    plan = windows(TIMELINE, 9, 0.5)
    assert len(plan) > 3
    length = TIMELINE.audio_latent_shape[1]
    whole = torch.randn(2, 3, num_latents_of(TIMELINE, plan))
    parts = [whole[..., window.first_latent : window.first_latent + length] for window in plan]
    assert torch.equal(join_latents(parts, plan), whole)
    for before, part, window in zip(parts, parts[1:], plan[1:], strict=False):
        assert torch.equal(known_end(before, window), part[..., : window.known_latents])


def test_pictures_of_windows_are_those_of_the_whole() -> None:
    plan = windows(TIMELINE, 9, 0.5)
    whole = torch.rand(plan[-1].first_frame + 33, 2, 2, 3)
    parts = [VideoClip(whole[window.first_frame : window.first_frame + 33], TIMELINE.fps) for window in plan]
    assert torch.equal(join_pictures(parts, plan).frames, whole)


@pytest.mark.parametrize("crossfade", [0.0, 0.02, 5.0])
def test_a_tone_goes_on_through_the_seams(crossfade: float) -> None:
    """Each window is disturbed at its ends, as a decoder's are; the joined tone has no jump that the tone has not."""
    plan = windows(TIMELINE, 9, 0.5)
    samples = num_latents_of(TIMELINE, plan) * HOP
    tone = 0.5 * torch.sin(2 * torch.pi * 220 * torch.arange(samples) / RATE).expand(2, -1)
    parts = []
    for window in plan:
        first = window.first_latent * HOP
        part = tone[:, first : first + TIMELINE.audio_latent_shape[1] * HOP].clone()
        if window is not plan[0]:
            part[:, :HOP] = -part[:, :HOP]
        if window is not plan[-1]:
            part[:, -HOP:] = 0
        parts.append(AudioClip(part, RATE))
    joined = join_sound(parts, plan, crossfade_seconds=crossfade).waveform
    assert joined.shape == tone.shape
    jumps, own = joined.diff(dim=1).abs(), tone.diff(dim=1).abs()
    # A short change stays clear of the disturbed ends; the longest takes them in, faded.
    assert float(jumps.max()) <= (1.01 if crossfade < 1 else 1.2) * float(own.max())
    if crossfade < 1:
        torch.testing.assert_close(joined, tone.contiguous(), atol=1e-6, rtol=0)


def test_one_window_is_left_as_it_is_and_other_numbers_are_refused() -> None:
    plan = windows(TIMELINE, 2)
    sound = AudioClip(torch.rand(1, TIMELINE.audio_latent_shape[1] * HOP), RATE)
    assert torch.equal(join_sound([sound], plan).waveform, sound.waveform)
    with pytest.raises(InputError, match="not those of the plan"):
        join_sound([sound, sound], plan)
    with pytest.raises(InputError, match="not those of the plan"):
        join_latents([], [])


def _sine(seconds: float, rate: int, channels: int = 2, phase: float = 0.0) -> AudioClip:
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate + phase
    return AudioClip(torch.sin(2 * torch.pi * 220 * time).float().expand(channels, -1).clone(), rate)


def test_what_both_clips_show_is_in_the_result_once() -> None:
    whole = torch.rand(30, 8, 8, 3)
    first = AVClip(VideoClip(whole[:20], Fraction(10)), _sine(2.0, 44_100))
    second = AVClip(VideoClip(whole[15:], Fraction(10)), _sine(1.5, 44_100, phase=1.5))
    joined = put_behind(first, second, start=Fraction(3, 2))
    assert torch.equal(joined.video.frames, whole)
    assert torch.allclose(joined.audio.waveform, _sine(3.0, 44_100).waveform, atol=1e-3)
    seam = slice(88_200 - 882, 88_200)
    assert torch.equal(joined.audio.waveform[:, : seam.start], first.audio.waveform[:, : seam.start])


@pytest.mark.parametrize("start", [None, Fraction(2), Fraction(99)])
def test_without_a_start_one_clip_stands_behind_the_other(start) -> None:
    first, second = (AVClip(VideoClip(torch.rand(n, 4, 4, 3), Fraction(10)), _sine(n / 10, 8000)) for n in (20, 5))
    joined = put_behind(first, second, start=start)
    assert torch.equal(joined.video.frames, torch.cat([first.video.frames, second.video.frames]))
    assert torch.equal(joined.audio.waveform, torch.cat([first.audio.waveform, second.audio.waveform], dim=1))


def test_the_second_clip_takes_the_rate_size_and_channels_of_the_first() -> None:
    first = AVClip(VideoClip(torch.rand(60, 10, 6, 3), Fraction(30000, 1001)), _sine(2.002, 48_000, channels=1))
    second = AVClip(VideoClip(torch.rand(33, 16, 16, 3), Fraction(15)), _sine(2.2, 44_100))
    joined = put_behind(first, second, start=Fraction(1))
    assert joined.video.fps == Fraction(30000, 1001) and joined.video.frames.shape[1:] == (10, 6, 3)
    assert abs(float(joined.video.seconds) - 3.2) < 1 / 29
    assert joined.audio.waveform.shape[0] == 1 and abs(float(joined.audio.seconds) - 3.2) < 0.001
    # The frame that stands at 2.5 s was made for the second clip's 1.5 s.
    index = int(2.51 * 30000 / 1001)
    shown = second.video.frames[int((index / (30000 / 1001) - 1) * 15)].mean()
    assert abs(float(joined.video.frames[index].mean() - shown)) < 0.05


def test_a_side_that_only_one_clip_has() -> None:
    picture = VideoClip(torch.rand(10, 4, 4, 3), Fraction(10))
    silent, sounding = AVClip(picture), AVClip(picture, _sine(1.0, 8000))
    late = put_behind(silent, sounding)
    assert late.audio.waveform.shape == (2, 16_000) and not late.audio.waveform[:, :8000].any()
    assert torch.equal(put_behind(sounding, silent).audio.waveform, sounding.audio.waveform)
    assert put_behind(silent, silent).audio is None
    sounds = put_behind(AVClip(audio=_sine(1.0, 8000)), AVClip(audio=_sine(1.0, 8000)), start=Fraction(1, 2))
    assert sounds.video is None and sounds.audio.waveform.shape == (2, 12_000)


@pytest.mark.parametrize("seconds", [0.0, 1.5, 1.98, 2.02, 2.5])
def test_a_sound_that_is_not_as_long_as_its_picture_does_not_move_what_follows(seconds: float) -> None:
    """A click at 1 s of the second clip stands 1 s behind the first picture's end."""
    rate, picture = 8000, VideoClip(torch.rand(20, 4, 4, 3), Fraction(10))
    click = torch.zeros(1, 2 * rate)
    click[:, rate] = 1.0
    own = AudioClip(torch.full((1, round(seconds * rate)), 0.25), rate)
    joined = put_behind(AVClip(picture, own), AVClip(picture, AudioClip(click, rate)))
    assert joined.audio.waveform.shape[1] == 4 * rate
    assert int(joined.audio.waveform[0].argmax()) == 3 * rate
    kept = min(round(seconds * rate), 2 * rate) - round(0.05 * rate)
    assert kept < 0 or torch.equal(joined.audio.waveform[:, :kept], own.waveform[:, :kept])


def test_clips_that_cannot_be_joined_are_refused() -> None:
    picture = VideoClip(torch.rand(10, 4, 4, 3), Fraction(10))
    with pytest.raises(InputError, match="the second clip has no picture"):
        put_behind(AVClip(picture), AVClip(audio=_sine(1.0, 8000)))
    with pytest.raises(InputError, match="ends inside the first"):
        put_behind(AVClip(picture), AVClip(VideoClip(picture.frames[:3], Fraction(10))), start=Fraction(1, 2))


@pytest.mark.parametrize("missing", [-5000, 0, 3000])
def test_a_sound_that_is_joined_window_by_window_has_the_wanted_length_and_is_kept_once(missing):
    """What is joined is what ``join_sound`` and ``fit_length`` make of all windows together."""
    plan = windows(TIMELINE, 9, 0.5)
    length = TIMELINE.audio_latent_shape[1] * HOP
    parts = [AudioClip(torch.randn(2, length), RATE) for _ in plan]
    whole = join_sound(parts, plan)
    wanted = whole.waveform.shape[1] - missing
    joined = JoinedSound(wanted)
    for part, window in zip(parts, plan, strict=True):
        joined.add(part, window)
    made = joined.whole(FADE_SECONDS)
    assert torch.equal(made.waveform, fit_length(whole, wanted, fade_seconds=FADE_SECONDS).waveform)
    assert made.waveform.untyped_storage().nbytes() == 2 * 4 * wanted
