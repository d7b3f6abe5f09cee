"""The autoencoder of PAV-DiT (MDSA): two streams of projections, and the attention by which their decoders hear.

Legend: B batch, C latent channels, D width, F H W extent of the picture, T N K segments, bands and columns of the
sound, L places of the three planes (:mod:`.planes`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor, nn

from ...core.errors import InputError, require_choice
from ...core.pair import THINGS, Pair
from .forms import BOUNDS, POCKET, Body, Extent, Fusion, ProjectedGeometry, patches, read_part
from .fusion import PlaneFusion, TimeBlocks
from .mel import MelImages
from .planes import PlaneGrid, expand
from .streams import StreamDecoder, StreamEncoder

Planes = tuple[Tensor, ...]
SIDES = ("video", "audio")


class Stream(nn.Module):
    """What one modality has for itself.

    Args:
        channels: Of the media.
        patch: Of the media.
        grid: Of the volume.
        body: Its layers.
        latent_channels: C.
        moments: How many numbers stand for a latent: 2 with a variance.
    """

    def __init__(
        self, channels: int, patch: Sequence[int], grid: PlaneGrid, *, body: Body, latent_channels: int, moments: int
    ) -> None:
        super().__init__()
        blocks = {"width": body.width, "heads": body.heads, "head_width": body.head_width}
        summary = {"depth": body.summary_depth, "heads": body.summary_heads, "hidden": body.summary_hidden}
        self.encoder = StreamEncoder(channels, patch, grid, depth=body.encoder, summary=summary, **blocks)
        self.narrow = nn.ModuleList(nn.Conv2d(body.width, moments * latent_channels, 1) for _ in range(3))
        for layer in self.narrow if moments == 2 else ():
            # A posterior begins narrow: as wide as the latents themselves it would drown them.
            nn.init.constant_(layer.bias[latent_channels:], -6.0)
        self.widen = nn.ModuleList(nn.Conv2d(latent_channels, body.width, 1) for _ in range(3))
        self.decoder = StreamDecoder(channels, patch, depth=body.decoder, **blocks)


class PavDitAutoencoder(ModelMixin, ConfigMixin):
    """Pictures and mel images to packed latents and back; of either modality alone too, unless it is fused before.

    Args:
        grid: T, h and w of the volume.
        extent: Of the clip (:class:`~.forms.Extent`).
        sound: Images of the sound (:class:`~.mel.MelImages`).
        latent_channels: C.
        body: Layers of a stream (:class:`~.forms.Body`).
        fusion: How planes are refined (:class:`~.forms.Fusion`).
        bound: ``gaussian``: an encoder says mean and variance; ``tanh``: latents lie in −1…1, as PVDM's.

    Raises:
        InputError, IncompatibleWeightsError: parts that do not fit together, or that cannot be read.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        grid: Sequence[int] = POCKET["grid"],
        extent: Mapping[str, Any] = POCKET["extent"],
        sound: Mapping[str, Any] = POCKET["sound"],
        latent_channels: int = POCKET["latent_channels"],
        body: Mapping[str, Any] = POCKET["body"],
        fusion: Mapping[str, Any] = POCKET["fusion"],
        bound: str = POCKET["bound"],
    ) -> None:
        super().__init__()
        require_choice("bound of the latents", bound, BOUNDS)
        self.grid, self.bound = PlaneGrid(*grid), bound
        self.mel, self.extent = read_part(MelImages, "sound", sound), read_part(Extent, "extent", extent)
        self.fusing, layers = read_part(Fusion, "fusion", fusion), read_part(Body, "body", body)
        made = {"body": layers, "latent_channels": latent_channels, "moments": 2 if bound == "gaussian" else 1}
        self.streams, self.planes, self.blocks = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        for side, channels, patch in zip(SIDES, (3, 2), patches(self.grid, self.extent, self.mel), strict=True):
            self.streams[side] = Stream(channels, patch, self.grid, **made)
            self.planes[side] = PlaneFusion(layers.width, self.fusing.heads, self.fusing.scales)
            self.blocks[side] = TimeBlocks(layers.width, self.fusing.heads, self.fusing.segments)
        # Of each modality and plane, from the latents of training clips; they make the transformer's data about normal.
        self.register_buffer("latent_means", torch.zeros(2, 3, latent_channels))
        self.register_buffer("latent_deviations", torch.ones(2, 3, latent_channels))

    @property
    def geometry(self) -> ProjectedGeometry:
        """What extents and latents it has."""
        channels, mel = self.config.latent_channels, self.mel
        hop = mel.segment * self.grid.time // self.grid.length
        counts = {"video_channels": channels, "audio_channels": channels, "audio_hop": hop}
        return ProjectedGeometry(**counts, sample_rate=mel.sample_rate, extent=self.extent, grid=self.grid)

    def media_shape(self, side: str) -> tuple[int, ...]:
        """``(3, F, H, W)`` of a picture, ``(2, T, N, K)`` of the images of a sound."""
        made = self.extent
        if side == "video":
            return 3, made.frames, made.height, made.width
        return 2, self.grid.time, self.mel.bands, self.mel.columns

    def encode(self, video: Tensor | None = None, audio: Tensor | None = None) -> Pair[Tensor]:
        """Packed moments ``(B, C, L)``, with ``gaussian`` ``(B, 2 C, L)``: means, then logarithms of variances.

        Args:
            video: ``(B, 3, F, H, W)`` in −1…1.
            audio: ``(B, 2, T, N, K)``.

        Raises:
            InputError: media of another extent; one modality alone where the encoders are fused.
        """
        media = Pair(video, audio)
        for side, one in media.present.items():
            self._require_media(side, one)
        planes = _each(media, lambda side, one: self.streams[side].encoder(one))
        if self.fusing.at == "encoder":
            if len(media.present) < 2:
                got = "a picture alone" if audio is None else "a sound alone"
                raise InputError("this autoencoder encodes picture and sound together", got=got, expected="both")
            planes = self._fused(planes)
        return _each(planes, self._narrowed)

    def posterior(self, moments: Tensor) -> DiagonalGaussianDistribution:
        """What ``gaussian`` moments ``(B, 2 C, L)`` say, over ``(B, C, 1, L)``."""
        return DiagonalGaussianDistribution(moments[:, :, None])

    def latents(self, moments: Tensor, *, sample: bool = False, generator: torch.Generator | None = None) -> Tensor:
        """``(B, C, L)`` of moments: the mean, or a draw."""
        if self.bound == "tanh":
            return moments
        posterior = self.posterior(moments)
        return (posterior.sample(generator) if sample else posterior.mode())[:, :, 0]

    def decode(self, video: Tensor | None = None, audio: Tensor | None = None) -> Pair[Tensor]:
        """Media in −1…1 of packed latents ``(B, C, L)``; one modality alone is decoded without what it would hear.

        Raises:
            GeometryError: latents of another L.
        """
        planes = _each(Pair(video, audio), self._widened)
        if self.fusing.at == "decoder":
            planes = self._fused(planes)
        volumes = planes.map(lambda each: expand(*each))
        if self.fusing.in_blocks and len(planes.present) == 2:
            before = volumes
            volumes = _each(before, lambda side, one: self.blocks[side](one, before[_other(side)]))
        return _each(volumes, lambda side, one: self.streams[side].decoder(one))

    def normalise(self, side: str, latents: Tensor) -> Tensor:
        """``(B, C, L)`` as the transformer knows them.

        Raises:
            GeometryError: latents of another form.
        """
        means, deviations = self._statistics(side, latents)
        return (latents - means) / deviations

    def denormalise(self, side: str, latents: Tensor) -> Tensor:
        """Back; with ``tanh`` nothing lies outside −1…1.

        Raises:
            GeometryError: latents of another form.
        """
        means, deviations = self._statistics(side, latents)
        raw = latents * deviations + means
        return raw.clamp(-1, 1) if self.bound == "tanh" else raw

    def _narrowed(self, side: str, planes: Planes) -> Tensor:
        narrow = self.streams[side].narrow
        packed = self.grid.pack([layer(plane) for layer, plane in zip(narrow, planes, strict=True)])
        return packed.tanh() if self.bound == "tanh" else packed

    def _widened(self, side: str, latents: Tensor) -> Planes:
        widen, planes = self.streams[side].widen, self.grid.unpack(latents)
        return tuple(layer(plane) for layer, plane in zip(widen, planes, strict=True))

    def _fused(self, planes: Pair[Planes]) -> Pair[Planes]:
        """Each modality's planes for themselves, then both read what the other one's then are (symmetric)."""
        over_scales = self.fusing.over_scales
        alone = _each(planes, lambda side, each: self.planes[side].alone(each, over_scales=over_scales))
        if not self.fusing.across or len(planes.present) < 2:
            return alone
        return _each(alone, lambda side, each: self.planes[side].hearing(each, alone[_other(side)]))

    def _statistics(self, side: str, like: Tensor) -> tuple[Tensor, ...]:
        """Means and deviations ``(C, L)``, a number for each plane and channel."""
        self.grid.require(like, self.config.latent_channels)
        places = torch.tensor(self.grid.places, device=self.latent_means.device)
        return tuple(
            numbers[SIDES.index(side)].repeat_interleave(places, dim=0, output_size=self.grid.length).mT.to(like)
            for numbers in (self.latent_means, self.latent_deviations)
        )

    def _require_media(self, side: str, media: Tensor) -> None:
        expected = self.media_shape(side)
        if tuple(media.shape[1:]) != expected:
            thing = THINGS[side]
            raise InputError(
                f"the {thing} does not fit the autoencoder", got=tuple(media.shape), expected=f"(B, {expected})"
            )


def _each(pair: Pair[Any], function: Callable[[str, Any], Any]) -> Pair[Any]:
    """The function's results, told the side; absent stays absent."""
    return Pair(**{side: function(side, one) for side, one in pair.present.items()})


def _other(side: str) -> str:
    return SIDES[1 - SIDES.index(side)]
