"""Classifier-free guidance with one scale per modality (BridgeDiT eq. 9–10) around a joint denoiser.

Beside it modality guidance, which is not the paper's but LTX-2's: each modality is pushed away from what it would be if
it did not know the other.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import InputError, require_choice
from ..core.protocols import Denoiser
from ..core.types import Conditioning, Modality, ModalityConditioning

_log = logging.getLogger(__name__)

BATCHING = ("auto", "batched", "sequential")
# "auto" batches the two passes while the video latent has at most this many positions (B·T·H·W; Wan makes one token of
# four). A rule of thumb: small inputs leave a card idle and gain from one forward of two rows, large ones fill it with
# one row and save half the activation memory by going one after the other. 832×480×81 has 131 040: sequential.
MAX_BATCHED_POSITIONS = 32_768


@dataclass(frozen=True)
class Guidance:
    """How strongly each modality is pushed away from its negative caption.

    Args:
        video_scale: w_V. At 1 or below guidance is off for video.
        audio_scale: w_A. At 1 or below guidance is off for audio. When both are off there is one pass instead of two.
        batching: ``batched`` runs both passes as one forward of [negative, positive], ``sequential`` one after the
            other (same result, half the activation memory), ``auto`` decides by the size of the video latent.
        video_modality_scale: m_V: how far the video is pushed from what it would be without the sound. At 1 or below
            this is off; else it costs one more pass of the video tower a step.
        audio_modality_scale: m_A: the same for the audio and without the picture.

    Raises:
        InputError: a scale that is negative or not finite, an unknown batching.
    """

    video_scale: float = 6.0
    audio_scale: float = 6.0
    batching: str = "auto"
    video_modality_scale: float = 1.0
    audio_modality_scale: float = 1.0

    def __post_init__(self) -> None:
        scales = {
            "video guidance": self.video_scale,
            "audio guidance": self.audio_scale,
            "video modality": self.video_modality_scale,
            "audio modality": self.audio_modality_scale,
        }
        for name, scale in scales.items():
            if not math.isfinite(scale) or scale < 0:
                raise InputError(
                    f"the {name} scale cannot be used",
                    got=scale,
                    expected="a finite number from 0; 1 or less turns guidance off",
                )
        require_choice("guidance batching", self.batching, BATCHING)


@dataclass(frozen=True)
class View:
    """What a tower sees of its modality at one step, before the text is added.

    Args:
        latents: ``(B, …)`` scaled model input on the model's device.
        timestep: ``(1,)``.
    """

    latents: Tensor
    timestep: Tensor


class GuidedDenoiser:
    """A joint denoiser with guidance folded in: ``u + w·(c − u) + (m − 1)·(c − s)`` per modality, in few passes.

    Both rows of both modalities pass the bridges, so the unconditional row u is the one where every caption is
    negative. A modality whose guidance is off takes its conditional row c; its caption in the other row is the negative
    one if there is one, else the positive. s is the conditional prediction of this modality alone, where bridges do not
    act; it is only computed where m is over 1 and both modalities are generated.

    Args:
        denoiser: The joint model.
        conditioning: Already on the model's device, with the batch of the latents; only generated modalities.
        guidance: Scales and batching.
        num_positions: Video latent positions B·T·H·W, 0 without video; what ``auto`` looks at.

    Raises:
        InputError: guidance is on for a modality without a negative embedding; when called, a tower is missing.
    """

    def __init__(
        self, denoiser: Denoiser, conditioning: Conditioning, guidance: Guidance, *, num_positions: int
    ) -> None:
        self._denoiser, self._guidance = denoiser, guidance
        _require_negative("video", conditioning.video, guidance.video_scale)
        _require_negative("audio", conditioning.audio, guidance.audio_scale)
        self._guided = (conditioning.video is not None and guidance.video_scale > 1) or (
            conditioning.audio is not None and guidance.audio_scale > 1
        )
        self._positive = _rows(conditioning, "positive")
        self._passes = [self._positive]
        if self._guided:
            self._passes = [_rows(conditioning, "negative"), self._positive]
            if _batched(guidance.batching, num_positions):
                self._passes = [_joined(*self._passes)]

    def __call__(self, video: View | None, audio: View | None) -> tuple[Tensor | None, Tensor | None]:
        """Guided predictions ``(B, …)``, float32 on the CPU, where the solvers work."""
        outputs = [self._denoiser(_modality(video, rows.video), _modality(audio, rows.audio)) for rows in self._passes]
        videos, audios = zip(*outputs, strict=True)
        g, both = self._guidance, video is not None and audio is not None
        alone_video = self._alone(video, None)[0] if both and g.video_modality_scale > 1 else None
        alone_audio = self._alone(None, audio)[1] if both and g.audio_modality_scale > 1 else None
        return (
            video and self._combine("video", videos, g.video_scale, alone_video, g.video_modality_scale),
            audio and self._combine("audio", audios, g.audio_scale, alone_audio, g.audio_modality_scale),
        )

    def _alone(self, video: View | None, audio: View | None) -> tuple[Tensor | None, Tensor | None]:
        """The conditional prediction of one modality that does not know the other."""
        rows = self._positive
        return self._denoiser(_modality(video, rows.video), _modality(audio, rows.audio))

    def _combine(
        self, name: str, outputs: tuple[Tensor | None, ...], scale: float, alone: Tensor | None, modality_scale: float
    ) -> Tensor:
        """BridgeDiT eq. 9 (video) and eq. 10 (audio), and LTX-2's term for the other modality."""
        if outputs[0] is None:
            raise InputError(
                f"the model predicts no {name} but {name} noise is given",
                expected=f"a model with a tower for {name}",
                remedy=f"Join a {name} tower to the model, or generate without {name}.",
            )
        rows = torch.cat([output.to("cpu", torch.float32) for output in outputs])
        result = positive = rows
        if self._guided:
            negative, positive = rows.chunk(2)
            result = positive if scale <= 1 else negative + scale * (positive - negative)
        if alone is not None:
            result = result + (modality_scale - 1) * (positive - alone.to("cpu", torch.float32))
        return result


