"""The audio codec: diffusers' Oobleck autoencoder between stereo waveforms and Stable Audio's latents."""

from __future__ import annotations

import logging
import math
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from ...core.errors import GeometryError, IncompatibleWeightsError, InputError
from ...core.progress import SILENT, Progress
from ...core.types import require_finite
from ..counting import counted
from ..execution import execution_device
from . import CODECS

if TYPE_CHECKING:
    from diffusers import AutoencoderOobleck

logger = logging.getLogger(__name__)

# Hz: no recorder has more than 768 000; models of tests have as few as 100.
LOWEST_RATE, HIGHEST_RATE = 1, 768_000


def idle_units(vae: AutoencoderOobleck) -> list[nn.Module]:
    """Residual units whose last convolution is zero: they add nothing, so they are exactly the identity."""
    from diffusers.models.autoencoders.autoencoder_oobleck import OobleckResidualUnit

    return [
        unit
        for unit in vae.modules()
        if isinstance(unit, OobleckResidualUnit) and not (unit.conv2.weight_g.any() or unit.conv2.bias.any())
    ]


def skip_idle_units(vae: AutoencoderOobleck) -> None:
    """Leave out the work of units and full-rate channels that add nothing; weights, names and result stay the same."""
    idle = idle_units(vae)
    for unit in idle:
        unit.forward = _unchanged
    first, last = vae.encoder.block[0], vae.decoder.block[-1]
    if {first.res_unit1, first.res_unit2, first.res_unit3} <= set(idle):
        _narrow(vae.encoder.conv1, first.snake1, first.conv1)
    if {last.res_unit1, last.res_unit2, last.res_unit3} <= set(idle):
        _narrow(last.conv_t1, vae.decoder.snake1, vae.decoder.conv2)


def _narrow(before: nn.Module, snake: nn.Module, after: nn.Conv1d) -> None:
    """Compute only the first channels between two convolutions, where the others are zero throughout.

    Snake keeps zero, so nothing comes of them.
    """
    with torch.no_grad():
        weight = torch._weight_norm(before.weight_v, before.weight_g, 0)
    outgoing = weight.transpose(0, 1) if isinstance(before, nn.ConvTranspose1d) else weight
    active = outgoing.flatten(1).any(1) | (before.bias != 0)
    count = int(active.nonzero().max()) + 1 if active.any() else 1
    if count == len(active):
        return

    # Calling a module first brings its normalised weight up to date, and then comes here.
    def incoming(hidden_state: Tensor) -> Tensor:
        if isinstance(before, nn.ConvTranspose1d):
            return nn.functional.conv_transpose1d(
                hidden_state, before.weight[:, :count], before.bias[:count], before.stride, before.padding
            )
        return nn.functional.conv1d(
            hidden_state, before.weight[:count], before.bias[:count], before.stride, before.padding
        )

    def activated(hidden_state: Tensor) -> Tensor:
        alpha, beta = (x[:, :count].exp() if snake.logscale else x[:, :count] for x in (snake.alpha, snake.beta))
        return hidden_state + (beta + 1e-9).reciprocal() * torch.sin(alpha * hidden_state).pow(2)

    def collected(hidden_state: Tensor) -> Tensor:
        return nn.functional.conv1d(hidden_state, after.weight[:, :count], after.bias, after.stride, after.padding)

    before.forward, snake.forward, after.forward = incoming, activated, collected


def _unchanged(hidden_state: Tensor) -> Tensor:
    return hidden_state


