"""Deciding how weights are kept, before they are loaded."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .bridges import chosen_bridge

if TYPE_CHECKING:
    from ..core.clock import LatentGeometry
    from ..core.device import Placement
    from ..models.plan.outline import Outline
    from ..models.weights.bridges import BridgeOptions
    from ..models.weights.find import ModelSet


def decide_storage(
    placement: Placement, found: ModelSet, extent: dict[str, Any], bridge: str, bridge_options: BridgeOptions
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
    from ..models.plan.needs import Workload
    from ..models.plan.outline import outline_models
    from ..models.plan.plans import choose, free_bytes, plans
    from ..models.plan.runs import tilings

    outline = outline_models(found, placement, bridge=chosen_bridge(bridge, found), bridge_options=bridge_options)
    timeline = Timeline(**extent, geometry=geometry_of_outline(outline))
    candidates = plans(
        lambda storage: outline.stored(storage, placement.dtype),
        Workload.of(timeline),
        placement,
        tilings=tilings(timeline.width * timeline.height, "auto"),
    )
    plan = choose(candidates, free_bytes(placement.device), placement.device).plan
    return replace(placement, storage=plan.storage)


def geometry_of_outline(outline: Outline) -> LatentGeometry:
    """Strides and channels of a model that is not loaded."""
    from ..core.clock import LatentGeometry

    vae = outline.audio_vae
    return LatentGeometry(
        video_channels=outline.video_codec.latent_channels,
        temporal_stride=outline.video_codec.temporal_stride,
        spatial_stride=outline.video_codec.spatial_stride,
        audio_channels=vae.config.decoder_input_channels,
        audio_hop=vae.hop_length,
        sample_rate=vae.config.sampling_rate,
    )
