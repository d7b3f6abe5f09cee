"""The stages of a run as the planner sees them, made from modules that are in memory."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from ...core.device import Placement
from ...core.errors import PlacementError
from ..codecs._tiles import OWN, larger_tiles
from ..codecs.oobleck import OobleckCodec
from ..codecs.wan_vae import LARGEST_UNTILED, WanVAECodec
from ..storage import packing_of
from ..text._encoder import PromptEncoder
from .base import ModelOutline, PlannedModule, Workload
from .duration import seconds_of, worded
from .fit import Stage, note
from .outline import Outline, rebuilt, without_weights
from .plans import Plan, choose, free_bytes, iter_plans, required_bytes

log = logging.getLogger(__name__)
# Pixels of the stock codec's tiles.
OWN_TILE = 256 * 256


def encoding(encoder: PromptEncoder) -> Stage:
    """Encoding one caption."""

    def outline() -> Outline:
        model, projection = without_weights(encoder.model), getattr(encoder, "projection", None)
        rest = {"storage": packing_of(encoder)}
        if projection is None:
            return Outline("", None, model, None, None, None, video_text_length=encoder.max_length, **rest)
        modules = nn.ModuleList([model, without_weights(projection)])
        return Outline("", None, None, modules, None, None, audio_text_length=encoder.max_length, **rest)

    return Stage("encode", outline, Workload(None, None), (encoder,))


def encoding_video(codec: WanVAECodec, shape: tuple[int, ...], tiling: str) -> Stage:
    """Encoding a clip's picture to a latent ``(1, C, T, H, W)``; ``auto`` may tile whatever does not fit whole."""
    return _video_run("encode video", codec, Workload(tuple(shape), None, encoded=("video",), decoded=()), tiling)


def encoding_audio(codec: OobleckCodec, shape: tuple[int, ...]) -> Stage:
    """Encoding a clip's sound to a latent ``(1, C, L)``."""
    return _audio_run("encode audio", codec, Workload(None, tuple(shape), encoded=("audio",), decoded=()))


def decoding_video(codec: WanVAECodec, shape: tuple[int, ...], tiling: str) -> Stage:
    """Decoding a video latent ``(1, C, T, H, W)``; ``auto`` may tile whatever does not fit whole."""
    return _video_run("decode video", codec, Workload(tuple(shape), None), tiling)


def decoding_audio(codec: OobleckCodec, shape: tuple[int, ...]) -> Stage:
    """Decoding an audio latent ``(1, C, L)``."""
    return _audio_run("decode audio", codec, Workload(None, tuple(shape)))


def decoding_both(whole: PlannedModule, video_shape: tuple[int, ...], audio_shape: tuple[int, ...]) -> Stage:
    """Decoding both latents by the one autoencoder that made them, which hears one while it draws the other."""
    return Stage("decode video", whole.outline, Workload(tuple(video_shape), tuple(audio_shape)), (whole,))


def _video_run(stage: str, codec: WanVAECodec, workload: Workload, tiling: str) -> Stage:
    if isinstance(codec, PlannedModule):
        return Stage(stage, codec.outline, workload, (codec,), tilings=("off",) if tiling == "auto" else (tiling,))
    pixels = workload.video_shape[-1] * workload.video_shape[-2] * codec.spatial_stride**2

    def outline() -> Outline:
        return Outline("", None, None, None, type(codec)(rebuilt(codec.vae)), None)

    return Stage(stage, outline, workload, (codec,), tilings=tilings(pixels, tiling))


def _audio_run(stage: str, codec: OobleckCodec, workload: Workload) -> Stage:
    if isinstance(codec, PlannedModule):
        return Stage(stage, codec.outline, workload, (codec,))

    def outline() -> Outline:
        return Outline("", None, None, None, None, rebuilt(codec.vae))

    return Stage(stage, outline, workload, (codec,))


def tilings(num_pixels: int, tiling: str) -> tuple[str, ...]:
    """Ways of en- and decoding that the planner may choose from, fastest first; an explicit one stays alone.

    Few large tiles cost less than many small ones: of 832×480 two take 1.08 times the work, those of ``on`` 1.66 times.

    Args:
        num_pixels: Of a picture. ``auto`` never takes a picture larger than the published system's whole.
        tiling: ``auto``, ``on`` or ``off``; or ``N tiles``, which a plan for a whole run has picked.
    """
    if tiling != "auto":
        return (tiling,)
    cut = (*larger_tiles(num_pixels, largest=LARGEST_UNTILED, least=OWN_TILE), OWN)
    return cut if num_pixels > LARGEST_UNTILED else ("off", *cut)


def settle(
    outline: ModelOutline,
    workload: Workload,
    placement: Placement,
    *,
    batchings: Sequence[str],
    tilings: Sequence[str],
) -> tuple[Placement, str] | None:
    """Decide offload ``auto`` for a whole run, and say it: ``none`` when everything may stay on the device.

    Returns:
        The placement with offload ``none``, and the way of decoding with which it fits. None where not everything may
        stay: then each stage picks the fastest way that fits when it begins.

    Raises:
        PlacementError: no plan fits the device's memory.
    """
    candidates = iter_plans(lambda _: outline, workload, placement, batchings=batchings, tilings=tilings)
    choice = choose(candidates, free_bytes(placement.device), placement.device)
    log.info("offload auto: %s", choice.sentence)
    note(f"offload auto: {choice.sentence}")
    return (replace(placement, offload="none"), choice.plan.tiling) if choice.plan.offload == "none" else None


def forecast(
    outline: ModelOutline,
    workload: Workload,
    placement: Placement,
    *,
    batchings: Sequence[str],
    tilings: Sequence[str],
    num_steps: int = 50,
) -> dict[str, Any]:
    """Whether a run would fit what is free now and how long it would take, for a page to show.

    Returns:
        ``fits``, ``sentence``, ``seconds``, ``free_bytes``, ``required_bytes``, ``peak_bytes``, ``host_bytes``,
        ``stages`` (bytes by name), and of the plan ``offload``, ``text_offload``, ``storage``, ``guidance_batching``
        and ``tiling``.
    """
    considered: list[Plan] = []
    candidates = iter_plans(lambda _: outline, workload, placement, batchings=batchings, tilings=tilings)
    free = free_bytes(placement.device)
    try:
        choice = choose(_noted(candidates, considered), free, placement.device)
        plan, fits = choice.plan, True
        seconds = seconds_of(plan.stages, placement, num_steps)
        sentence = f"{worded(seconds)} for {num_steps} steps; {choice.sentence}"
    except PlacementError as error:
        plan, sentence, fits = min(considered, key=lambda plan: plan.peak_bytes), str(error), False
        seconds = seconds_of(plan.stages, placement, num_steps)
    names = ("offload", "text_offload", "storage", "guidance_batching", "tiling", "peak_bytes", "host_bytes")
    return {
        "fits": fits,
        "sentence": sentence,
        "seconds": seconds,
        "free_bytes": free,
        "required_bytes": required_bytes(plan.peak_bytes, placement.device),
        "stages": {peak.stage: peak.bytes for peak in plan.stages},
        **{name: getattr(plan, name) for name in names},
    }


def _noted(candidates: Iterable[Plan], considered: list[Plan]) -> Iterator[Plan]:
    """The candidates, each put into a list when it is asked for."""
    for plan in candidates:
        considered.append(plan)
        yield plan
