"""Kernel distance of the sounds to those of the true clips, to a small classifier that only hears them."""

from __future__ import annotations

from . import METRICS
from ._distance import KernelDistance


@METRICS.register("kernel_distance_sound")
class KernelDistanceSound(KernelDistance):
    """0 is the true clips' own; less is better. Needs true clips (``--references``)."""

    title = "kernel distance of the sounds (against the true ones)"
    modality = "sound"
