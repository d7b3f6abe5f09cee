"""The roles, each named once. Variants of a role are files in the package that its registry watches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from .dialect import Text
from .progress import Progress
from .types import Captions, Modality, ModalityConditioning, Pass


class Captioner(Protocol):
    """Turns a short prompt into two modality-pure captions."""

    def __call__(self, prompt: str) -> Captions:
        """Captions for one prompt."""
        ...


@runtime_checkable
class TextEncoder(Protocol):
    """Turns texts into one tower's conditioning."""

    def encode(self, texts: list[Text]) -> Tensor:
        """``(B, L, D)``, one row a text, rows beyond a text's end zeroed."""
        ...


class Denoiser(Protocol):
    """What the sampler drives: one joint forward. Either modality may be None."""

    def __call__(self, video: Modality | None, audio: Modality | None) -> tuple[Tensor | None, Tensor | None]:
        """Predictions shaped like the latents; None for a modality that is absent, and it may be for a given one."""
        ...


@runtime_checkable
class Codec(Protocol):
    """Between pixels or samples and a tower's normalised latents.

    ``to_raw`` and ``from_raw`` convert between normalised latents and the VAE's own space, which is what ComfyUI's
    native VAE nodes exchange.
    """

    def encode(self, media: Tensor) -> Tensor:
        """Frames ``(F, H, W, 3)`` or waveform ``(C, samples)`` to normalised latents, batch of one."""
        ...

    def decode(self, latents: Tensor, *, raw: bool = False) -> Tensor:
        """Normalised latents, batch of one, back to frames or waveform; ``raw`` ones are in the VAE's own space."""
        ...

    def to_raw(self, latents: Tensor) -> Tensor:
        """Normalised latents to the VAE's own space."""
        ...

    def from_raw(self, latents: Tensor) -> Tensor:
        """The VAE's own space to normalised latents."""
        ...


class VideoCodec(Codec, Protocol):
    """A codec of pictures; its methods also take ``tiling`` (``on`` or ``off``) and ``progress``."""

    latent_channels: int  # C of a latent
    temporal_stride: int  # frames per latent frame after the first
    spatial_stride: int  # pixels per latent pixel


class AudioCodec(Codec, Protocol):
    """A codec of sound; its methods also take ``progress``."""

    latent_channels: int  # C of a latent
    channels: int  # of a waveform
    hop: int  # samples per latent
    sample_rate: int  # Hz


class JointCodec(Protocol):
    """One autoencoder of picture and sound. Its two faces are codecs, and name it as their ``whole``.

    A face alone encodes and decodes its own side; both latents together are decoded by the whole.
    """

    def decode_both(
        self, video: Tensor, audio: Tensor, *, raw: bool = False, progress: Progress
    ) -> tuple[Tensor, Tensor]:
        """Latents, batch of one, normalised or ``raw``, to frames ``(F, H, W, 3)`` and a waveform ``(C, samples)``."""
        ...


class Process(Protocol):
    """How one modality is noised and what its tower predicts; a value without state.

    ``time`` is the tower's own time 0..1, ``sigma`` the level that solvers of this process count in.
    """

    name: str
    solver: str  # key of the solver that is used when none is named
    timestep_scale: float  # what the tower is told is this times the time

    def add_noise(self, clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """What the tower sees."""
        ...

    def target(self, clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """What it should say."""
        ...

    def clean(self, noisy: Tensor, prediction: Tensor, time: Tensor) -> Tensor:
        """x0 of a prediction."""
        ...

    def noise(self, noisy: Tensor, prediction: Tensor, time: Tensor) -> Tensor:
        """ε of a prediction."""
        ...

    def state(self, clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """What a solver holds at a level."""
        ...

    def scale(self, state: Tensor, sigma: Tensor) -> Tensor:
        """A solver's state as the tower sees it."""
        ...

    def unscale(self, seen: Tensor, sigma: Tensor) -> Tensor:
        """What the tower sees as a solver's state."""
        ...

    def prediction(self, state: Tensor, clean: Tensor, sigma: Tensor) -> Tensor:
        """The prediction that stands for an estimate of x0."""
        ...

    def time(self, sigma: Tensor) -> Tensor:
        """The tower's time at a level."""
        ...

    def sigma(self, time: Tensor) -> Tensor:
        """The level at the tower's time."""
        ...

    def to_flow(self, time: float) -> float:
        """The flow time with the same ratio of signal to noise."""
        ...

    def from_flow(self, time: float) -> float:
        """The time with the ratio of signal to noise that a flow time has."""
        ...


class Guider(Protocol):
    """Moves a prediction away from what other passes predict, during a part of the run."""

    start: float  # share of the steps before it acts, 0..1
    end: float  # share of the steps after which it acts no more
    every: int  # its passes run at every such step; between them its last push is repeated

    def passes(self, modality: str) -> tuple[Pass, ...]:
        """What it needs beside the positive pass; nothing where it does not act."""
        ...

    def combine(self, modality: str, result: Tensor, predictions: Mapping[str, Tensor]) -> Tensor:
        """The guided prediction.

        Args:
            modality: ``video`` or ``audio``.
            result: What the guiders before it made, at first the positive prediction.
            predictions: By the name of the pass, the positive one among them.
        """
        ...


class Solver(Protocol):
    """A diffusers scheduler as the sampler uses it."""

    timesteps: Tensor
    sigmas: Tensor
    init_noise_sigma: float
    stochastic: bool  # whether ``step`` draws noise and takes a generator

    def estimate(self) -> Tensor:
        """The x0 that the last step aimed at."""
        ...

    def scale_model_input(self, sample: Tensor, timestep: Tensor) -> Tensor:
        """The sample as the model wants it at this timestep."""
        ...

    def step(self, model_output: Tensor, timestep: Tensor, sample: Tensor, **kwargs: Any) -> Any:
        """One solver step; the result has ``prev_sample``."""
        ...


class Conditioner(Protocol):
    """Turns captions into one modality's conditioning."""

    def __call__(self, positive: str, negative: str | None, seconds: float) -> ModalityConditioning:
        """Encode a caption and a negative prompt."""
        ...


class Metric(Protocol):
    """Measures one property of clips on disk."""

    def __call__(self, paths: list[str]) -> dict[str, float]:
        """Measured values by name."""
        ...
