"""``bridged``: a video tower and an audio tower, and the bridges by which they hear each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...core.device import OFFLOAD_CHOICES, STORAGES
from ...core.errors import SoundingVideoError
from ...core.pair import Pair
from ..joined import JoinedModel, join_towers
from ..plan.outline import Outline, outline_models
from ..weights.bridges import load_bridges
from ..weights.find import TOWER_TITLES, ModelSet, find_models, find_towers
from ..weights.load import load_stable_audio, load_wan
from . import FAMILIES
from .base import Family, Offers, Wishes

if TYPE_CHECKING:
    from ...core.device import Placement


@FAMILIES.register("bridged")
class Bridged(Family):
    """Two towers, single files or folders, and a bridge file beside them."""

    title = "two towers and bridges"
    offers = Offers(bridges=True, loras=True, free_text=True, storages=STORAGES, offloads=OFFLOAD_CHOICES)
    processes = Pair("flow", "cosine_v")

    def recognise(self, folder: Path) -> ModelSet | None:
        """A folder that holds both towers, or lies above them."""
        if any(not find_towers([folder], kind) for kind in TOWER_TITLES):
            return None
        try:
            return find_models(folder)
        except SoundingVideoError:  # it went in the meantime
            return None

    def load(self, found: ModelSet, placement: Placement, wishes: Wishes) -> JoinedModel:
        """Both towers, and the bridges that are wished for."""
        chosen = _bridge(found, wishes)
        bridges = load_bridges(chosen, wishes.bridge_options) if chosen else None
        video = load_wan(found.video, placement, free_text=wishes.free_text)
        return join_towers(video, load_stable_audio(found.audio, placement, free_text=wishes.free_text), bridges)

    def outline(self, found: ModelSet, placement: Placement, wishes: Wishes) -> Outline:
        """From folders' configurations and files' headers."""
        bridge = _bridge(found, wishes)
        return outline_models(found, placement, bridge=bridge, bridge_options=wishes.bridge_options)


def _bridge(found: ModelSet, wishes: Wishes) -> Path | None:
    return found.bridge if wishes.bridge == "auto" else None if wishes.bridge == "none" else Path(wishes.bridge)
