"""Clips against the true ones: PSNR, and kernel distances with a triple loop as witness."""

from __future__ import annotations

import json
import math

import pytest
import torch
from evaluation_clips import RATE, make_av, make_picture, make_sound
from sounding_video.cli import main
from sounding_video.core.clock import Timeline
from sounding_video.core.errors import InputError, NonFiniteError
from sounding_video.core.types import AudioClip, AVClip, VideoClip
from sounding_video.evaluation.kernel_distance import kernel_distance
from sounding_video.evaluation.metrics import METRICS
from sounding_video.evaluation.runner import evaluate_folder
from sounding_video.evaluation.sample import Sample
from sounding_video.media.mux import write_clip
from sounding_video.world.synth import make_clip

TIMES = [0.43, 0.9, 1.5]
PSNR = METRICS.get("psnr")()
SIDES = ("picture", "sound")


def against(clip, true):
    return Sample(clip, reference=true.audio, true_picture=true.video)


def test_a_kernel_distance_is_the_unbiased_mean_of_the_cubic_kernel():
    torch.manual_seed(0)
    made, true = torch.randn(5, 7), torch.randn(6, 7) + 0.5

    def mean_kernel(left, right, same):
        pairs = [
            (sum(float(a) * float(b) for a, b in zip(x, y, strict=True)) / 7 + 1) ** 3
            for i, x in enumerate(left)
            for j, y in enumerate(right)
            if not (same and i == j)
        ]
        return sum(pairs) / len(pairs)

    expected = mean_kernel(made, made, True) + mean_kernel(true, true, True) - 2 * mean_kernel(made, true, False)
    assert kernel_distance(made, true) == pytest.approx(expected, rel=1e-6)
    pairs = made, true[:5]
    expected = sum(mean_kernel(each, each, True) for each in pairs) - 2 * mean_kernel(*pairs, True)
    assert kernel_distance(*pairs, paired=True) == pytest.approx(expected, rel=1e-6)
    assert kernel_distance(made, made, paired=True) == 0


def test_sets_of_one_kind_are_nothing_apart_in_the_mean():
    torch.manual_seed(0)
    same = [kernel_distance(torch.randn(20, 16), torch.randn(20, 16)) for _ in range(200)]
    mean, deviation = sum(same) / 200, torch.tensor(same).std() / math.sqrt(200)
    assert abs(mean) < 4 * deviation and min(same) < 0
    near, far = (kernel_distance(torch.randn(20, 16), torch.randn(20, 16) + shift) for shift in (0.5, 2.0))
    assert 0 < near < far


@pytest.mark.parametrize(("made", "true"), [((1, 4), (3, 4)), ((3, 4), (3, 5)), ((3,), (3,)), ((0, 4), (3, 4))])
def test_what_has_no_kernel_distance_is_refused(made, true):
    with pytest.raises(InputError, match="no kernel distance of these: got"):
        kernel_distance(torch.zeros(made), torch.zeros(true))


def test_pairs_need_sets_of_one_size():
    with pytest.raises(InputError, match=r"got \(3, 4\) and \(2, 4\) in pairs"):
        kernel_distance(torch.zeros(3, 4), torch.zeros(2, 4), paired=True)


def test_psnr_of_a_picture_is_that_of_its_frames():
    frames = torch.full((4, 8, 8, 3), 0.5)
    true = AVClip(VideoClip(frames, 15), make_sound(TIMES))
    off = frames.clone()
    off[0] += 0.1
    off[1] += 0.01
    values = PSNR.measure(against(AVClip(VideoClip(off, 15), true.audio), true)).values
    assert values["picture"] == pytest.approx((20 + 40 + 100 + 100) / 4, abs=1e-3) and values["sound"] == 100


def test_psnr_of_a_sound_is_that_of_its_spectrogram():
    true = make_av(TIMES, TIMES)
    torch.manual_seed(0)
    found = []
    for level in (0.001, 0.01, 0.1):
        noise = level * torch.randn_like(true.audio.waveform)
        noisy = AVClip(true.video, AudioClip(true.audio.waveform + noise, RATE))
        found.append(PSNR.measure(against(noisy, true)).values["sound"])
    assert found == sorted(found, reverse=True) and 0 < found[2] < found[0] < 60
    late = AVClip(true.video, make_sound([time + 0.2 for time in TIMES]))
    assert PSNR.measure(against(late, true)).values["sound"] < 25


