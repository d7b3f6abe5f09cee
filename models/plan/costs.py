"""What each stage of two towers takes beside its weights: the real modules, run on ``meta`` on the real shapes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ...core.types import Modality
from ..codecs._to_host import frames_to_host
from .base import Workload
from .kept_costs import lasting
from .tracking import Cost, dry_run

if TYPE_CHECKING:
    from ..codecs.wan_vae import WanVAECodec
    from ..joint import JointModel

# The video codec works latent frame by latent frame; from the third one on every step takes the same.
STEADY_FRAMES = 3
# Float32 copies of the latents that the sampler keeps: the latents, those before, and two estimates of x0 (UniPC).
SOLVER_COPIES = 4
_META = torch.device("meta")


def encoding(texts: Iterable[tuple[nn.Module | None, int]]) -> Cost:
    """Captions and their negatives, one text at a time.

    Args:
        texts: Encoder and tokens of each modality; a ``ModuleList`` is an encoder and Stable Audio's projection.
    """
    costs = []
    for module, length in texts:
        if module is not None:
            encoder, projection = module if isinstance(module, nn.ModuleList) else (module, None)
            costs.append(_of_text(encoder, projection, length))
    # A caption and its negative each.
    return Cost(max(cost.peak_bytes for cost in costs), 2 * sum(cost.operations for cost in costs))


def _of_text(encoder: nn.Module, projection: nn.Module | None, length: int) -> Cost:
    def run() -> Tensor:
        ids = torch.zeros(1, length, dtype=torch.int64, device=_META)
        hidden = encoder(ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        return hidden if projection is None else projection.text_projection(hidden)

    modules = [module for module in (encoder, projection) if module is not None]
    weights = (tensor for module in modules for tensor in (*module.parameters(), *module.buffers()))
    return lasting(lambda: dry_run(run, weights), "encode", encoder, projection, length)


def sampling(
    joint: JointModel, work: Workload, text_lengths: tuple[int, int], batched: bool, known: Iterable[Tensor]
) -> Cost:
    """One forward of the joint model, with what the sampling loop holds on the device meanwhile.

    Args:
        joint: Towers and bridges, on ``meta``.
        work: The shapes.
        text_lengths: Tokens of a video and of an audio caption.
        batched: Both guidance passes as one batch.
        known: All weights.
    """
    rows = 2 if batched and work.guided else 1
    waiting = 1 if work.guided and not batched else 0

    def run() -> object:
        held, inputs = [], []
        for tower, shape, length in zip(
            (joint.video, joint.audio), (work.video_shape, work.audio_shape), text_lengths, strict=True
        ):
            if tower is None or shape is None:
                inputs.append(None)
                continue
            view = torch.empty(shape, dtype=tower.dtype, device=_META)
            inputs.append(_modality(tower, view, length, rows))
            # The other pass: its text waits on the device, and so does what the first pass gave; solvers work there.
            held += [view, *(_modality(tower, view, length, 1).text for _ in range(waiting))]
            held += [torch.empty(shape, device=_META) for _ in range(waiting + SOLVER_COPIES)]
        if work.kept_steps and None not in inputs:
            inputs[1] = replace(inputs[1], heard=_Kept(held, work.kept_steps * (1 + waiting)))
        return joint(*inputs), held

    joint.forget_tables()
    try:
        cost = lasting(lambda: dry_run(run, known), "sample", joint, work, text_lengths, batched)
        return cost._replace(operations=cost.operations * (1 + waiting))
    finally:
        joint.forget_tables()


class _Kept:
    """What a step cache keeps of the bridges' part in the sound.

    Args:
        held: What stays alive.
        copies: Of each part.
    """

    def __init__(self, held: list[Tensor], copies: int) -> None:
        self._held, self._copies = held, copies

    def note(self, bridge: int, change: Tensor) -> None:
        """Of this pass and step, of the others, and of both that were computed before."""
        self._held += [change, *(torch.empty_like(change) for _ in range(self._copies - 1))]

    def change(self, bridge: int) -> None:
        """Nobody asks in a dry run."""


def _modality(tower: nn.Module, view: Tensor, length: int, rows: int) -> Modality:
    """Inputs of one pass, as the sampling loop makes them."""
    batch, like = rows * view.shape[0], {"dtype": view.dtype, "device": _META}
    text = torch.empty(batch, length, tower.text_width, **like)
    duration = torch.empty(batch, 1, tower.duration_width, **like) if tower.duration_width else None
    return Modality(torch.cat([view] * rows), torch.empty(1, device=_META), text, duration)


def encoding_video(codec: WanVAECodec, shape: tuple[int, ...], tiling: str, known: Iterable[Tensor]) -> Cost:
    """A clip's picture to a latent ``(1, C, T, H, W)``."""
    _, channels, frames, height, width = shape
    stride, area = codec.spatial_stride, height * width

    def num_bytes_of(num_latents: int, pixels: int) -> int:
        return 3 * (codec.temporal_stride * (num_latents - 1) + 1) * pixels * codec.vae.dtype.itemsize

    whole = num_bytes_of(frames, area * stride**2)
    height, width, more = _tile(codec, height, width, tiling)
    steady = min(frames, STEADY_FRAMES)

    def run() -> Tensor:
        size = (codec.temporal_stride * (steady - 1) + 1, height * stride, width * stride)
        pictures = torch.empty(1, 3, *size, dtype=codec.vae.dtype, device=_META)
        return codec.vae.encode(pictures).latent_dist.mode()

    codec.vae.clear_cache()  # as a new one's
    # The clip is on the device whole; of the latents, the posterior's two halves and what is made of them.
    cost = lasting(lambda: dry_run(run, known), "encode video", codec, steady, height, width)
    waiting = whole - num_bytes_of(steady, height * width * stride**2) + 4 * 4 * channels * frames * area
    return Cost(cost.peak_bytes + waiting, int(cost.operations * frames / steady * more))


