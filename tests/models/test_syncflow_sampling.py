"""SyncFlow's laws of sampling (shared/reference/SYNCFLOW.md, section 8, 8 to 11 and 16), on small real towers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import small_models as small
import torch
from sounding_video.core.device import resolve_placement
from sounding_video.core.errors import InputError
from sounding_video.core.pair import Pair
from sounding_video.core.types import Conditioning, JointLatents, ModalityConditioning
from sounding_video.models.joint import JointModel
from sounding_video.pipeline import JoinedModel, SamplingOptions, load_models, sample_latents
from sounding_video.sampling.given import Given
from sounding_video.sampling.guidance import dual_guidance
from sounding_video.sampling.loop import sample
from sounding_video.sampling.noise import draw_noise
from sounding_video.sampling.schedule import build_schedule
from sounding_video.sampling.schedules import SCHEDULES

KINDS = ("modality_adaptor", "video_features")
VIDEO_SHAPE, AUDIO_SHAPE = (1, 4, 3, 4, 6), (1, 6, 11)
STEPS = 4
DEAF = frozenset({"audio"})


@pytest.fixture
def bridged(wan_tower, audio_tower, random_stack, bridge_config) -> Callable[[str], JointModel]:
    def make(kind: str) -> JointModel:
        stack = random_stack(kind, replace(bridge_config, rope="time_aligned"))
        return JointModel(wan_tower, audio_tower, stack).eval()

    return make


@pytest.fixture
def loaded(small_models_dir: Path, tmp_path: Path) -> Callable[..., JoinedModel]:
    def make(kind: str) -> JoinedModel:
        bridge = small.write_bridge(tmp_path / f"{kind}.safetensors", kind, rope="time_aligned")
        return load_models(small_models_dir, placement=resolve_placement(device="cpu"), bridge=bridge)

    return make


def run(model: object, texts: Conditioning, noise: JointLatents, schedule: str = "flow", **settings: object):
    settings = {"guidance": dual_guidance(6, 6), "seed": 11, **settings}
    return sample(model, texts, noise, schedule=build_schedule(schedule, STEPS, flow_shift=1.0), **settings)


class Watched:
    """A joint model that remembers what it was shown."""

    def __init__(self, model: JointModel) -> None:
        self.model, self.calls = model, []

    def __call__(self, video, audio):
        self.calls.append((video, audio))
        return self.model(video, audio)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("scales", [(1.0, 1.0), (6.0, 6.0), (3.0, 9.0)])
@pytest.mark.parametrize("kind", KINDS)
def test_syncflow_law_8_the_picture_of_a_joint_run_is_that_of_the_tower_alone(
    kind, scales, schedule, bridged, wan_tower, texts, noise
) -> None:
    """The same noise, handed in: a seed draws the sound's first, and a silent run with it has another picture."""
    guidance = dual_guidance(*scales, "sequential")
    joint = run(bridged(kind), texts, noise, schedule, guidance=guidance)
    silent = JointLatents(video=noise.video)
    alone = run(JointModel(wan_tower, None), Conditioning(texts.video, None), silent, schedule, guidance=guidance)
    assert torch.equal(joint.video, alone.video)
    assert joint.audio is not None and bool(joint.audio.isfinite().all())
    redrawn = draw_noise(5, video_shape=VIDEO_SHAPE)
    assert not torch.equal(redrawn.video, noise.video)


def test_syncflow_law_8_does_not_hold_where_the_picture_hears(bridged, wan_tower, texts, noise) -> None:
    joint = run(bridged("dual_cross"), texts, noise)
    alone = run(JointModel(wan_tower, None), Conditioning(texts.video, None), JointLatents(video=noise.video))
    assert not torch.equal(joint.video, alone.video)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("kind", KINDS)
def test_syncflow_law_9_a_given_picture_walks_the_line_from_noise_to_itself(
    kind, schedule, bridged, texts, noise
) -> None:
    clean = torch.randn(VIDEO_SHAPE, generator=torch.Generator().manual_seed(9))
    seen = Watched(bridged(kind))
    made = run(seen, texts, noise, schedule, given=Pair(video=Given(clean)), guidance=dual_guidance(1, 1))
    assert torch.equal(made.video, clean)
    states = torch.stack([video.latents.flatten() for video, _ in seen.calls]).double()
    singular = torch.linalg.svdvals(states[1:] - states[0])
    assert float(singular[1] / singular[0]) < 1e-5
    sigmas = build_schedule(schedule, STEPS, flow_shift=1.0).video.sigmas
    first = (1 - sigmas[0]) * clean + sigmas[0] * noise.video
    torch.testing.assert_close(states[0], first.flatten().double(), rtol=0, atol=1e-5)
    last = (1 - sigmas[-2]) * clean + sigmas[-2] * noise.video
    torch.testing.assert_close(states[-1], last.flatten().double(), rtol=0, atol=1e-5)


def test_syncflow_law_9_both_guidance_rows_see_the_given_picture(bridged, texts, noise) -> None:
    clean = torch.randn(VIDEO_SHAPE, generator=torch.Generator().manual_seed(9))
    seen = Watched(bridged("modality_adaptor"))
    run(seen, texts, noise, given=Pair(video=Given(clean)), guidance=dual_guidance(6, 6, "batched"))
    for video, _ in seen.calls:
        assert torch.equal(video.latents[0], video.latents[1]) and not torch.equal(video.text[0], video.text[1])