@pytest.mark.parametrize(
    ("clip", "true", "reasons"),
    [
        (
            make_av(TIMES, TIMES),
            None,
            {"picture": "the true picture is not known", "sound": "the true sound is not known"},
        ),
        (AVClip(make_picture([])), make_av([], []), {"picture": None, "sound": "the clip has no sound"}),
        (AVClip(None, make_sound([])), make_av([], []), {"picture": "the clip has no picture", "sound": None}),
        (
            AVClip(make_picture([], num_frames=9), make_sound([], seconds=0.6)),
            make_av([], []),
            {"picture": "differ in frames, height or width: 9×", "sound": "differ in length: 0.60 s and 2.20 s"},
        ),
    ],
)
def test_what_cannot_be_compared_says_why(clip, true, reasons):
    sample = Sample(clip) if true is None else against(clip, true)
    result = PSNR.measure(sample)
    for side, reason in reasons.items():
        if reason is None:
            assert result.values[side] is not None
        else:
            assert result.values[side] is None and reason in result.reasons[side]


def test_a_true_picture_with_holes_is_refused():
    with pytest.raises(NonFiniteError, match="the true picture contains NaN"):
        Sample(make_av([], []), true_picture=VideoClip(torch.full((3, 8, 8, 3), math.nan), 15))


@pytest.fixture(scope="module")
def scenes():
    """A few clips of three scenes, and others of the same."""
    timeline = Timeline(33, 15, 48, 48)
    made = {}
    for scene in ("ball", "engine", "rain"):
        made[scene] = [make_clip(scene, seed, timeline=timeline, split="test").clip for seed in range(6)]
    return made


@pytest.mark.parametrize("side", SIDES)
def test_clips_of_one_kind_are_near_and_others_far(scenes, side):
    metric = METRICS.get(f"kernel_distance_{side}")()

    def distance(left, right):
        summary = metric.summarise([metric.measure(against(*pair)) for pair in zip(left, right, strict=True)])
        assert summary["num_measured"] == len(left)
        return summary["kernel_distance"], summary["distance"]

    ball, engine = scenes["ball"], scenes["engine"]
    itself, own = distance(ball, ball)
    kind, _ = distance(ball[:3], ball[3:])
    other, apart = distance(ball, engine)
    assert own == pytest.approx(0, abs=1e-5) and apart > 0.05
    assert abs(itself) < other / 10 and kind < other / 2


@pytest.mark.parametrize("side", SIDES)
def test_one_clip_has_a_distance_and_no_kernel_distance(scenes, side):
    metric = METRICS.get(f"kernel_distance_{side}")()
    one = metric.measure(against(scenes["ball"][0], scenes["rain"][0]))
    assert metric.summarise([one])["kernel_distance"] is None and one.values["distance"] > 0.05
    assert set(metric.measure(Sample(scenes["ball"][0])).reasons.values()) == {f"the true {side} is not known"}


def test_the_command_compares_with_true_clips(tmp_path, capsys):
    for name, times in (("a", TIMES), ("b", [0.2, 1.1])):
        write_clip(make_av(times, times), tmp_path / "clips" / f"{name}.mp4")
        write_clip(make_av(times, times), tmp_path / "true" / f"{name}.mkv")
    metrics = ["psnr", "kernel_distance_picture", "kernel_distance_sound"]
    capsys.readouterr()
    code = main(
        ["evaluate", str(tmp_path / "clips"), "--references", str(tmp_path / "true"), "--json", "--metrics", *metrics]
    )
    out, err = capsys.readouterr()
    assert code == 0, err
    found = json.loads(out)["metrics"]
    assert found["psnr"]["picture"] > 30 and found["psnr"]["sound"] > 20 and found["psnr"]["num_measured"] == 2
    for side in SIDES:
        assert abs(found[f"kernel_distance_{side}"]["kernel_distance"]) < 50
        assert found[f"kernel_distance_{side}"]["distance"] < 0.01


def test_a_clip_without_a_true_one_is_measured_without(tmp_path):
    for name in ("a", "b"):
        write_clip(make_av(TIMES, TIMES), tmp_path / "clips" / f"{name}.mp4")
    write_clip(make_av(TIMES, TIMES), tmp_path / "true" / "a.mp4")
    result = evaluate_folder(tmp_path / "clips", references=tmp_path / "true", metrics=["psnr"])
    assert result.summary["psnr"]["num_measured"] == 1 and not result.broken
