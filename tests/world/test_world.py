"""Laws that every scene keeps."""

from __future__ import annotations

import hashlib
import json
import re

import numpy as np
import pytest
import torch
from sounding_video.core.clock import Timeline
from sounding_video.core.errors import GeometryError, InputError
from sounding_video.world import dice, palette
from sounding_video.world.captions import ACOUSTIC_WORDS, MAX_AUDIO_WORDS, VISUAL_WORDS
from sounding_video.world.detectors import brightening
from sounding_video.world.dice import SPLITS, Options, stream
from sounding_video.world.scenes import SCENES
from sounding_video.world.synth import activity, make_clip, scene_for

SMALL = Timeline(num_frames=33, fps=15, width=64, height=64)
TINY = Timeline(num_frames=33, fps=15, width=16, height=16)
EVENT_SCENES = [name for name in SCENES if not SCENES.get(name).continuous]
CONTINUOUS_SCENES = [name for name in SCENES if SCENES.get(name).continuous]
DIGEST_CODE = """
import hashlib
from sounding_video.core.clock import Timeline
from sounding_video.world.scenes import SCENES
from sounding_video.world.synth import make_clip
whole = hashlib.sha256()
for scene in SCENES:
    for seed in (0, 7):
        made = make_clip(scene, seed, timeline=Timeline(num_frames=17, fps=15, width=32, height=48), split="test")
        for tensor in (made.clip.video.frames, made.clip.audio.waveform):
            whole.update(tensor.numpy().tobytes())
        whole.update(repr((made.parameters, made.captions, made.prompt)).encode())
print(whole.hexdigest())
"""
# Every byte of twenty clips. It changes with the world's looks or sounds, and then the pocket model must be retrained.
WORLD_DIGEST = "d7ba95cf9346f001784cf4bb98afc7ae9179a16f44deacdf1168d067faaf1d57"


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


def test_there_are_enough_scenes():
    assert len(EVENT_SCENES) >= 8
    assert len(CONTINUOUS_SCENES) >= 2


def test_the_same_bytes_in_every_process(python_with_package):
    processes = [python_with_package(DIGEST_CODE) for _ in range(2)]
    digests = {process.communicate()[0].strip() for process in processes}
    assert digests == {WORLD_DIGEST}


@pytest.mark.parametrize("scene", SCENES.names())
@pytest.mark.parametrize(
    "timeline",
    [
        SMALL,
        Timeline(num_frames=17, fps=24, width=64, height=96),
        Timeline(num_frames=81, fps=15, width=96, height=64),
        Timeline(num_frames=17, fps=60, width=64, height=64),
        Timeline(num_frames=17, fps=5, width=64, height=64),
        Timeline(num_frames=33, fps="30000/1001", width=256, height=144),
    ],
    ids=lambda timeline: f"{timeline.num_frames}x{timeline.width}x{timeline.height}@{float(timeline.fps):.4g}",
)
def test_a_clip_is_sound_at_every_size_and_length(scene, timeline):
    made = make_clip(scene, 3, timeline=timeline)
    frames, waveform = made.clip.video.frames, made.clip.audio.waveform
    assert frames.shape == (timeline.num_frames, timeline.height, timeline.width, 3)
    assert waveform.shape == (2, timeline.num_samples) == (2, made.clip.num_samples)
    assert torch.isfinite(frames).all() and torch.isfinite(waveform).all()
    assert frames.min() >= 0 and frames.max() <= 1
    assert 0.02 < waveform.abs().max() <= 0.975
    assert frames.std(dim=0).max() > 0.05  # something moves
    assert list(made.events) == sorted(made.events)
    assert all(0 < event < float(timeline.seconds) for event in made.events)
    assert bool(made.events) != SCENES.get(scene).continuous
    assert json.loads(json.dumps(made.parameters)) == made.parameters


@pytest.mark.parametrize("scene", EVENT_SCENES)
def test_picture_and_sound_change_at_each_event(scene):
    for seed in range(8):
        made = make_clip(scene, seed, timeline=SMALL, split="validation")
        power = (made.clip.audio.waveform.numpy().astype(np.float64) ** 2).mean(axis=0)
        rise = brightening(made.clip.video.frames)
        rate = made.clip.audio.sample_rate
        for event in made.events:
            at, near = int(np.ceil(event * rate)), int(0.04 * rate)
            assert power[at : at + near].sum() > 1.15 * power[at - near : at].sum()
            first = int(np.ceil(event * 15 - 0.5))  # the first picture that shows it
            assert rise[first] > max(2 * np.median(rise), 0.003)
        first_sample = int(np.ceil(made.events[0] * rate))
        assert power[:first_sample].max() == 0  # nothing sounds before it happens


