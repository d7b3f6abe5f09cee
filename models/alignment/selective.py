"""The alignment of picture and sound: adapters into one space, masks over its dimensions, what the towers read.

:class:`Alignment` is what is kept for use: latents to vectors a moment, of which the support is kept, to what a tower
reads of them: tokens behind its text, or what is added to its stream. :class:`Selection` is what is learned around it
first (SAVA eq. 3-6): masks, and decoders that predict the other side's vectors and are never used afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from ...core.clock import LatentGeometry
from ...core.errors import InputError, require_choice
from ...core.pair import MODALITIES, OTHER, Pair
from .folding import edges, fold_audio, fold_video, middles
from .masks import MASKS
from .readers import READERS, WIDTHS, ClipFrames, ClipTokens

# Every mask is open at the start: p = 0.88.
OPEN_LOGIT = 2.0
# What a mask is computed from: nothing (all is kept), its own side, or both as printed (SAVA Table 3).
MASK_INPUTS = {"none": 0, "own": 1, "both": 2}
MOST_SIZE = 1 << 16  # of anything that an alignment has
# Sizes that are younger than files that people have: there they are 0.
YOUNGER = ("video_stream_width", "audio_stream_width")


@dataclass(frozen=True)
class AlignmentConfig:
    """Sizes of an alignment.

    Args:
        width: Dimensions that are shared.
        hidden: Of the layers between.
        grid: Parts of the picture a side.
        positions: Parts of a moment of the sound.
        segment: Latent frames of a moment.
        video_channels: Of the video latents.
        audio_channels: Of the audio latents.
        temporal_stride: Frames of a latent frame after the first.
        video_text_width: Of tokens for the video tower; 0 without.
        audio_text_width: Of tokens for the audio tower; 0 without.
        sound_rate: Audio latents a frame of the picture in training: how many frames a sound alone belongs to.
        video_stream_width: Of what is added to the video tower's stream, instead of tokens; 0 without.
        audio_stream_width: Likewise for the audio tower.

    Raises:
        InputError: sizes that cannot be.
    """

    width: int = 512
    hidden: int = 512
    grid: int = 8
    positions: int = 6
    segment: int = 1
    video_channels: int = 16
    audio_channels: int = 64
    temporal_stride: int = 4
    video_text_width: int = 0
    audio_text_width: int = 0
    sound_rate: float = 44_100 / 2048 / 15
    video_stream_width: int = 0
    audio_stream_width: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value, least = getattr(self, field.name), 0 if field.name.endswith("_width") else 1
            whole = field.type == "int"
            if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
                raise InputError(f"{field.name} of an alignment is no {'whole ' * whole}number", got=repr(value))
            if not (least if whole else 1e-3) <= value <= MOST_SIZE:
                bounds = f"{least if whole else 'more than 0'} to {MOST_SIZE}"
                raise InputError(f"{field.name} of an alignment is out of range", got=value, expected=bounds)
        for side in MODALITIES:
            if self.text_widths[side] and self.stream_widths[side]:
                what = f"the {side} tower is told of the other side in two ways"
                raise InputError(what, got="tokens and frames", expected="one of them")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AlignmentConfig:
        """Read what a file says.

        Raises:
            InputError: a field that is not there, or one that is missing.
        """
        names = {field.name for field in fields(cls)}
        wrong = sorted((set(values) ^ names) - (set(YOUNGER) - set(values)))
        if wrong:
            raise InputError(
                "an alignment has other settings", got=", ".join(wrong[:5]), expected=", ".join(sorted(names))
            )
        return cls(**values)

    @property
    def features(self) -> Pair[int]:
        """Numbers of a moment's vector, by side."""
        return Pair(self.video_channels * self.grid**2, self.audio_channels * self.positions)

    @property
    def text_widths(self) -> Pair[int]:
        """Of tokens, by the tower that reads them."""
        return Pair(self.video_text_width, self.audio_text_width)

    @property
    def stream_widths(self) -> Pair[int]:
        """Of what is added to a tower's stream, by the tower."""
        return Pair(self.video_stream_width, self.audio_stream_width)

    def as_dict(self) -> dict[str, Any]:
        """What a file says; what older ones do not know is left out where it says nothing."""
        return {name: value for name, value in asdict(self).items() if value or name not in YOUNGER}

    @property
    def geometry(self) -> LatentGeometry:
        """How the moments lie in time."""
        return LatentGeometry(temporal_stride=self.temporal_stride)

    def frames_of(self, num_latents: int) -> int:
        """Latent frames of the picture that a sound of so many latents belongs to."""
        num_frames = (num_latents + 0.5) / self.sound_rate  # what is behind the last whole latent was cut off
        return 1 + max(0, round((num_frames - 1) / self.temporal_stride))


def layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Linear, GELU, linear."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs))


