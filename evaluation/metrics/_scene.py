"""What scene accuracy of picture and of sound share."""

from __future__ import annotations

from collections.abc import Sequence

from ...core.errors import InputError
from ...core.types import AudioClip, VideoClip
from ..sample import Sample
from ._classified import ClassifierMetric
from .base import Measurement, Value


class SceneAccuracy(ClassifierMetric):
    """1 where the classifier names the manifest's scene, else 0; beside it the probability it gives that scene.

    A silent or single-coloured clip counts as wrong: nothing in it shows a scene.
    """

    values = ("correct", "probability")
    needs_truth = True

    def measure(self, sample: Sample) -> Measurement:
        """Classify one clip."""
        media = self.media_of(sample)
        if media is None:
            return Measurement.impossible(self.values, f"the clip has no {self.modality}")
        scene = None if sample.truth is None else sample.truth.scene
        if scene is None:
            return Measurement.impossible(self.values, "the manifest names no scene")
        if scene not in self.classifier.scenes:
            raise InputError(
                "the classifier does not know this scene",
                got=repr(scene),
                expected="one of " + ", ".join(self.classifier.scenes),
            )
        if is_blank(media):
            return Measurement({"correct": 0.0, "probability": 0.0}, details={"scene": scene, "named": None})
        shares = self.classifier.classify(media)
        named = max(shares, key=shares.__getitem__)
        values = {"correct": float(named == scene), "probability": shares[scene]}
        return Measurement(values, details={"scene": scene, "named": named})

    def summarise(self, measurements: Sequence[Measurement]) -> dict[str, Value]:
        """The accuracy, the mean probability, and the classifier's own accuracy on the world's test clips."""
        return super().summarise(measurements) | {"classifier_test_accuracy": self.classifier.test_accuracy}


def is_blank(media: VideoClip | AudioClip) -> bool:
    """Whether a sound is silent (below -80 dB full scale) or a picture has one colour throughout."""
    values = media.frames if isinstance(media, VideoClip) else media.waveform
    if isinstance(media, AudioClip):
        return float(values.abs().max()) < 1e-4
    return float(values.amax((0, 1, 2)).sub(values.amin((0, 1, 2))).max()) < 0.5 / 255
