"""A clip that is longer than what a model makes at once, in windows that share what they overlap by.

:func:`windows` cuts a user's file, whose pictures are taken at any time; :func:`latent_windows` cuts latents of which
both sides are made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from .clock import ClipTimes, StepTimes, Timeline, samples_for
from .errors import GeometryError
from .pair import MODALITIES, Pair


@dataclass(frozen=True)
class Window:
    """One piece of a clip that is longer than what a model makes at once, and what it shares with the piece before it.

    The sound leads: windows begin at whole audio latents, so that a window can be given the end of the one before it
    as known latents. The user's pictures are taken at the window's exact time and fit whatever that is. Where pictures
    are made too, ``first_frame`` is the frame to begin with: it lies ``skew`` seconds after the sound's beginning.

    Args:
        first_latent: First audio latent, counted in the whole clip.
        first_frame: First frame at the model's rate, counted in the whole clip; a multiple of the temporal stride, so
            that the shared frames are of the form 4k+1.
        known_latents: Audio latents at its beginning that the window before it made; 0 for the first one.
        known_frames: Frames at its beginning that the window before it made; 0 for the first one.
        start: Time of its first audio latent in the whole clip, seconds, exact.
        skew: Time of ``first_frame`` less ``start``, seconds.
    """

    first_latent: int
    first_frame: int
    known_latents: int
    known_frames: int
    start: Fraction
    skew: Fraction


def windows(timeline: Timeline, seconds: Fraction | float, overlap: Fraction | float = 1) -> tuple[Window, ...]:
    """Cut a longer clip into windows of a model's own length.

    Each begins about as late as the overlap allows, where the grids of both modalities meet within a few milliseconds;
    the last one about as early as the clip's end allows. All have the whole length: the last one may run past
    the end. What is left of the clip after its last whole audio latent asks for no window of its own.

    Args:
        timeline: What the model makes at once.
        seconds: Length of the whole clip.
        overlap: Least time that neighbours share, in seconds.

    Raises:
        GeometryError: a length that is not positive, an overlap of more than half a window, or latents that hold a
            clip as a whole.
    """
    if not seconds > 0:
        raise GeometryError("the clip has no length", got=f"{float(seconds):g} s", expected="more than 0 seconds")
    if not 0 < overlap <= timeline.seconds / 2:
        raise GeometryError(
            "windows cannot overlap by this",
            got=f"{float(overlap):g} s",
            expected=f"more than 0 and at most half of the model's {float(timeline.seconds):g} s",
        )
    hop, length = timeline.geometry.audio_hop, timeline.audio_latent_shape[1]
    total = samples_for(seconds, timeline.geometry.sample_rate) // hop
    step = max(1, length - math.ceil(Fraction(overlap) / _latent_seconds(timeline)))
    found = [Window(0, 0, 0, 0, Fraction(0), Fraction(0))]
    while found[-1].first_latent + length < total:
        timeline.require_parts()
        found.append(_next_window(timeline, found[-1], step, total - length))
    return tuple(found)


def num_latents_of(timeline: Timeline, plan: Sequence[Window]) -> int:
    """Audio latents of all windows together, each shared one once."""
    return plan[-1].first_latent + timeline.audio_latent_shape[1]


def middle_of_new(timeline: Timeline, window: Window) -> Fraction:
    """When the middle of what a window makes anew lies in the whole clip, in seconds.

    Args:
        timeline: Of one window.
        window: One of :func:`windows`.
    """
    return window.start + (window.known_latents * _latent_seconds(timeline) + timeline.seconds) / 2


def _latent_seconds(timeline: Timeline) -> Fraction:
    return Fraction(timeline.geometry.audio_hop, timeline.geometry.sample_rate)


def _next_window(timeline: Timeline, before: Window, step: int, last: int) -> Window:
    """The window at most ``step`` audio latents after another, and at about ``last`` if there is room to move there."""
    latent, stride = _latent_seconds(timeline), timeline.geometry.temporal_stride
    # Among as many places as two latent frames last the two grids meet twice or more.
    room = min(step // 2, math.ceil(2 * stride / timeline.fps / latent))
    latest = before.first_latent + step
    places = range(max(before.first_latent + 1, latest - room), latest + 1)
    if last <= latest - room:
        places = range(last, last + room + 1)

    def meeting(place: int) -> tuple[int, Fraction]:
        frame = math.floor(place * latent * timeline.fps / stride + Fraction(1, 2)) * stride
        return frame, frame / timeline.fps - place * latent

    # Of places that are as good to a hundredth of a second, the first for the last window and the latest for others.
    ordered = places if places[0] == last else reversed(places)
    place = min(ordered, key=lambda place: math.floor(abs(meeting(place)[1]) * 200))
    frame, skew = meeting(place)
    return Window(
        first_latent=place,
        first_frame=frame,
        known_latents=before.first_latent + timeline.audio_latent_shape[1] - place,
        known_frames=before.first_frame + timeline.num_frames - frame,
        start=place * latent,
        skew=skew,
    )


@dataclass(frozen=True)
class LatentWindow:
    """Which latents of a longer clip are made at once.

    The picture's codec is causal: latent 0 of any clip is one frame, later ones are several. So latent 0 of a window
    that begins inside the clip is no latent of the clip: it is the last frame of one, made for the window alone. The
    window's latent k > 0 is the clip's latent ``first.video + k``, of the same frames.

    Args:
        first: Where the window begins, in latents of the whole clip.
        shared: Latents that the window before it makes too, latent 0 of the picture not counted; 0 for the first one.
        start: When it begins, seconds.
        times: When its own latent steps lie, counted from there.
    """

    first: Pair[int]
    shared: Pair[int]
    start: Fraction
    times: ClipTimes

    @property
    def shared_seconds(self) -> Fraction:
        """How much of it the window before it makes too; of both sides the sound says it."""
        side = "audio" if self.shared.audio else "video"
        return self.shared[side] * getattr(self.times, side).step


@dataclass(frozen=True)
class LatentPlan:
    """All windows of a clip.

    Args:
        whole: Latents of the clip; None for a side that is not made.
        size: Latents of a window, of each side that is made.
        windows: In order; one for a clip that is no longer than a window.
        seconds: How long a window lasts.
        overlap: Seconds that neighbours share, at least.
    """

    whole: Pair[int]
    size: Pair[int]
    windows: tuple[LatentWindow, ...]
    seconds: Fraction
    overlap: Fraction

    @property
    def padded(self) -> Pair[int]:
        """Latents that the windows make together: the last one may run past the clip's end."""
        return Pair(
            *(size and self.windows[-1].first[side] + size for side, size in zip(MODALITIES, self.size, strict=True))
        )

    @property
    def sentence(self) -> str:
        """What is done, for the user."""
        words = f"made in {len(self.windows)} windows of {float(self.seconds):.4g} s"
        return f"{words} that share {float(self.overlap):.3g} s"