def encoding_audio(vae: Any, shape: tuple[int, ...], known: Iterable[Tensor]) -> Cost:
    """A clip's sound to a latent ``(1, C, L)``; it is rounded up to whole latents."""
    sound = (1, vae.config.audio_channels, (shape[2] + 1) * vae.hop_length)

    def run() -> Tensor:
        return vae.encode(torch.empty(sound, dtype=vae.dtype, device=_META)).latent_dist.mode()

    return lasting(lambda: dry_run(run, known), "encode audio", vae, sound)


def _tile(codec: WanVAECodec, height: int, width: int, tiling: str) -> tuple[int, int, float]:
    """The largest tile of a latent picture, and how many times its work all of them take together."""
    tiles = codec.tiles(tiling, height, width)
    if tiles is None:
        return height, width, 1.0
    tall, wide = min(height, tiles.height), min(width, tiles.width)
    return tall, wide, tiles.work(height, width) / (tall * wide)


def decoding_video(codec: WanVAECodec, shape: tuple[int, ...], tiling: str, known: Iterable[Tensor]) -> Cost:
    """A video latent ``(1, C, T, H, W)`` to pictures."""
    _, channels, frames, height, width = shape
    latent_bytes = 4 * channels * frames * height * width
    height, width, more = _tile(codec, height, width, tiling)

    steady = min(frames, STEADY_FRAMES)

    def run() -> Tensor:
        raw = torch.empty(1, channels, steady, height, width, dtype=codec.vae.dtype, device=_META)
        with frames_to_host(codec.vae.decoder):
            return codec.vae.decode(raw).sample

    codec.vae.clear_cache()
    # The latent itself, its un-normalised copy and the one that went through the first convolution.
    cost = lasting(lambda: dry_run(run, known), "decode video", codec, channels, steady, height, width)
    repeated = frames / steady * more
    return Cost(cost.peak_bytes + 2 * latent_bytes, int(cost.operations * repeated))


def decoding_audio(vae: Any, shape: tuple[int, ...], known: Iterable[Tensor]) -> Cost:
    """An audio latent ``(1, C, L)`` to sound."""

    def run() -> Tensor:
        return vae.decode(torch.empty((1, *shape[1:]), dtype=vae.dtype, device=_META)).sample

    return lasting(lambda: dry_run(run, known), "decode audio", vae, shape[1:])
