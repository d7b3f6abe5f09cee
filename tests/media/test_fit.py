"""A user's clip, whatever it is, at a model's rate, size and length; and what was done is said."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest
import torch
from sounding_video.core.clock import LatentGeometry, Timeline
from sounding_video.core.errors import InputError, NonFiniteError
from sounding_video.core.progress import Progress, stoppable
from sounding_video.core.types import AudioClip, AVClip, VideoClip
from sounding_video.media.fit import FitStyle, fit_clip, middle_of

NTSC = Fraction(30000, 1001)
TIMELINE = Timeline(33, Fraction(15), 64, 48)


def numbered(num_frames: int, fps: Fraction | int, *, height: int = 48, width: int = 64) -> VideoClip:
    """Frame i has brightness i/500."""
    frames = (torch.arange(num_frames) / 500).view(-1, 1, 1, 1).expand(-1, height, width, 3)
    return VideoClip(frames, Fraction(fps))


def numbers(clip: AVClip) -> list[int]:
    return [round(float(value) * 500) for value in clip.video.frames[:, 0, 0, 0]]


def tone(seconds: float, rate: int, channels: int = 2) -> AudioClip:
    times = torch.arange(round(seconds * rate)) / rate
    return AudioClip((0.5 * torch.sin(2 * torch.pi * 220 * times)).expand(channels, -1).contiguous(), rate)


@pytest.mark.parametrize("fps", [NTSC, 10, 15, 24, 30, 60, Fraction(24000, 1001), Fraction(25, 2)])
def test_each_frame_is_the_nearest_in_time(fps: Fraction) -> None:
    source = numbered(int(fps * 4), fps)
    fitted, report = fit_clip(AVClip(source), TIMELINE, start=Fraction(1, 3))
    assert fitted.video.fps == 15 and fitted.video.frames.shape == (33, 48, 64, 3)
    for place, index in enumerate(numbers(fitted)):
        assert abs(index / source.fps - Fraction(1, 3) - Fraction(place, 15)) <= 1 / (2 * source.fps)
    told = [sentence for sentence in report.sentences() if "frames a second" in sentence]
    assert len(told) == (fps != 15)


@pytest.mark.parametrize("size", [(1920, 1080), (1080, 1920), (3840, 2160), (64, 48), (50, 37), (1, 1), (7, 3000)])
def test_any_size_is_cropped_in_its_middle_and_scaled(size: tuple[int, int]) -> None:
    """A picture of three columns of colour: the middle one stays in the middle, no bar is added, no edge overshoots."""
    width, height = size
    frames = torch.zeros(1, height, width, 3)
    frames[:, :, :, 1] = 1
    frames[:, :, : width // 2 - width // 20, 0] = 1
    frames[:, :, width // 2 + width // 20 :, 2] = 1
    fitted, report = fit_clip(AVClip(VideoClip(frames, Fraction(25))), Timeline(5, Fraction(15), 64, 48))
    pictures = fitted.video.frames
    assert pictures.shape == (5, 48, 64, 3)
    assert float(pictures.min()) >= 0 and float(pictures.max()) <= 1
    assert float(pictures[..., 1].min()) > 0.99  # everywhere picture, nowhere a bar
    if width >= 64:
        assert torch.allclose(pictures[..., 0], pictures.flip(2)[..., 2], atol=0.05)
    left, top, part_width, part_height = report.picture.area
    assert abs((width - part_width) - 2 * left) <= 1 and abs((height - part_height) - 2 * top) <= 1
    told = " ".join(report.sentences())
    assert ("cropped" in told) == ((part_width, part_height) != size)
    assert ("scaled" in told) == ((part_width, part_height) != (64, 48))


def test_the_middle_has_the_wanted_shape() -> None:
    assert middle_of(1920, 1080, 832, 480) == (24, 0, 1872, 1080)
    assert middle_of(1080, 1920, 832, 480) == (0, 648, 1080, 623)
    assert middle_of(832, 480, 832, 480) == (0, 0, 832, 480)
    assert middle_of(1, 4000, 832, 480) == (0, 1999, 1, 1)


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (44_100, 2), (48_000, 2), (48_000, 1), (11_025, 2)])
@pytest.mark.parametrize("seconds", [0.5, 2.2, 7.0])
@pytest.mark.parametrize("wanted", [1, 2])
def test_any_sound_has_the_codecs_rate_channels_and_length(
    rate: int, channels: int, seconds: float, wanted: int
) -> None:
    fitted, report = fit_clip(AVClip(None, tone(seconds, rate, channels)), TIMELINE, channels=wanted)
    sound = fitted.audio
    assert fitted.video is None and report.picture is None
    assert sound.sample_rate == 44_100 and sound.waveform.shape == (wanted, TIMELINE.num_samples)
    expected = tone(2.2, 44_100, wanted).waveform[0]
    known = min(TIMELINE.num_samples, round(seconds * 44_100)) - 700  # before the fade and the resampler's end
    assert float((sound.waveform[0, 200:known] - expected[200:known]).abs().max()) < 0.01
    told = " ".join(report.sentences())
    assert ("resampled" in told) == (rate != 44_100)
    assert ("silence follows" in told) == (seconds == 0.5)
    assert ("are used" in told) == (seconds == 7.0)
    assert ("channel" in told) == (channels != wanted)


def test_picture_and_sound_begin_at_the_same_moment() -> None:
    """A flash and a click at 3.2 s of the file are both 1.2 s after a start at 2 s."""
    frames = torch.zeros(240, 48, 64, 3)
    frames[96] = 1  # at 30 fps
    waveform = torch.zeros(1, 48_000 * 8)
    waveform[:, 153_600] = 0.9
    clip = AVClip(VideoClip(frames, Fraction(30)), AudioClip(waveform, 48_000))
    fitted, _ = fit_clip(clip, TIMELINE, start=Fraction(2))
    assert int(fitted.video.frames.amax((1, 2, 3)).argmax()) == 18
    assert abs(int(fitted.audio.waveform[0].abs().argmax()) - 52_920) <= 1


def test_a_still_stands_for_the_whole_time() -> None:
    fitted, report = fit_clip(AVClip(numbered(1, 24)), TIMELINE)
    assert torch.equal(fitted.video.frames, fitted.video.frames[:1].expand(33, -1, -1, -1))
    assert report.sentences() == ["The picture is a still; it stands for the whole 2.200 s."]


def test_what_ends_early_is_held_and_silent_each_by_itself() -> None:
    """The picture lasts 1 s, the sound 1.5 s."""
    clip = AVClip(numbered(30, 30), tone(1.5, 44_100))
    fitted, report = fit_clip(clip, TIMELINE)
    assert numbers(fitted)[14:] == [28] + [29] * 18
    assert float(fitted.audio.waveform[:, 66_150:].abs().max()) == 0
    # The fade ends at silence, so there is no jump where the sound ends.
    jumps = fitted.audio.waveform.diff(dim=1).abs()
    assert float(jumps[:, 66_100:66_200].max()) < 0.002
    assert report.picture.missing_seconds == pytest.approx(1.2)
    assert report.sound.missing_seconds == pytest.approx(0.7)
    told = report.sentences()
    assert any("its last frame is held" in line for line in told) and any("silence follows" in line for line in told)
    after, late = fit_clip(clip, TIMELINE, start=Fraction(5))
    assert numbers(after) == [29] * 33 and float(after.audio.waveform.abs().max()) == 0
    assert late.picture.missing_seconds == late.sound.missing_seconds == pytest.approx(2.2)


def test_a_clip_that_fits_is_left_as_it_is_and_nothing_is_said() -> None:
    generator = torch.Generator().manual_seed(1)
    frames = torch.rand(33, 48, 64, 3, generator=generator)
    waveform = torch.rand(2, TIMELINE.num_samples, generator=generator) - 0.5
    fitted, report = fit_clip(AVClip(VideoClip(frames, Fraction(15)), AudioClip(waveform, 44_100)), TIMELINE)
    assert torch.equal(fitted.video.frames, frames) and torch.equal(fitted.audio.waveform, waveform)
    assert report.sentences() == []


def test_the_published_example_is_said_in_full() -> None:
    """29.97 fps, 1080p, mono 8 kHz, 7 s, as the issue names it; the report also goes out as plain values."""
    clip = AVClip(
        VideoClip(torch.zeros(1, 1, 1, 1).expand(210, 108, 192, 3), NTSC), AudioClip(torch.zeros(1, 56_000), 8000)
    )
    _, report = fit_clip(clip, Timeline())
    assert report.sentences() == [
        "The picture lasts 7.007 s; the first 5.400 s are used.",
        "The picture has 29.97 frames a second; the 15 nearest in time were taken.",
        "The picture was cropped from 192×108 to its middle 187×108; 3% of it is not seen by the model.",
        "The picture was scaled from 187×108 to 832×480.",
        "The sound lasts 7.000 s; the first 5.400 s are used.",
        "The sound was resampled from 8000 to 44100 Hz.",
        "The sound was copied to both channels.",
    ]
    plain = json.loads(json.dumps(report.as_json()))
    assert plain["picture"]["fps"] == "30000/1001" and plain["sentences"] == report.sentences()


def test_pictures_that_are_none_are_refused() -> None:
    with pytest.raises(InputError, match=r"outside 0\.\.1"):
        fit_clip(AVClip(VideoClip(torch.full((3, 8, 8, 3), 255.0), Fraction(15))), TIMELINE)
    with pytest.raises(NonFiniteError):
        fit_clip(AVClip(VideoClip(torch.full((3, 8, 8, 3), torch.nan), Fraction(15))), TIMELINE)
    with pytest.raises(InputError, match="unknown resize"):
        FitStyle(resize="nearest")
    with pytest.raises(InputError, match="number of channels"):
        fit_clip(AVClip(None, tone(1, 8000)), TIMELINE, channels=6)


def test_the_user_may_stop_between_two_frames() -> None:
    asked = 0

    def check() -> None:
        nonlocal asked
        asked += 1
        if asked == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), stoppable(Progress(check_cancelled=check)):
        fit_clip(AVClip(numbered(33, 15)), TIMELINE)
    assert asked == 5


def test_other_codecs_strides_count() -> None:
    geometry = LatentGeometry(audio_hop=16, sample_rate=8000)
    timeline = Timeline(9, NTSC, 32, 32, geometry)
    fitted, _ = fit_clip(AVClip(numbered(60, 25), tone(3, 44_100)), timeline)
    assert fitted.video.fps == NTSC
    assert fitted.audio.waveform.shape == (2, timeline.num_samples) and fitted.audio.sample_rate == 8000
