"""Step caches: which steps run, what the others take instead, and laws over every kind."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from sounding_video.core.errors import Cancelled, InputError
from sounding_video.core.pair import Pair
from sounding_video.core.progress import Progress
from sounding_video.core.types import JointLatents
from sounding_video.sampling.cache import CACHES, PRESETS, cache_names
from sounding_video.sampling.cache import build_cache as build_as_asked
from sounding_video.sampling.cache._curve import Curve, curves_as_json, made_curve, read_curves
from sounding_video.sampling.cache._history import History
from sounding_video.sampling.cache._run import CacheRun
from sounding_video.sampling.given import Given
from sounding_video.sampling.guidance import dual_guidance
from sounding_video.sampling.loop import sample
from sounding_video.sampling.options import SamplingOptions
from sounding_video.sampling.schedule import build_schedule

STEPS = 20
EVERY = pytest.mark.parametrize("name", CACHES.names())
EVERY_NAME = pytest.mark.parametrize("name", cache_names()[1:])


FLAT, STEEP = Curve((0.0, 1000.0), (1.0, 1.0)), Curve((0.0, 1.0), (1e-4, 1e4))


def build_cache(name, **settings):
    """As from the options; one that goes by an earlier run has seen one in which predictions stayed as long."""
    cache = build_as_asked(name, **settings)
    return replace(cache, curves={"video": FLAT, "audio": FLAT}) if cache is not None and cache.measured else cache


class Bridged:
    """A denoiser of which the sound hears the picture's mean, and says it again where the picture is absent.

    Args:
        video: The picture's prediction from its time 0..1.
    """

    def __init__(self, video=lambda latents, time: torch.sin(latents + time)):
        self._video, self.calls = video, []

    def __call__(self, video, audio):
        if video is not None and video.first_block:
            self.calls.append(("first block", ()))
            return torch.ones(1, 2, 3) * float(video.timestep), None
        if audio is not None and audio.first_block:
            self.calls.append(("first block of the sound", ()))
            return None, torch.ones(1, 2, 3) * float(audio.timestep) ** 6
        names = "+".join(name for name, one in (("video", video), ("audio", audio)) if one is not None)
        self.calls.append((names, tuple(one.name for one in (video or audio).passes)))
        told = [None if one is None else one.text.float().flatten(1).mean(1) for one in (video, audio)]
        flow = v = None
        if video is not None:
            time = video.timestep / 1000
            flow = self._video(video.latents, time) + told[0].view(-1, 1, 1, 1, 1)
        if audio is not None:
            v = torch.sin(audio.latents) + told[1].view(-1, 1, 1)
            if video is not None:
                heard = video.latents.flatten(1).mean(1).view(-1, 1, 1).expand(-1, 1, 2)
                if audio.heard is not None:
                    audio.heard.note(0, heard)
            else:
                heard = None if audio.heard is None else audio.heard.change(0)
            v = v if heard is None else v + heard.mean(2, keepdim=True)
        return flow, v

    def count(self, names):
        return sum(name == names for name, _ in self.calls)


class Deaf(Bridged):
    """Forgets what it heard."""

    def __call__(self, video, audio):
        return super().__call__(video, audio if audio is None else replace(audio, heard=None))


def run(denoiser, texts, noise, cache, *, scales=(1, 1), batching="sequential", steps=STEPS, schedule="flow", **rest):
    guidance = rest.pop("guidance", None) or dual_guidance(*scales, batching)
    schedule = build_schedule(schedule, steps, video=noise.video is not None, audio=noise.audio is not None)
    return sample(denoiser, texts, noise, schedule=schedule, guidance=guidance, seed=1, cache=cache, **rest)


@pytest.mark.parametrize("order", [0, 1, 2])
def test_a_polynomial_of_the_order_is_met_and_a_constant_to_the_bit(order):
    history, value = History(order), torch.randn(3, 4)
    for at in (900.0, 850.0, 700.0):
        history.note(at, value * (at / 1000) ** order)
    torch.testing.assert_close(history(400.0), value * 0.4**order)
    constant = History(order)
    for at in (900.0, 850.0, 700.0):
        constant.note(at, value)
    assert torch.equal(constant(123.0), value) and len(constant) == order + 1


def test_a_second_value_at_one_place_takes_its_place():
    history = History(1)
    for at, value in ((5.0, 1.0), (4.0, 2.0), (4.0, 3.0)):
        history.note(at, torch.tensor([value]))
    assert history(3.0).item() == pytest.approx(5.0)


def test_extrapolation_keeps_the_type():
    history = History(1)
    for at in (3.0, 2.0):
        history.note(at, torch.ones(2, dtype=torch.bfloat16) * at)
    assert history(1.0).dtype == torch.bfloat16 and history(1.0).tolist() == [1, 1]


@EVERY_NAME
def test_law_the_first_and_the_last_steps_run(name, conditioning, noise):
    cache = build_cache(name)
    for steps in (1, 2, 3, 10, 25, 50):
        between = cache.between(steps)
        assert 0 not in between and steps - 1 not in between
        asked = [cache.computes(step, steps, 1, lambda: 0.0) for step in range(steps)]
        assert asked == [step not in between for step in range(steps)]


@EVERY_NAME
@pytest.mark.parametrize("steps", [1, 2, 5, 20, 50])
def test_law_a_run_computes_no_more_steps_than_are_told(name, steps, conditioning, noise):
    denoiser, cache = Bridged(), build_cache(name)
    run(denoiser, conditioning(), noise, cache, steps=steps)
    computed = denoiser.count("video+audio")
    assert computed <= cache.num_computed(steps) and computed + denoiser.count("audio") == steps
    if name not in CACHES:
        assert computed == cache.num_computed(steps)


@pytest.mark.parametrize(("name", "steps", "computed"), [("gentle", 50, 28), ("fast", 50, 21), ("fastest", 50, 17)])
def test_presets_compute_what_their_names_promise(name, steps, computed):
    assert build_cache(name).num_computed(steps) == computed


@EVERY
@pytest.mark.parametrize("batching", ["batched", "sequential"])
@pytest.mark.parametrize("order", [0, 1, 2])
def test_law_a_picture_that_says_the_same_at_every_step_is_the_same(name, batching, order, conditioning, noise):
    """The prediction does not depend on the time or the latents, so nothing is lost, whatever is skipped."""
    target = torch.randn(noise.video.shape, generator=torch.Generator().manual_seed(9))
    made = []
    for cache in (None, build_cache(name, order=order)):
        denoiser = Bridged(lambda latents, time: target.expand_as(latents))
        made.append(run(denoiser, conditioning(), noise, cache, scales=(4, 3), batching=batching))
    torch.testing.assert_close(made[0].video, made[1].video, rtol=1e-5, atol=1e-5)
    assert denoiser.count("audio") > 0


def test_first_order_meets_a_picture_that_turns_evenly(conditioning, noise):
    target = torch.randn(noise.video.shape, generator=torch.Generator().manual_seed(9))
    made = [
        run(Bridged(lambda latents, time: target * time), conditioning(), noise, cache, scales=(3, 1))
        for cache in (None, build_cache("fastest"), build_cache("fastest", order=0))
    ]
    torch.testing.assert_close(made[0].video, made[1].video, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(made[0].video, made[2].video, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("batching", ["batched", "sequential"])
def test_the_sound_runs_at_every_step_and_hears_what_it_heard_last(batching, conditioning, noise):
    """The picture moves evenly, so what was heard last is nearly what would be heard; deaf, it is another sound."""
    target = torch.randn(noise.video.shape, generator=torch.Generator().manual_seed(9)) + 1
    made = {}
    for kind, cache in ((Bridged, None), (Bridged, build_cache("fast")), (Deaf, build_cache("fast"))):
        denoiser = kind(lambda latents, time: target.expand_as(latents))
        result = run(denoiser, conditioning(), noise, cache, scales=(4, 3), batching=batching)
        made[kind, cache is None] = result.audio, denoiser
    (plain, _), (cached, told), (deaf, _) = made.values()
    both, alone = (told.count(names) for names in ("video+audio", "audio"))
    assert both + alone == STEPS * (1 if batching == "batched" else 2) and alone > 0
    assert (cached - plain).norm() < 0.3 * (deaf - plain).norm()


@EVERY
def test_law_a_cached_sound_runs_only_with_the_picture(name, conditioning, noise):
    denoiser = Bridged()
    run(denoiser, conditioning(), noise, build_cache(name, sound="cached"), scales=(4, 3))
    assert denoiser.count("audio") == 0 and 0 < denoiser.count("video+audio") < 2 * STEPS


@EVERY
def test_law_runs_know_nothing_of_each_other(name, conditioning, noise):
    cache, denoiser = build_cache(name), Bridged()
    first, second = (run(denoiser, conditioning(), noise, cache, scales=(4, 3)) for _ in range(2))
    assert torch.equal(first.video, second.video) and torch.equal(first.audio, second.audio)


@EVERY
@pytest.mark.parametrize("order", [0, 1, 2])
def test_law_memory_is_bounded_by_the_order_and_the_passes(name, order, conditioning, noise, monkeypatch):
    kept, runs = [], []
    begin = CacheRun.begin

    def watched(self, step, look):
        begin(self, step, look)
        kept.append(self.num_bytes)
        runs.append(self)

    monkeypatch.setattr(CacheRun, "begin", watched)
    run(Bridged(), conditioning(), noise, build_cache(name, order=order), scales=(4, 3), steps=40)
    # Of each pass the predictions, and once the bridge's part, which is two numbers.
    assert max(kept) == runs[-1].num_bytes == 2 * ((order + 1) * noise.video.nbytes + 8)


@EVERY_NAME
def test_a_picture_alone_and_a_given_picture(name, conditioning, noise):
    silent = Bridged()
    run(silent, conditioning(audio=False), JointLatents(noise.video, None), build_cache(name))
    assert 0 < silent.count("video") < STEPS
    if build_cache(name).measured:
        return  # nothing is predicted of a given picture, see below
    shown = Bridged()
    made = run(shown, conditioning(), noise, build_cache(name), scales=(1, 3), given=Pair(video=Given(noise.video)))
    assert torch.equal(made.video, noise.video) and bool(made.audio.isfinite().all())
    assert shown.count("audio") > 0 and shown.count("video+audio") + shown.count("audio") == 2 * STEPS


def test_a_given_sound_and_a_known_part_of_the_picture(conditioning, noise):
    denoiser = Bridged()
    made = run(denoiser, conditioning(), noise, build_cache("fast"), given=Pair(audio=Given(noise.audio)))
    assert denoiser.count("audio") == 0 and len(denoiser.calls) == build_cache("fast").num_computed(STEPS)
    mask = torch.zeros(1, 1, *noise.video.shape[2:])
    mask[:, :, :1] = 1
    clean = torch.randn_like(noise.video)
    made = run(Bridged(), conditioning(), noise, build_cache("fast"), given=Pair(video=Given(clean, mask)))
    assert torch.equal(made.video[:, :, :1], clean[:, :, :1])


def test_sound_alone_is_told_that_nothing_is_saved(conditioning, noise):
    told, denoiser = [], Bridged()
    alone = JointLatents(None, noise.audio)
    run(denoiser, conditioning(video=False), alone, build_cache("fast"), progress=Progress(tell=told.append))
    assert len(denoiser.calls) == STEPS and "does nothing here" in told[0]
    denoiser = Bridged()
    run(denoiser, conditioning(video=False), alone, build_cache("fast", sound="cached"))
    assert len(denoiser.calls) == build_cache("fast").num_computed(STEPS)


def test_what_it_saw_is_told(conditioning, noise):
    told = []
    run(Bridged(), conditioning(), noise, build_cache("fast"), progress=Progress(tell=told.append))
    assert told[-1].startswith(
        f"step cache: {build_cache('fast').num_computed(STEPS)} of {STEPS} steps computed; there"
    )


def test_a_pass_that_begins_between_is_computed_first(conditioning, noise):
    """Guidance begins at a step that would be extrapolated: nothing of the negative pass is known there."""
    start = next(step for step in build_cache("fast").between(STEPS)) / STEPS
    for scales in ((4, 1), (1, 4)):
        denoiser = Bridged()
        guidance = dual_guidance(*scales, "sequential", interval=(start, 1.0))
        made = run(denoiser, conditioning(), noise, build_cache("fast"), guidance=guidance)
        assert bool(made.video.isfinite().all())
        negative = [names for names, passes in denoiser.calls if passes == ("negative",)]
        assert negative[0] == "video+audio"


def test_passes_alone_are_extrapolated_for_the_picture_and_run_for_the_sound(conditioning, noise):
    denoiser = Bridged()
    guidance = dual_guidance(1, 1, modality_scales=(3, 3))
    run(denoiser, conditioning(), noise, build_cache("fast"), guidance=guidance)
    computed = build_cache("fast").num_computed(STEPS)
    counts = {call: denoiser.calls.count(call) for call in set(denoiser.calls)}
    assert counts == {
        ("video+audio", ("positive",)): computed,
        ("video", ("alone",)): computed,
        ("audio", ("positive",)): STEPS - computed,
        ("audio", ("alone",)): STEPS,
    }


def test_first_block_follows_what_it_sees(conditioning, noise):
    counts = []
    for threshold in (1e-6, 0.15, 9.0):
        denoiser = Bridged()
        run(denoiser, conditioning(), noise, build_cache("first_block", threshold=threshold))
        counts.append(denoiser.count("video+audio"))
    cache = build_cache("first_block")
    between = len(cache.between(STEPS))
    assert counts[0] == STEPS > counts[1] > counts[2] == STEPS - between + between // (cache.most + 1)


def test_cancel_ends_an_extrapolated_step(conditioning, noise):
    denoiser = Bridged()

    def check():
        if denoiser.calls and denoiser.calls[-1][0] == "audio":
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        run(denoiser, conditioning(), noise, build_cache("fast"), progress=Progress(check_cancelled=check))
    assert denoiser.count("audio") == 1


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("fats", {}, "step cache"),
        (
            "fast",
            {"threshold": 0.1},
            "has no such setting: got threshold 0.1; expected 0, or a cache that has it: fir.*, magn",
        ),
        ("first_block", {"every": 3}, "has no such setting"),
        ("first_block", {"walked": False}, "one whole"),
        ("fast", {"walked": False, "sound": "fresh"}, "one whole"),
        ("fast", {"sound": "loud"}, "way of the sound"),
        ("fast", {"order": 3}, "order of the step cache"),
        ("interval", {"every": -1}, "interval of the step cache"),
        ("first_block", {"threshold": -1.0}, "threshold of the step cache"),
        ("first_block", {"threshold": float("nan")}, "threshold of the step cache"),
        ("magnitude", {"threshold": -1.0}, "threshold of the step cache"),
        ("magnitude", {"every": 2}, "has no such setting"),
        ("interval", {"walked": False, "sound": "itself"}, "one whole"),
    ],
)
def test_what_cannot_be_is_refused(name, settings, message):
    with pytest.raises(InputError, match=message):
        build_cache(name, **settings)


def test_off_is_none_and_a_model_of_one_piece_takes_the_sound_along():
    assert build_cache("off", every=3) is None
    assert build_cache("fast", walked=False).sound == "cached" and build_cache("fast").sound == "fresh"


def test_options_reach_the_cache_and_are_refused_early():
    made = SamplingOptions(step_cache="fast", step_cache_every=5, step_cache_order=0).build_cache()
    assert (made.every, made.order, made.sound) == (5, 0, "fresh")
    assert SamplingOptions().build_cache() is None and SamplingOptions().num_computed == 50
    assert SamplingOptions(step_cache="fastest").num_computed == 17
    with pytest.raises(InputError, match="has no such setting"):
        SamplingOptions(step_cache="fast", step_cache_threshold=0.2)


def test_presets_name_settings_that_their_kinds_have():
    for preset in PRESETS.values():
        assert set(preset.settings) <= {field.name for field in fields(CACHES.get(preset.kind))}


@pytest.mark.parametrize(("every", "asked"), [(1, STEPS), (2, STEPS // 2), (3, 7), (20, 1)])
def test_guidance_every_k_runs_its_pass_at_every_kth_step(every, asked, mixing, conditioning, noise):
    guidance = dual_guidance(4, 3, "sequential", every=(every, 1))
    run(mixing, conditioning(), noise, None, guidance=guidance)
    assert [video.passes[0].name for video, _ in mixing.calls].count("negative") == asked
    assert len(mixing.calls) == STEPS + asked


def test_a_push_that_never_changes_loses_nothing(conditioning, noise):
    """The two texts differ by a constant, so the last difference is the present one."""
    made = [
        run(Bridged(), conditioning(), noise, None, guidance=dual_guidance(4, 3, every=(each, 1))) for each in (1, 4)
    ]
    for name in ("video", "audio"):
        assert not torch.equal(noise.video, made[0].video)
        torch.testing.assert_close(getattr(made[0], name), getattr(made[1], name), rtol=1e-3, atol=1e-3)


def test_each_guider_has_its_own_turns(mixing, conditioning, noise):
    guidance = dual_guidance(4, 4, "sequential", modality_scales=(1, 3), every=(2, 5))
    run(mixing, conditioning(), noise, None, guidance=guidance)
    names = [(video or audio).passes[0].name for video, audio in mixing.calls]
    assert {name: names.count(name) for name in names} == {"negative": 10, "positive": STEPS, "alone": 4}


def test_turns_are_counted_in_computed_steps(conditioning, noise):
    """Every 2nd step with a cache of every 2nd: counted in steps, the turns would fall on extrapolated ones only."""
    denoiser = Bridged()
    guidance = dual_guidance(4, 3, "sequential", every=(2, 1))
    run(denoiser, conditioning(), noise, build_cache("gentle"), guidance=guidance)
    computed = build_cache("gentle").num_computed(STEPS)
    assert denoiser.calls.count(("video+audio", ("negative",))) == (computed + 1) // 2
    assert denoiser.calls.count(("audio", ("negative",))) == 0


def test_an_interval_and_turns_go_together(mixing, conditioning, noise):
    guidance = dual_guidance(4, 3, "sequential", interval=(0.5, 1.0), every=(5, 1))
    run(mixing, conditioning(), noise, None, guidance=guidance)
    names = [video.passes[0].name for video, _ in mixing.calls]
    assert names.count("negative") == 2 and "negative" not in names[:10]


def test_no_turn_at_all_is_refused():
    with pytest.raises(InputError, match="steps of the guidance"):
        dual_guidance(every=(0, 1))


def measuring(kept):
    return replace(build_as_asked("magnitude"), keep=kept.append, most=4)


def test_the_first_run_is_computed_whole_and_measured_and_later_ones_leave_steps_out(conditioning, noise):
    kept, told, first = [], [], Bridged()
    tell = {"progress": Progress(tell=told.append)}
    whole = run(first, conditioning(), noise, measuring(kept), scales=(4, 3), **tell)
    plain = run(Bridged(), conditioning(), noise, None, scales=(4, 3))
    assert torch.equal(whole.video, plain.video) and first.count("video+audio") == 2 * STEPS
    assert told == [f"step cache: {STEPS} of {STEPS} steps computed", told[-1]] and "measured this model" in told[-1]
    (curves,) = kept
    assert set(curves) == {"video"} and len(curves["video"].times) == STEPS
    counts = {}
    for threshold in (1e-9, 0.05, 9.0):
        later = Bridged()
        told.clear()
        run(later, conditioning(), noise, replace(measuring(kept), curves=curves, threshold=threshold), **tell)
        counts[threshold] = later.count("video+audio")
    assert counts[1e-9] == STEPS > counts[0.05] > counts[9.0] and len(kept) == 1
    assert "off by" in told[0] and len(told) == 1


def test_a_curve_serves_other_numbers_of_steps(conditioning, noise):
    kept, later = [], Bridged()
    run(Bridged(), conditioning(), noise, measuring(kept))
    run(later, conditioning(), noise, replace(measuring(kept), curves=kept[0], threshold=9.0), steps=33)
    between = len(build_cache("magnitude").between(33))
    assert later.count("video+audio") == 33 - between + between // 5


def test_a_given_picture_has_no_predictions_to_go_by(conditioning, noise):
    told, denoiser = [], Bridged()
    given, progress = Pair(video=Given(noise.video)), Progress(tell=told.append)
    run(denoiser, conditioning(), noise, build_cache("magnitude"), given=given, progress=progress)
    assert denoiser.count("video+audio") == STEPS and "does nothing here" in told[0]


def test_curves_come_back_from_a_file_and_what_is_none_is_measured_anew():
    curve = made_curve([(900.0, 2.0), (100.0, 8.0), (900.0, 4.0)])
    assert (curve.times, curve.lengths) == ((100.0, 900.0), (8.0, 4.0))
    assert curve(1000.0) == pytest.approx(4.0) and curve(500.0) == pytest.approx(32**0.5)
    assert read_curves(curves_as_json({"video": curve})) == {"video": curve}
    points = (3, [], [[1, 2]], [[1, 2], [2, 0]], [[1, 2], [2, "3"]], [[1, 2], [True, 3]], [[1, 2], [2, 1e31]], [1, 2])
    for wrong in (None, [], {"sound": [[1, 2], [2, 3]]}, *({"video": each} for each in points)):
        assert read_curves(wrong) == {}
    assert made_curve([(1.0, float("nan")), (2.0, 1.0)]) is None


def test_a_sound_that_decides_for_itself_rests_where_it_has_not_changed(conditioning, noise):
    """By count like the picture; by curves where its own is flat; by its first block hardly ever."""
    counts = {}
    for name, curves in (("interval", {}), ("magnitude", {"audio": FLAT}), ("magnitude", {"audio": STEEP})):
        cache = build_cache(name, sound="itself")
        cache = replace(cache, curves={"video": FLAT, **curves}) if curves else cache
        denoiser, told = Bridged(), []
        run(denoiser, conditioning(), noise, cache, scales=(4, 3), progress=Progress(tell=told.append))
        both, alone = (denoiser.count(names) // 2 for names in ("video+audio", "audio"))
        assert 0 < both < STEPS and (f"the sound rested at {STEPS - both - alone}" in told[0]) == (both + alone < STEPS)
        counts[name, curves.get("audio") is STEEP] = alone
    assert counts == {("interval", False): 0, ("magnitude", False): 0, ("magnitude", True): counts["magnitude", True]}
    assert counts["magnitude", True] > 0


def test_the_first_block_of_the_sound_is_looked_at_only_where_the_picture_rests(conditioning, noise):
    denoiser = Bridged()
    run(denoiser, conditioning(), noise, build_cache("first_block", sound="itself", threshold=0.15))
    both, alone = denoiser.count("video+audio"), denoiser.count("audio")
    assert denoiser.count("first block of the sound") == STEPS and alone > 0 and both + alone < STEPS
    denoiser = Bridged()
    run(denoiser, conditioning(), noise, build_cache("first_block", threshold=0.15))
    assert denoiser.count("first block of the sound") == 0
