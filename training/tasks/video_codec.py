"""Task ``video_codec``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan
from torch import Tensor, nn

from ...core.clock import Timeline
from ..codec_losses import edge_loss
from ..samples import Place, Samples
from ..sections import ObjectiveConfig
from ..statistics import latent_statistics
from . import TRAINING_TASKS
from ._codec import CodecTask, is_trained, learns
from .base import Sides, Trained


@TRAINING_TASKS.register("video_codec")
class VideoCodec(CodecTask):
    """The Wan autoencoder, on windows and squares of pictures."""

    sides = ("video",)
    halves: ClassVar[dict[str, tuple[str, ...]]] = {
        "encoder": ("encoder", "quant_conv"),
        "decoder": ("post_quant_conv", "decoder"),
    }

    def make_step(self, sides: Sides, timeline: Timeline) -> VideoCodecStep:
        """Reconstruction of pictures."""
        return VideoCodecStep(sides.video.codec.vae, self.config.objective, self.config.precision)

    def make_samples(self, sides: Sides, timeline: Timeline, cache: Path) -> Pictures:
        """Windows of clips."""
        return Pictures(self.config, timeline, cache)

    def settle(self, vae: AutoencoderKLWan, trained: Trained) -> None:
        """Note mean and deviation of every latent channel, by which Wan's latents are normalised."""
        mean, std = latent_statistics(vae, self.clips(trained))
        vae.register_to_config(latents_mean=mean, latents_std=std)


class VideoCodecStep(nn.Module):
    """Reconstruction of pictures through the Wan autoencoder.

    ``loss = L1 + edge_weight · L1 of spatial differences + kl_weight · KL(posterior ‖ N(0, 1))``; no KL where the
    encoder does not learn. ``objective.code_noise`` is in units of the normalised latents.

    Args:
        vae: To be trained.
        objective: Weights.
        precision: ``float32`` or ``bf16``.
    """

    def __init__(self, vae: AutoencoderKLWan, objective: ObjectiveConfig, precision: str) -> None:
        super().__init__()
        self.vae, self.objective, self.precision = vae, objective, precision

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Losses ``total``, ``pixels``, ``edges`` and ``kl`` of pictures ``video (B, 3, F, H, W)`` in -1..1."""
        pictures, noise = batch["video"], batch["noise"]
        blur = self.objective.code_noise * noise.new_tensor(self.vae.config.latents_std).view(1, -1, 1, 1, 1)
        with torch.autocast(pictures.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            with torch.set_grad_enabled(learns(self.vae.encoder)):
                posterior = self.vae.encode(pictures).latent_dist
            decoded = self._decode(posterior.mean + (posterior.std + blur) * noise)
        pixels, edges = F.l1_loss(decoded.float(), pictures), edge_loss(decoded.float(), pictures)
        if not is_trained(self.vae.encoder):
            return {"total": pixels + self.objective.edge_weight * edges, "pixels": pixels, "edges": edges}
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(1).mean()
        total = pixels + self.objective.edge_weight * edges + self.objective.kl_weight * kl
        return {"total": total, "pixels": pixels, "edges": edges, "kl": kl}

    def _decode(self, latents: Tensor) -> Tensor:
        """The stock decode before its clamp to -1..1, beyond which no gradient would call the decoder back."""
        chunks: list[Tensor] = []
        hook = self.vae.decoder.register_forward_hook(lambda module, inputs, output: chunks.append(output))
        try:
            self.vae.decode(latents)
        finally:
            hook.remove()
        return torch.cat(chunks, dim=2)


class Pictures(Samples):
    """``video (3, F, H, W)`` in -1..1 of a window that is drawn anew every time, and the posterior's ``noise``."""

    needs_media = True

    def row(self, place: Place) -> dict[str, Tensor]:
        """A window, or a random square of it."""
        frames = self.window(place.source, place.position).video.frames
        pictures = _random_square(frames.permute(3, 0, 1, 2), self.config.data.crop_size, place.generator)
        channels, num_latents, *_ = self.timeline.video_latent_shape
        stride = self.timeline.geometry.spatial_stride
        rows, columns = (size // stride for size in pictures.shape[-2:])
        noise = torch.randn(channels, num_latents, rows, columns, generator=place.generator)
        return {"video": pictures * 2 - 1, "noise": noise}


def _random_square(pictures: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """A square of ``(C, F, H, W)`` at a random place; convolutions learn as well from it as from the whole."""
    if not side:
        return pictures
    top, left = (int(torch.randint(size - side + 1, (1,), generator=generator)) for size in pictures.shape[-2:])
    return pictures[..., top : top + side, left : left + side]
