"""Sound for a picture, picture for a sound, a longer clip, a clip from a picture, with the bundled model."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from sounding_video.core.clock import samples_for
from sounding_video.core.device import resolve_placement
from sounding_video.core.errors import InputError
from sounding_video.core.progress import Progress
from sounding_video.core.types import AudioClip, AVClip, Captions, VideoClip
from sounding_video.media.mux import write_clip
from sounding_video.media.probe import read_clip
from sounding_video.media.user_file import open_user_file
from sounding_video.pipeline import SamplingOptions, load_models, sample_latents
from sounding_video.tasks import picture, sound
from sounding_video.tasks.base import Run, own_timeline
from sounding_video.tasks.extend import go_on
from sounding_video.tasks.first_frame import from_first_frame
from sounding_video.tasks.picture import picture_for
from sounding_video.tasks.sound import sound_for

CAPTIONS = Captions("a hand knocks on a wooden door", "knocks on wood")
NONE = Captions("", "")


@pytest.fixture(scope="module")
def model():
    return load_models("pocket", placement=resolve_placement(device="cpu"))


@pytest.fixture(scope="module")
def run(model):
    options = SamplingOptions(num_steps=2, video_guidance_scale=1, audio_guidance_scale=1, flow_shift=1)
    return Run(model, CAPTIONS, NONE, options)


def clip(num_frames=33, fps=Fraction(15), width=64, height=64, *, rate=44_100, channels=2, sound=True):
    """A bar that wanders, over a tone that swells."""
    frames = torch.full((num_frames, height, width, 3), 0.2)
    for index in range(num_frames):
        left = (index * 3) % (width - 8)
        frames[index, :, left : left + 8] = torch.tensor([0.9, 0.4, 0.1])
    samples = samples_for(num_frames / fps, rate)
    time = torch.arange(samples) / rate
    wave = (0.3 * torch.sin(2 * torch.pi * 220 * time) * torch.sin(torch.pi * time).abs()).expand(channels, -1)
    return AVClip(VideoClip(frames, fps), AudioClip(wave.clone(), rate) if sound else None)


@pytest.fixture
def write(tmp_path):
    def make(**settings):
        return open_user_file(write_clip(clip(**settings), tmp_path / "own.mkv", codec="ffv1").path)

    return make


@pytest.fixture(scope="module")
def usual(run, tmp_path_factory):
    """The sound for the usual clip, and what is told of it."""
    path = tmp_path_factory.mktemp("usual") / "own.mkv"
    return sound_for(run, open_user_file(write_clip(clip(), path, codec="ffv1").path))


def loudest_jump(wave):
    return float(wave.diff(dim=-1).abs().max())


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_frames": 20, "fps": Fraction(30000, 1001), "width": 96, "height": 160, "sound": False},
        {"num_frames": 7, "fps": Fraction(5), "rate": 8000, "channels": 1},
    ],
)
def test_a_sound_is_exactly_as_long_as_the_picture(run, usual, write, settings):
    file = write(**settings)
    sound, notes = sound_for(run, file) if settings else usual
    assert sound.waveform.shape == (2, samples_for(file.seconds, 44_100))
    assert bool(sound.waveform.isfinite().all())
    assert ("scaled" in " ".join(notes)) == (settings.get("width", 64) != 64)


def test_a_longer_clip_goes_in_windows_without_a_click_between_them(run, write):
    file = write(num_frames=50)
    sound, notes = sound_for(run, file, overlap=0.6)
    assert "windows" in " ".join(notes)
    assert sound.waveform.shape[1] == samples_for(file.seconds, 44_100)
    wave, quantile = sound.waveform, torch.quantile(sound.waveform.diff(dim=-1).abs().flatten()[::7], 0.999)
    timeline = own_timeline(run.model)
    seam = samples_for(timeline.seconds - Fraction(3, 10), 44_100)
    assert loudest_jump(wave[:, seam - 2000 : seam + 2000]) <= max(float(quantile) * 3, 1e-3)


@pytest.mark.parametrize(("task", "module"), [(sound_for, sound), (picture_for, picture)])
def test_captions_that_change_reach_the_windows_of_their_time(run, write, monkeypatch, task, module):
    seen, told = [], []

    def watched(model, conditioning, **options):
        seen.append(conditioning)
        return sample_latents(model, conditioning, **options)

    monkeypatch.setattr(module, "sample_latents", watched)
    script = "[0] rain on a roof [1.8] a drum is struck [1.9] a ball [3] a hand knocks"
    run = replace(run, captions=Captions(script, script), progress=Progress(tell=told.append))
    _, notes = task(run, write(num_frames=66), overlap=1)
    texts = [each.audio.positive for each in seen]
    assert len(texts) > 2 and not any(each.later for each in seen)
    assert not torch.equal(texts[0], texts[1]) and not torch.equal(texts[1], texts[-1])
    assert "captions that begin at 1.8 s are not read" in " ".join(told)
    assert "are used" not in " ".join(notes), "all of it is"


def test_another_picture_gives_another_sound(run, usual, write, tmp_path):
    one, _ = usual
    again, _ = sound_for(run, write())
    other = clip()
    mirrored = AVClip(VideoClip(other.video.frames.flip(2), other.video.fps))
    file = open_user_file(write_clip(mirrored, tmp_path / "other.mkv", codec="ffv1").path)
    assert torch.equal(one.waveform, again.waveform)
    assert not torch.equal(one.waveform, sound_for(run, file)[0].waveform)


def test_without_a_text_the_sound_follows_the_picture_alone(run, write):
    sound, _ = sound_for(replace(run, captions=NONE), write())
    assert float(sound.waveform.abs().max()) > 0


@pytest.mark.parametrize(("rate", "channels"), [(44_100, 2), (8_000, 1), (48_000, 2)])
def test_a_picture_keeps_the_users_own_sound(run, write, rate, channels):
    file = write(num_frames=20, rate=rate, channels=channels)
    made, _ = picture_for(run, file)
    assert torch.equal(made.audio.waveform, file.sound.waveform)
    assert made.audio.sample_rate == rate
    assert made.video.frames.shape[0] - 20 in (0, 1)  # a sample more than 20 frames hold asks for another


def test_the_picture_of_a_long_sound_is_made_in_windows(run, write, monkeypatch):
    """Each begins with the frames that the one before it ended with."""
    seen = []

    def watched(*args, given, **options):
        made = sample_latents(*args, given=given, **options)
        seen.append((given.video, made.video))
        return made

    monkeypatch.setattr(picture, "sample_latents", watched)
    file = write(num_frames=66)
    made, notes = picture_for(run, file)
    assert made.video.frames.shape[0] in (66, 67) and torch.equal(made.audio.waveform, file.sound.waveform)
    assert len(seen) > 2 and f"made in {len(seen)} windows of 2.2 s that share 1 s" in notes
    assert seen[0][0] is None
    for given, latents in seen[1:]:
        known = int(given.mask.broadcast_to(latents.shape)[0, 0, :, 0, 0].sum())
        assert 4 <= known < 9 and torch.equal(latents[:, :, :known], given.latents[:, :, :known])
    frames = made.video.frames.diff(dim=0).abs().mean((1, 2, 3))
    assert frames.max() < 0.5


def test_what_a_clip_has_stays_when_it_goes_on(run, write):
    file = write(num_frames=40, fps=Fraction(20), width=96, height=96)
    own = read_clip(file.path)
    longer, notes = go_on(run, file)
    assert torch.equal(longer.video.frames[:40], own.video.frames)
    assert longer.video.fps == 20
    assert longer.video.frames.shape[0] > 40 + 10
    assert any("scaled" in note for note in notes)
    seam = own.audio.waveform.shape[1]
    assert torch.equal(longer.audio.waveform[:, : seam - 900], own.audio.waveform[:, : seam - 900])
    assert loudest_jump(longer.audio.waveform[:, seam - 900 : seam + 50]) < 0.2


def test_a_clip_begins_with_the_picture(run, write):
    file = write(width=128, height=64)
    made, notes = from_first_frame(run, file, own_timeline(run.model))
    assert made.video.frames.shape == (33, 64, 64, 3)
    assert any("cropped" in note for note in notes)
    first = read_clip(file.path).video.frames[0, :, 32:96]
    assert float((made.video.frames[0] - first).abs().max()) < 0.02
    assert made.audio.waveform.shape[1] == samples_for(Fraction(33, 15), 44_100)


def test_bridges_are_asked_whether_they_lead_there(run, write):
    deaf = load_models("pocket", placement=resolve_placement(device="cpu"), bridge="none")
    lonely = replace(run, model=deaf)
    with pytest.raises(InputError, match=r"nothing leads from the given picture to the sound.*dual_cross"):
        sound_for(lonely, write())
    with pytest.raises(InputError, match=r"nothing leads from the given sound to the picture.*dual_cross"):
        picture_for(lonely, write())


def test_files_that_lack_what_is_given_are_refused(run, tmp_path):
    silent = open_user_file(write_clip(clip(sound=False), tmp_path / "silent.mkv", codec="ffv1").path)
    sound = open_user_file(write_clip(AVClip(None, clip().audio), tmp_path / "sound.wav").path)
    with pytest.raises(InputError, match="there is no sound to make a picture for"):
        picture_for(run, silent)
    for task in (sound_for, go_on):
        with pytest.raises(InputError, match=r"no picture|only a video"):
            task(run, sound)
    with pytest.raises(InputError, match="no picture to begin with"):
        from_first_frame(run, sound, own_timeline(run.model))
