"""Laws of time and size: the published numbers, and properties over rates, lengths and geometries."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sounding_video.core.clock import (
    LatentGeometry,
    StepTimes,
    Timeline,
    as_fps,
    frame_times,
    nearest_frames,
    samples_for,
)
from sounding_video.core.errors import GeometryError

RATES = st.sampled_from([Fraction(15), Fraction(24), Fraction(25), Fraction(30), Fraction(24000, 1001)]) | st.fractions(
    min_value=1, max_value=120, max_denominator=1001
)
FRAMES = st.integers(0, 500).map(lambda k: 4 * k + 1)
SIZES = st.integers(1, 200).map(lambda k: 16 * k)


def test_the_published_clip():
    """81 frames at 15 fps: 5.4 s, 238 140 samples, the official latents (BridgeDiT reference, section 5)."""
    timeline = Timeline(81, 15, 832, 480)
    assert timeline.seconds == Fraction(27, 5)
    assert timeline.num_samples == 238_140
    assert timeline.video_latent_shape == (16, 21, 60, 104)
    assert timeline.audio_latent_shape == (64, 116)
    assert Timeline() == timeline


@given(FRAMES, RATES, SIZES, SIZES)
def test_every_count_follows_from_frames_and_rate(frames, fps, width, height):
    timeline = Timeline(frames, fps, width, height)
    assert timeline.fps == as_fps(fps) and isinstance(timeline.fps, Fraction)
    assert timeline.seconds * timeline.fps == frames
    assert abs(timeline.num_samples - timeline.seconds * 44_100) <= Fraction(1, 2)
    channels, latent_frames, rows, columns = timeline.video_latent_shape
    assert (channels, 4 * (latent_frames - 1) + 1, 8 * rows, 8 * columns) == (16, frames, height, width)
    channels, length = timeline.audio_latent_shape
    assert channels == 64 and length >= 1
    assert length == 1 or length * 2048 <= timeline.num_samples < (length + 1) * 2048


@given(FRAMES, RATES)
def test_a_frame_more_never_shortens_the_sound(frames, fps):
    assert Timeline(frames + 4, fps).num_samples > Timeline(frames, fps).num_samples


@given(st.integers(1, 10_000).filter(lambda n: n % 4 != 1))
def test_frames_that_do_not_fit_name_the_nearest_that_do(frames):
    low, high = nearest_frames(frames)
    assert low % 4 == high % 4 == 1 and low <= frames <= high and high - low == 4
    with pytest.raises(GeometryError, match=rf"got:? {frames}; expected 4k\+1, for example {low} or {high}"):
        Timeline(frames)


@pytest.mark.parametrize("frames", [0, -3, 81.0, "81", True, None, 400_001])
def test_frames_that_are_no_number_of_frames(frames):
    with pytest.raises(GeometryError, match="the number of frames does not fit"):
        Timeline(frames)


@given(st.integers(16, 4000).filter(lambda n: n % 16))
def test_a_size_that_does_not_fit_names_the_nearest_that_do(size):
    low = size // 16 * 16
    for name, arguments in (("width", (size, 480)), ("height", (832, size))):
        with pytest.raises(GeometryError) as caught:
            Timeline(81, 15, *arguments)
        assert f"the {name} does not fit" in str(caught.value)
        assert f"a multiple of 16 pixels, for example {low} or {low + 16}" in str(caught.value)


@pytest.mark.parametrize("size", [0, 8, -16, 16.0, None, True])
def test_sizes_that_are_no_sizes(size):
    with pytest.raises(GeometryError, match="a multiple of 16 pixels, for example 16 or 32"):
        Timeline(81, 15, size, 480)


@given(st.integers(1, 8), st.integers(1, 16), st.integers(1, 4), st.integers(1, 4096), st.integers(8000, 96_000))
def test_other_geometries(temporal, spatial, patch, hop, rate):
    geometry = LatentGeometry(
        temporal_stride=temporal, spatial_stride=spatial, patch=patch, audio_hop=hop, sample_rate=rate
    )
    multiple = spatial * patch
    assert geometry.size_multiple == multiple
    timeline = Timeline(3 * temporal + 1, 15, 5 * multiple, 4 * multiple, geometry)
    assert timeline.video_latent_shape == (16, 4, 4 * patch, 5 * patch)
    assert timeline.audio_latent_shape == (64, max(1, timeline.num_samples // hop))
    if temporal > 1:
        with pytest.raises(GeometryError, match=rf"{temporal}k\+1"):
            Timeline(3 * temporal, 15, 5 * multiple, 4 * multiple, geometry)


def test_a_slow_rate_is_no_ntsc_rate_of_zero():
    assert as_fps(Fraction(15, 65_537)) == Fraction(15, 65_537)


@pytest.mark.parametrize(
    ("given_rate", "fps"),
    [
        (15, Fraction(15)),
        (15.0, Fraction(15)),
        ("30000/1001", Fraction(30000, 1001)),
        (23.976, Fraction(24000, 1001)),
        ("23.976", Fraction(24000, 1001)),
        (29.97, Fraction(30000, 1001)),
        (59.94, Fraction(60000, 1001)),
        (12.5, Fraction(25, 2)),
        (30000 / 1001, Fraction(30000, 1001)),
        (Fraction(24), Fraction(24)),
    ],
)
def test_rates_are_read_exactly(given_rate, fps):
    assert as_fps(given_rate) == fps


@given(RATES)
def test_a_rate_read_twice_stays_the_same(fps):
    assert as_fps(as_fps(fps)) == as_fps(fps)


@pytest.mark.parametrize("fps", [0, -15, "fast", "15/0", float("nan"), float("inf"), 1001, None, []])
def test_rates_that_are_none(fps):
    with pytest.raises(GeometryError, match="the frame rate is"):
        as_fps(fps)


@given(st.fractions(min_value=0, max_value=1000), st.integers(1, 192_000))
def test_samples_are_the_nearest_whole_number(seconds, rate):
    assert -Fraction(1, 2) < samples_for(seconds, rate) - seconds * rate <= Fraction(1, 2)


def test_frame_times_do_not_drift():
    times = frame_times(100_001, Fraction(30000, 1001))
    assert times[0] == 0.0
    assert times[100_000] == float(Fraction(100_000 * 1001, 30000))


def test_the_first_latent_of_the_picture_is_one_frame_and_each_later_one_four():
    times = Timeline(81, 15, 832, 480).times
    frames = [edge * 15 for edge in times.video.edges(21)]
    assert frames == [0, 1, *range(5, 82, 4)]
    assert times.audio.edges(116)[::58] == [0, Fraction(58 * 2048, 44_100), Fraction(116 * 2048, 44_100)]


@given(FRAMES, RATES, st.integers(1, 8), st.integers(1, 4096), st.integers(8000, 96_000))
def test_every_frame_and_sample_lies_in_its_latent_step(frames, fps, stride, hop, rate):
    geometry = LatentGeometry(temporal_stride=stride, audio_hop=hop, sample_rate=rate)
    timeline = Timeline((frames - 1) // 4 * stride + 1, fps, 16, 16, geometry)
    num_video, num_audio = timeline.video_latent_shape[1], timeline.audio_latent_shape[1]
    video, audio = timeline.times.video, timeline.times.audio
    assert video.edge(0) == audio.edge(0) == 0
    assert video.edge(num_video) == timeline.seconds, "the last latent frame ends with the picture"
    for index in (0, 1, num_audio // 2, num_audio):
        assert audio.edge(index) == Fraction(index * hop, rate)
    for index in {0, 1, timeline.num_frames // 2, timeline.num_frames - 1} & set(range(timeline.num_frames)):
        latent = 0 if index == 0 else (index - 1) // stride + 1
        assert video.edge(latent) <= index / timeline.fps < video.edge(latent + 1)


@given(FRAMES, RATES)
def test_counts_alone_tell_the_time_to_half_an_audio_latent(frames, fps):
    timeline = Timeline(frames, fps, 16, 16)
    num_video, num_audio = timeline.video_latent_shape[1], timeline.audio_latent_shape[1]
    guessed = timeline.geometry.times_from_counts(num_video, num_audio)
    assert guessed.audio == timeline.times.audio
    apart = abs(guessed.video.edge(num_video) - timeline.seconds)
    assert num_audio == 1 or apart <= timeline.times.audio.step / 2 + Fraction(1, 44_100)


@pytest.mark.parametrize(("frames", "counts"), [(33, (9, 47)), (81, (21, 116))])
def test_counts_alone_agree_with_the_clips_of_our_models_within_12_ms(frames, counts):
    timeline = Timeline(frames, 15, 64, 64)
    assert (timeline.video_latent_shape[1], timeline.audio_latent_shape[1]) == counts
    guessed = timeline.geometry.times_from_counts(*counts)
    for mine, exact in zip(guessed.video.edges(counts[0]), timeline.times.video.edges(counts[0]), strict=True):
        assert abs(mine - exact) < Fraction(12, 1000)


def test_a_window_of_a_longer_clip_keeps_its_steps():
    times = Timeline().times.shifted(Fraction(4, 3))
    for here, there in ((times.video, Timeline().times.video), (times.audio, Timeline().times.audio)):
        assert here.edges(9) == [edge + Fraction(4, 3) for edge in there.edges(9)]


@pytest.mark.parametrize("lengths", [(Fraction(0), None), (Fraction(-1, 15), None), (Fraction(1), Fraction(0))])
def test_steps_without_a_length_are_refused(lengths):
    with pytest.raises(GeometryError, match="a latent step has no length"):
        StepTimes(*lengths)
