"""How many bytes each stage takes: weights by offload mode, and what a forward keeps alive beside them.

Stages run one after the other: encode a clip that is given, encode the captions, sample, decode the picture, decode the
sound. Weights follow from :mod:`..placement`:

=============  ==========================================================================================
``none``       everything that was used once stays on the device, so all parts count in every stage; of text encoders
               that are let go of after use only one, and only while captions are encoded
``model``      the parts of the stage: one text encoder, or towers with bridges, or one codec
``group``      of towers, bridges and text encoders the layers that are in flight (two on CUDA, where the next one is
               fetched while one computes); codecs as in ``model``
``sequential`` the same with one layer
=============  ==========================================================================================

What a forward keeps alive is counted on ``meta`` (:mod:`.tracking`) by running the real modules on the real shapes. The
largest moment of a Wan block at L tokens of width D with feed-forward width E, for orientation: residual stream
``L·D``, its normed copy ``L·D``, the hidden layer ``L·E`` and its GELU ``L·E``, in the tower's type.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ...core.clock import Timeline
from ...core.types import Modality
from ..codecs.wan_vae import frames_to_host
from ..storage import BYTES_PER_WEIGHT, saved_bytes
from .outline import Outline
from .tracking import Cost, dry_run

CLIP_STAGES = ("encode video", "encode audio")
STAGES = ("encode", "sample", "decode video", "decode audio")
TOWERS = ("video tower", "audio tower", "bridges")
TEXTS = ("video text", "audio text")
# Stages of each part; of those that are not named, sampling.
_USED = dict.fromkeys(TEXTS, ("encode",)) | {
    "video codec": ("encode video", "decode video"),
    "audio codec": ("encode audio", "decode audio"),
}
TILED_STAGES = ("encode video", "decode video")
# The video codec works latent frame by latent frame; from the third one on every step takes the same.
STEADY_FRAMES = 3
_META = torch.device("meta")


@dataclass(frozen=True)
class Workload:
    """What is to be made.

    Args:
        video_shape: Latent ``(B, C, T, H, W)``, or None for no picture.
        audio_shape: Latent ``(B, C, L)``, or None for no sound.
        guided: Whether guidance asks for a second pass.
        encoded: Of a clip that is given: "video", "audio" or both.
        decoded: What is decoded in the end.
    """

    video_shape: tuple[int, ...] | None
    audio_shape: tuple[int, ...] | None
    guided: bool = True
    encoded: tuple[str, ...] = ()
    decoded: tuple[str, ...] = ("video", "audio")

    @classmethod
    def of(cls, timeline: Timeline, *, video: bool = True, audio: bool = True, guided: bool = True) -> Workload:
        """One clip of a timeline."""
        return cls(
            (1, *timeline.video_latent_shape) if video else None,
            (1, *timeline.audio_latent_shape) if audio else None,
            guided,
        )


@dataclass(frozen=True, eq=False)
class Needs:
    """Bytes of one model for one workload; each forward is counted when it is first asked for.

    Args:
        outline: The modules.
        workload: The shapes.
    """

    outline: Outline
    workload: Workload
    _counted: dict[tuple[str, bool], Cost] = field(default_factory=dict, repr=False)

    def weights(self) -> dict[str, int]:
        """Bytes of each part that is there."""
        storage, parts = self.outline.storage, self.outline.parts()
        whole = {name: num_bytes(module) for name, module in parts.items()}
        if storage in BYTES_PER_WEIGHT:
            for name in (*TOWERS, *TEXTS):
                if name in whole:
                    whole[name] -= saved_bytes(parts[name], storage)
        return whole

    def weights_on_device(self, stage: str, offload: str, *, prefetch: bool) -> int:
        """Bytes of weights on the device at the worst moment of a stage.

        Args:
            stage: One of ``CLIP_STAGES`` and ``STAGES``.
            offload: ``none``, ``model``, ``group`` or ``sequential``.
            prefetch: Whether ``group`` fetches one layer ahead (CUDA).
        """
        parts, weights = self.outline.parts(), self.weights()
        if offload == "none":
            return self.kept_bytes() + (self.freed_bytes() if stage == "encode" else 0)
        names = [name for name in parts if stage in _USED.get(name, ("sample",))]
        whole = {name: weights[name] for name in names}
        if offload == "model" or stage not in ("sample", "encode"):
            return max(whole.values(), default=0) if stage == "encode" else sum(whole.values())
        ahead = 1 if offload == "group" and prefetch else 0
        return streamed_bytes((parts[name] for name in names), ahead)

    def kept_bytes(self) -> int:
        """Bytes of all weights that stay in memory from stage to stage."""
        return sum(size for name, size in self.weights().items() if name not in self.outline.freed)

    def freed_bytes(self) -> int:
        """Bytes of the largest text encoder that is read for the captions and let go of; they come one by one."""
        return max((size for name, size in self.weights().items() if name in self.outline.freed), default=0)

    def weights_to_come(self, stage: str) -> int:
        """Bytes of weights that a stage brings into main memory on a CPU: what is loaded takes no more of it."""
        return self.weights_on_device(stage, "none", prefetch=False) - self.kept_bytes() * self.outline.is_loaded

    def activations(self, stage: str, *, batched: bool = False, tiled: bool = False) -> int:
        """Bytes that a stage keeps alive beside the weights.

        Args:
            stage: One of ``CLIP_STAGES`` and ``STAGES``.
            batched: Sampling: both guidance passes as one batch.
            tiled: Encoding or decoding the picture: in tiles.
        """
        return self._cost(stage, batched, tiled).peak_bytes

    def operations(self, stage: str, *, batched: bool = False, tiled: bool = False) -> int:
        """Operations of a whole stage, of sampling those of one step; arguments as in :meth:`activations`."""
        return self._cost(stage, batched, tiled).operations

    def _cost(self, stage: str, batched: bool, tiled: bool) -> Cost:
        variant = batched if stage == "sample" else tiled if stage in TILED_STAGES else False
        key = (stage, variant)
        if key not in self._counted:
            count = {
                "encode": self._encode,
                "sample": self._sample,
                "encode video": self._encode_video,
                "encode audio": self._encode_audio,
                "decode video": self._decode_video,
                "decode audio": self._decode_audio,
            }[stage]
            self._counted[key] = count(variant)
        return self._counted[key]

    def stages(self) -> tuple[str, ...]:
        """The stages that the workload has."""
        work, outline = self.workload, self.outline
        picture = work.video_shape is not None and outline.video_codec is not None
        sound = work.audio_shape is not None and outline.audio_vae is not None
        present = {
            "encode video": picture and "video" in work.encoded,
            "encode audio": sound and "audio" in work.encoded,
            "encode": outline.video_text is not None or outline.audio_text is not None,
            "sample": outline.joint is not None,
            "decode video": picture and "video" in work.decoded,
            "decode audio": sound and "audio" in work.decoded,
        }
        return tuple(stage for stage, is_there in present.items() if is_there)

    def _encode(self, _: bool) -> Cost:
        costs = []
        for module, length in (
            (self.outline.video_text, self.outline.video_text_length),
            (self.outline.audio_text, self.outline.audio_text_length),
        ):
            if module is not None:
                encoder, projection = module if isinstance(module, nn.ModuleList) else (module, None)
                costs.append(_cost_of_text(encoder, projection, length))
        # A caption and its negative each.
        return Cost(max(cost.peak_bytes for cost in costs), 2 * sum(cost.operations for cost in costs))

    def _sample(self, batched: bool) -> Cost:
        """One forward of the joint model, with what the sampling loop holds on the device meanwhile."""
        joint, work = self.outline.joint, self.workload
        rows = 2 if batched and work.guided else 1
        waiting = 1 if work.guided and not batched else 0

        def run() -> object:
            held, inputs = [], []
            for tower, shape, length in (
                (joint.video, work.video_shape, self.outline.video_text_length),
                (joint.audio, work.audio_shape, self.outline.audio_text_length),
            ):
                if tower is None or shape is None:
                    inputs.append(None)
                    continue
                view = torch.empty(shape, dtype=tower.dtype, device=_META)
                inputs.append(_modality(tower, view, length, rows))
                # The other pass: its text waits on the device, and so does what the first pass gave.
                held += [view, *(_modality(tower, view, length, 1).text for _ in range(waiting))]
                held += [torch.empty_like(view) for _ in range(waiting)]
            return joint(*inputs), held

        joint._rope_cache = None
        try:
            cost = dry_run(run, self.outline.tensors())
            return cost._replace(operations=cost.operations * (1 + waiting))
        finally:
            joint._rope_cache = None

    def _encode_video(self, tiled: bool) -> Cost:
        codec = self.outline.video_codec
        _, channels, frames, height, width = self.workload.video_shape
        stride, area = codec.spatial_stride, height * width

        def num_bytes_of(num_latents: int, pixels: int) -> int:
            return 3 * (codec.temporal_stride * (num_latents - 1) + 1) * pixels * codec.vae.dtype.itemsize

        whole = num_bytes_of(frames, area * stride**2)
        height, width = self._tile(height, width) if tiled else (height, width)
        steady = min(frames, STEADY_FRAMES)

        def run() -> Tensor:
            size = (codec.temporal_stride * (steady - 1) + 1, height * stride, width * stride)
            pictures = torch.empty(1, 3, *size, dtype=codec.vae.dtype, device=_META)
            return codec.vae.encode(pictures).latent_dist.mode()

        # The clip is on the device whole; of the latents, the posterior's two halves and what is made of them.
        cost = dry_run(run, self.outline.tensors())
        waiting = whole - num_bytes_of(steady, height * width * stride**2) + 4 * 4 * channels * frames * area
        repeated = frames / steady * area / (height * width)
        return Cost(cost.peak_bytes + waiting, int(cost.operations * repeated))

    def _encode_audio(self, _: bool) -> Cost:
        vae = self.outline.audio_vae
        # A clip's sound is rounded up to whole latents.
        shape = (1, vae.config.audio_channels, (self.workload.audio_shape[2] + 1) * vae.hop_length)

        def run() -> Tensor:
            return vae.encode(torch.empty(shape, dtype=vae.dtype, device=_META)).latent_dist.mode()

        return dry_run(run, self.outline.tensors())

    def _tile(self, height: int, width: int) -> tuple[int, int]:
        """A tile of a latent picture."""
        vae, stride = self.outline.video_codec.vae, self.outline.video_codec.spatial_stride
        return min(height, vae.tile_sample_min_height // stride), min(width, vae.tile_sample_min_width // stride)

    def _decode_video(self, tiled: bool) -> Cost:
        codec = self.outline.video_codec
        _, channels, frames, height, width = self.workload.video_shape
        latent_bytes, area = 4 * channels * frames * height * width, height * width
        height, width = self._tile(height, width) if tiled else (height, width)

        def run() -> Tensor:
            raw = torch.empty(
                1, channels, min(frames, STEADY_FRAMES), height, width, dtype=codec.vae.dtype, device=_META
            )
            with frames_to_host(codec.vae.decoder):
                return codec.vae.decode(raw).sample

        # The latent itself, its un-normalised copy and the one that went through the first convolution.
        cost = dry_run(run, self.outline.tensors())
        repeated = frames / min(frames, STEADY_FRAMES) * area / (height * width)
        return Cost(cost.peak_bytes + 2 * latent_bytes, int(cost.operations * repeated))

    def _decode_audio(self, _: bool) -> Cost:
        vae = self.outline.audio_vae
        shape = (1, *self.workload.audio_shape[1:])

        def run() -> Tensor:
            return vae.decode(torch.empty(shape, dtype=vae.dtype, device=_META)).sample

        return dry_run(run, self.outline.tensors())


def num_bytes(module: nn.Module) -> int:
    """Bytes of a module's parameters and buffers, each storage once."""
    return sum({id(t.untyped_storage()): t.untyped_storage().nbytes() for t in _tensors(module)}.values())


