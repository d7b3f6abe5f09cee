"""Onset detection: law 10 of AV-Link's reference, librosa and scikit-learn as witnesses, and the script's slips."""

from __future__ import annotations

import json

import librosa
import numpy as np
import pytest
import torch
from evaluation_clips import make_picture, make_sound
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score
from sounding_video.cli import main
from sounding_video.core.clock import Timeline
from sounding_video.core.errors import InputError
from sounding_video.core.types import AudioClip, AVClip
from sounding_video.evaluation.metrics import METRICS
from sounding_video.evaluation.onset_matching import (
    RATE,
    Onset,
    ScriptFails,
    average_precision,
    detected,
    judged,
    matched,
    prepared,
)
from sounding_video.evaluation.sample import Sample, Truth
from sounding_video.media.mux import write_clip
from sounding_video.world.synth import make_clip, scene_for

TIMES = [0.4, 0.9, 1.5]
ONSETS = METRICS.get("onset_detection")
VALUES = ONSETS.values
SILENT = AudioClip(torch.zeros(2, 97_020), 44_100)


def world_sound(seed):
    timeline = Timeline(33, width=64, height=64)
    return make_clip(scene_for(seed, "validation"), seed, timeline=timeline, split="validation").clip.audio


def measured(sound, truth, **options):
    clip = AVClip(None, sound)
    return ONSETS(**options).measure(Sample(clip, reference=truth))


def shifted(sound, seconds):
    """Later, with the same length."""
    num = round(seconds * sound.sample_rate)
    return AudioClip(torch.nn.functional.pad(sound.waveform, (num, 0))[:, : sound.waveform.shape[1]], sound.sample_rate)


def onset(seconds, confidence=0.5, level=None):
    return Onset(round(seconds * RATE), confidence, confidence if level is None else level)


def test_law_10_the_truth_against_itself_is_1_1_1():
    values = measured(make_sound(TIMES), make_sound(TIMES)).values
    assert values == dict.fromkeys(VALUES, 1.0)


def test_law_10_a_shift_of_0_3_s_hits_next_to_nothing():
    """On the world's own sounds; the count stays, and the average precision hardly falls."""
    sounds = [world_sound(seed) for seed in range(8)]
    results = [measured(shifted(sound, 0.3), sound) for sound in sounds]
    summary = ONSETS().summarise(results)
    assert summary["num_measured"] >= 5 and summary["detection_accuracy"] < 0.15
    assert summary["average_precision"] > 0.3
    same = ONSETS().summarise([measured(sound, sound) for sound in sounds])
    # Not 1 where a sound has onsets nearer than 50 ms: they are suppressed in what is judged, not in what is true.
    assert min(same["detection_accuracy"], same["average_precision"]) > 0.98 and same["count_accuracy"] == 1


@pytest.mark.parametrize(("gap", "hits"), [(0.099, 1), (0.101, 0), (-0.099, 1), (-0.101, 0), (0.0, 1)])
def test_law_10_the_break_is_at_0_1_s_on_both_sides(gap, hits):
    assert matched([RATE], [onset(1 + gap)]).num_hits == hits


