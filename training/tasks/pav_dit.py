"""Task ``pav_dit``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ...core.clock import Timeline
from ...core.pair import MODALITIES, Pair
from ...core.types import Modality
from ...models.families.pav_dit import PavDitModel
from ...models.loading import load_models
from ...models.pav_dit.new import TEXT_PARTS, TRAINED, link_tree, read_own_note, write_note
from ...models.pav_dit.stdit import PavDitTransformer
from ...sampling.processes import PROCESSES
from ..exports import holding, write_module
from ..objectives import NoisyBatch, joint_loss
from ..randomness import derived_generator, draw_time
from ..samples import LatentSamples
from ..step import rounded, summed, weights_of
from ..trainable import Part, whole
from . import TRAINING_TASKS
from ._planes import PlanesTask
from .base import LOADING, Sides, Trained

PART = "transformer"


@TRAINING_TASKS.register("pav_dit")
class PavDitTask(PlanesTask):
    """The transformer of PAV-DiT by rectified flow, on the packed latents of its autoencoder.

    Picture and sound share one time; ``objective.times`` says nothing here.
    """

    model: PavDitModel  # once it is loaded

    def load(self, models: Path) -> Sides:
        """All of the model."""
        self.model = load_models(self.find(models), placement=LOADING)
        return self.model.sides

    def make_step(self, sides: Sides, timeline: Timeline) -> PlanesStep:
        """The transformer; it gives all planes their own scale, by which they are stored."""
        transformer, config = self.model.transformer, self.config
        if config.models.gradient_checkpointing:
            transformer.enable_gradient_checkpointing()
        if config.models.compile:
            for block in (*transformer.spatial, *transformer.temporal):
                block.compile()
        return PlanesStep(transformer, config.precision)

    def parts(self, step: nn.Module) -> dict[str, Part]:
        """The transformer."""
        return whole(PART, step.transformer)

    def make_samples(self, sides: Sides, timeline: Timeline, cache: Path) -> LatentSamples:
        """Latents, encoded once, and captions."""
        return LatentSamples(self.config, sides, timeline, cache, moment=self.moment, dropouts=self.dropouts)

    def moment(self, position: int) -> dict[str, Tensor]:
        """One time ``t``, and by side whether it is there, as the weight of its loss."""
        objective, seed = self.config.objective, self.config.seed
        normal = {"mean": objective.logit_mean, "std": objective.logit_std}
        drawn = float(torch.rand(1, generator=derived_generator(seed, "modality", position)))
        chance = objective.modality_dropout / 2
        return {
            "t": torch.tensor(draw_time(objective.draw, seed, position, **normal)),
            "video_weight": torch.tensor(float(drawn >= chance)),
            "audio_weight": torch.tensor(float(drawn < 1 - chance)),
        }

    def dropouts(self, moment: Mapping[str, Tensor]) -> Pair[float]:
        """The chances that texts are those of ""."""
        return Pair(self.config.objective.video_text_dropout, self.config.objective.audio_text_dropout)

    def export(self, folder: Path, trained: Trained) -> None:
        """A model folder that is loaded as it is; what was not trained is the same files."""
        with holding(trained.parameters, trained.state):
            write_module(folder / PART, trained.step.transformer)
        for part in ("autoencoder", *TEXT_PARTS):
            link_tree(self.folder / part, folder / part)
        note = read_own_note(self.folder)
        write_note(folder, note | {TRAINED: sorted({*note.get(TRAINED, ()), PART})})


class PlanesStep(nn.Module):
    """Rectified flow of all planes together: the mean squared error of ε − x0 of each side, summed.

    Args:
        transformer: To be trained.
        precision: ``float32``, ``bf16`` (autocast) or ``pure-bf16``.
    """

    def __init__(self, transformer: PavDitTransformer, precision: str) -> None:
        super().__init__()
        self.transformer, self.precision = transformer, precision

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Losses ``total``, ``video`` and ``audio``.

        Args:
            batch: ``t (B,)``; by side ``…_latents`` and ``…_noise`` ``(B, C, 1, 1, L)`` and ``(B, C, L)``, ``…_text``,
                and ``…_weight (B,)``, 0 where it is absent.
        """
        flow, sides, targets = PROCESSES.get("flow"), {}, {}
        for side in MODALITIES:
            clean, noise = batch[f"{side}_latents"], batch[f"{side}_noise"]
            time = batch["t"].reshape(-1, *[1] * (clean.ndim - 1))
            noisy = flow.add_noise(clean, noise, time)
            sides[side] = Modality(noisy, flow.timestep_scale * batch["t"], batch[f"{side}_text"])
            targets[side] = flow.target(clean, noise, time)
        weights = weights_of(batch)
        rows = torch.stack(list(weights), dim=1) > 0

        def denoise(video: Modality, audio: Modality) -> tuple[Tensor, Tensor]:
            both = (rounded(video), rounded(audio)) if self.precision == "pure-bf16" else (video, audio)
            return self.transformer(*both, rows=rows)

        noisy_batch = NoisyBatch(sides["video"], sides["audio"], targets["video"], targets["audio"])
        with torch.autocast(batch["t"].device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            loss = joint_loss(denoise, noisy_batch, weights)
        return summed({side: getattr(loss, side) for side in MODALITIES})
