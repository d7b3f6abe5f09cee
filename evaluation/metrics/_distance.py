"""What the kernel distances of picture and of sound share."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..kernel_distance import kernel_distance
from ..sample import Sample
from ._classified import ClassifierMetric
from .base import Measurement, Value

SCALE = 1000
DECIMALS = 4
MADE, TRUE = "features", "true_features"


class KernelDistance(ClassifierMetric):
    """How far clips are from the true ones, to the network that tells the world's scenes apart; less is better.

    A clip has a distance to its own true clip: 1 less the cosine of their features. A set has ``kernel_distance``:
    1 000 times the unbiased squared MMD (:func:`..kernel_distance.kernel_distance`, in pairs); None of one clip.
    """

    values = ("distance",)

    def measure(self, sample: Sample) -> Measurement:
        """Features of the clip and of its true one."""
        made = self.media_of(sample)
        true = sample.true_picture if self.modality == "picture" else sample.reference
        if made is None:
            return Measurement.impossible(self.values, f"the clip has no {self.modality}")
        if true is None:
            return Measurement.impossible(self.values, f"the true {self.modality} is not known")
        features = [self.classifier.pooled(media) for media in (made, true)]
        apart = 1 - float(torch.cosine_similarity(*features, dim=0))
        listed = [[round(float(value), DECIMALS) for value in vector] for vector in features]
        return Measurement({"distance": max(apart, 0.0)}, details=dict(zip((MADE, TRUE), listed, strict=True)))

    def summarise(self, measurements: Sequence[Measurement]) -> dict[str, Value]:
        """The distance of the sets, the mean distance of a clip to its own, and how many clips have one."""
        found = [item.details for item in measurements if item.details]
        made, true = (torch.tensor([each[key] for each in found]) for key in (MADE, TRUE))
        distance = SCALE * kernel_distance(made, true, paired=True) if len(found) > 1 else None
        return {"kernel_distance": distance} | super().summarise(measurements)
