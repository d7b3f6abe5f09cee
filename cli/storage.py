"""Deciding how weights are kept, before they are loaded."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..core.device import Placement
    from ..models.families.base import Found
    from ..models.weights.bridges import BridgeOptions


def decide_storage(
    placement: Placement, found: Found, extent: dict[str, Any], bridge: str, bridge_options: BridgeOptions
) -> Placement:
    """Storage ``auto`` for a run: fp8 if only that makes the fastest plan that fits, else native.

    Args:
        placement: With storage ``auto``.
        found: The models.
        extent: Frames, rate and size of the clip.
        bridge: A file, ``none``, or ``auto`` for the one beside the towers.
        bridge_options: What a bridge file does not say.

    Raises:
        PlacementError: no plan fits.
    """
    from ..core.clock import Timeline
    from ..models.loading import outline_found
    from ..models.plan.needs import Workload
    from ..models.plan.plans import choose, free_bytes, iter_plans
    from ..models.plan.runs import tilings

    outline = outline_found(found, placement, bridge=bridge, bridge_options=bridge_options)
    timeline = Timeline(**extent, geometry=outline.geometry)
    candidates = iter_plans(
        lambda storage: outline.stored(storage, placement.dtype),
        Workload.of(timeline),
        placement,
        tilings=tilings(timeline.width * timeline.height, "auto"),
    )
    plan = choose(candidates, free_bytes(placement.device), placement.device).plan
    return replace(placement, storage=plan.storage)
