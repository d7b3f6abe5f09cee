"""Scene accuracy of the picture: does it show what the manifest names, to a small classifier that only sees it?"""

from __future__ import annotations

from . import METRICS
from ._scene import SceneAccuracy


@METRICS.register("scene_accuracy_picture")
class SceneAccuracyPicture(SceneAccuracy):
    """0..1, more is better. Needs a manifest with scenes."""

    title = "scene accuracy of the picture"
    modality = "picture"