def streamed_bytes(modules: Iterable[nn.Module], ahead: int = 0) -> int:
    """The most bytes of weights on the device when layers come and go one at a time.

    A layer's own tensors, and those that stand directly in the modules around it (a block's modulation table); the
    buffers of all modules stay.

    Args:
        modules: What is walked through.
        ahead: Layers that are fetched before their turn.
    """
    modules = list(modules)
    buffers = sum(buffer.nbytes for module in modules for buffer in module.buffers())
    seen: set[int] = set()
    sizes = sorted((size for module in modules for size in _layers(module, 0, seen)), reverse=True)
    return buffers + sum(sizes[: 1 + ahead])


def _layers(module: nn.Module, above: int, seen: set[int]) -> Iterator[int]:
    """Bytes with each layer in turn on the device; a tensor under two names is one layer's."""
    own = [parameter for parameter in module.parameters(recurse=False) if id(parameter) not in seen]
    seen.update(map(id, own))
    total = above + sum(parameter.nbytes for parameter in own)
    children = list(module.children())
    if not children:
        yield total
    for child in children:
        yield from _layers(child, total, seen)


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _cost_of_text(encoder: nn.Module, projection: nn.Module | None, length: int) -> Cost:
    def run() -> Tensor:
        ids = torch.zeros(1, length, dtype=torch.int64, device=_META)
        hidden = encoder(ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        return hidden if projection is None else projection.text_projection(hidden)

    modules = [module for module in (encoder, projection) if module is not None]
    return dry_run(run, (tensor for module in modules for tensor in _tensors(module)))


def _modality(tower: nn.Module, view: Tensor, length: int, rows: int) -> Modality:
    """Inputs of one pass, as the sampling loop makes them."""
    config, batch, like = tower.model.config, rows * view.shape[0], {"dtype": view.dtype, "device": _META}
    timestep = torch.empty(1, device=_META)
    if tower.modality == "video":
        return Modality(torch.cat([view] * rows), timestep, torch.empty(batch, length, config.text_dim, **like))
    text = torch.empty(batch, length, config.cross_attention_input_dim, **like)
    duration = torch.empty(batch, 1, config.global_states_input_dim, **like)
    return Modality(torch.cat([view] * rows), timestep, text, duration)