@pytest.mark.parametrize("kind", KINDS)
def test_syncflow_law_10_without_a_way_there_a_given_picture_is_refused(kind, small_models_dir, loaded, texts) -> None:
    """And the sound of a modality adaptor's model is led by the picture, its picture by nothing."""
    clean = torch.randn(VIDEO_SHAPE, generator=torch.Generator().manual_seed(9))
    sound = torch.randn(AUDIO_SHAPE, generator=torch.Generator().manual_seed(9))
    sizes = {"video_shape": VIDEO_SHAPE, "audio_shape": AUDIO_SHAPE, "options": SamplingOptions(num_steps=2)}
    lonely = load_models(small_models_dir, placement=resolve_placement(device="cpu"), bridge="none")
    with pytest.raises(InputError, match=r"nothing leads from the given picture to the sound.*modality_adaptor"):
        sample_latents(lonely, texts, given=Pair(video=Given(clean)), **sizes)
    model = loaded(kind)
    with pytest.raises(
        InputError, match=r"nothing leads from the given sound to the picture: got bridges that do not change the pict"
    ) as refused:
        sample_latents(model, texts, given=Pair(audio=Given(sound)), **sizes)
    assert "dual_cross" in str(refused.value) and "modality_adaptor" not in str(refused.value)
    made = sample_latents(model, texts, given=Pair(video=Given(clean)), **sizes)
    assert torch.equal(made.video, clean) and bool(made.audio.isfinite().all())


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("kind", KINDS)
def test_syncflow_law_10_bridges_without_output_leave_the_sound_to_its_text(
    kind, schedule, bridged, audio_tower, texts, noise
) -> None:
    clean = torch.randn(VIDEO_SHAPE, generator=torch.Generator().manual_seed(9))
    model, given = bridged(kind), Pair(video=Given(clean))
    guidance = dual_guidance(6, 6, "sequential")
    alone = run(
        JointModel(None, audio_tower), Conditioning(None, texts.audio), JointLatents(audio=noise.audio), schedule,
        guidance=guidance,
    )  # fmt: skip
    heard = run(model, texts, noise, schedule, given=given, guidance=guidance)
    assert not torch.equal(heard.audio, alone.audio)
    for bridge in model.bridges:
        torch.nn.init.zeros_(bridge.cross.o_proj.weight)
        torch.nn.init.zeros_(bridge.cross.o_proj.bias)
    silenced = run(model, texts, noise, schedule, given=given, guidance=guidance)
    assert torch.equal(silenced.audio, alone.audio)


def test_syncflow_law_11_an_oracle_that_is_not_given_the_picture_walks_the_same_points(noise) -> None:
    """Euler on ``flow``; the first step is pure noise in both, the others agree to float32."""
    clean = torch.randn(VIDEO_SHAPE, generator=torch.Generator().manual_seed(9))
    silent = Conditioning(ModalityConditioning(torch.zeros(1, 2, 3)), ModalityConditioning(torch.zeros(1, 2, 3)))
    looks = []

    def oracle(video, audio):
        looks[-1].append(video.latents)
        return noise.video - clean, torch.zeros(AUDIO_SHAPE)

    for given in (None, Pair(video=Given(clean))):
        looks.append([])
        run(oracle, silent, noise, given=given, guidance=dual_guidance(1, 1))
    for walked, shown in zip(*looks, strict=True):
        torch.testing.assert_close(walked, shown, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_syncflow_law_16_a_deaf_side_makes_no_third_pass(kind, loaded, texts) -> None:
    """Of all scales only the sound's can act: its pass alone runs the audio tower, once more a step."""
    model, calls = loaded(kind), []
    assert model.hears == DEAF
    model.root.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append(tuple(one is not None for one in args)), with_kwargs=True
    )

    def forwards(**scales: float) -> list[tuple[bool, ...]]:
        calls.clear()
        options = SamplingOptions(num_steps=2, guidance_batching="sequential", **scales)
        sample_latents(model, texts, video_shape=VIDEO_SHAPE, audio_shape=AUDIO_SHAPE, options=options)
        return list(calls)

    plain = forwards()
    assert plain == [(True, True)] * 4, "two passes a step"
    assert forwards(video_modality_scale=3.0) == plain
    assert sorted(forwards(audio_modality_scale=3.0)) == sorted([*plain, (False, True), (False, True)])
    assert "video_modality_scale 3 cannot act" in SamplingOptions(video_modality_scale=3.0).deaf(model.hears)


@pytest.mark.parametrize("kind", KINDS)
def test_one_weight_for_both_leads_away_from_no_text_on_either_side(kind, bridged, texts, noise) -> None:
    """SyncFlow's u(∅) + w·(u(s) − u(∅)): in the second pass both captions are the negative ones."""
    seen = Watched(bridged(kind))
    run(seen, texts, noise, guidance=dual_guidance(6, 6, "sequential"))
    told = [
        (torch.equal(v.text, texts.video.positive), torch.equal(a.text, texts.audio.positive)) for v, a in seen.calls
    ]
    assert sorted(told) == [(False, False)] * STEPS + [(True, True)] * STEPS


@pytest.mark.parametrize("size", [(2, 2), (4, 6), (8, 10)])
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_weights_take_other_resolutions_and_lengths(kind, size, bridged, texts) -> None:
    """Zero-shot 128² and 512²: no part depends on the number of places."""
    for frames, sounds in ((1, 4), (5, 20)):
        shapes = {"video_shape": (1, 4, frames, *size), "audio_shape": (1, 6, sounds)}
        made = run(bridged(kind), texts, draw_noise(1, **shapes))
        assert (made.video.shape, made.audio.shape) == tuple(shapes.values())
        assert bool(made.video.isfinite().all()) and bool(made.audio.isfinite().all())
