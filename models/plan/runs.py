"""The stages of a run as the planner sees them, made from modules that are in memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from ...core.device import Placement
from ...core.errors import PlacementError
from ..codecs.oobleck import OobleckCodec
from ..codecs.wan_vae import LARGEST_UNTILED, WanVAECodec
from ..joint import JointModel
from ..placement import on_device
from ..storage import packing_of
from ..text._encoder import PromptEncoder
from .duration import seconds_of, worded
from .fit import StageRun, note, run_fitting
from .needs import Workload
from .outline import Outline, rebuilt, without_weights
from .plans import Plan, choose, free_bytes, plans, required_bytes

log = logging.getLogger(__name__)


def encoding(encoder: PromptEncoder) -> StageRun:
    """Encoding one caption."""

    def outline() -> Outline:
        model, projection = without_weights(encoder.model), getattr(encoder, "projection", None)
        rest = {"storage": packing_of(encoder)}
        if projection is None:
            return Outline("", None, model, None, None, None, video_text_length=encoder.max_length, **rest)
        modules = nn.ModuleList([model, without_weights(projection)])
        return Outline("", None, None, modules, None, None, audio_text_length=encoder.max_length, **rest)

    return StageRun("encode", outline, Workload(None, None), (encoder,))


def sampling(
    joint: JointModel, workload: Workload, *, text_lengths: tuple[int, int], batchings: Sequence[str]
) -> StageRun:
    """Denoising.

    Args:
        joint: Towers and bridges.
        workload: Latent shapes, and whether guidance is on.
        text_lengths: Tokens of the video and of the audio text.
        batchings: Ways of guidance that may be used, fastest first.
    """

    def outline() -> Outline:
        return Outline("", without_weights(joint), None, None, None, None, *text_lengths, packing_of(joint))

    return StageRun("sample", outline, workload, (joint,), batchings=batchings)


def encoding_video(codec: WanVAECodec, shape: tuple[int, ...], tiling: str) -> StageRun:
    """Encoding a clip's picture to a latent ``(1, C, T, H, W)``; ``auto`` may tile whatever does not fit whole."""
    return _video_run("encode video", codec, Workload(tuple(shape), None, encoded=("video",), decoded=()), tiling)


def encoding_audio(codec: OobleckCodec, shape: tuple[int, ...]) -> StageRun:
    """Encoding a clip's sound to a latent ``(1, C, L)``."""
    return _audio_run("encode audio", codec, Workload(None, tuple(shape), encoded=("audio",), decoded=()))


def decoding_video(codec: WanVAECodec, shape: tuple[int, ...], tiling: str) -> StageRun:
    """Decoding a video latent ``(1, C, T, H, W)``; ``auto`` may tile whatever does not fit whole."""
    return _video_run("decode video", codec, Workload(tuple(shape), None), tiling)


def decoding_audio(codec: OobleckCodec, shape: tuple[int, ...]) -> StageRun:
    """Decoding an audio latent ``(1, C, L)``."""
    return _audio_run("decode audio", codec, Workload(None, tuple(shape)))


def _video_run(stage: str, codec: WanVAECodec, workload: Workload, tiling: str) -> StageRun:
    pixels = workload.video_shape[-1] * workload.video_shape[-2] * codec.spatial_stride**2

    def outline() -> Outline:
        return Outline("", None, None, None, WanVAECodec(rebuilt(codec.vae)), None)

    return StageRun(stage, outline, workload, (codec,), tilings=tilings(pixels, tiling))


def _audio_run(stage: str, codec: OobleckCodec, workload: Workload) -> StageRun:
    def outline() -> Outline:
        return Outline("", None, None, None, None, rebuilt(codec.vae))

    return StageRun(stage, outline, workload, (codec,))


def tilings(num_pixels: int, tiling: str) -> tuple[str, ...]:
    """Ways of en- and decoding that the planner may choose from, fastest first; an explicit one stays alone.

    Args:
        num_pixels: Of a picture. ``auto`` never takes a picture larger than the published system's whole.
        tiling: ``auto``, ``on`` or ``off``.
    """
    if tiling != "auto":
        return (tiling,)
    return ("on",) if num_pixels > LARGEST_UNTILED else ("off", "on")


def run_codec(run: StageRun, placement: Placement, work: Callable[[str], Tensor]) -> Tensor:
    """Encode or decode with the codec on the device for as long as it works.

    Args:
        run: From :func:`encoding_video` and the three like it.
        placement: Where.
        work: Told whether to work in tiles: ``on`` or ``off``.

    Raises:
        PlacementError, torch.OutOfMemoryError: as :func:`~.fit.run_fitting`.
    """

    def attempt(where: Placement, plan: Plan | None) -> Tensor:
        with on_device(run.modules[0], where):
            return work(plan.tiling if plan else run.tilings[0])

    return run_fitting(run, placement, attempt)


def settle(
    outline: Outline,
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
    candidates = plans(lambda _: outline, workload, placement, batchings=batchings, tilings=tilings)
    choice = choose(candidates, free_bytes(placement.device), placement.device)
    log.info("offload auto: %s", choice.sentence)
    note(f"offload auto: {choice.sentence}")
    return (replace(placement, offload="none"), choice.plan.tiling) if choice.plan.offload == "none" else None


def forecast(
    outline: Outline,
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
    candidates = plans(lambda _: outline, workload, placement, batchings=batchings, tilings=tilings)
    free = free_bytes(placement.device)
    try:
        choice = choose(candidates, free, placement.device)
        plan, fits = choice.plan, True
        seconds = seconds_of(plan.stages, placement, num_steps)
        sentence = f"{worded(seconds)} for {num_steps} steps; {choice.sentence}"
    except PlacementError as error:
        plan, sentence, fits = min(candidates, key=lambda plan: plan.peak_bytes), str(error), False
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
