"""Kernel distance of the pictures to those of the true clips, to a small classifier that only sees them."""

from __future__ import annotations

from . import METRICS
from ._distance import KernelDistance


@METRICS.register("kernel_distance_picture")
class KernelDistancePicture(KernelDistance):
    """0 is the true clips' own; less is better. Needs true clips (``--references``)."""

    title = "kernel distance of the pictures (against the true ones)"
    modality = "picture"
