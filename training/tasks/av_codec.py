"""Task ``av_codec``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.clock import Timeline
from ...core.pair import MODALITIES, Pair
from ...models.families.pav_dit import load_autoencoder
from ...models.parts import AudioParts, VideoParts
from ...models.pav_dit.codec import Face
from ...models.pav_dit.mdsa import PavDitAutoencoder
from ...models.pav_dit.new import TRAINED, write_note
from ..adversarial import Critics, critics_loss, deceiving_loss, feature_loss
from ..codec_losses import edge_loss
from ..exports import holding, write_module
from ..samples import Place, Samples
from ..sections import ObjectiveConfig
from ..statistics import plane_statistics
from ..trainable import Part, whole
from . import TRAINING_TASKS
from ._planes import PlanesTask
from .base import LOADING, Sides, Trained

CRITIC = "critic"
STATISTICS_CLIPS = 64
# Of the absolute difference, as the paper has it.
DIFFERENCE_WEIGHT = 4.0


@TRAINING_TASKS.register("av_codec")
class AVCodec(PlanesTask):
    """The autoencoder of PAV-DiT, on windows of clips; its critics learn in turn with it where they are named."""

    @property
    def alternates(self) -> bool:
        """Whether there are critics."""
        return CRITIC in self.config.trainable

    def load(self, models: Path) -> Sides:
        """Both faces of the autoencoder; captions are not read."""
        whole_codec = load_autoencoder(self.find(models), LOADING)
        made = {"video": VideoParts, "audio": AudioParts}
        return Pair(
            **{side: made[side](None, Face(whole_codec, side), None, LOADING, self.folder.name) for side in made}
        )

    def make_step(self, sides: Sides, timeline: Timeline) -> AVCodecStep:
        """Reconstruction of picture and sound."""
        autoencoder, config = sides.video.codec.whole.model, self.config
        critic = None
        if CRITIC in config.trainable:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(config.seed)
                channels = {side: autoencoder.media_shape(side)[0] for side in MODALITIES}
                critic = Critics(channels, config.objective.critic_channels)
        if config.models.gradient_checkpointing:
            autoencoder.enable_gradient_checkpointing()
        if config.models.compile:
            for stream in autoencoder.streams.values():
                for block in (*stream.encoder.blocks, *stream.decoder.blocks):
                    block.compile()
        return AVCodecStep(autoencoder, critic, config.objective, config.precision)

    def parts(self, step: nn.Module) -> dict[str, Part]:
        """The autoencoder, and its critics."""
        return whole("av_codec", step.autoencoder) | {CRITIC: Part(CRITIC, partial(_critics, step))}

    def idle(self, step: nn.Module) -> Iterator[nn.Parameter]:
        """Attention that the autoencoder's configuration leaves out."""
        model = step.autoencoder
        for side in MODALITIES:
            planes = model.planes[side]
            unused = [] if model.fusing.over_scales else [planes.still, planes.motion]
            unused += [] if model.fusing.across else [planes.across]
            unused += [] if model.fusing.in_blocks else [model.blocks[side]]
            for module in unused:
                yield from module.parameters()

    def turn(self, step: nn.Module, learning: Mapping[str, nn.Parameter], number: int) -> None:
        """From ``objective.critic_start`` on every other step is the critics'."""
        if step.critic is None:
            return
        start, alone = self.config.objective.critic_start, all(name.startswith(f"{CRITIC}.") for name in learning)
        step.is_judged = number >= start
        step.critics_turn = alone or (step.is_judged and (number - start) % 2 == 1)
        for name, parameter in learning.items():
            parameter.requires_grad_(name.startswith(f"{CRITIC}.") == step.critics_turn)

    def make_samples(self, sides: Sides, timeline: Timeline, cache: Path) -> Clips:
        """Windows of clips."""
        return Clips(self.config, timeline, cache, sides.video.codec.whole.model)

    def export(self, folder: Path, trained: Trained) -> None:
        """The autoencoder, with the statistics of its latents."""
        model = trained.step.autoencoder
        before = model.latent_means.clone(), model.latent_deviations.clone()
        own = {name: value for name, value in trained.parameters.items() if not name.startswith(f"{CRITIC}.")}
        with holding(own, trained.state):
            count = min(STATISTICS_CLIPS, self.config.data.num_clips or STATISTICS_CLIPS)
            clips = (trained.batch_at(position) for position in range(count))
            means, deviations = plane_statistics(model, clips, drawn=self.config.data.posterior == "sample")
            model.latent_means.copy_(means)
            model.latent_deviations.copy_(deviations)
            write_module(folder / "autoencoder", model)
            write_note(folder, {TRAINED: ["autoencoder"]})
        # The noise on latents is in units of these: what is measured now must not change the run that goes on.
        model.latent_means.copy_(before[0])
        model.latent_deviations.copy_(before[1])


def _critics(step: nn.Module, rest: str) -> Iterable[nn.Parameter]:
    if rest:
        raise ValueError(rest)
    return step.critic.parameters()


