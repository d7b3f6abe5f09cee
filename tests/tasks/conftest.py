"""A cascade on the small models: what a file with its own ``model`` and alignment ``path`` runs."""

from __future__ import annotations

import pytest
from sounding_video.core.clock import Timeline
from sounding_video.core.types import Captions
from sounding_video.models.weights.alignment import load_alignment
from sounding_video.pipeline import SamplingOptions
from sounding_video.tasks.base import Run
from sounding_video.tasks.reading import Reading


@pytest.fixture(scope="module")
def loaded(path):
    return load_alignment(path)


@pytest.fixture(scope="module")
def run(model, loaded):
    options = SamplingOptions(num_steps=2, seed=3, video_guidance_scale=2, audio_guidance_scale=2)
    return Run(model, Captions("a ball", "a knock"), Captions("", ""), options, reading=Reading(loaded))


@pytest.fixture(scope="module")
def timeline(model):
    return Timeline(9, 15, 32, 32, model.geometry)
