"""What a run will take, told before it begins: whether it fits the memory, and how long it lasts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .core.clock import Timeline
from .core.errors import PlacementError
from .core.pair import Pair
from .core.progress import Progress
from .core.residency import module_bytes
from .core.room import clip_text, require_memory, require_sound_memory, total_memory
from .core.sizes import size_text
from .models.families.base import FamilyModel
from .models.joined import join_towers
from .models.plan.base import ModelOutline, Workload
from .models.plan.duration import LONG_SECONDS, worded
from .models.plan.fit import Stage, note
from .models.plan.plans import FRAME_COPIES, free_bytes, iter_plans, required_bytes
from .models.plan.runs import forecast, settle, tilings
from .models.replicas import is_copied
from .sampling.guidance import is_small
from .sampling.options import SamplingOptions
from .sampling.windows import WINDOWS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .core.device import Placement
    from .core.types import Conditioning
    from .models.parts import AudioParts, VideoParts
    from .models.plan.plans import Plan

Shapes = Pair[tuple[int, ...]]
FRAME_BYTES = 12  # of a pixel: three colours in float32
SAMPLE_BYTES = 8  # of both channels in float32; as many copies as of a picture


def tell_of_length(
    model: FamilyModel, shapes: Shapes, options: SamplingOptions, progress: Progress, runs: int = 1
) -> None:
    """Say it where sampling takes longer than ten minutes here.

    Args:
        model: Of any family.
        shapes: Of what is made at once.
        options: Steps and scales.
        progress: Told.
        runs: How many windows of these shapes there are.
    """
    slow = long_run_note(model, shapes, options, runs)
    if slow:
        note(slow)
        progress.tell(slow)


def sampling_stage(
    model: FamilyModel, conditioning: Conditioning, options: SamplingOptions, shapes: Shapes, runs: int = 1
) -> Stage:
    """The sampling stage as the planner sees it; on two devices, as the first one sees it.

    Args:
        model: Of any family.
        conditioning: Encoded captions.
        options: Steps, scales, cache, windows.
        shapes: Of what is made at once.
        runs: How many windows of these shapes there are.

    Raises:
        PlacementError: another device has no room for its part.
    """
    lengths = tuple(text.positive.shape[1] if text else 0 for text in Pair.of(conditioning))
    stage = Stage(
        "sample",
        lambda: model.sampling_outline(lengths),
        _workload(options, shapes, runs),
        (model.root,),
        batchings=_batchings(options, shapes, model.placement),
        resident=model.resident,
    )
    require_partners(stage, model.placement)
    return stage


def require_partners(stage: Stage, placement: Placement) -> None:
    """Refuse other devices that have no room for the model and a pass, and say what they need.

    Raises:
        PlacementError: says what is needed and what is free.
    """
    for device in placement.partners:
        alone = replace(placement, device=device, partners=(), offload="none")
        need = required_bytes(next(stage.plans(alone, stays=True)).peak_of([stage.name]), device)
        weights, copied = module_bytes(stage.modules[0]), is_copied(stage.modules[0], device)
        need += weights if device.type == "cpu" and not copied else 0
        free = free_bytes(device) + (weights if device.type != "cpu" and copied else 0)
        if need > free:
            raise PlacementError(
                f"{device} has no room for its part of the guidance",
                got=f"{size_text(free)} free",
                expected=f"{size_text(need)}, for towers, bridges and one pass",
                remedy="Make the clip smaller or shorter, or name one device with --device.",
            )
        note(
            f"{stage.name}: {device} has towers and bridges once more and runs the other guidance passes: needs "
            f"{size_text(need)} of {size_text(free)} free memory"
        )


def _workload(options: SamplingOptions, shapes: Shapes, runs: int = 1) -> Workload:
    cache = options.build_cache()
    together = runs > 1 and WINDOWS.get(options.windows).together
    kept = int(cache is not None and cache.sound != "cached") * (runs if together else 1)
    guided = max(options.video_guidance_scale, options.audio_guidance_scale) > 1
    return Workload(*shapes, guided=guided, kept_steps=kept)


def _batchings(options: SamplingOptions, shapes: Shapes, placement: Placement) -> tuple[str, ...]:
    """Ways of guidance that the planner may choose from, fastest first; of two devices each has one pass at a time."""
    if placement.partners:
        return ("sequential",)
    if options.guidance_batching != "auto":
        return (options.guidance_batching,)
    return ("batched", "sequential") if is_small(shapes.video) else ("sequential",)


def _planning(
    model: FamilyModel, timeline: Timeline, options: SamplingOptions, tiling: str
) -> tuple[tuple[ModelOutline, Workload, Placement], dict[str, tuple[str, ...]]]:
    """What the planner asks of a run: the outline, the shapes and the placement, and the ways that are open."""
    shapes = model.shapes(timeline)
    ways = {
        "batchings": _batchings(options, shapes, model.placement),
        "tilings": tilings(timeline.width * timeline.height, tiling),
    }
    return (model.outline(), _workload(options, shapes), model.placement), ways


def settled(
    model: FamilyModel,
    timeline: Timeline,
    options: SamplingOptions,
    *,
    tiling: str = "auto",
    at_once: Timeline | None = None,
) -> tuple[FamilyModel, str]:
    """Model and tiling with offload ``auto`` decided as far as the whole run shows it.

    See :func:`~.models.plan.runs.settle`. ``at_once`` is the extent of a window of a longer clip; None is the clip's.

    Raises:
        PlacementError: no plan fits the device's memory, or the clip not the main memory.
        GeometryError: a clip that the video tower cannot make.
    """
    pixels = timeline.num_frames * timeline.width * timeline.height
    told = clip_text(timeline.num_frames, timeline.width, timeline.height)
    require_memory(FRAME_COPIES * FRAME_BYTES * pixels if model.makes("video") else 0, told)
    if model.makes("audio"):
        require_sound_memory(timeline.num_samples, timeline.geometry.sample_rate, FRAME_COPIES * SAMPLE_BYTES)
    run, ways = _planning(model, at_once or timeline, options, tiling)
    if model.placement.offload != "auto":
        if model.placement.device.type == "cpu":
            _require_any(iter_plans(lambda _: run[0], *run[1:], **ways), f"what it takes to make {told}")
        return model, tiling
    placement, tiling = settle(*run, **ways) or (model.placement, tiling)
    return replace(model, placement=placement), tiling


def _require_any(candidates: Iterable[Plan], what: str) -> None:
    """Refuse what no plan fits into the main memory; the first that does is enough.

    Raises:
        PlacementError: of the plan that takes least.
    """
    peaks = []
    for plan in candidates:
        peaks.append(plan.peak_bytes)
        if plan.peak_bytes <= total_memory():
            return
    require_memory(min(peaks), what, of_all=True)


def forecast_of(model: FamilyModel, timeline: Timeline | None = None) -> dict[str, Any]:
    """Whether a clip fits the memory, and how long it takes (:func:`~.models.plan.runs.forecast`).

    Args:
        model: Of any family.
        timeline: The clip; None is what the model was made for.
    """
    own = model.own
    timeline = timeline or Timeline(own.num_frames, own.fps, own.width, own.height, model.geometry)
    run, ways = _planning(model, timeline, SamplingOptions(), "auto")
    clip = {"frames": timeline.num_frames, "width": timeline.width, "height": timeline.height}
    told = forecast(*run, **ways, num_steps=own.num_steps)
    size = f"{timeline.num_frames} frames of {timeline.width}×{timeline.height}"
    return {"clip": clip, **told, "sentence": f"{size}: {told['sentence']}"}


def long_run_note(model: FamilyModel, shapes: Shapes, options: SamplingOptions, runs: int = 1) -> str:
    """A sentence where sampling takes longer than ten minutes here, to be told before it begins; else empty.

    Args:
        model: Of any family.
        shapes: Of the latents.
        options: Steps and scales.
        runs: How many windows of these shapes there are.
    """
    if shapes.video is None or not model.makes("video"):
        return ""
    pushed = "video" in model.hears and options.video_modality_scale > 1
    work = _workload(options, shapes)
    seconds = runs * model.sampling_seconds(work, num_steps=options.num_computed, passes=1 + work.guided + pushed)
    if seconds < LONG_SECONDS:
        return ""
    own, (frames, width, height) = model.own, model.geometry.extent_of(shapes.video)
    larger = width * height * frames > own.width * own.height * own.num_frames
    made_for = f"; this model was made for {own.extent}" if own.is_noted and larger else ""
    windows = f"{runs} windows of " if runs > 1 else ""
    extent = f"{windows}{frames} frames of {width}×{height}"
    told = f"sampling {extent} in {options.num_steps} steps takes {worded(seconds)}"
    return f"{told} on {model.placement.device}{made_for}"


def clip_note(video: VideoParts | None, audio: AudioParts | None, timeline: Timeline, num_clips: int = 1) -> str:
    """A sentence where clips of this size take long to sample or do not fit the memory; else empty.

    Args:
        video: Loaded video side; without it nothing takes long.
        audio: Loaded audio side.
        timeline: One clip.
        num_clips: Made at once.
    """
    if video is None or video.tower is None:
        return ""
    fitting = audio if audio is not None and audio.placement == video.placement else None
    model = join_towers(video, fitting)
    shapes, own = Pair((num_clips, *timeline.video_latent_shape), None), model.own
    if not model.sampling_seconds(Workload(*shapes), num_steps=own.num_steps, passes=2):
        return ""
    told = forecast_of(model, timeline)
    return long_run_note(model, shapes, SamplingOptions(num_steps=own.num_steps)) if told["fits"] else told["sentence"]
