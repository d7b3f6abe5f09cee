"""The autoencoder of PAV-DiT as two codecs, of picture and of sound, and how the planner sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...core.errors import InputError
from ...core.pair import Pair
from ...core.progress import SILENT, Progress
from ...core.types import require_finite
from ..execution import execution_device
from ..plan.base import DryStage, PlainOutline, PlannedModule, Workload
from ..plan.outline import without_weights
from .forms import ProjectedGeometry
from .mdsa import SIDES, PavDitAutoencoder

# Of a preview of sound, from its loudest place down, in natural logarithms: 70 dB.
SHOWN_RANGE = 8.0


class WholeCodec(PlannedModule):
    """Both faces' autoencoder; it decodes the picture with the sound at hand, and the sound with the picture.

    Args:
        model: The autoencoder.
    """

    def __init__(self, model: PavDitAutoencoder) -> None:
        super().__init__()
        self.model = model

    def encode(
        self, side: str, media: Tensor, progress: Progress, *, sample: bool = False,
        generator: torch.Generator | None = None,
    ) -> Tensor:  # fmt: skip
        """Normalised latents ``(1, C, L)`` of ``(1, …)`` media of one side: the mean, or a draw."""
        model = self.model
        with torch.no_grad():
            progress.step("encode", 0, 1)
            moments = model.encode(**{side: media.to(execution_device(model), model.dtype)})[side]
            latents = model.normalise(side, model.latents(moments, sample=sample, generator=generator))
            progress.step("encode", 1, 1)
        return latents.to("cpu", torch.float32)

    def decode(self, progress: Progress, *, raw: bool = False, **latents: Tensor) -> list[Tensor]:
        """Frames ``(F, H, W, 3)`` in 0..1 and a waveform ``(2, samples)`` of the sides that are given.

        Args:
            progress: Told before and after.
            raw: They are in the autoencoder's own space.
            latents: Normalised, ``(1, C, L)``, by side.

        Raises:
            InputError: more than one clip.
            GeometryError: latents of another form.
            NonFiniteError: NaN or infinity in the latents, or the decoder overflowed.
        """
        model, own = self.model, {}
        for side, one in latents.items():
            if len(one) != 1:
                raise InputError("clips are decoded one by one", got=f"a batch of {len(one)}", expected="a batch of 1")
            require_finite(f"the {side} latent", one, "Sample again with other settings.")
            flat = one.flatten(2).to(execution_device(model), model.dtype)
            if raw:
                model.grid.require(flat, model.config.latent_channels)
            own[side] = flat if raw else model.denormalise(side, flat)
        with torch.no_grad():
            progress.step("decode", 0, 1)
            media = model.decode(**own)
            made = [self._media(side, one[0].to("cpu", torch.float32)) for side, one in media.present.items()]
            progress.step("decode", 1, 1)
        return made

    def decode_both(
        self, video: Tensor, audio: Tensor, *, raw: bool = False, progress: Progress = SILENT
    ) -> tuple[Tensor, Tensor]:
        """Frames and a waveform of latents ``(1, C, 1, 1, L)`` and ``(1, C, L)``; errors as :meth:`decode`."""
        return tuple(self.decode(progress, raw=raw, video=video, audio=audio))

    def shown(self, video: Tensor | None, audio: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """What latents hold, to look at: frames ``(F, H, W, 3)`` uint8, and mel images as one ``(bands, columns)``.

        The latter lies in 0..1, low bands first, 1 the loudest. No sound is made: the images are there.

        Args:
            video: Normalised, ``(1, C, 1, 1, L)``, or None.
            audio: Normalised, ``(1, C, L)``, or None.
        """
        model, raw = self.model, {}
        for side, one in Pair(video, audio).present.items():
            raw[side] = model.denormalise(side, one.flatten(2).to(execution_device(model), model.dtype))
        with torch.no_grad():
            media = model.decode(**raw).map(lambda one: one[0].to("cpu", torch.float32))
        frames = levels = None
        if media.video is not None:
            frames = media.video.permute(1, 2, 3, 0).add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
        if media.audio is not None:
            whole = media.audio.mean(0).movedim(0, 1).flatten(1) * model.mel.spread  # natural logarithms
            levels = ((whole - whole.max()) / SHOWN_RANGE + 1).clamp(0, 1)
        return frames, levels

    def operations(self) -> int:
        """Of decoding both sides once."""
        channels, length = self.model.config.latent_channels, self.model.grid.length
        work = Workload((1, channels, 1, 1, length), (1, channels, length))
        return self.outline().cost("decode video", work, batched=False, tiling="off").operations

    def outline(self) -> PlainOutline:
        """Of this part alone."""
        return PlainOutline("", *dry_autoencoder(without_weights(self.model)), self.model.geometry)

    def _media(self, side: str, made: Tensor) -> Tensor:
        require_finite({"video": "the decoded picture", "audio": "the decoded sound"}[side], made)
        return (made.permute(1, 2, 3, 0) + 1) / 2 if side == "video" else self.model.mel.sound(made)


class Face(PlannedModule):
    """One side of the autoencoder, as a codec. Alone it neither sees nor hears the other side.

    Args:
        whole: Both.
        side: ``video`` or ``audio``.
    """

    channels = 2  # of a waveform
    temporal_stride = 1  # its latents hold the clip as a whole
    linear_previews = False

    def __init__(self, whole: WholeCodec, side: str) -> None:
        super().__init__()
        self.whole, self.side = whole, side

    @property
    def geometry(self) -> ProjectedGeometry:
        """Of the whole."""
        return self.whole.model.geometry

    @property
    def latent_channels(self) -> int:
        """C of a latent."""
        return self.geometry.video_channels

    @property
    def spatial_stride(self) -> int:
        """Pixels for each row of the grid."""
        return self.geometry.extent.height // self.geometry.grid.rows

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self.geometry.sample_rate

    @property
    def hop(self) -> int:
        """Samples for each place of the planes, though none is a moment."""
        return self.geometry.audio_hop

    def outline(self) -> PlainOutline:
        """That of the whole."""
        return self.whole.outline()

    @property
    def modality(self) -> str:
        """Whose codec it is."""
        return self.side

    def encode(
        self, media: Tensor, *, sample: bool = False, generator: torch.Generator | None = None, tiling: str = "off",
        progress: Progress = SILENT,
    ) -> Tensor:  # fmt: skip
        """Frames ``(F, H, W, 3)`` in 0..1 to ``(1, C, 1, 1, L)``, or a waveform ``(2, samples)`` to ``(1, C, L)``.

        Args:
            media: Of the model's extent.
            sample: Draw from the posterior, as in training, instead of taking its mean.
            generator: For the draw.
            tiling: ``off`` or ``auto``.
            progress: Told before and after.

        Raises:
            InputError: media of another extent, or tiles.
            NonFiniteError: NaN or infinity in them.
        """
        _require_whole(tiling)
        if self.side == "video":
            require_finite("the picture", media)
            pictures = 2 * media.permute(3, 0, 1, 2)[None] - 1
            drawn = self.whole.encode("video", pictures, progress, sample=sample, generator=generator)
            return drawn[:, :, None, None]
        if media.ndim == 2 and media.shape[0] == 1:
            media = media.expand(self.channels, -1)
        images = self.whole.model.mel.images(media)[None]
        return self.whole.encode("audio", images, progress, sample=sample, generator=generator)

    def decode(self, latents: Tensor, *, raw: bool = False, tiling: str = "off", progress: Progress = SILENT) -> Tensor:
        """One side without the other; see :meth:`WholeCodec.decode`."""
        _require_whole(tiling)
        return self.whole.decode(progress, raw=raw, **{self.side: latents})[0]

    def to_raw(self, latents: Tensor) -> Tensor:
        """Normalised latents to the autoencoder's own."""
        return self.whole.model.denormalise(self.side, latents.flatten(2).cpu()).reshape(latents.shape)

    def from_raw(self, latents: Tensor) -> Tensor:
        """The autoencoder's own latents to normalised ones."""
        return self.whole.model.normalise(self.side, latents.flatten(2).cpu()).reshape(latents.shape)


