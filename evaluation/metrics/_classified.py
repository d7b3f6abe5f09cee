"""What metrics by the scene classifiers share."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

from ...core.types import AudioClip, VideoClip
from ..classifier import SceneClassifier, load_classifier
from ..sample import Sample
from .base import Metric


class ClassifierMetric(Metric):
    """Asks the small network of one modality."""

    modality: ClassVar[str]

    @cached_property
    def classifier(self) -> SceneClassifier:
        """The trained network.

        Raises:
            MissingModelError: it is not there; the message has the command that trains it.
        """
        return load_classifier(self.modality)

    def check(self) -> None:
        """Fail now rather than after the first clip.

        Raises:
            MissingModelError: the classifier is not there.
        """
        super().check()
        _ = self.classifier

    def media_of(self, sample: Sample) -> VideoClip | AudioClip | None:
        """The clip's picture or its sound."""
        return sample.clip.video if self.modality == "picture" else sample.clip.audio
