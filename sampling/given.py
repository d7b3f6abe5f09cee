"""What of a modality is known, and how it is shown to the model while the rest is made.

``replace`` (SyncFlow): the known part is noised to the level of each step with one noise, as if it were being made too.
``fixed`` (AV-Link): it keeps one level and one noise for the whole run. Returned known latents are the given ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import InputError, require_choice
from ..core.pair import Pair
from ..core.types import require_finite
from .noise import seeded_generator
from .processes import PROCESSES
from .shown import SHOWN, shown_names
from .shown.base import Known


@dataclass(frozen=True)
class Given:
    """Known latents of one modality.

    Args:
        latents: ``(B or 1, …)`` clean, in the tower's normalised space, shaped like the run's.
        mask: 1 where they are known, 0 where the sampler makes something of its own; broadcasts to ``(B, 1, …)``. None
            when all is known.
        how: A way of :mod:`.shown`, such as ``replace`` or ``fixed``.
        time: For ``fixed``, the level in the process's own time 0..1; None for AV-Link's.
        seed: Of the noise that is laid over them; None takes the noise that this modality would start from, so that
            everything else is drawn as without given latents.

    Raises:
        InputError: a word or a number out of range, ``fixed`` with a mask, a mask of another size, values in between.
        NonFiniteError: NaN or infinity in the latents.
    """

    latents: Tensor
    mask: Tensor | None = None
    how: str = "replace"
    time: float | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        require_choice("way to show what is given", self.how, shown_names())
        require_finite("what is given", self.latents, "Encode it again, or check where the latents come from.")
        if self.time is not None and not 0 <= self.time <= 1:
            raise InputError("the level of what is given cannot be used", got=self.time, expected="0 to 1")
        if self.mask is not None:
            self._check_mask(self.mask)

    def _check_mask(self, mask: Tensor) -> None:
        if not SHOWN.get(self.how).takes_masks:
            raise InputError(
                "one noise level cannot hold for half a clip",
                got=f"{self.how} with a mask",
                expected="replace with a mask, or fixed for the whole of a modality",
            )
        shape = (self.latents.shape[0], 1, *self.latents.shape[2:])
        if mask.ndim != len(shape) or any(
            size not in (1, wanted) for size, wanted in zip(mask.shape, shape, strict=True)
        ):
            raise InputError(
                "the mask does not fit the latents",
                got=tuple(mask.shape),
                expected=f"a shape that broadcasts to {shape}",
            )
        if not bool(((mask == 0) | (mask == 1)).all()):
            raise InputError("a place is known or it is not", got="values between 0 and 1", expected="0 and 1 only")

    @property
    def is_whole(self) -> bool:
        """Whether nothing is left to make."""
        return self.mask is None or bool(self.mask.bool().all())

    @property
    def is_empty(self) -> bool:
        """Whether nothing is known."""
        return self.mask is not None and not bool(self.mask.bool().any())


def known(latents: Tensor, start: int = 0, stop: int | None = None, **settings: str | int | float | None) -> Given:
    """Given latents of which a part of the time is known.

    Args:
        latents: ``(B, C, T, …)`` or ``(B, C, L)``.
        start: First known position in time.
        stop: First position after it that is not known; None for all the rest.
        settings: Other fields of :class:`Given`.
    """
    mask = torch.zeros((1, 1, *latents.shape[2:]))
    mask[:, :, start:stop] = 1
    return Given(latents, mask, **settings)


class KnownPart:
    """The known part of a running modality: what the model is shown of it at each level.

    Args:
        given: What is known.
        process: How this modality is noised.
        noise: ``(B, …)`` what the modality would start from.
        place: Where all of it is kept.
    """

    def __init__(self, given: Given, process: str, noise: Tensor, place: torch.device | str = "cpu") -> None:
        if given.seed is not None:
            generator = seeded_generator(given.seed)
            noise = torch.randn(noise.shape, generator=generator, dtype=torch.float32, device="cpu")
        self.given, self._process, self._noise = given, PROCESSES.get(process), noise.to(place, torch.float32)
        self.clean = given.latents.to(place, torch.float32).expand_as(self._noise)
        self._mask = None if given.mask is None else given.mask.to(place).bool().expand_as(self._noise[:, :1])
        self._way, self._whole = SHOWN.get(given.how)(), Known(self.clean, self._noise, self._process, given.time)

    def view(self, sigma: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """What the model sees at a level where all is given, and the timestep that it is told."""
        return self._way.view(self._whole, sigma, timestep)

    def over_state(self, state: Tensor, sigma: Tensor) -> Tensor:
        """A solver's state with the known places at this level."""
        return self._mixed(self._process.state(self.clean, self._noise, sigma), state)

    def over_prediction(self, prediction: Tensor, sigma: Tensor) -> Tensor:
        """A prediction with the exact one at the known places, so that a solver's memory of it holds."""
        return self._mixed(self._process.target(self.clean, self._noise, self._process.time(sigma)), prediction)

    def over_result(self, latents: Tensor) -> Tensor:
        """Latents with the known ones as they were given, to the bit."""
        return self._mixed(self.clean, latents)

    def _mixed(self, mine: Tensor, theirs: Tensor) -> Tensor:
        return mine if self._mask is None else torch.where(self._mask, mine, theirs)


def require_use(given: Pair[Given], *, hears: frozenset[str], why_deaf: Callable[[str], tuple[str, str]]) -> None:
    """Refuse a given modality that the other one cannot hear.

    Args:
        given: By modality.
        hears: Modalities that receive something from the other one.
        why_deaf: Of a modality that does not: what the model is, and what would do.

    Raises:
        InputError: says which bridges would do.
    """
    for name, other in (("video", "audio"), ("audio", "video")):
        one = given[name]
        if one is None or not one.is_whole or other in hears:
            continue
        thing, maker = ("picture", "sound") if name == "video" else ("sound", "picture")
        got, expected = why_deaf(other)
        raise InputError(f"nothing leads from the given {thing} to the {maker}", got=got, expected=expected)