def latent_windows(times: ClipTimes, whole: Pair[int], size: Pair[int], overlap: Fraction | float) -> LatentPlan:
    """Cut the latents of a clip into windows that share at least so much, and at most half of what one holds.

    Each window begins as late as the overlap allows, where the grids of both sides meet within a few milliseconds, and
    the last one as early as the clip's end allows. Neighbours share a latent of the picture and one of the sound or
    more.

    Args:
        times: When the latent steps of the whole clip lie.
        whole: Latents of the clip, one number or both.
        size: Latents of a window, for the same sides.
        overlap: In seconds.

    Raises:
        GeometryError: windows too short to share something and make something.
    """
    lengths = [getattr(times, side).edge(count) for side, count in size.present.items()]
    if all(count <= size[side] for side, count in whole.present.items()):
        only = LatentWindow(Pair(0, 0), Pair(0, 0), Fraction(0), times)
        return LatentPlan(whole, whole, (only,), max(lengths), Fraction(0))
    grid = _Grid(times, whole, size, min(Fraction(overlap).limit_denominator(10_000), min(lengths) / 2))
    found = [LatentWindow(Pair(0, 0), Pair(0, 0), Fraction(0), times)]
    while not grid.is_covered_by(found[-1]):
        found.append(grid.after(found[-1]))
    shared = min(window.shared[grid.lead] for window in found[1:]) * getattr(times, grid.lead).step
    return LatentPlan(whole, size, tuple(found), max(lengths), shared)


