"""How the tower of one side is told of the other side by an alignment (SAVA), instead of by bridges."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from ..core.clock import Timeline
from ..core.types import Conditioning
from ..models.alignment.condition import conditioned, reading, require_reader

if TYPE_CHECKING:
    from ..models.families.base import FamilyModel
    from ..models.weights.alignment import LoadedAlignment


@dataclass(frozen=True)
class Reading:
    """How one side is told of the other.

    Args:
        loaded: The alignment.
        strength: 0 tells nothing, 1 all.
        support: ``learned``, or ``all`` dimensions.
    """

    loaded: LoadedAlignment
    strength: float = 1.0
    support: str = "learned"
    _latest: dict[str, tuple[FamilyModel, FamilyModel]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    def model(self, model: FamilyModel, side: str) -> FamilyModel:
        """The tower of a side alone, with what it learned to read by: one and the same for all windows.

        Args:
            model: The whole model.
            side: ``video`` or ``audio``, which is made.
        """
        whole, told = self._latest.get(side, (None, None))
        if whole is not model:
            self._latest.clear()  # of one tower at a time
            told = reading(model.alone(side), self.loaded, side)
            self._latest[side] = model, told
        return told

    def require(self, model: FamilyModel, side: str) -> None:
        """Refuse a model whose tower of a side cannot be told, before anything is made.

        Raises:
            InputError: a model without that tower alone.
            IncompatibleWeightsError: an alignment that was made for another one, or that none reads.
        """
        alone = model.alone(side)
        require_reader(self.loaded, side, alone.sides[side].tower.text_width)
        reading(alone, self.loaded, side)

    def told(self, conditioning: Conditioning, given: str, latents: Tensor, timeline: Timeline) -> Conditioning:
        """The captions, and what the given side's latents show."""
        frames = timeline.video_latent_shape[1]
        how = {"strength": self.strength, "support": self.support, "num_frames": frames}
        return conditioned(conditioning, self.loaded, given, latents, **how)