@pytest.mark.parametrize("scene", EVENT_SCENES)
def test_loudness_and_place_follow_the_picture(scene):
    """What is on the left sounds louder on the left."""
    levels = []
    for seed in range(30):
        made = make_clip(scene, seed, timeline=TINY)
        spots = made.parameters.get("spots") or made.parameters.get("places")
        place = spots[0][0] if spots else made.parameters.get("place")
        if place is not None and len(made.events) == 1:
            left, right = made.clip.audio.waveform.square().sum(dim=1).tolist()
            levels.append((place, right - left))
    assert all(abs(place) < 0.05 or (place > 0) == (tilt > 0) for place, tilt in levels)


def test_materials_differ_in_timbre():
    """Brighter materials have a higher spectral centroid."""
    centroids: dict[str, list[float]] = {}
    for seed in range(40):
        made = make_clip("ball", seed, timeline=TINY, split="test")
        spectrum = np.abs(np.fft.rfft(made.clip.audio.waveform.numpy().mean(axis=0)))
        frequency = np.fft.rfftfreq(made.clip.audio.waveform.shape[1], 1 / 44_100)
        centroids.setdefault(made.parameters["material"], []).append(float((spectrum @ frequency) / spectrum.sum()))
    middle = {material: np.median(values) for material, values in centroids.items()}
    assert middle["rubber"] < 0.6 * middle["wood"] < 0.6 * middle["metal"]


def test_harder_strikes_are_louder():
    made = next(
        clip
        for clip in (make_clip("ball", seed, timeline=TINY) for seed in range(99))
        if len(clip.events) >= 3 and clip.parameters["material"] == "wood"
    )
    rate, waveform = made.clip.audio.sample_rate, made.clip.audio.waveform
    starts = [int(np.ceil(event * rate)) for event in made.events]
    peaks = [float(waveform[:, at : at + 3000].abs().max()) for at in starts]
    assert peaks == sorted(peaks, reverse=True)
    assert peaks[0] > 1.2 * peaks[-1]


def test_splits_never_share_a_stream():
    draws = {
        (split, seed): tuple(stream("world", split, seed, "ball", "plan").integers(0, 2**32, 4).tolist())
        for split in SPLITS
        for seed in range(300)
    }
    assert len(set(draws.values())) == len(draws)
    clips = [make_clip("drum", 5, timeline=TINY, split=split) for split in SPLITS]
    pictures = {hashlib.sha256(made.clip.video.frames.numpy().tobytes()).hexdigest() for made in clips}
    assert len(pictures) == len(SPLITS)


def held_out_values(scene: str) -> set[str]:
    """Every material, colour and kind that a scene's module keeps for the test split; not its wordings."""
    module = __import__(SCENES.get(scene).__module__, fromlist=["*"])
    named = [value for value in [*vars(module).values(), palette.COLOURS, palette.WALLS] if isinstance(value, Options)]
    return {value for options in named for value in options.test_only}


@pytest.mark.parametrize("scene", SCENES.names())
def test_some_things_occur_in_the_test_split_only(scene):
    wordings = SCENES.get(scene).wordings
    kinds = (wordings.video, wordings.audio, wordings.prompt)
    assert all(len(options.common) >= 3 and options.test_only for options in kinds)
    assert all(not set(options.common) & set(options.test_only) for options in kinds)
    kept, drawn = held_out_values(scene), set()
    timeline = Timeline(num_frames=5, fps=15, width=16, height=16)
    for seed in range(60):
        for split in ("train", "validation"):
            made = make_clip(scene, seed, timeline=timeline, split=split)
            text = " ".join((made.prompt, made.captions.video, made.captions.audio))
            assert made.parameters["held_out"] == []
            assert not kept & {value for value in made.parameters.values() if isinstance(value, str)}
            assert not kept & set(words(text))
        drawn |= set(make_clip(scene, seed, timeline=timeline, split="test").parameters["held_out"])
    assert kept and kept & drawn
    for options in kinds:
        assert drawn & set(options.test_only)


@pytest.mark.parametrize("scene", SCENES.names())
def test_captions_are_pure(scene):
    timeline = Timeline(num_frames=17, fps=8, width=16, height=16)
    colours = set(palette.COLOUR_RGB) | set(palette.WALL_RGB)
    for seed in range(45):
        made = make_clip(scene, seed, timeline=timeline, split=SPLITS[seed % 3])
        video, audio = made.captions.video, made.captions.audio
        assert not ACOUSTIC_WORDS & set(words(video)), video
        assert not (VISUAL_WORDS | colours) & set(words(audio)), audio
        assert len(audio.split()) <= MAX_AUDIO_WORDS, audio
        assert audio.endswith(".") and audio.count(".") == 1
        assert len(video.split()) >= 20 and video.endswith(".")
        assert len(made.prompt.split()) <= 16 and not made.prompt.endswith(".")
        assert not re.search(r"[{}]|\ba [aeio]|\ban [^aeiouh]|  ", f"{video} {audio} {made.prompt}")


