"""One side after the other (SAVA): laws 10 and 13 of its reference, on the small models and from the command line."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from small_models import random_texts, write_alignment
from sounding_video.cli import main
from sounding_video.core.device import resolve_placement
from sounding_video.core.errors import IncompatibleWeightsError, InputError
from sounding_video.core.pair import MODALITIES, OTHER
from sounding_video.core.types import AudioClip, AVClip, Conditioning, ModalityConditioning, VideoClip
from sounding_video.media.mux import write_clip
from sounding_video.media.probe import read_clip
from sounding_video.media.user_file import open_user_file
from sounding_video.models.alignment.condition import conditioned, reading
from sounding_video.models.weights.alignment import load_alignment
from sounding_video.pipeline import load_models, sample_latents
from sounding_video.tasks import base, sound
from sounding_video.tasks.base import own_timeline
from sounding_video.tasks.cascade import ORDERS, cascade, cascade_latents
from sounding_video.tasks.picture import picture_for
from sounding_video.tasks.reading import Reading
from sounding_video.tasks.sound import sound_for

BOTH = pytest.mark.parametrize("given", MODALITIES)


@pytest.fixture(scope="module")
def models_dir(small_models_dir, tmp_path_factory):
    """The small models, with a note that they are made for 9 frames of 32 × 32."""
    models = shutil.copytree(small_models_dir, tmp_path_factory.mktemp("noted") / "models")
    note = {"size": 32, "frames": 9, "num_steps": 2}
    (models / "pocket.json").write_text(json.dumps(note), encoding="utf-8")
    return models


@pytest.fixture(scope="module")
def model(models_dir):
    return load_models(models_dir, placement=resolve_placement(device="cpu"), bridge="none")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_alignment(tmp_path_factory.mktemp("alignment") / "both.safetensors", reads=MODALITIES)


@pytest.fixture(scope="module")
def one_way(run, timeline):
    return cascade_latents(run, timeline, "video-first")


def latents(side: str, batch: int = 1) -> torch.Tensor:
    shape = {"video": (4, 3, 4, 4), "audio": (6, 100)}[side]
    return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(1))


@BOTH
def test_law_10_tokens_stand_behind_both_texts_which_stay_to_the_bit(loaded, given: str) -> None:
    plain, made = random_texts(), OTHER[given]
    told = conditioned(plain, loaded, given, latents(given), num_frames=3)
    assert getattr(told, given) is getattr(plain, given), "the given side is told nothing"
    before, after = getattr(plain, made), getattr(told, made)
    length = before.positive.shape[1]
    null = loaded.alignment.reader_for(made).null
    for name in ("positive", "negative"):
        rows = getattr(after, name)
        assert rows.shape == (1, length + 3, 16)
        assert torch.equal(rows[:, :length], getattr(before, name))
    assert torch.equal(after.negative[:, length:], null.expand(1, 3, -1))
    assert after.duration is before.duration
    tokens = loaded.alignment.told(given, loaded.alignment.fold(given, latents(given), 3), loaded.alignment.times(3))
    assert torch.equal(after.positive[:, length:], tokens)


@BOTH
def test_law_10_strength_leads_from_null_tokens_to_the_clips(loaded, given: str) -> None:
    made = OTHER[given]

    def rows(strength: float) -> torch.Tensor:
        told = conditioned(random_texts(), loaded, given, latents(given), strength=strength, num_frames=3)
        return getattr(told, made).positive[:, -3:]

    assert torch.equal(rows(0), loaded.alignment.reader_for(made).null.expand(1, 3, -1))
    torch.testing.assert_close(rows(0.25), 0.75 * rows(0) + 0.25 * rows(1))
    for wrong in (-0.1, float("nan"), float("inf"), 11):
        with pytest.raises(InputError, match="the strength of a condition is out of range"):
            rows(wrong)


def test_dimensions_outside_the_support_are_not_told(loaded) -> None:
    told = {
        how: conditioned(random_texts(), loaded, "video", latents("video"), support=how).audio.positive
        for how in ("learned", "all")
    }
    assert not torch.equal(told["learned"], told["all"])
    with pytest.raises(InputError, match="unknown support"):
        conditioned(random_texts(), loaded, "video", latents("video"), support="some")


def test_batches_and_texts_without_negatives(loaded) -> None:
    plain = random_texts()
    three = conditioned(plain, loaded, "video", latents("video", 3)).audio
    assert three.positive.shape == (3, 10, 16) and three.negative.shape == (3, 10, 16)
    quiet = replace(plain, audio=replace(plain.audio, negative=None))
    assert conditioned(quiet, loaded, "video", latents("video")).audio.negative is None
    two = replace(plain, audio=ModalityConditioning(torch.zeros(2, 7, 16)))
    assert conditioned(two, loaded, "video", latents("video")).audio.positive.shape == (2, 10, 16)
    with pytest.raises(InputError, match="2 captions and 3 clips"):
        conditioned(two, loaded, "video", latents("video", 3))
    with pytest.raises(InputError, match="no encoded audio caption behind which the picture can be told"):
        conditioned(replace(plain, audio=None), loaded, "video", latents("video"))


def test_a_sound_of_unknown_length_is_as_long_as_in_training(loaded) -> None:
    """9 frames at 15 per second are 300 audio latents of this codec."""
    length = conditioned(random_texts(), loaded, "audio", torch.zeros(1, 6, 300)).video.positive.shape[1] - 5
    assert length == 3


@BOTH
def test_an_alignment_that_nobody_reads_or_for_another_tower_is_refused(loaded, tmp_path, given: str) -> None:
    unread = load_alignment(write_alignment(tmp_path / "x.safetensors", reads=(given,)))
    with pytest.raises(IncompatibleWeightsError, match=f"no {OTHER[given]} tower has learned to read") as error:
        conditioned(random_texts(), unread, given, latents(given))
    assert f"recipe sava_{OTHER[given]}" in str(error.value)
    wide = ModalityConditioning(torch.zeros(1, 5, 24))
    with pytest.raises(IncompatibleWeightsError, match=r"tokens of width 16 in .*; expected width 24"):
        conditioned(Conditioning(wide, wide), loaded, given, latents(given))


@BOTH
def test_law_11_the_lora_is_on_for_one_side_and_leaves_the_model_as_it_was(model, loaded, given: str) -> None:
    side = OTHER[given]
    before = {name: tensor.clone() for name, tensor in model.joint.state_dict().items()}
    changed = reading(model, loaded, side)
    assert [lora.part for lora in changed.loras] == [side] and not model.loras
    assert getattr(changed.joint, given) is getattr(model.joint, given)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.joint.state_dict().items())


@pytest.mark.parametrize("order", ["video-first", "audio-first"])
def test_law_13_the_first_side_is_that_of_its_tower_alone(run, timeline, model, order: str) -> None:
    first = ORDERS[order][0]
    shapes = model.shapes(timeline)
    alone = {f"{side}_shape": shapes[side] if side == first else None for side in MODALITIES}
    wanted = sample_latents(model, run.conditioning(timeline), options=run.options, times=timeline.times, **alone)
    made = cascade_latents(run, timeline, order)
    assert torch.equal(getattr(made, first), getattr(wanted, first))
    other = {f"{side}_shape": shapes[side] if side != first else None for side in MODALITIES}
    plain = sample_latents(model, run.conditioning(timeline), options=run.options, times=timeline.times, **other)
    assert not torch.equal(getattr(made, OTHER[first]), getattr(plain, OTHER[first])), "the second is told of it"


def test_law_13_there_and_back_makes_the_same_sound_and_another_picture(run, timeline, one_way) -> None:
    back = cascade_latents(run, timeline, "both-ways")
    assert torch.equal(back.audio, one_way.audio)
    assert not torch.equal(back.video, one_way.video)


def test_what_is_told_reaches_the_sound(run, timeline, one_way) -> None:
    weak = cascade_latents(replace(run, reading=replace(run.reading, strength=0.2)), timeline, "video-first")
    assert torch.equal(weak.video, one_way.video) and not torch.equal(weak.audio, one_way.audio)


def test_one_tower_at_a_time_is_there(model) -> None:
    for side in MODALITIES:
        alone = model.alone(side)
        assert getattr(alone.joint, OTHER[side]) is None and alone.codecs[OTHER[side]] is None
        with pytest.raises(InputError, match=f"there is no {OTHER[side]} tower in this model"):
            alone.alone(OTHER[side])


def test_a_cascade_that_cannot_be_is_refused_before_anything_is_made(run, timeline, model, tmp_path) -> None:
    with pytest.raises(InputError, match=r"unknown order: got 'sideways'; expected one of video-first"):
        cascade(run, timeline, "sideways")
    with pytest.raises(InputError, match=r"made at once: .* got windows given"):
        cascade(replace(run, options=replace(run.options, windows="given")), timeline, "video-first")
    with pytest.raises(InputError, match="told of the other by an alignment"):
        cascade(replace(run, reading=None), timeline, "video-first")
    audio = Reading(load_alignment(write_alignment(tmp_path / "x.safetensors", reads=("audio",))))
    asked = []
    watched = replace(run, reading=audio, progress=replace(run.progress, report=lambda *a, **k: asked.append(a)))
    with pytest.raises(IncompatibleWeightsError, match="no video tower has learned to read"):
        cascade(watched, timeline, "both-ways")
    assert not asked
    with pytest.raises(InputError, match="there is no audio tower in this model"):
        cascade(replace(run, model=model.alone("video")), timeline, "video-first")


@pytest.fixture
def clip(tmp_path):
    frames = torch.rand(9, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    wave = 0.1 * torch.randn(2, 4800, generator=torch.Generator().manual_seed(1))
    made = AVClip(VideoClip(frames, Fraction(15)), AudioClip(wave, 8000))
    return write_clip(made, tmp_path / "own.mkv", codec="ffv1").path


def test_a_users_own_clip_is_told_the_same_way(run, model, clip) -> None:
    file = open_user_file(clip)
    sound, _ = sound_for(run, file)
    weak, _ = sound_for(replace(run, reading=replace(run.reading, strength=0.0)), file)
    assert sound.waveform.shape == weak.waveform.shape and not torch.equal(sound.waveform, weak.waveform)
    picture, _ = picture_for(run, file)
    assert picture.video.frames.shape[0] >= 9 and torch.isfinite(picture.video.frames).all()
    assert own_timeline(model).geometry == model.geometry


def test_all_windows_of_a_run_are_made_by_one_tower(run, model, tmp_path, monkeypatch) -> None:
    """A second card copies it once; a LoRA is put on once."""
    frames = torch.rand(30, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    file = open_user_file(write_clip(AVClip(VideoClip(frames, Fraction(15))), tmp_path / "a.mkv", codec="ffv1").path)
    seen, extent = [], replace(own_timeline(model), num_frames=13, width=32, height=32)

    def watched(model, *args, **options):
        seen.append(model.joint)
        return sample_latents(model, *args, **options)

    monkeypatch.setattr(base, "sample_latents", watched)
    monkeypatch.setattr(sound, "own_timeline", lambda *_: extent)
    sound_for(replace(run, reading=replace(run.reading)), file, overlap=0.3)
    assert len(seen) > 1 and all(joint is seen[0] for joint in seen)


SMALL = ("--frames", "9", "--size", "32x32", "--steps", "2", "--device", "cpu", "--no-expand")


def command(capsys, *words: object) -> tuple[int, str]:
    """Exit code, and everything that was said."""
    try:
        code = main([str(word) for word in words])
    except SystemExit as stop:
        code = int(stop.code)
    return code, "".join(capsys.readouterr())


@pytest.mark.parametrize("order", ORDERS)
def test_generate_makes_one_side_after_the_other(models_dir, path, tmp_path, capsys, order: str) -> None:
    models = shutil.copytree(models_dir, tmp_path / "models")
    shutil.copy(path, models / "alignment.safetensors")
    target = tmp_path / "clip.mp4"
    code, told = command(capsys, "generate", "a ball", "-o", target, "--models", models, "--cascade", order, *SMALL)
    assert code == 0, told
    made = read_clip(target)
    assert made.video.frames.shape[0] == 9 and made.audio is not None and "no bridges" in told
    assert "alignment alignment.safetensors: 8 dimensions, kept 6 of the picture and 5 of the sound" in told


def test_commands_refuse_what_does_not_go_together(models_dir, path, clip, tmp_path, capsys) -> None:
    target, bridge, first = tmp_path / "x.mp4", models_dir / "bridge.safetensors", ("--cascade", "video-first")
    for words, sentence in (
        (first, "no alignment was found beside the models"),
        (("--alignment", path), "nothing reads the alignment"),
        ((*first, "--alignment", path, "--bridge", bridge), "an alignment is read instead of bridges"),
        ((*first, "--alignment", bridge), "the file is not a SAVA alignment file"),
        ((*first, "--alignment", path, "--continue", clip), "begins with something given"),
        ((*first, "--alignment", path, "--condition-strength", "-1"), "condition-strength"),
    ):
        code, told = command(capsys, "generate", "a ball", "-o", target, "--models", models_dir, *SMALL, *words)
        assert code and sentence in told, (words, told)
        assert not target.exists()


def test_sound_reads_an_alignment_too(models_dir, path, clip, tmp_path, capsys) -> None:
    words = ("--models", models_dir, "--alignment", path, "--steps", "2", "--device", "cpu", "--no-expand")
    code, told = command(capsys, "sound", clip, "a knock", "-o", tmp_path / "x.wav", *words)
    assert code == 0 and (tmp_path / "x.wav").exists() and "kept 6 of the picture" in told, told


def test_auto_is_the_alignment_beside_the_models(clip, tmp_path, capsys) -> None:
    words = ("--alignment", "auto", "--steps", "2", "--device", "cpu", "--no-expand")
    code, told = command(capsys, "sound", clip, "a knock", "-o", tmp_path / "x.wav", "--models", "pocket", *words)
    assert code == 0 and "alignment alignment.safetensors: 64 dimensions" in told, told
    code, told = command(capsys, "sound", clip, "a knock", "-o", tmp_path / "y.wav", "--alignment", "autos")
    assert code == 3 and "autos" in told and not (tmp_path / "y.wav").exists()