class Alignment(nn.Module):
    """Latents of either side to vectors in one space, and from those what the other side's tower reads.

    Args:
        config: Sizes.
    """

    def __init__(self, config: AlignmentConfig) -> None:
        super().__init__()
        self.config = config
        for side, num_features in config.features.present.items():
            setattr(self, side, layers(num_features, config.hidden, config.width))
            self.register_buffer(f"{side}_mean", torch.zeros(num_features))
            self.register_buffer(f"{side}_deviation", torch.ones(num_features))
            # How often each dimension was open over the training clips, and whether it is kept.
            self.register_buffer(f"{side}_open", torch.ones(config.width))
            self.register_buffer(f"{side}_support", torch.ones(config.width))
        for way, reader in READERS.items():
            for side in MODALITIES:
                width = getattr(config, f"{side}_{WIDTHS[way]}")
                if width:
                    setattr(self, f"{side}_{way}", reader(config.width, width))

    def fold(self, side: str, latents: Tensor, num_frames: int | None = None) -> Tensor:
        """Latents of a side as standardised vectors ``(B, N, F)``, which are also what is to be predicted.

        Args:
            side: ``video`` or ``audio``.
            latents: ``(B, C, T, H, W)`` or ``(B, C, L)``.
            num_frames: Of a sound, the latent frames of the picture beside it; None as in training.

        Raises:
            InputError: latents of another number of channels.
        """
        vectors = self.raw(side, latents, num_frames)
        return self.standardised(side, vectors)

    def standardised(self, side: str, vectors: Tensor) -> Tensor:
        """Vectors ``(B, N, F)`` of mean 0 and deviation 1 over the training clips."""
        return (vectors - getattr(self, f"{side}_mean")) / getattr(self, f"{side}_deviation")

    def raw(self, side: str, latents: Tensor, num_frames: int | None = None) -> Tensor:
        """The same before they are standardised."""
        config, latents = self.config, latents.float()
        channels = config.video_channels if side == "video" else config.audio_channels
        if latents.shape[1] != channels:
            what = f"the alignment was made for {'pictures' if side == 'video' else 'sounds'} of another codec"
            raise InputError(what, got=f"{latents.shape[1]} channels", expected=f"{channels}")
        if side == "video":
            return fold_video(latents, grid=config.grid, segment=config.segment)
        frames = config.frames_of(latents.shape[2]) if num_frames is None else num_frames
        sizes = {"positions": config.positions, "segment": config.segment, "geometry": config.geometry}
        return fold_audio(latents, num_frames=frames, **sizes)

    def adapted(self, side: str, vectors: Tensor) -> Tensor:
        """Standardised vectors ``(B, N, F)`` in the shared space ``(B, N, D)`` (SAVA eq. 3)."""
        return getattr(self, side)(vectors)

    def way(self, side: str) -> str | None:
        """How this side's tower is told of the other one, a key of :data:`~.readers.READERS`; None where it is not."""
        return next((way for way in READERS if hasattr(self, f"{side}_{way}")), None)

    def reads(self, side: str) -> bool:
        """Whether this side's tower has learned to be told."""
        return self.way(side) is not None

    def told(self, given: str, vectors: Tensor, times: Tensor, *, support: str = "learned") -> Tensor:
        """What the tower of the other side reads ``(B, N, W)``, in the way that it has learned.

        Args:
            given: The side whose vectors these are.
            vectors: From :meth:`fold`.
            times: From :meth:`times`.
            support: ``learned`` keeps the dimensions that were found to be shared; ``all``, as printed, all.
        """
        require_choice("support", support, ("learned", "all"))
        adapted = self.adapted(given, vectors)
        if support == "learned":
            adapted = adapted * getattr(self, f"{given}_support")
        return self.reader_for(OTHER[given])(adapted, times)

    def reader_for(self, side: str) -> ClipTokens | ClipFrames:
        """What makes of vectors what a side's tower reads."""
        return getattr(self, f"{side}_{self.way(side)}")

    def times(self, num_frames: int) -> Tensor:
        """The middle of every moment of a picture of so many latent frames ``(N,)``, in 0..1."""
        return middles(num_frames, self.config.segment, self.config.geometry).to(self.video_mean.device)

    def edges(self, side: str, num_frames: int) -> tuple[Fraction, ...]:
        """Where the moments of a picture of so many latent frames begin, as shares of a side's latent steps; and 1."""
        return edges(num_frames, self.config.segment, self.config.geometry, side)

    def kept(self, side: str) -> int:
        """Dimensions of a side that are kept."""
        return int(getattr(self, f"{side}_support").sum())


class Selection(nn.Module):
    """Masks and decoders around an alignment (SAVA eq. 4-6), for training.

    Args:
        alignment: What is kept afterwards.
        mask: A kind of :data:`~.masks.MASKS`.
        mask_input: A key of :data:`MASK_INPUTS`.
    """

    def __init__(self, alignment: Alignment, *, mask: str = "bernoulli", mask_input: str = "both") -> None:
        super().__init__()
        require_choice("mask input", mask_input, MASK_INPUTS)
        self.kind, self.mask_input = MASKS.get(mask)(), mask_input
        config = alignment.config
        self.alignment = alignment
        inputs = MASK_INPUTS[mask_input] * config.width
        for side in MODALITIES:
            if inputs:
                gate = layers(inputs, config.hidden, config.width)
                nn.init.zeros_(gate[-1].weight)
                nn.init.constant_(gate[-1].bias, OPEN_LOGIT)
                setattr(self, f"{side}_mask", gate)
            setattr(self, f"{side}_decoder", layers(config.width, config.hidden, config.features[side]))

    def probabilities(self, side: str, adapted: Pair[Tensor]) -> Tensor:
        """How likely each dimension of a side is kept ``(B, N, D)``.

        Args:
            side: Whose.
            adapted: Both sides in the shared space.
        """
        if self.mask_input == "none":
            return torch.ones_like(adapted[side])
        own, other = adapted[side], adapted[OTHER[side]]
        read = own if self.mask_input == "own" else torch.cat([own, other], -1)
        return torch.sigmoid(getattr(self, f"{side}_mask")(read))

    def mask(self, p: Tensor) -> Tensor:
        """The mask of some probabilities: drawn while training, settled afterwards."""
        if self.mask_input == "none":
            return p
        return self.kind.drawn(p) if self.training else self.kind.settled(p)

    def predicted(self, side: str, masked: Tensor) -> Tensor:
        """A side's vectors ``(B, N, F)`` from what is kept of the other side's."""
        return getattr(self, f"{side}_decoder")(self.kind.shown(masked))
