"""A clip that is longer than what a model makes at once: its windows, and what the model is told in each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from .core.clock import ClipTimes, LatentGeometry, closest_frames, samples_for
from .core.errors import GeometryError
from .core.pair import Pair
from .core.types import Conditioning, JointLatents
from .core.windows import LatentPlan, latent_windows
from .models.families.base import FamilyModel
from .models.text._handle import TextEncoderHandle
from .sampling.given import Given
from .sampling.options import SamplingOptions
from .sampling.windows import OFF, WINDOWS
from .sampling.windows.base import LongRun, draw_long_noise

if TYPE_CHECKING:
    from .core.progress import Progress
    from .core.protocols import Denoiser
    from .models.own import OwnSettings

Shapes = Pair[tuple[int, ...]]


def plan_of(
    model: FamilyModel, options: SamplingOptions, shapes: Shapes, times: ClipTimes | None = None
) -> LatentPlan | None:
    """The windows of a clip; None where it is made at once. Arguments and errors as :func:`plan_for`.

    Raises:
        GeometryError: latents that hold a clip as a whole.
    """
    if options.windows == OFF:
        return None
    if not model.geometry.in_time:
        _require_own_length(model, shapes)
        return None
    return plan_for(model.geometry, model.own, options, shapes, times or model.times(shapes))


def plan_for(
    geometry: LatentGeometry,
    own: OwnSettings,
    options: SamplingOptions,
    shapes: Shapes,
    times: ClipTimes | None = None,
) -> LatentPlan | None:
    """The windows of a clip; None where it is made at once.

    Args:
        geometry: Of latents that have a time.
        own: What the model was made for.
        options: Whether there are windows, how long they are and what they share.
        shapes: Of the clip's latents.
        times: When they lie; None takes it from their numbers, or from the model's own rate.

    Raises:
        GeometryError: windows that are too short.
    """
    if options.windows == OFF:
        return None
    if times is None and shapes.video is not None and shapes.audio is not None:
        times = geometry.times_from_counts(shapes.video[2], shapes.audio[2])
    times = times or geometry.times(own.fps)
    frames = window_frames(geometry, own, options, 1 / times.video.first)
    samples = samples_for(frames * times.video.first, geometry.sample_rate)
    of = Pair((frames - 1) // geometry.temporal_stride + 1, geometry.audio_shape(samples)[1])
    whole = shapes.map(lambda shape: shape[2])
    size = Pair(**{side: of[side] for side in whole.present})
    plan = latent_windows(times, whole, size, options.overlap_seconds)
    return plan if len(plan.windows) > 1 else None


def window_frames(geometry: LatentGeometry, own: OwnSettings, options: SamplingOptions, fps: Fraction) -> int:
    """Pictures of a window: the model's own number, or the nearest to what is asked for."""
    if not options.window_seconds:
        return own.num_frames
    return closest_frames(round(options.window_seconds * fps), geometry.temporal_stride)


def window_shapes(plan: LatentPlan, shapes: Shapes) -> Shapes:
    """Of one window's latents, for a clip's."""
    return Pair(**{side: (*shape[:2], plan.size[side], *shape[3:]) for side, shape in shapes.present.items()})


def sample_windows(
    denoiser: Callable[[ClipTimes], Denoiser],
    plan: LatentPlan,
    conditioning: Conditioning,
    shapes: Shapes,
    options: SamplingOptions,
    given: Pair[Given],
    settings: Mapping[str, Any],
    progress: Progress,
) -> JointLatents:
    """Latents of a whole clip, made window by window.

    Args:
        denoiser: What the sampler drives, for the times of a window.
        plan: From :func:`plan_of`.
        conditioning: Encoded captions, also later ones; of the right length (:func:`of_windows`).
        shapes: Of the whole clip's latents.
        options: Which way, and the seed.
        given: What of the clip is known.
        settings: Of :func:`~.sampling.loop.sample`.
        progress: Told of each step.
    """
    progress.tell(plan.sentence)
    way = WINDOWS.get(options.windows)()
    run = LongRun(
        plan,
        denoiser,
        captions_at(conditioning, [way.middle(window, plan) for window in plan.windows], progress),
        draw_long_noise(plan, options.seed, shapes),
        given,
        options.seed,
        settings,
        progress,
    )
    return way.sample(run)


def captions_at(conditioning: Conditioning, middles: Sequence[Fraction], progress: Progress) -> list[Conditioning]:
    """What holds in the middle of each window; captions that none takes are told.

    Args:
        conditioning: Encoded captions, also later ones.
        middles: Seconds of the clip.
        progress: Told of captions that are not read.
    """
    chosen = [conditioning.at(middle) for middle in middles]
    unread = [start for start, each in conditioning.later if not any(each is one for one in chosen)]
    if unread:
        times = ", ".join(f"{float(start):g} s" for start in unread)
        progress.tell(f"captions that begin at {times} are not read: there no window has the middle of what it makes")
    return chosen


def of_windows(model: FamilyModel, conditioning: Conditioning, seconds: float) -> Conditioning:
    """Conditioning whose audio tower is told the length of a window; it may have been told that of the whole clip.

    Args:
        model: Whose audio text encoder knows lengths.
        conditioning: Encoded captions.
        seconds: Of a window.
    """
    later = tuple((start, of_windows(model, each, seconds)) for start, each in conditioning.later)
    sound = conditioning.audio
    if sound is None or sound.duration is None or conditioning.seconds == seconds:
        return replace(conditioning, later=later)
    encoder = model.texts.audio
    duration = encoder.duration(0.0, seconds, len(sound.duration)).to(sound.duration)
    if isinstance(encoder, TextEncoderHandle):
        encoder.free()
    return replace(conditioning, audio=replace(sound, duration=duration.detach()), later=later, seconds=seconds)


def _require_own_length(model: FamilyModel, shapes: Shapes) -> None:
    own = model.own.num_frames
    if shapes.video is not None and model.geometry.extent_of(shapes.video)[0] != own:
        raise GeometryError(
            "the latents of this model hold a clip as a whole, so it makes no windows of a longer one",
            got=f"{model.geometry.extent_of(shapes.video)[0]} frames",
            expected=f"the model's {own} frames",
        )
