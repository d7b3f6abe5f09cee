"""The roles, each named once. Variants of a role are files in the package that its registry watches."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from .types import Captions, Modality, ModalityConditioning


class Captioner(Protocol):
    """Turns a short prompt into two modality-pure captions."""

    def __call__(self, prompt: str) -> Captions: ...


@runtime_checkable
class TextEncoder(Protocol):
    """Turns texts into one tower's conditioning."""

    def encode(self, texts: list[str]) -> Tensor:
        """``(B, L, D)``, one row a text, rows beyond a text's end zeroed."""
        ...


class Denoiser(Protocol):
    """What the sampler drives: one joint forward. Either modality may be None."""

    def __call__(self, video: Modality | None, audio: Modality | None) -> tuple[Tensor | None, Tensor | None]: ...


@runtime_checkable
class Codec(Protocol):
    """Between pixels or samples and a tower's normalised latents.

    ``to_raw`` and ``from_raw`` convert between normalised latents and the VAE's own space, which is what ComfyUI's
    native VAE nodes exchange.
    """

    def encode(self, media: Tensor) -> Tensor: ...

    def decode(self, latents: Tensor) -> Tensor: ...

    def to_raw(self, latents: Tensor) -> Tensor: ...

    def from_raw(self, latents: Tensor) -> Tensor: ...


class Solver(Protocol):
    """A diffusers scheduler as the sampler uses it."""

    timesteps: Tensor
    sigmas: Tensor
    init_noise_sigma: float

    def scale_model_input(self, sample: Tensor, timestep: Tensor) -> Tensor: ...

    def step(self, model_output: Tensor, timestep: Tensor, sample: Tensor, **kwargs: Any) -> Any: ...


class Conditioner(Protocol):
    """Turns captions into one modality's conditioning."""

    def __call__(self, positive: str, negative: str | None, seconds: float) -> ModalityConditioning: ...


class Metric(Protocol):
    """Measures one property of clips on disk."""

    def __call__(self, paths: list[str]) -> dict[str, float]: ...
