"""Step caches on real towers: what the sound hears without the picture, and how many forwards a run takes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from sounding_video import calibration
from sounding_video.core.pair import Pair
from sounding_video.core.progress import Progress
from sounding_video.core.types import Conditioning, JointLatents, Modality, ModalityConditioning
from sounding_video.models.bridges import BRIDGES
from sounding_video.models.joint import BridgePoints, JointModel
from sounding_video.models.native import BridgedForwards
from sounding_video.models.plan.base import Workload
from sounding_video.models.plan.costs import sampling
from sounding_video.models.plan.outline import without_weights
from sounding_video.sampling.cache import CACHES, build_cache
from sounding_video.sampling.cache._curve import Curve
from sounding_video.sampling.cache._history import History
from sounding_video.sampling.cache._run import HeardRows
from sounding_video.sampling.cache.base import StepCache
from sounding_video.sampling.given import Given, known
from sounding_video.sampling.guidance import dual_guidance
from sounding_video.sampling.loop import sample
from sounding_video.sampling.schedule import build_schedule

STEPS = 12


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def heard_by(names=("positive",), order=0) -> tuple[dict[tuple[str, int], History], HeardRows]:
    kept: dict[tuple[str, int], History] = {}
    return kept, HeardRows(kept, order, list(names), 0.0)


@pytest.mark.parametrize("points", [BridgePoints((0, 1), (0, 1)), BridgePoints((0, 2), (1, 2))])
@pytest.mark.parametrize("kind", BRIDGES)
def test_law_said_again_the_sound_is_what_it_was_with_the_picture(
    kind, points, wan_tower, audio_tower, inputs, random_stack, config_of
) -> None:
    model = JointModel(wan_tower, audio_tower, random_stack(kind, config_of(kind), points))
    plain = model(**inputs)
    kept, heard = heard_by()
    listening = replace(inputs["audio"], heard=heard)
    told = model(inputs["video"], listening)
    assert torch.equal(told[0], plain[0]) and torch.equal(told[1], plain[1])
    video, again = model(None, listening)
    assert video is None
    torch.testing.assert_close(again, plain[1], rtol=1e-4, atol=1e-4)
    deaf = model(None, inputs["audio"])[1]
    # A one-way kind may change the sound by itself, and that is said again too.
    assert torch.allclose(deaf, plain[1], rtol=1e-3, atol=1e-3) == (not kept)


def test_rows_of_batched_passes_are_told_apart(joint, inputs) -> None:
    """Noted as one batch of two passes, said again one by one, the other way round."""
    kept, _ = heard_by()
    both = HeardRows(kept, 0, ["negative", "positive"], 0.0)
    expected = joint(inputs["video"], replace(inputs["audio"], heard=both))[1]
    for row, name in ((1, "positive"), (0, "negative")):
        one = inputs["audio"]
        alone = Modality(
            *(getattr(one, field)[row : row + 1] for field in ("latents", "timestep", "text", "duration")),
            heard=HeardRows(kept, 0, [name], 0.0),
        )
        torch.testing.assert_close(joint(None, alone)[1], expected[row : row + 1], rtol=1e-4, atol=1e-4)


def forward(tower, modality, points):
    def run(stop):
        state, start = tower.enter(modality), 0
        for point in points:
            state = tower.walk(state, start, point + 1)
            state, start = state.with_hidden(stop(point, state)), point + 1
        return tower.leave(tower.walk(state, start, tower.num_blocks))

    return run


def test_forwards_that_are_not_ours_say_it_again_too(joint, wan_tower, audio_tower, inputs) -> None:
    stack = joint.bridges
    bridged = BridgedForwards(stack)
    kept, heard = heard_by()
    runs = [
        forward(tower, inputs[tower.modality], getattr(stack.points, tower.modality))
        for tower in (wan_tower, audio_tower)
    ]
    expected = bridged(*runs)[1]
    assert torch.equal(bridged(*runs, heard=heard)[1], expected) and len(kept) == len(stack)
    torch.testing.assert_close(bridged.said_again(runs[1], heard), expected, rtol=1e-4, atol=1e-4)


def test_the_first_block_alone(joint, wan_tower, inputs) -> None:
    state = wan_tower.enter(inputs["video"])
    change, sound = joint(replace(inputs["video"], first_block=True), None)
    assert sound is None
    assert torch.equal(change, wan_tower.walk(state, 0, 1).hidden - state.hidden)


@pytest.fixture
def conditioning(inputs) -> Conditioning:
    video, audio = inputs["video"], inputs["audio"]
    return Conditioning(
        ModalityConditioning(video.text[:1], video.text[1:]),
        ModalityConditioning(audio.text[:1], audio.text[1:], audio.duration[:1]),
    )


@pytest.fixture
def walked(wan_tower, audio_tower, monkeypatch) -> Counter:
    """Blocks that ran, by tower."""
    counts: Counter = Counter()
    for tower in (wan_tower, audio_tower):
        original = tower.run_block

        def counted(*args, original=original, key=tower.modality):
            counts[key] += 1
            return original(*args)

        monkeypatch.setattr(tower, "run_block", counted)
    return counts


def run(joint, conditioning, cache, batching="sequential", **rest) -> JointLatents:
    generator = torch.Generator().manual_seed(0)
    noise = JointLatents(torch.randn(1, 4, 3, 4, 6, generator=generator), torch.randn(1, 6, 11, generator=generator))
    settings = {"schedule": build_schedule("lockstep", STEPS), "seed": 3, "guidance": dual_guidance(3, 3, batching)}
    return sample(joint, conditioning, noise, cache=cache, **{**settings, **rest})


@pytest.mark.parametrize("batching", ["batched", "sequential"])
@pytest.mark.parametrize("name", CACHES.names())
def test_law_the_picture_is_left_out_and_the_sound_never(name, batching, joint, conditioning, walked) -> None:
    cache = cached(name)
    made = run(joint, conditioning, cache, batching)
    passes = 1 if batching == "batched" else 2
    assert bool(made.video.isfinite().all() and made.audio.isfinite().all())
    assert walked["audio"] == 3 * STEPS * passes
    assert walked["video"] < 3 * STEPS * passes
    if not cache.looks and not cache.measured:
        assert walked["video"] == 3 * cache.num_computed(STEPS) * passes


@pytest.mark.parametrize("name", CACHES.names())
def test_batched_and_sequential_are_one(name, joint, conditioning) -> None:
    one, two = (run(joint, conditioning, cached(name), batching) for batching in ("batched", "sequential"))
    torch.testing.assert_close(one.video, two.video, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(one.audio, two.audio, rtol=1e-3, atol=1e-3)


def test_a_cache_that_computes_all_is_none_bit_for_bit(joint, conditioning) -> None:
    plain = run(joint, conditioning, None)
    for cache in (build_cache("interval", every=1), build_cache("first_block", threshold=1e-9)):
        made = run(joint, conditioning, cache)
        assert torch.equal(made.video, plain.video) and torch.equal(made.audio, plain.audio)


def test_what_the_sound_heard_is_in_the_plan(joint) -> None:
    """Two computed values of both passes and of both bridges, beside what is there without a cache."""
    twin = without_weights(joint)
    shapes, lengths = ((1, 4, 3, 32, 32), (1, 6, 4096)), (10, 8)
    for batched in (False, True):
        plain, kept = (
            sampling(twin, Workload(*shapes, kept_steps=steps), lengths, batched, twin.parameters()).peak_bytes
            for steps in (0, 2)
        )
        of_one = 4097 * joint.audio.width * 4
        assert kept - plain == pytest.approx(2 * 2 * 2 * of_one, rel=0.3)


def cached(name: str, sound: str = "auto") -> StepCache:
    """A kind with curves of an earlier run, where it goes by them."""
    flat = Curve((0.0, 1000.0), (1.0, 1.0))
    cache = build_cache(name, sound=sound)
    return replace(cache, curves={"video": flat, "audio": flat}) if cache.measured else cache


@pytest.mark.parametrize("name", CACHES.names())
@pytest.mark.parametrize("sound", ["fresh", "itself"])
@pytest.mark.parametrize("batching", ["batched", "sequential"])
@pytest.mark.parametrize("how", ["free", "mask", "sound fixed", "sound replaced", "alone"])
def test_every_kind_goes_with_what_is_given_previews_and_guiders(
    name: str, sound: str, batching: str, how: str, joint, conditioning, walked
) -> None:
    """The picture rests at some steps, what is given comes back to the bit, each step has a preview to show."""
    clean, previews = torch.randn(1, 4, 3, 4, 6), []
    sides = {
        "mask": Pair(video=known(clean, 0, 1)),
        "sound fixed": Pair(audio=Given(torch.ones(1, 6, 11), how="fixed")),
        "sound replaced": Pair(audio=Given(torch.ones(1, 6, 11))),
    }
    guidance = dual_guidance(3, 3, batching, unconditional="alone" if how == "alone" else "texts")
    made = run(
        joint,
        conditioning,
        cached(name, sound),
        guidance=guidance,
        given=sides.get(how),
        progress=Progress(report=lambda stage, done, total, preview=None: previews.append(preview())),
    )
    steps_of_a_picture = walked["video"] / joint.video.num_blocks
    assert 0 < steps_of_a_picture < STEPS * (1 if batching == "batched" and how != "alone" else 2)
    assert len(previews) == STEPS and all(bool(one.video.isfinite().all()) for one in previews)
    if how == "mask":
        assert torch.equal(made.video[:, :, :1], clean[:, :, :1])
        assert all(torch.equal(one.video[:, :, :1], clean[:, :, :1]) for one in previews)
    if how.startswith("sound"):
        assert torch.equal(made.audio, torch.ones(1, 6, 11))


@pytest.mark.parametrize("how", ["fixed", "replace"])
@pytest.mark.parametrize("name", [each for each in CACHES.names() if each != "magnitude"])
def test_a_given_picture_rests_too(name: str, how: str, joint, conditioning, walked) -> None:
    clean = torch.randn(1, 4, 3, 4, 6)
    made = run(joint, conditioning, cached(name), given=Pair(video=Given(clean, how=how)))
    assert torch.equal(made.video, clean) and bool(made.audio.isfinite().all())
    assert 0 < walked["video"] / joint.video.num_blocks < 2 * STEPS


def test_the_first_block_of_the_sound_alone(joint, audio_tower, inputs) -> None:
    state = audio_tower.enter(inputs["audio"])
    picture, change = joint(None, replace(inputs["audio"], first_block=True))
    assert picture is None and torch.equal(change, audio_tower.walk(state, 0, 1).hidden - state.hidden)


def test_what_was_measured_of_a_model_is_kept_for_later_runs_and_processes(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(calibration, "_KNOWN", {})
    told: list[str] = []
    progress = Progress(tell=told.append)
    assert calibration.calibrated(None, "model", progress) is None
    interval = build_cache("fast")
    assert calibration.calibrated(interval, "model", progress) is interval and not told
    first = calibration.calibrated(build_cache("magnitude"), "model", progress)
    assert first.curves == {} and "computed whole" in told[0]
    curve = Curve((1.0, 2.0), (3.0, 4.0))
    first.keep({"video": curve})
    for _ in range(2):
        assert calibration.calibrated(build_cache("magnitude"), "model", progress).curves == {"video": curve}
        calibration._KNOWN.clear()  # as in another process
    assert calibration.calibrated(build_cache("magnitude"), "another", progress).curves == {}
    sound = calibration.calibrated(build_cache("magnitude"), "model", progress)
    sound.keep({"audio": curve})  # of a run of the sound alone
    calibration._KNOWN.clear()
    assert calibration.calibrated(build_cache("magnitude"), "model", progress).curves.keys() == {"video", "audio"}
    for file in tmp_path.rglob("*.json"):
        file.write_text('{"video": [[1]]}', encoding="utf-8")
    assert calibration.calibrated(build_cache("magnitude"), "model", progress).curves == {}


def test_a_short_run_measures_nothing_for_others_and_a_side_without_a_curve_is_measured(joint, conditioning) -> None:
    kept, told = [], []

    def go(steps: int, sound: str, **curves: Curve) -> str:
        told.clear()
        cache = replace(build_cache("magnitude", sound=sound), curves=curves, keep=kept.append)
        run(joint, conditioning, cache, schedule=build_schedule("lockstep", steps), progress=Progress(tell=told.append))
        return " ".join(told)

    assert "10 steps or more is needed" in go(4, "fresh") and not kept
    assert "later runs leave steps out" in go(10, "fresh") and kept.pop().keys() == {"video"}
    flat = Curve((0.0, 1000.0), (1.0, 1.0))
    assert "computed whole" not in go(12, "fresh", video=flat) and not kept
    assert "measures this model now" in go(12, "itself", video=flat) and kept.pop().keys() == {"video", "audio"}
    assert "measures" not in go(12, "itself", video=flat, audio=flat) and not kept