@CODECS.register("oobleck")
class OobleckCodec(nn.Module):
    """Waveform ``(channels, samples)`` ⇄ latents ``(1, C, L)``. Stable Audio's tower works on the unscaled latents.

    It can be moved in and out as a whole only: diffusers marks the class as unfit for group offload, and its weight
    normalisation reads the weights before accelerate's sequential hooks have brought them.

    Args:
        vae: The Stable Audio folder's ``AutoencoderOobleck``.

    Raises:
        IncompatibleWeightsError: the config's rate is none of a sound.
    """

    stock: ClassVar[str] = "diffusers.AutoencoderOobleck"
    modality: ClassVar[str] = "audio"

    def __init__(self, vae: AutoencoderOobleck) -> None:
        super().__init__()
        if not LOWEST_RATE <= vae.config.sampling_rate <= HIGHEST_RATE:
            raise IncompatibleWeightsError(
                "the audio codec has a rate that no sound has",
                got=f"{vae.config.sampling_rate} Hz",
                expected=f"{LOWEST_RATE} to {HIGHEST_RATE} Hz",
            )
        self.vae = vae
        skip_idle_units(vae)

    @property
    def latent_channels(self) -> int:
        """C of a latent (64 for Stable Audio Open)."""
        return self.vae.config.decoder_input_channels

    @property
    def context(self) -> int:
        """Latents to either side that a decoded latent's samples depend on: 10 of Stable Audio Open's."""
        # The first convolution, then of each block what is stretched and three units of dilation 1, 3 and 9.
        reach, rate = Fraction(3), 1
        for stride in reversed(self.vae.config.downsampling_ratios):
            reach += Fraction(1, rate)
            rate *= stride
            reach += Fraction(3 * (1 + 3 + 9), rate)
        return math.ceil(reach + Fraction(3, rate))

    @property
    def channels(self) -> int:
        """Channels of a waveform (2: stereo)."""
        return self.vae.config.audio_channels

    @property
    def hop(self) -> int:
        """Samples per latent (2 048)."""
        return self.vae.hop_length

    @property
    def sample_rate(self) -> int:
        """Hz (44 100)."""
        return self.vae.config.sampling_rate

    def encode(
        self,
        waveform: Tensor,
        *,
        sample: bool = False,
        generator: torch.Generator | None = None,
        progress: Progress = SILENT,
    ) -> Tensor:
        """Encode a waveform; zeros are appended up to whole latents, and mono is copied to every channel.

        Args:
            waveform: ``(channels, samples)`` at the codec's sample rate, float in -1..1.
            sample: Draw from the posterior, as in training, instead of taking its mode.
            generator: For the draw.
            progress: Told, and asked for a stop, after each block.

        Returns:
            ``(1, C, ceil(samples / hop))`` float32 on the CPU.

        Raises:
            InputError: not a waveform, no sound in it, or more channels than the codec has.
            NonFiniteError: NaN or infinity in it.
        """
        self._require_waveform(waveform)
        num_samples = waveform.shape[1]
        padding = -num_samples % self.hop
        if padding:
            logger.info("the sound has %d samples; %d zeros are appended to fill the last latent", num_samples, padding)
        padded = nn.functional.pad(waveform.expand(self.channels, num_samples), (0, padding))[None]
        blocks = self.vae.encoder.block
        with torch.no_grad(), counted(blocks, "encode", len(blocks), progress):
            posterior = self.vae.encode(padded.to(execution_device(self.vae), self.vae.dtype)).latent_dist
            latents = posterior.sample(generator) if sample else posterior.mode()
        return latents.to("cpu", torch.float32)

    def decode(self, latents: Tensor, *, raw: bool = False, progress: Progress = SILENT) -> Tensor:
        """Decode latents to sound. Nothing is clipped: values beyond ±1 are for the muxer to level.

        Args:
            latents: ``(1, C, L)``.
            raw: They are in the VAE's own space, which here is the same.
            progress: Told, and asked for a stop, after each block.

        Returns:
            ``(channels, L · hop)`` float32 on the CPU.

        Raises:
            GeometryError: a shape that is not this codec's.
            NonFiniteError: NaN or infinity in the latents, or the codec overflowed.
        """
        if (
            latents.ndim != 3
            or latents.shape[0] != 1
            or latents.shape[1] != self.latent_channels
            or not latents.shape[2]
        ):
            raise GeometryError(
                "the audio latent does not fit the codec",
                got=tuple(latents.shape),
                expected=f"(1, {self.latent_channels}, L)",
            )
        require_finite("the audio latent", latents, "Sample again with other settings; a higher precision often helps.")
        blocks = self.vae.decoder.block
        with torch.no_grad(), counted(blocks, "decode", len(blocks), progress):
            sound = self.vae.decode(latents.to(execution_device(self.vae), self.vae.dtype)).sample
        waveform = sound[0].to("cpu", torch.float32)
        require_finite("the decoded sound", waveform, "Decode in float32.")
        return waveform

    def to_raw(self, latents: Tensor) -> Tensor:
        """Normalised to the VAE's own latents: the same, Oobleck's are not scaled."""
        return latents

    def from_raw(self, latents: Tensor) -> Tensor:
        """The VAE's own latents to normalised ones: the same."""
        return latents

    def _require_waveform(self, waveform: Tensor) -> None:
        if waveform.ndim != 2 or not waveform.is_floating_point():
            raise InputError(
                "the sound is not a waveform",
                got=f"{tuple(waveform.shape)} {waveform.dtype}",
                expected="(channels, samples), floating point",
            )
        if waveform.shape[0] not in (1, self.channels):
            raise InputError(
                "the sound has the wrong number of channels",
                got=waveform.shape[0],
                expected=f"1 or {self.channels}",
                remedy="Mix it down first.",
            )
        if not waveform.shape[1]:
            raise InputError("the sound is empty", got="0 samples", expected="at least 1")
        require_finite("the sound", waveform)