def test_a_gap_of_exactly_0_1_s_misses():
    assert matched([RATE], [Onset(RATE + RATE // 10, 1.0, 1.0)]).num_hits == 0
    assert matched([RATE], [Onset(RATE + RATE // 10 - 1, 1.0, 1.0)]).num_hits == 1


@pytest.mark.parametrize("sound", [SILENT, make_sound(TIMES)])
def test_law_10_no_onset_in_the_truth_is_no_value_with_a_reason(sound):
    result = measured(sound, SILENT)
    assert result.values["detection_accuracy"] is None and result.values["average_precision"] is None
    assert result.reasons["detection_accuracy"] == "the true sound has no onset"
    assert result.values["count_accuracy"] == float(sound is SILENT)
    script = measured(sound, SILENT, compatible=True)
    assert script.values["detection_accuracy"] == 0, "the published script counts it as 0"


def test_law_10_an_onset_at_the_very_beginning_does_not_raise():
    samples = make_sound([0.0, 1.0]).waveform.mean(0).numpy()
    assert judged(samples, [0, 512, RATE])[0].sample < RATE
    with pytest.raises(ScriptFails, match="first 50 ms"):
        judged(samples, [0, RATE], compatible=True)
    with pytest.raises(ValueError, match="zero-size"):  # as the script takes its slice
        np.max(samples[0 - 1102 : 0 + 1102])


def test_law_10_misses_after_the_onsets_are_used_up_are_counted():
    """One onset for three true ones: 1/3 hit. The script stops after it and finds nothing missing."""
    truth, sound = [RATE, 2 * RATE, 3 * RATE], [onset(1.0, 0.8)]
    ours, script = matched(truth, sound), matched(truth, sound, compatible=True)
    assert ours.accuracy == script.accuracy == pytest.approx(1 / 3)
    assert script.precision == 1.0
    assert ours.precision == average_precision_score([1, 1, 1], [0.8, 0, 0]) == 1.0, "positives alone rank as well"
    truth, sound = [RATE, 2 * RATE, 3 * RATE], [onset(1.0, 0.2), onset(1.02, 0.9, 0.1)]
    ours, script = matched(truth, sound), matched(truth, sound, compatible=True)
    assert ours.precision == pytest.approx(average_precision_score([1, 1, 1, 0], [0.2, 0, 0, 0.9]))
    assert ours.precision == script.precision, "what is left over keeps the script going"
    truth, sound = [RATE, RATE + 1000, 3 * RATE], [onset(1.0, 0.2), onset(1.04, 0.3)]
    assert matched(truth, sound).precision == average_precision([1, 1, 1], [0.3, 0.2, 0])
    assert len(_labels(truth, sound, compatible=True)) == 2 and len(_labels(truth, sound)) == 3


def _labels(truth, sound, **options):
    """What is ranked, seen through the ranking."""
    seen = []
    from sounding_video.evaluation import onset_matching

    original = onset_matching.average_precision
    onset_matching.average_precision = lambda labels, scores: seen.append(list(labels)) or original(labels, scores)
    try:
        matched(truth, sound, **options)
    finally:
        onset_matching.average_precision = original
    return seen[0]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0])), min_size=1, max_size=12)
)
def test_average_precision_is_scikit_learns(ranked):
    labels, scores = zip(*ranked, strict=True)
    if any(labels):
        assert average_precision(labels, scores) == pytest.approx(average_precision_score(labels, scores))
    else:
        assert average_precision(labels, scores) == 0


def test_nothing_to_rank_has_no_average_precision():
    assert average_precision([], []) is None


@pytest.mark.parametrize("seed", range(4))
def test_onsets_are_librosas_with_delta_0_3(seed):
    for sound in (world_sound(seed), make_sound(TIMES), make_sound([0.0, 0.7, 0.75, 0.8, 1.9], rate=RATE)):
        samples = prepared(sound, 2.0)
        assert len(samples) == 2 * RATE and samples.ndim == 1
        wanted = librosa.onset.onset_detect(y=samples, sr=RATE, units="samples", delta=0.3)
        assert detected(samples) == wanted.tolist()


def test_of_neighbours_nearer_than_50_ms_the_surest_stays():
    level = np.zeros(3 * RATE)
    peaks = {int(0.50 * RATE): 0.4, int(0.53 * RATE): 0.9, int(0.54 * RATE): 0.5, int(1.5 * RATE): 1.0}
    for sample, height in peaks.items():
        level[sample] = height
    # Confidences reach 50 ms, so that all near the loudest share it: one of the three stays.
    kept = judged(level, sorted(peaks))
    assert len(kept) == 2 and kept[1].sample == int(1.5 * RATE)
    assert kept[0].confidence == pytest.approx(0.9)


def test_the_script_leaves_a_neighbour_it_steps_over():
    """It takes elements out of the list that it walks through: of two neighbours in a row the second stays."""
    level = np.zeros(2 * RATE)
    onsets = [RATE, RATE + 300, RATE + 600]
    for sample, height in zip(onsets, (1.0, 0.6, 0.5), strict=True):
        level[sample] = height
    ours, script = judged(level, onsets), judged(level, onsets, compatible=True)
    assert len(ours) == 1 and len(script) == 2


def test_the_loudest_of_several_near_ones_is_taken_and_used_up():
    sound = [onset(0.96, 0.9, 0.2), onset(1.04, 0.8, 0.7)]
    assert matched([RATE], sound).precision == average_precision([1, 0], [0.8, 0.9])
    assert matched([RATE, RATE + 200], sound).num_hits == 2
    assert matched([RATE, RATE + 200, RATE + 400], sound).num_hits == 2


def test_channels_rates_and_levels_do_not_matter():
    truth = make_sound(TIMES)
    mono = AudioClip(truth.waveform.mean(0, keepdim=True), 44_100)
    for sound in (mono, make_sound(TIMES, rate=48_000), AudioClip(truth.waveform * 0.1, 44_100)):
        assert measured(sound, truth).values == dict.fromkeys(VALUES, 1.0)


def test_the_first_two_seconds_count_or_as_many_as_are_asked_for():
    early, late = make_sound([0.5, 1.2], seconds=4), make_sound([0.5, 1.2, 3.0], seconds=4)
    assert measured(early, late).values == dict.fromkeys(VALUES, 1.0)
    longer = measured(early, late, seconds=4.0).values
    assert (longer["detection_accuracy"], longer["count_accuracy"]) == (pytest.approx(2 / 3), 0.0)
    for seconds in (0, -1, 1e9, float("nan")):
        with pytest.raises(InputError, match="the seconds to judge are not usable"):
            ONSETS(seconds=seconds)


def test_what_is_shorter_is_judged_and_the_script_takes_none():
    short = make_sound([0.4], seconds=1.0)
    assert measured(short, make_sound(TIMES)).values["detection_accuracy"] == pytest.approx(1 / 3)
    script = measured(short, make_sound(TIMES), compatible=True)
    assert "shorter" in script.reasons["detection_accuracy"] and set(script.values.values()) == {None}


@pytest.mark.parametrize(
    ("clip", "reference", "reason"),
    [
        (AVClip(make_picture([])), SILENT, "the clip has no sound"),
        (AVClip(None, SILENT), None, "the true sound is not known"),
    ],
)
def test_what_cannot_be_compared_says_why(clip, reference, reason):
    result = ONSETS().measure(Sample(clip, reference=reference))
    assert set(result.reasons.values()) == {reason} and set(result.values.values()) == {None}


def test_a_silent_sound_hits_nothing_and_its_average_precision_says_so_little():
    values = measured(SILENT, make_sound(TIMES)).values
    assert (values["detection_accuracy"], values["count_accuracy"], values["average_precision"]) == (0, 0, 1)


def test_the_chance_level_stands_beside_it():
    """What the sounds of the other clips are worth."""
    sounds = [make_sound([0.3, 1.0]), make_sound([0.3, 1.6]), make_sound([0.7, 1.3])]
    summary = ONSETS().summarise([measured(sound, sound) for sound in sounds])
    assert summary["detection_accuracy"] == 1 and summary["num_measured"] == 3
    assert summary["chance_detection_accuracy"] == pytest.approx((0.5 + 0 + 0.5 + 0 + 0 + 0) / 6)
    assert summary["chance_count_accuracy"] == 1
    alone = ONSETS().summarise([measured(sounds[0], sounds[0])])
    assert alone["chance_detection_accuracy"] is None and alone["detection_accuracy"] == 1
    nothing = ONSETS().summarise([ONSETS().measure(Sample(AVClip(None, SILENT)))])
    assert set(nothing.values()) == {None, 0}


@pytest.fixture
def folders(tmp_path):
    """Two clips, and their true sounds as files of other endings."""
    for name, heard in (("a", TIMES), ("b", [0.2, 1.1])):
        write_clip(AVClip(make_picture(heard), make_sound(heard)), tmp_path / "clips" / f"{name}.mp4")
    write_clip(AVClip(None, make_sound(TIMES)), tmp_path / "true" / "a.wav")
    write_clip(AVClip(make_picture(TIMES), make_sound([0.2, 1.6])), tmp_path / "true" / "b.mkv")
    return tmp_path


def run(capsys, *arguments):
    capsys.readouterr()
    code = main(["evaluate", *map(str, arguments), "--metrics", "onset_detection"])
    return code, *capsys.readouterr()


def test_the_command_finds_true_sounds_by_name(folders, capsys):
    code, out, err = run(capsys, folders / "clips", "--references", folders / "true", "--json")
    assert code == 0, err
    values = json.loads(out)
    found = {clip["file"]: clip["onset_detection"]["detection_accuracy"] for clip in values["clips"]}
    assert found == {"a.mp4": 1.0, "b.mp4": 0.5}
    assert values["settings"]["references"] == str(folders / "true")
    code, out, err = run(capsys, folders / "clips", "--references", folders / "true", "--onset-seconds", 1)
    assert code == 0 and "chance_detection_accuracy" in out, err
    code, out, err = run(capsys, folders / "clips", "--references", folders / "true", "--onset-compatible", "--json")
    assert code == 0 and json.loads(out)["settings"]["onset_detection"] == {"compatible": True}, err


def test_the_manifest_names_true_sounds_too(folders, capsys):
    rows = [{"file": "a.mp4", "true_sound": "../true/a.wav"}, {"file": "b.mp4"}]
    (folders / "clips" / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, err = run(capsys, folders / "clips", "--json")
    assert code == 0, err
    clips = {clip["file"]: clip["onset_detection"] for clip in json.loads(out)["clips"]}
    assert clips["a.mp4"]["detection_accuracy"] == 1.0
    assert clips["b.mp4"]["reasons"]["detection_accuracy"] == "the true sound is not known"


@pytest.mark.parametrize(
    ("row", "sentence"),
    [({"true_sound": 3}, "a line of the manifest cannot be used"), ({"true_sound": "no.wav"}, "no.wav")],
)
def test_a_true_sound_that_cannot_be_read_is_told(folders, capsys, row, sentence):
    (folders / "clips" / "manifest.jsonl").write_text(json.dumps({"file": "a.mp4", **row}) + "\n")
    _, _, err = run(capsys, folders / "clips")
    assert sentence in err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--references", "nowhere"), "nowhere"),
        (("--references", "EMPTY"), "there are no true sounds in this folder"),
        (("--onset-seconds", "0"), "the seconds to judge cannot be used: got 0"),
    ],
)
def test_what_cannot_be_asked_for_is_one_sentence(folders, capsys, arguments, sentence):
    (folders / "empty").mkdir()
    words = [str(folders / "empty") if word == "EMPTY" else word for word in arguments]
    code, _, err = run(capsys, folders / "clips", *words)
    assert code != 0 and sentence in err


def test_a_truth_carries_its_file_to_the_sample(folders):
    truth = Truth(true_sound=folders / "true" / "a.wav")
    assert Sample.read(folders / "clips" / "a.mp4", truth).reference.sample_rate == 44_100
    write_clip(AVClip(make_picture([])), folders / "mute.mp4")
    with pytest.raises(InputError, match="the file of the true sound has none"):
        Sample.read(folders / "clips" / "a.mp4", reference=folders / "mute.mp4")
