"""Scene accuracy of the sound: does it show what the manifest names, to a small classifier that only hears it?"""

from __future__ import annotations

from . import METRICS
from ._scene import SceneAccuracy


@METRICS.register("scene_accuracy_sound")
class SceneAccuracySound(SceneAccuracy):
    """0..1, more is better. Needs a manifest with scenes."""

    title = "scene accuracy of the sound"
    modality = "sound"
    packages = ("torchaudio",)
