"""A clip that is longer than what a model makes at once, in windows that share what they overlap by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from .clock import Timeline, samples_for
from .errors import GeometryError


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
