"""What an autoencoder of PAV-DiT is made for and made of, as its configuration says it; and sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeVar

from ...core.clock import LatentGeometry, samples_for
from ...core.errors import GeometryError, IncompatibleWeightsError, InputError, require_choice
from ...core.rates import as_fps
from .mel import MelImages
from .planes import PlaneGrid

T = TypeVar("T")
BOUNDS = ("gaussian", "tanh")
# No size in a configuration is larger.
MOST = 1 << 24
FUSED_AT = ("decoder", "encoder")


@dataclass(frozen=True)
class Extent:
    """The one clip that a model makes.

    Args:
        frames: Pictures.
        height: Pixels.
        width: Pixels.
        fps: Frames per second, as text; a fraction where it is none of whole frames.
    """

    frames: int
    height: int
    width: int
    fps: str

    @property
    def rate(self) -> Fraction:
        """Frames per second, exact."""
        return as_fps(self.fps)


@dataclass(frozen=True)
class Body:
    """Layers of one stream; the defaults are PVDM's.

    Args:
        width: D.
        encoder: Blocks before the planes.
        decoder: Blocks behind them.
        heads: Of the blocks.
        head_width: Of a head of the blocks.
        summary_depth: Layers that sum an axis up.
        summary_heads: Their heads, each half as wide as their share of D.
        summary_hidden: Width of their hidden layers.
    """

    width: int = 384
    encoder: int = 8
    decoder: int = 8
    heads: int = 8
    head_width: int = 64
    summary_depth: int = 4
    summary_heads: int = 4
    summary_hidden: int = 512


@dataclass(frozen=True)
class Fusion:
    """How planes are refined before they are decoded.

    Args:
        at: ``decoder``: behind the bottleneck, so that either modality can be encoded alone; ``encoder``: before it.
        heads: Of all attentions in it.
        scales: Rates at which time is pooled.
        segments: Of a block in which the volumes read each other.
        over_scales: Whether planes are refined each for itself (MT-SelfAttn).
        across: Whether they read the other modality's (GCM-Attn).
        in_blocks: Whether the volumes do (Bi-Block CrossAttn).
    """

    at: str = "decoder"
    heads: int = 8
    scales: tuple[int, ...] = (1, 2, 4)
    segments: int = 4
    over_scales: bool = True
    across: bool = True
    in_blocks: bool = True

    def __post_init__(self) -> None:
        require_choice("place of the fusion", self.at, FUSED_AT)
        object.__setattr__(self, "scales", tuple(self.scales))
        if not self.scales or min(self.scales) < 1:
            raise InputError("there is no time scale", got=self.scales, expected="rates of at least 1")


# One second and six tenths at 10 fps, as the group of the paper has it; the token grid of the sound is the picture's.
PUBLISHED: dict[str, Any] = {
    "grid": (16, 32, 32),
    "extent": {"frames": 16, "height": 256, "width": 256, "fps": "10"},
    "sound": {"hop": 75, "columns": 32, "bands": 128, "window": 2048, "sample_rate": 24_000},
    "latent_channels": 4,
    "body": {},
    "fusion": {},
    "bound": "gaussian",
}
POCKET: dict[str, Any] = {
    "grid": (11, 8, 8),
    "extent": {"frames": 33, "height": 64, "width": 64, "fps": "15"},
    "sound": {"hop": 200, "columns": 24, "bands": 64, "window": 1024, "sample_rate": 24_000},
    "latent_channels": 16,
    "body": {"width": 96, "encoder": 2, "decoder": 2, "heads": 4, "head_width": 24, "summary_depth": 1,
             "summary_heads": 4, "summary_hidden": 192},
    "fusion": {"heads": 4, "segments": 3},
    "bound": "gaussian",
}  # fmt: skip


def read_part(kind: type[T], part: str, values: Mapping[str, Any]) -> T:
    """A part of a configuration.

    Raises:
        IncompatibleWeightsError: settings that this part does not have, or lacks; or values of another kind.
    """
    settings = kind.__dataclass_fields__
    try:
        for name, value in values.items():
            # A type is a name here, since annotations are not evaluated.
            if name in settings and type(value).__name__ != settings[name].type in ("int", "str", "bool"):
                raise TypeError(f"{name} is no {settings[name].type}")
            if type(value) is int and not 0 <= value <= MOST:  # no blocks are blocks too
                raise TypeError(f"{name} is not from 0 to {MOST}")
        return kind(**values)
    except (TypeError, AttributeError) as error:
        expected = ", ".join(settings)
        raise IncompatibleWeightsError(
            f"the part {part!r} of the configuration cannot be read", got=f"{values} ({error})", expected=expected
        ) from error


def patches(grid: PlaneGrid, extent: Extent, sound: MelImages) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Extent of a patch of the picture (frames, rows, columns) and of the sound (images, bands, columns).

    Raises:
        GeometryError: the grid does not divide the picture or the images of the sound, or these last otherwise.
    """
    wholes = (extent.frames, extent.height, extent.width), (grid.time, sound.bands, sound.columns)
    parts = grid.time, grid.rows, grid.columns
    for name, whole in zip(("picture", "sound"), wholes, strict=True):
        if any(total % part or total < part for total, part in zip(whole, parts, strict=True)):
            got, expected = "×".join(map(str, whole)), f"multiples of {'×'.join(map(str, parts))}"
            raise GeometryError(f"the grid does not divide the {name}", got=got, expected=expected)
    lasts = Fraction(sound.segment * grid.time, sound.sample_rate)
    if lasts != extent.frames / extent.rate:
        # Says which rates and columns would do where the frames of a segment are no whole number of columns.
        fitting = MelImages.fitting(
            extent.rate, frames=extent.frames // grid.time, sample_rate=sound.sample_rate, columns=sound.columns,
            bands=sound.bands, window=sound.window,
        )  # fmt: skip
        got = f"{float(lasts):g} s of sound and {float(extent.frames / extent.rate):g} s of picture"
        raise GeometryError("picture and sound last differently", got=got, expected=f"a hop of {fitting.hop} samples")
    return tuple(tuple(t // p for t, p in zip(whole, parts, strict=True)) for whole in wholes)


@dataclass(frozen=True)
class ProjectedGeometry(LatentGeometry):
    """One extent, whose latents hold it as a whole, packed (:mod:`.planes`); nothing in them is a moment.

    Args:
        extent: What the model was made for.
        grid: Of the volume.
    """

    temporal_stride: int = 1
    extent: Extent = field(kw_only=True)
    grid: PlaneGrid = field(kw_only=True)
    in_time = False

    @property
    def only_fps(self) -> Fraction:
        """The extent's."""
        return self.extent.rate

    def check(self, num_frames: int, width: int, height: int) -> None:
        """Refuse whatever the model was not made for."""
        made = self.extent
        if (num_frames, width, height) != (made.frames, made.width, made.height):
            raise GeometryError(
                "this model makes clips of one length and size",
                got=f"{num_frames} frames of {width}×{height}",
                expected=f"{made.frames} frames of {made.width}×{made.height}",
            )

    def video_shape(self, num_frames: int, width: int, height: int) -> tuple[int, int, int, int]:
        """``(C, 1, 1, L)``."""
        return self.video_channels, 1, 1, self.grid.length

    def audio_shape(self, num_samples: int) -> tuple[int, int]:
        """``(C, L)``.

        Raises:
            GeometryError: a sound of another length, which is a picture of another rate.
        """
        made = self.extent
        wanted = samples_for(made.frames / made.rate, self.sample_rate)
        if num_samples != wanted:
            raise GeometryError(
                "this model makes clips of one rate",
                got=f"{num_samples / self.sample_rate:g} s for {made.frames} frames",
                expected=f"{float(made.rate):g} frames per second ({wanted / self.sample_rate:g} s)",
            )
        return self.audio_channels, self.grid.length

    def extent_of(self, video_shape: tuple[int, ...]) -> tuple[int, int, int]:
        """The one."""
        return self.extent.frames, self.extent.width, self.extent.height
