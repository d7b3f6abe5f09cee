"""Windows over a longer clip: whole latents of both modalities, everything covered, neighbours share what was asked."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise, product

import pytest
from sounding_video.core.clock import LatentGeometry, Timeline, frames_at
from sounding_video.core.errors import GeometryError
from sounding_video.core.pair import Pair
from sounding_video.core.windows import latent_windows, num_latents_of, windows

TIMELINES = {
    "published": Timeline(),
    "pocket": Timeline(33, Fraction(15), 64, 64),
    "ntsc": Timeline(81, Fraction(30000, 1001), 64, 64),
    "fine latents": Timeline(33, Fraction(15), 64, 64, LatentGeometry(audio_hop=16, sample_rate=8000)),
    "other codecs": Timeline(49, Fraction(8), 64, 64, LatentGeometry(audio_hop=960, sample_rate=48_000)),
}


@pytest.mark.parametrize("name", TIMELINES)
def test_windows_cover_the_clip_and_share_what_was_asked(name: str) -> None:
    timeline = TIMELINES[name]
    g, length = timeline.geometry, timeline.audio_latent_shape[1]
    latent = Fraction(g.audio_hop, g.sample_rate)
    for seconds, overlap in product((7, 7.5, Fraction(100, 3), 61), (Fraction(1, 4), 1)):
        plan = windows(timeline, seconds, overlap)
        assert plan[0].first_latent == plan[0].first_frame == plan[0].known_latents == plan[0].known_frames == 0
        assert num_latents_of(timeline, plan) * latent > seconds - latent  # nothing but a part of a latent is left
        assert plan[-2].first_latent + length < seconds / latent  # and none is superfluous
        for before, window in pairwise(plan):
            assert window.start == window.first_latent * latent
            assert window.known_latents == before.first_latent + length - window.first_latent
            assert overlap <= window.known_latents * latent < timeline.seconds
            # Shared frames are whole latents of the video codec: one frame, then a stride each.
            assert window.first_frame % g.temporal_stride == 0
            assert (window.known_frames - 1) % g.temporal_stride == 0
            assert window.known_frames == before.first_frame + timeline.num_frames - window.first_frame > 0
            assert window.skew == window.first_frame / timeline.fps - window.start
            assert abs(window.skew) < Fraction(1, 50)
            if window is not plan[-1]:  # none is nearly the one before it
                assert window.first_latent - before.first_latent > (length - overlap / latent) / 2 - 1


def test_the_published_window_is_cut_at_the_same_moment_in_both() -> None:
    """60 s of 5.4 s windows: where picture and sound begin they lie less than a hundredth of a second apart."""
    plan = windows(Timeline(), 60, 1)
    assert len(plan) == 15
    assert max(abs(window.skew) for window in plan) < Fraction(1, 100)


@pytest.mark.parametrize("seconds", [0.5, 5.4, Fraction(27, 5), 5.41])
def test_what_fits_is_one_window(seconds: float | Fraction) -> None:
    """5.4 is a little more than 27/5 as a binary number, and 5.41 s hold no further latent."""
    assert len(windows(Timeline(), seconds)) == 1
    assert len(windows(Timeline(), 5.5)) == 2


@pytest.mark.parametrize(("seconds", "overlap"), [(0, 1), (-3, 1), (10, 0), (10, -1), (10, 2.8)])
def test_no_length_and_no_room_are_refused(seconds: float, overlap: float) -> None:
    with pytest.raises(GeometryError, match=r"no length|cannot overlap"):
        windows(Timeline(), seconds, overlap)


def test_frames_of_another_rate_are_taken_by_exact_time() -> None:
    """NTSC's 29.97 over ten minutes: the frame taken is always within half a frame; a float sum would drift."""
    fps, source = Fraction(15), Fraction(30000, 1001)
    taken = frames_at(Fraction(0), 9000, fps, source)
    assert max(abs(index / source - place / fps) for place, index in enumerate(taken)) <= 1 / (2 * source)
    shown = frames_at(Fraction(0), 9000, fps, source, nearest=False)
    assert all(0 <= place / fps - index / source < 1 / source for place, index in enumerate(shown))
    assert frames_at(Fraction(1, 2), 3, Fraction(10), Fraction(20)) == [10, 12, 14]
    assert frames_at(Fraction(0), 4, Fraction(20), Fraction(10)) == [0, 1, 1, 2]


def _counts(timeline: Timeline) -> Pair[int]:
    return Pair(timeline.video_latent_shape[1], timeline.audio_latent_shape[1])


@pytest.mark.parametrize("name", TIMELINES)
@pytest.mark.parametrize("sides", ["both", "video", "audio"])
def test_latent_windows_cover_both_sides_and_share_what_was_asked(name: str, sides: str) -> None:
    window = TIMELINES[name]
    stride, latent = window.times.video.step, window.times.audio.step
    for num_frames, overlap in product((window.num_frames + 4, 4 * window.num_frames + 1, 901), (0.3, 1, 30)):
        timeline = Timeline(num_frames, window.fps, 64, 64, window.geometry)
        only = {side: _counts(timeline)[side] for side in ("video", "audio") if sides in ("both", side)}
        whole, size = Pair(**only), Pair(**{side: _counts(window)[side] for side in only})
        plan = latent_windows(timeline.times, whole, size, overlap)
        assert len(plan.windows) > 1
        for before, one in pairwise(plan.windows):
            if whole.video is not None:
                assert one.shared.video == before.first.video + size.video - one.first.video - 1 >= 1
                assert one.first.video > before.first.video
            if whole.audio is not None:
                assert one.shared.audio == before.first.audio + size.audio - one.first.audio >= 1
                assert one.first.audio > before.first.audio
            if sides == "both":
                skew = one.times.video.start - one.times.audio.start
                assert skew == one.first.video * stride - one.first.audio * latent
                assert abs(skew) <= stride / 2
                assert min(one.times.video.start, one.times.audio.start) == 0
        for side, count in whole.present.items():
            assert plan.padded[side] >= count > plan.windows[-2].first[side]
        assert plan.overlap >= min(overlap, min(map(float, (window.seconds / 2, plan.seconds / 2))) - 0.05)
        # At most half a window is shared on purpose; the last window lies where the clip's end is.
        lead = "video" if whole.audio is None else "audio"
        assert all(one.shared[lead] <= size[lead] / 2 + 8 * stride / latent for one in plan.windows[1:-1])


def test_a_clip_of_one_window_has_one_and_tiny_windows_are_refused() -> None:
    window = TIMELINES["pocket"]
    for count in (1, 17, 33):
        timeline = Timeline(count, Fraction(15), 64, 64)
        plan = latent_windows(timeline.times, _counts(timeline), _counts(window), 1)
        assert len(plan.windows) == 1 and plan.size == plan.padded == plan.whole == _counts(timeline)
    for size in (Pair(2, 12), Pair(3, 2), Pair(1, 1)):
        with pytest.raises(GeometryError, match="too short to share something"):
            latent_windows(window.times, Pair(113, 644), size, 0.1)