def dry_autoencoder(model: PavDitAutoencoder) -> tuple[dict[str, Any], dict[str, tuple[str, ...]], dict[str, DryStage]]:
    """The part of an autoencoder on ``meta``, the stages that use it, and what they run."""

    def dry(side: str, way: str) -> DryStage:
        def stage(work: Workload, _: bool) -> Callable[[], object] | None:
            shapes = dict(zip(SIDES, (work.video_shape, work.audio_shape), strict=True))
            if shapes[side] is None or side not in (work.encoded if way == "encode" else work.decoded):
                return None
            like = {"dtype": model.dtype, "device": "meta"}
            if way == "encode":
                return lambda: model.encode(**{side: torch.empty(1, *model.media_shape(side), **like)})
            # Both are decoded together, in the stage of the picture; a sound alone in its own.
            there = [one for one in SIDES if shapes[one] is not None and one in work.decoded]
            shown = there if side == "video" else [side]
            flat = 1, model.config.latent_channels, model.grid.length
            return lambda: model.decode(**{one: torch.empty(flat, **like) for one in shown})

        return stage

    ways = [(f"{way} {side}", dry(side, way)) for way in ("encode", "decode") for side in SIDES]
    return {"autoencoder": model}, {"autoencoder": tuple(name for name, _ in ways)}, dict(ways)


def _require_whole(tiling: str) -> None:
    if tiling == "on":
        raise InputError("planes hold a clip as a whole", got="tiling on", expected="tiling auto or off")