class AVCodecStep(nn.Module):
    """Reconstruction of picture and mel images through the autoencoder (PAV-DiT eq. 10–12).

    ``loss = Σ 0.5·(4·L1 + edge_weight·edges + kl_weight·KL + critic_weight·(deceiving + feature_weight·features))``
    over picture and sound. Edges stand in the place of a perceptual loss: of pictures differences between neighbouring
    pixels, of sounds between neighbouring columns. Stage 1 has neither KL nor critics.

    Args:
        autoencoder: To be trained.
        critic: Its critics; None for none.
        objective: Weights.
        precision: ``float32`` or ``bf16``.
    """

    def __init__(
        self, autoencoder: PavDitAutoencoder, critic: Critics | None, objective: ObjectiveConfig, precision: str
    ) -> None:
        super().__init__()
        self.autoencoder, self.critic, self.objective, self.precision = autoencoder, critic, objective, precision
        self.is_judged, self.critics_turn = critic is not None, False

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Losses of ``video (B, 3, F, H, W)`` and ``audio (B, 2, T, N, K)`` in about −1…1.

        Args:
            batch: Beside those by side ``…_noise (B, C, L)`` of the posterior, and ``…_image (B,)`` for the critics.
        """
        media = Pair(batch["video"], batch["audio"])
        with torch.autocast(media.video.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.critics_turn):
                moments = self.autoencoder.encode(*media)
                decoded = self.autoencoder.decode(
                    **{side: self._drawn(side, moments[side], batch) for side in MODALITIES}
                )
            judged = {}
            if self.is_judged or self.critics_turn:
                judged = {side: self._judged(side, media[side], decoded[side], batch) for side in MODALITIES}
        if self.critics_turn:
            return {"total": sum(judged[side][CRITIC] for side in MODALITIES), **_named(judged)}
        losses = {side: self._reconstruction(side, media[side], decoded[side].float()) for side in MODALITIES}
        if self.objective.kl_weight and self.autoencoder.bound == "gaussian":
            for side in MODALITIES:
                losses[side]["kl"] = self._divergence(moments[side])
        for side, found in judged.items():
            losses[side] |= found
        weights = self.objective
        factors = {
            "difference": DIFFERENCE_WEIGHT, "edges": weights.edge_weight, "kl": weights.kl_weight,
            "deceiving": weights.critic_weight, "features": weights.critic_weight * weights.feature_weight,
        }  # fmt: skip
        total = sum(0.5 * factors[name] * value for found in losses.values() for name, value in found.items())
        return {"total": total, **_named(losses)}

    def _drawn(self, side: str, moments: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Latents as the decoder meets them: a draw from the posterior, with further noise in normalised units."""
        model, noise = self.autoencoder, batch[f"{side}_noise"]
        raw = model.latents(moments)
        if model.bound == "gaussian":
            raw = raw + model.posterior(moments).std[:, :, 0] * noise
        if self.objective.code_noise:
            raw = raw + self.objective.code_noise * (
                model.denormalise(side, noise) - model.denormalise(side, 0 * noise)
            )
        return raw

    @staticmethod
    def _reconstruction(side: str, media: Tensor, decoded: Tensor) -> dict[str, Tensor]:
        if side == "video":
            edges = edge_loss(decoded, media)
        else:
            # Columns of all images one after the other are time.
            edges = F.l1_loss(*(x.movedim(2, -2).flatten(-2).diff(dim=-1) for x in (decoded, media)))
        return {"difference": F.l1_loss(decoded, media), "edges": edges}

    def _divergence(self, moments: Tensor) -> Tensor:
        """From N(0, 1), summed over channels."""
        posterior = self.autoencoder.posterior(moments.float())
        return 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).sum(1).mean()

    def _judged(self, side: str, media: Tensor, decoded: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        image = batch[f"{side}_image"]
        true, made = (self.critic(side, each, image) for each in (media, decoded))
        if self.critics_turn:
            return {CRITIC: critics_loss(true, made)}
        return {"deceiving": deceiving_loss(made), "features": feature_loss(true, made)}


def _named(losses: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{side}_{name}": value for side, found in losses.items() for name, value in found.items()}


class Clips(Samples):
    """``video``, ``audio`` as mel images, noise of their posteriors, and an image of each for the critics.

    Args:
        config: The run.
        timeline: Extent of a window.
        cache: Folder for clips.
        autoencoder: Says how a sound becomes images.
    """

    needs_media = True

    def __init__(self, config: object, timeline: Timeline, cache: Path, autoencoder: PavDitAutoencoder) -> None:
        super().__init__(config, timeline, cache)
        self.mel, self.grid = autoencoder.mel, autoencoder.grid
        self.shapes = {side: autoencoder.media_shape(side) for side in MODALITIES}
        self.flat = autoencoder.config.latent_channels, autoencoder.grid.length

    def row(self, place: Place) -> dict[str, Tensor]:
        """A window that is drawn anew every time."""
        clip = self.window(place.source, place.position)
        pictures = 2 * clip.video.frames.permute(3, 0, 1, 2) - 1
        row = {"video": pictures.contiguous(), "audio": self.mel.images(clip.audio.waveform)}
        for side in MODALITIES:
            row[f"{side}_noise"] = torch.randn(self.flat, generator=place.generator)
            row[f"{side}_image"] = torch.randint(self.shapes[side][1], (), generator=place.generator)
        return row

    def empty_row(self) -> dict[str, Tensor]:
        """Of any clip."""
        row = {side: torch.empty(shape, device="meta") for side, shape in self.shapes.items()}
        row |= {f"{side}_noise": torch.empty(self.flat, device="meta") for side in MODALITIES}
        return row | {f"{side}_image": torch.empty((), dtype=torch.int64, device="meta") for side in MODALITIES}
