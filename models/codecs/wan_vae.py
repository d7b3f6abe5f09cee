"""The video codec: diffusers' Wan autoencoder between pictures and the video tower's normalised latents."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from ...core.clock import nearest_frames
from ...core.errors import GeometryError, IncompatibleWeightsError, InputError, require_choice
from ...core.progress import SILENT, Progress
from ...core.types import require_finite
from ..counting import counted
from ..execution import execution_device
from . import CODECS
from ._convolutions import quick_convolutions
from ._tiles import OWN, Tiles, cutting, pieces
from ._to_host import frames_to_host

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan

logger = logging.getLogger(__name__)

TILING = ("auto", "on", "off")
# ``auto`` decodes the published system's picture in one piece and tiles what is larger.
LARGEST_UNTILED = 832 * 480
# Rounding in a resize may leave 0..1 by a hair; 0..255 must not pass.
_RANGE_SLACK = 0.05


@CODECS.register("wan_vae")
class WanVAECodec(nn.Module):
    """Pictures ``(F, H, W, 3)`` in 0..1 ⇄ normalised latents ``(1, C, T, H/8, W/8)``.

    The tower works on ``(z − mean) / std`` with the statistics in the VAE's config.

    Tiling: ``off`` runs the whole picture at once, ``on`` runs overlapping tiles of 256 pixels and blends them
    (a picture no larger than one tile stays whole), ``auto`` tiles pictures larger than 832×480 and those that
    run out of memory, and logs that it does. Tiles see less of the picture, so the result differs a little. The planner
    asks for ``N tiles``, which overlap as much and are as large as fits.

    Args:
        vae: The Wan folder's ``AutoencoderKLWan``.

    Raises:
        IncompatibleWeightsError: the config's statistics do not match its channels, or its factors its layers.
    """

    stock: ClassVar[str] = "diffusers.AutoencoderKLWan"
    modality: ClassVar[str] = "video"

    def __init__(self, vae: AutoencoderKLWan) -> None:
        super().__init__()
        config = vae.config
        if not len(config.latents_mean) == len(config.latents_std) == config.z_dim:
            raise IncompatibleWeightsError(
                "the video VAE's latent statistics do not match its channels",
                got=f"{len(config.latents_mean)} means and {len(config.latents_std)} deviations",
                expected=f"{config.z_dim} of each",
            )
        strides = 2 ** sum(config.temperal_downsample), 2 ** (len(config.dim_mult) - 1) * (config.patch_size or 1)
        if strides != (config.scale_factor_temporal, config.scale_factor_spatial):
            raise IncompatibleWeightsError(
                "the video VAE's scale factors are not what its layers do",
                got=f"{config.scale_factor_temporal} in time and {config.scale_factor_spatial} in space",
                expected=f"{strides[0]} and {strides[1]}",
            )
        self.vae = vae

    @property
    def latent_channels(self) -> int:
        """C of a latent (16 for Wan 2.1)."""
        return self.vae.config.z_dim

    @property
    def temporal_stride(self) -> int:
        """Frames per latent frame after the first (4)."""
        return self.vae.config.scale_factor_temporal

    @property
    def spatial_stride(self) -> int:
        """Pixels per latent pixel (8)."""
        return self.vae.config.scale_factor_spatial

    def encode(
        self,
        frames: Tensor,
        *,
        sample: bool = False,
        generator: torch.Generator | None = None,
        tiling: str = "auto",
        progress: Progress = SILENT,
    ) -> Tensor:
        """Encode pictures.

        Args:
            frames: ``(F, H, W, 3)`` float in 0..1, F of the form 4k+1.
            sample: Draw from the posterior, as in training, instead of taking its mode.
            generator: For the draw.
            tiling: ``auto``, ``on``, ``off`` or ``N tiles``.
            progress: Told, and asked for a stop, after each latent frame.

        Returns:
            Normalised latents ``(1, C, T, H/8, W/8)`` float32 on the CPU.

        Raises:
            GeometryError: a number of frames or a size that the codec cannot represent.
            InputError: values outside 0..1, or an unknown tiling.
            NonFiniteError: NaN or infinity in the pictures, or the codec overflowed.
        """
        self._require_frames(frames)
        pictures = (frames.permute(3, 0, 1, 2)[None] * 2 - 1).to(execution_device(self.vae), self.vae.dtype)

        def run() -> Tensor:
            posterior = self.vae.encode(pictures).latent_dist
            return posterior.sample(generator) if sample else posterior.mode()

        num_latents = (frames.shape[0] - 1) // self.temporal_stride + 1
        extent = (num_latents, frames.shape[1] // self.spatial_stride, frames.shape[2] // self.spatial_stride)
        raw = self._tiled("encode", run, extent, tiling, progress)
        require_finite("the encoded video", raw, "Encode in float32 or bfloat16.")
        return self.from_raw(raw.to("cpu", torch.float32))

    def decode(
        self, latents: Tensor, *, raw: bool = False, tiling: str = "auto", progress: Progress = SILENT
    ) -> Tensor:
        """Decode latents to pictures.

        The display range is the stock VAE's: it clamps to -1..1, which becomes 0..1. How many values lie on its
        ends is logged at debug level.

        Args:
            latents: ``(1, C, T, H, W)``, normalised.
            raw: They are in the VAE's own space instead, as :meth:`to_raw` gives them.
            tiling: ``auto``, ``on``, ``off`` or ``N tiles``.
            progress: Told, and asked for a stop, after each latent frame.

        Returns:
            ``(F, H·8, W·8, 3)`` float32 on the CPU in 0..1, F = 4(T − 1) + 1.

        Raises:
            GeometryError: a shape that is not this codec's.
            InputError: an unknown tiling.
            NonFiniteError: NaN or infinity in the latents, or the codec overflowed.
        """
        self._require_latents(latents)
        latents = latents.to(execution_device(self.vae))
        own = (latents if raw else self.to_raw(latents)).to(self.vae.dtype)

        def run() -> Tensor:
            return self.vae.decode(own).sample

        pictures = self._tiled("decode", run, tuple(latents.shape[2:]), tiling, progress)
        frames = pictures[0].permute(1, 2, 3, 0).to("cpu", torch.float32).div_(2).add_(0.5).clamp_(0, 1)
        require_finite("the decoded video", frames, "Decode in float32 or bfloat16.")
        if logger.isEnabledFor(logging.DEBUG):
            ends = ((frames == 0) | (frames == 1)).float().mean().item()
            logger.debug("%.2f %% of the decoded values lie on the ends of the display range", 100 * ends)
        return frames

    def to_raw(self, latents: Tensor) -> Tensor:
        """Normalised latents to the VAE's own, ``z · std + mean``, in float32."""
        mean, std = self._statistics(latents)
        return latents.to(torch.float32) * std + mean

    def from_raw(self, latents: Tensor) -> Tensor:
        """The VAE's own latents to normalised ones, ``(z − mean) / std``, in float32."""
        mean, std = self._statistics(latents)
        return (latents.to(torch.float32) - mean) / std

    def _statistics(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        config = self.vae.config
        mean, std = (
            torch.tensor(values, dtype=torch.float32, device=latents.device).view(1, -1, 1, 1, 1)
            for values in (config.latents_mean, config.latents_std)
        )
        return mean, std

    def tiles(self, tiling: str, height: int, width: int) -> Tiles | None:
        """How a picture is cut.

        Args:
            tiling: ``on``, ``off`` or ``N tiles``.
            height: In latent pixels.
            width: Likewise.

        Returns:
            None where it stays whole.

        Raises:
            InputError: another word.
        """
        count = pieces(tiling)
        if count is not None:
            return Tiles.own(self.vae).cut(count, height, width)
        require_choice("tiling", tiling, TILING)
        return Tiles.own(self.vae) if tiling == OWN else None

    def _tiled(
        self, stage: str, run: Callable[[], Tensor], extent: tuple[int, int, int], tiling: str, progress: Progress
    ) -> Tensor:
        """Run the stock encode or decode whole or in tiles; ``extent`` is the latent's (frames, height, width)."""
        _, height, width = extent
        asked, size = tiling, (width * self.spatial_stride, height * self.spatial_stride)
        if tiling == "auto":
            tiling = OWN if size[0] * size[1] > LARGEST_UNTILED else "off"
            if tiling == OWN:
                logger.info("tiling auto: %s of %d×%d pixels in tiles", stage, *size)
        try:
            return self._run(stage, run, extent, tiling, progress)
        except torch.cuda.OutOfMemoryError:
            if asked != "auto" or tiling == OWN:
                raise
        # Outside the except block, so that the failed attempt's tensors are free by now.
        logger.warning("tiling auto: %s of %d×%d pixels ran out of memory whole, now in tiles", stage, *size)
        return self._run(stage, run, extent, OWN, progress)

    def _run(
        self, stage: str, run: Callable[[], Tensor], extent: tuple[int, int, int], tiling: str, progress: Progress
    ) -> Tensor:
        vae, tiles, encodes = self.vae, self.tiles(tiling, *extent[1:]), stage == "encode"
        total = extent[0] * (tiles.count(*extent[1:]) if tiles else 1)
        # The stock VAE calls its encoder or decoder once a latent frame and tile.
        part = vae.encoder if encodes else vae.decoder
        # The stock encoder cuts what it has folded into patches.
        ratio = self.spatial_stride // ((vae.config.patch_size or 1) if encodes else 1)
        try:
            watched = counted([part], stage, total, progress), frames_to_host(vae.decoder), quick_convolutions(part)
            with torch.no_grad(), watched[0], watched[1], watched[2], cutting(vae, tiles, ratio):
                return run()
        finally:
            # The stock VAE empties its feature cache when it ends, but not when it is stopped on the way.
            vae.clear_cache()

    def _require_frames(self, frames: Tensor) -> None:
        if frames.ndim != 4 or frames.shape[-1] != 3 or not frames.is_floating_point():
            raise InputError(
                "the pictures have the wrong shape or type",
                got=f"{tuple(frames.shape)} {frames.dtype}",
                expected="(F, H, W, 3), floating point",
            )
        num_frames, height, width = frames.shape[:3]
        stride = self.temporal_stride
        if num_frames < 1 or (num_frames - 1) % stride:
            near = " or ".join(map(str, nearest_frames(num_frames, stride)))
            raise GeometryError(
                "the number of frames does not fit the video codec",
                got=num_frames,
                expected=f"{stride}k+1, for example {near}",
            )
        if not height or not width or height % self.spatial_stride or width % self.spatial_stride:
            raise GeometryError(
                "the picture size does not fit the video codec",
                got=f"{width}×{height}",
                expected=f"multiples of {self.spatial_stride} pixels",
            )
        require_finite("the video", frames)
        low, high = frames.min().item(), frames.max().item()
        if low < -_RANGE_SLACK or high > 1 + _RANGE_SLACK:
            raise InputError(
                "the pictures leave 0..1",
                got=f"{low:.3g} to {high:.3g}",
                expected="0 to 1",
                remedy="Divide 8-bit values by 255.",
            )

    def _require_latents(self, latents: Tensor) -> None:
        channels = self.latent_channels
        if latents.ndim != 5 or latents.shape[0] != 1 or latents.shape[1] != channels or not latents.numel():
            raise GeometryError(
                "the video latent does not fit the codec",
                got=tuple(latents.shape),
                expected=f"(1, {channels}, T, H, W)",
            )
        require_finite("the video latent", latents, "Sample again with other settings; a higher precision often helps.")
