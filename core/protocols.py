"""The roles, each named once. Variants of a role are files in the package that its registry watches."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from .dialect import Text
from .types import Captions, Modality, ModalityConditioning


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
        """Predictions shaped like the latents."""
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

    def decode(self, latents: Tensor) -> Tensor:
        """Normalised latents, batch of one, back to frames or waveform."""
        ...

    def to_raw(self, latents: Tensor) -> Tensor:
        """Normalised latents to the VAE's own space."""
        ...

    def from_raw(self, latents: Tensor) -> Tensor:
        """The VAE's own space to normalised latents."""
        ...


class Solver(Protocol):
    """A diffusers scheduler as the sampler uses it."""

    timesteps: Tensor
    sigmas: Tensor
    init_noise_sigma: float

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