@dataclass(frozen=True)
class _Grid:
    """Where windows of latents may begin. The sound's places lead where there is a sound."""

    times: ClipTimes
    whole: Pair[int]
    size: Pair[int]
    overlap: Fraction

    @property
    def lead(self) -> str:
        """The side whose places are chosen."""
        return "video" if self.whole.audio is None else "audio"

    def is_covered_by(self, last: LatentWindow) -> bool:
        """Whether nothing of the clip lies behind a window."""
        return all(last.first[side] + self.size[side] >= count for side, count in self.whole.present.items())

    def after(self, before: LatentWindow) -> LatentWindow:
        """The window that follows another."""
        step, stride = getattr(self.times, self.lead).step, self.times.video.step
        own = int(self.lead == "video")  # latent 0, which is not shared
        latest = before.first[self.lead] + self.size[self.lead] - max(1, math.ceil(self.overlap / step)) - own
        fitting = [place for place in range(before.first[self.lead] + 1, latest + 1) if self._fits(before, place)]
        if not fitting:
            raise GeometryError(
                "the windows are too short to share something and make something",
                got=" and ".join(f"{count} latents of {side}" for side, count in self.size.present.items()),
                expected="three latents of the picture or more, two of the sound or more",
                remedy="Make the windows longer.",
            )
        # Among as many places as two latent frames last the two grids meet twice or more.
        room = 1 if self.lead == "video" else max(1, min(len(fitting) // 2, math.ceil(2 * stride / step)))
        ends = [place for place in fitting if self.is_covered_by(self._window(before, place))]
        near = ends[:room] if len(ends) > 1 else fitting[: -room - 1 : -1]
        # Of places that are as good to a hundredth of a second, the first for the last window, the latest for others.
        return self._window(before, min(near, key=lambda place: math.floor(abs(self._skew(place)) * 200)))

    def _fits(self, before: LatentWindow, place: int) -> bool:
        """Whether a window there is a later one, and its picture begins before the last latent of the one before."""
        if self.size.video is None:
            return True
        frames = self._frames(place) - before.first.video
        return 0 < frames <= self.size.video - 2

    def _frames(self, place: int) -> int:
        """The latent of the picture in whose last frame a window begins."""
        if self.lead == "video":
            return place
        return math.floor(place * self.times.audio.step / self.times.video.step + Fraction(1, 2))

    def _skew(self, place: int) -> Fraction:
        """How much later than the sound the picture begins, seconds."""
        if self.size.audio is None or self.size.video is None:
            return Fraction(0)
        return self._frames(place) * self.times.video.step - place * self.times.audio.step

    def _window(self, before: LatentWindow, place: int) -> LatentWindow:
        first = Pair(self._frames(place), place if self.lead == "audio" else 0)
        shared = Pair(
            0 if self.size.video is None else before.first.video + self.size.video - first.video - 1,
            0 if self.size.audio is None else before.first.audio + self.size.audio - place,
        )
        skew, times = self._skew(place), self.times
        own = ClipTimes(_begun(times.video, max(Fraction(0), skew)), _begun(times.audio, max(Fraction(0), -skew)))
        start = place * getattr(times, self.lead).step
        return LatentWindow(first, shared, start + min(Fraction(0), skew), own)


def _begun(times: StepTimes, start: Fraction) -> StepTimes:
    return StepTimes(times.step, times.first, start)
