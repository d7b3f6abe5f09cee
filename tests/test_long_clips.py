"""Clips that are longer than the bundled model's own, made whole: seams, lengths, captions, what is refused."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from sounding_video.core.clock import Timeline, samples_for
from sounding_video.core.device import resolve_placement
from sounding_video.core.errors import Cancelled, GeometryError, InputError
from sounding_video.core.pair import Pair
from sounding_video.core.progress import Progress
from sounding_video.core.types import Captions
from sounding_video.forecast import sampling_stage
from sounding_video.long_clips import of_windows, plan_of
from sounding_video.pipeline import SamplingOptions, encode_captions, generate, load_models, sample_latents
from sounding_video.sampling.windows import WINDOWS

WAYS = WINDOWS.names()
CAPTIONS, NONE = Captions("a hammer strikes an anvil", "a hammer clangs on an anvil"), Captions("", "")
FPS = Fraction(15)
# With this seed no event of the clip stands where one window gives way to the next.
OPTIONS = SamplingOptions(num_steps=2, video_guidance_scale=1, audio_guidance_scale=1, flow_shift=1, seed=1)


@pytest.fixture(scope="module")
def model():
    return load_models("pocket", placement=resolve_placement(device="cpu"))


def timeline(model, num_frames, size=32):
    return Timeline(num_frames, FPS, size, size, model.geometry)


def latents_of(model, num_frames, options, *, captions=CAPTIONS, told=None, **more):
    extent = timeline(model, num_frames)
    seconds = float(extent.seconds) if told is None else told
    rest = {"negatives": NONE, "seconds": seconds, "placement": model.placement}
    shapes = model.shapes(extent)
    sides = {"video_shape": shapes.video, "audio_shape": shapes.audio}
    conditioning = encode_captions(*model.texts, captions, **rest)
    return sample_latents(model, conditioning, **sides, options=options, times=extent.times, **more)


@pytest.fixture(scope="module")
def clips(model):
    """A clip of two windows in each way."""
    made = {}
    for way in WAYS:
        options = replace(OPTIONS, windows=way, overlap_seconds=0.6)
        made[way] = generate(model, CAPTIONS, timeline=timeline(model, 53), negatives=NONE, options=options)
    return made


@pytest.mark.parametrize("way", WAYS)
def test_picture_and_sound_go_on_through_the_seam(model, clips, way):
    clip, shapes = clips[way], model.shapes(timeline(model, 53))
    options = replace(OPTIONS, windows=way, overlap_seconds=0.6)
    plan = plan_of(model, options, shapes, timeline(model, 53).times)
    assert len(plan.windows) == 2
    frames, wave = clip.video.frames, clip.audio.waveform
    assert frames.shape == (53, 32, 32, 3) and wave.shape == (2, samples_for(Fraction(53, 15), 44_100))
    second = plan.windows[1]
    # Where the second window begins, and where it has all the say.
    seen = [second.first.video * 4, (second.first.video + second.shared.video) * 4]
    change = (frames[1:] - frames[:-1]).abs().mean((1, 2, 3))
    inside = torch.tensor([float(value) for index, value in enumerate(change) if index not in seen])
    assert max(float(change[index]) for index in seen) <= float(torch.quantile(inside, 0.99))
    jumps, hop = wave.diff(dim=1).abs().amax(0), model.geometry.audio_hop
    quantile = float(torch.quantile(jumps[::5], 0.999))
    level = wave.square().mean(0).unfold(0, 441, 441).mean(1).sqrt()
    steps = (level[2:] - level[:-2]).abs()
    for heard in (second.first.audio * hop, (second.first.audio + second.shared.audio) * hop):
        assert float(jumps[heard - 4 : heard + 4].max()) <= quantile
        assert float(steps[heard // 441 - 2 : heard // 441 + 1].max()) <= float(steps.max()) * 0.999


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("num_frames", [33, 1])
def test_what_fits_one_window_is_the_usual_clip_to_the_bit(model, way, num_frames):
    usual = latents_of(model, num_frames, OPTIONS)
    windowed = latents_of(model, num_frames, replace(OPTIONS, windows=way))
    assert torch.equal(usual.video, windowed.video) and torch.equal(usual.audio, windowed.audio)


def test_the_ways_differ_from_each_other_and_from_all_at_once(model, clips):
    whole = generate(model, CAPTIONS, timeline=timeline(model, 53), negatives=NONE, options=OPTIONS)
    assert whole.video.frames.shape == clips["given"].video.frames.shape
    frames = [whole.video.frames, *(clips[way].video.frames for way in WAYS)]
    assert all(float((one - other).abs().max()) > 0.01 for one in frames for other in frames if one is not other)


@pytest.mark.parametrize("way", WAYS)
def test_a_tower_is_never_shown_more_than_a_window(model, way):
    seen = set()

    def look(module, arguments, named):
        sides = [*arguments, *named.values()][:2]
        seen.add(tuple(tuple(one.latents.shape) for one in sides))

    handle = model.root.register_forward_pre_hook(look, with_kwargs=True)
    try:
        made = latents_of(model, 97, replace(OPTIONS, num_steps=1, windows=way))
    finally:
        handle.remove()
    assert seen == {((1, 16, 9, 4, 4), (1, 64, 47))}
    assert made.video.shape[2] == 25 and bool(made.video.isfinite().all())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("only", ["video", "audio"])
def test_one_side_alone(model, way, only):
    extent, options = timeline(model, 65), replace(OPTIONS, num_steps=1, windows=way)
    shape = model.shapes(extent)[only]
    conditioning = encode_captions(*model.texts, CAPTIONS, negatives=NONE, seconds=2.2, placement=model.placement)
    shapes = {"video_shape": None, "audio_shape": None, f"{only}_shape": shape}
    made = Pair.of(sample_latents(model, conditioning, **shapes, options=options))
    assert made[only].shape == shape and list(made.present) == [only]


def test_the_audio_tower_is_told_the_length_of_a_window(model):
    """A node's captions were encoded for the whole clip; the result is that of captions encoded for a window."""
    rest = {"negatives": NONE, "placement": model.placement}
    long, short = (encode_captions(*model.texts, CAPTIONS, seconds=seconds, **rest) for seconds in (30.0, 2.2))
    assert torch.equal(of_windows(model, long, 2.2).audio.duration, short.audio.duration)
    assert not torch.equal(long.audio.duration, short.audio.duration)
    options = replace(OPTIONS, num_steps=1, windows="blended")
    assert torch.equal(latents_of(model, 49, options).audio, latents_of(model, 49, options, told=2.2).audio)