@pytest.mark.parametrize("scene", ["anvil", "drum", "drops", "knock", "beacon", "fireworks", "ball"])
def test_captions_state_the_count(scene):
    names = {1: ("once", "one"), 2: ("twice", "two"), 3: ("three",), 4: ("four",)}
    for seed in range(20):
        made = make_clip(scene, seed, timeline=TINY)
        for text in (made.captions.audio, made.captions.video, made.prompt):
            assert set(names[len(made.events)]) & set(words(text)), text


def test_what_happens_does_not_depend_on_the_size():
    small, large = (
        make_clip("drops", 2, timeline=Timeline(num_frames=33, fps=15, width=size, height=size)) for size in (64, 128)
    )
    assert small.parameters == large.parameters
    assert torch.equal(small.clip.audio.waveform, large.clip.audio.waveform)
    halved = large.clip.video.frames.reshape(33, 64, 2, 64, 2, 3).mean(dim=(2, 4))
    assert (halved - small.clip.video.frames).abs().mean() < 0.005  # the same picture, anti-aliased at either size


def test_the_seed_chooses_the_scene():
    chosen = [scene_for(seed) for seed in range(200)]
    assert set(chosen) == set(SCENES.names())
    made = make_clip(None, 11, timeline=TINY)
    assert made.scene == chosen[11]
    assert made.parameters == make_clip(chosen[11], 11, timeline=TINY).parameters


@pytest.mark.parametrize("scene", CONTINUOUS_SCENES)
def test_activity_covers_a_wide_range(scene):
    levels = activity(make_clip(scene, 1, timeline=TINY).parameters, 33)
    assert levels.shape == (33,)
    assert 0 <= levels.min() < 0.3 and 0.7 < levels.max() <= 1


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"scene": "trumpet"}, InputError, "unknown scene: got 'trumpet'; expected one of anvil, ball"),
        ({"split": "dev"}, InputError, "unknown split: got 'dev'; expected one of train, validation, test."),
        ({"seed": -1}, InputError, "the seed cannot be used: got -1; expected a whole number, 0 or above."),
        (
            {"timeline": Timeline(num_frames=17, fps=240, width=64, height=64)},
            GeometryError,
            "the clip is too short for anything to happen: got 0.071 s; expected at least 0.25 s.",
        ),
    ],
)
def test_bad_requests_are_refused(arguments, error, sentence):
    request = {"scene": "ball", "seed": 0, "timeline": TINY, "split": "train", **arguments}
    with pytest.raises(error, match=re.escape(sentence)):
        make_clip(request.pop("scene"), request.pop("seed"), **request)


def test_event_times_keep_their_distance():
    for seed in range(200):
        chooser = dice.Dice(stream("gaps", seed), "train")
        span = dice.Span(2.2, 1 / 15)
        times, rhythm = chooser.times(span, most=4, gap_seconds=0.36)
        gaps = np.diff(times)
        assert span.margin_seconds - 1e-5 <= times[0] and times[-1] <= 2.2 - span.margin_seconds + 1e-5
        assert (gaps >= 0.36 - 1e-5).all()
        assert rhythm != "steady" or (len(times) > 1 and np.allclose(gaps, gaps[0], atol=1e-5))


# What belongs to the moment and not to the look; drawn per event, so that its length follows the events.
OF_THE_MOMENT = {
    "events", "rhythm", "strengths", "places", "spots", "knots", "trend", "first_gap", "num_bursts", "half_period",
    "tempo", "held_out",
}  # fmt: skip


@pytest.mark.parametrize("scene", SCENES.names())
def test_few_looks_return_with_other_events_and_other_words(scene) -> None:
    clips = [make_clip(scene, seed, timeline=TINY, looks=2) for seed in range(12)]
    looks = [{k: v for k, v in clip.parameters.items() if k not in OF_THE_MOMENT} for clip in clips]
    for index, look in enumerate(looks):
        # Values that are drawn after one value an event may differ with the number of events, no more.
        same = [
            other
            for other, clip in zip(looks[index % 2 :: 2], clips[index % 2 :: 2], strict=True)
            if len(clip.events) == len(clips[index].events)
        ]
        assert all(other == look for other in same)
    assert looks[0] != looks[1]
    moments = {str(clip.events or clip.parameters["knots"]) for clip in clips}
    assert len(moments) > 6
    assert len({clip.captions.video for clip in clips}) > 2


def test_a_negative_number_of_looks_is_refused() -> None:
    with pytest.raises(InputError, match="looks"):
        make_clip("drum", 0, timeline=TINY, looks=-1)