def _require_negative(name: str, conditioning: ModalityConditioning | None, scale: float) -> None:
    if conditioning is not None and scale > 1 and conditioning.negative is None:
        raise InputError(
            f"{name} guidance needs a negative text embedding",
            got=f"scale {scale:g} and no negative",
            expected="a negative embedding, or a scale of at most 1",
            remedy="Encode a negative caption (it may be empty) or set the scale to 1.",
        )


def _batched(batching: str, num_positions: int) -> bool:
    if batching != "auto":
        return batching == "batched"
    batched = _fits_one_batch(num_positions)
    _log.info(
        "guidance batching: auto picks %s (%d video latent positions, batched up to %d)",
        "batched" if batched else "sequential",
        num_positions,
        MAX_BATCHED_POSITIONS,
    )
    return batched


def _fits_one_batch(num_positions: int) -> bool:
    return num_positions <= MAX_BATCHED_POSITIONS


def is_small(video_shape: tuple[int, ...] | None) -> bool:
    """Whether ``auto`` runs both guidance passes as one batch.

    Args:
        video_shape: Latent ``(B, C, T, H, W)``, or None without video.
    """
    return video_shape is None or _fits_one_batch(math.prod(video_shape) // video_shape[1])


def _rows(conditioning: Conditioning, which: str) -> Conditioning:
    """The texts of one pass, as ``positive``."""

    def pick(modality: ModalityConditioning | None) -> ModalityConditioning | None:
        if modality is None:
            return None
        negative = which == "negative" and modality.negative is not None
        return ModalityConditioning(modality.negative if negative else modality.positive, duration=modality.duration)

    return Conditioning(pick(conditioning.video), pick(conditioning.audio))


def _joined(first: Conditioning, second: Conditioning) -> Conditioning:
    """Both passes as one batch, unconditional rows first, as the official system orders them."""

    def join(one: ModalityConditioning | None, two: ModalityConditioning | None) -> ModalityConditioning | None:
        if one is None:
            return None
        duration = None if one.duration is None else torch.cat([one.duration, two.duration])
        return ModalityConditioning(torch.cat([one.positive, two.positive]), duration=duration)

    return Conditioning(join(first.video, second.video), join(first.audio, second.audio))


def _modality(view: View | None, rows: ModalityConditioning | None) -> Modality | None:
    """Latents repeated to the rows of this pass, with their text."""
    if view is None:
        return None
    copies = rows.positive.shape[0] // view.latents.shape[0]
    latents = torch.cat([view.latents] * copies)
    return Modality(latents, view.timestep, rows.positive, rows.duration)