@pytest.mark.parametrize("way", WAYS)
def test_captions_that_change_reach_the_windows_of_their_time(model, way):
    """The beginning is that of the first caption alone as long as nothing of the second one is near."""
    options, told = replace(OPTIONS, num_steps=1, windows=way), []
    script = Captions(f"[0] {CAPTIONS.video} [4] rain falls", CAPTIONS.audio)
    first = latents_of(model, 105, options)
    changed = latents_of(model, 105, options, captions=script)
    assert torch.equal(first.video[:, :, :9], changed.video[:, :, :9])
    assert float((first.video[:, :, -4:] - changed.video[:, :, -4:]).abs().max()) > 1e-3
    at_once = latents_of(model, 33, OPTIONS, captions=script, progress=Progress(tell=told.append))
    assert torch.equal(at_once.video, latents_of(model, 33, OPTIONS).video)
    assert "captions from 4 s on are not read" in " ".join(told)


def test_the_last_window_is_told_what_holds_where_it_makes_something(model):
    """It shares far more than the others, since it ends where the clip does."""
    options, extent = replace(OPTIONS, windows="given", overlap_seconds=0.3), timeline(model, 65)
    plan = plan_of(model, options, model.shapes(extent), extent.times)
    middle, last = WINDOWS.get("given")().middle, plan.windows[-1]
    assert last.shared.audio > 1.4 * plan.windows[1].shared.audio
    new = last.start + last.shared.audio * last.times.audio.step
    assert middle(last, plan) == (new + last.start + plan.seconds) / 2
    said = float(middle(last, plan)) - 0.05
    script, told = Captions(f"[0] {CAPTIONS.video} [{said:.2f}] rain falls", CAPTIONS.audio), []
    progress = Progress(tell=told.append)
    quick = replace(options, num_steps=1)
    changed = latents_of(model, 65, quick, captions=script, progress=progress)
    assert not torch.equal(changed.video, latents_of(model, 65, quick).video)
    assert "not read" not in " ".join(told)


