"""Bridges that were trained at one level for both sides are sampled so, and a schedule that does otherwise is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import small_models as small
from sounding_video.core.device import resolve_placement
from sounding_video.core.progress import Progress
from sounding_video.core.types import Captions
from sounding_video.models.bridge_use import BridgeUse, apart, settings_for
from sounding_video.models.own import PUBLISHED
from sounding_video.nodes.own import AS_SET, FROM_MODEL
from sounding_video.nodes.sampling import _options
from sounding_video.pipeline import SamplingOptions, encode_captions, load_models, sample_latents
from sounding_video.sampling.schedules import SCHEDULES

NOTES = {"task": "joint", "times": "flow", "least_audio_time": "0"}
CPU = resolve_placement(device="cpu")


def bridge(folder: Path, **notes: str) -> Path:
    return small.write_bridge(
        folder / "adaptor.safetensors", "modality_adaptor", rope="time_aligned", notes={**NOTES, **notes}
    )


def test_the_file_says_it(tmp_path) -> None:
    use = BridgeUse.read(NOTES)
    assert use == BridgeUse("joint", one_level=True)
    assert use.words == "picture and sound made together (joint, always equally clear)"
    assert not BridgeUse.read({"task": "joint"}).one_level


@pytest.mark.parametrize("made", ["joint", "v2a", "a2v"])
def test_the_schedule_as_trained_is_the_default(made) -> None:
    settings = settings_for(PUBLISHED, BridgeUse.read(NOTES), made)
    assert (settings.schedule, settings.flow_shift, settings.solver) == ("flow", 1.0, "auto")
    assert (settings.num_steps, settings.video_guidance_scale, settings.audio_guidance_scale) == (50, 6.0, 6.0)
    clipped = BridgeUse.read({**NOTES, "least_audio_time": "0.1855"})
    assert settings_for(PUBLISHED, clipped, made) == PUBLISHED, "even levels end below what that tower knows"


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_another_schedule_is_told_and_only_that(schedule, small_models_dir, tmp_path) -> None:
    model = load_models(small_models_dir, placement=CPU, bridge=bridge(tmp_path))
    texts = encode_captions(*model.texts, Captions("a ball", "a ball"), seconds=0.3, placement=CPU)
    told: list[str] = []
    options = SamplingOptions(num_steps=1, schedule=schedule)
    shapes = {"video_shape": (1, 4, 3, 4, 4), "audio_shape": (1, 6, 11)}
    sample_latents(model, texts, **shapes, options=options, progress=Progress(tell=told.append))
    assert any("equally clear (schedule flow), which lockstep does not show" in line for line in told) == (
        schedule == "lockstep"
    )
    told.clear()
    silent = {**shapes, "audio_shape": None}
    sample_latents(model, texts, **silent, options=options, progress=Progress(tell=told.append))
    assert not any("equally clear" in line for line in told), "without a sound there is nothing to be apart"


def test_bridges_that_say_nothing_of_it_or_were_clipped_are_not_told_of() -> None:
    for use in (None, BridgeUse("joint"), BridgeUse("joint", least_audio_time=0.2, one_level=True)):
        assert apart(use, "lockstep") == ""


def test_the_node_follows_the_bridges(small_models_dir, tmp_path) -> None:
    model = load_models(small_models_dir, placement=CPU, bridge=bridge(tmp_path))
    options, told = _options(model, FROM_MODEL, {}, "both")
    assert (options.schedule, options.flow_shift) == ("flow", 1.0) and "schedule flow" in told
    assert _options(model, AS_SET, {}, "both")[0].schedule == "lockstep"
    assert _options(model, FROM_MODEL, {"schedule": "coupled"}, "both")[0].schedule == "coupled"