@pytest.mark.parametrize("way", WAYS)
def test_captions_that_no_window_takes_are_told(model, way):
    script, told = Captions(f"[0] {CAPTIONS.video} [1.5] snow falls [1.6] rain falls", CAPTIONS.audio), []
    latents_of(
        model, 53, replace(OPTIONS, num_steps=1, windows=way), captions=script, progress=Progress(tell=told.append)
    )
    assert "captions that begin at 1.5 s are not read" in " ".join(told)


@pytest.mark.parametrize("way", WAYS)
def test_a_stop_in_the_middle_is_one(model, way):
    steps = []

    def stop():
        if len(steps) >= 1:
            raise Cancelled("enough")

    progress = Progress(lambda stage, *rest: steps.append(stage) if stage == "sample" else None, stop)
    with pytest.raises(Cancelled):
        latents_of(model, 65, replace(OPTIONS, windows=way), told=2.2, progress=progress)
    assert steps == ["sample"]


@pytest.mark.parametrize(
    ("way", "cache", "sound"),
    [("blended", "first_block", "itself"), ("blended", "interval", "fresh"), ("given", "interval", "fresh")],
)
def test_step_caches_work_in_windows(model, way, cache, sound):
    """A cache that looks at first blocks sees those of all windows."""
    told, settings = [], {"step_cache": cache, "step_cache_sound": sound}
    settings |= {"step_cache_threshold": 9} if cache != "interval" else {}
    options = replace(OPTIONS, num_steps=6, windows=way, **settings)
    made = latents_of(model, 49, options, progress=Progress(tell=told.append))
    assert bool(made.audio.isfinite().all())
    computed = next(int(one.split()[2]) for one in told if one.startswith("step cache"))
    assert computed < 6


def test_windows_that_are_too_short_and_numbers_out_of_range_are_refused(model):
    with pytest.raises(GeometryError, match="the windows are too short"):
        latents_of(model, 65, replace(OPTIONS, windows="given", window_seconds=0.3))
    for name, value in (("windows", "glued"), ("window_seconds", -1.0), ("window_seconds", 1e9)):
        with pytest.raises(InputError):
            replace(OPTIONS, **{name: value})
    for value in (0.0, -1.0, 61.0, float("nan")):
        with pytest.raises(InputError):
            replace(OPTIONS, overlap_seconds=value)


@pytest.mark.parametrize("seconds", [0.6, 1.13, 2.2, 3.3])
def test_windows_of_any_length(model, seconds):
    """Rounded to the nearest frames of the form 4k+1; more than the model's own too."""
    plan = plan_of(model, replace(OPTIONS, windows="given", window_seconds=seconds), model.shapes(timeline(model, 97)))
    assert abs(float(plan.seconds) - seconds) <= 2 / 15 + 0.02
    assert plan.overlap <= plan.seconds / 2 + Fraction(1, 3)


@pytest.mark.parametrize(("way", "kept"), [("blended", 5), ("given", 1)])
def test_the_planner_knows_what_a_cache_keeps_of_all_windows(model, way, kept):
    conditioning = encode_captions(*model.texts, CAPTIONS, negatives=NONE, seconds=2.2, placement=model.placement)
    options = replace(OPTIONS, windows=way, step_cache="interval")
    stage = sampling_stage(model, conditioning, options, model.shapes(timeline(model, 33)), 5)
    assert stage.workload.kept_steps == kept
