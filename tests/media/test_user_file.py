"""Files that users have, fitted part by part: the same as the whole clip in memory, upright, in time, square."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import user_files
from PIL import Image
from sounding_video.core.clock import Timeline
from sounding_video.core.errors import InputError
from sounding_video.core.progress import Progress, stoppable
from sounding_video.core.types import AudioClip, AVClip, VideoClip
from sounding_video.media.fit import fit_clip
from sounding_video.media.mux import write_clip
from sounding_video.media.probe import probe, read_clip
from sounding_video.media.user_file import fit_file, open_user_file
from user_files import write_file

TIMELINE = Timeline(9, Fraction(15), 32, 32)
STEADY = {
    "a.mp4": {"sound": "aac", "num_frames": 20},
    "a.mkv": {"sound": "flac", "num_frames": 20},
    "a.ts": {"sound": "mp2", "num_frames": 20},
    "a.avi": {"codec": "mpeg4", "num_frames": 20},
    "a.webm": {"codec": "libvpx-vp9", "sound": "libopus", "num_frames": 20},
    "long.mp4": {"num_frames": 180, "g": "12"},
    "long.mkv": {"num_frames": 180, "g": "12"},
}


@pytest.mark.parametrize("name", STEADY)
@pytest.mark.parametrize("start", [Fraction(0), Fraction(1, 2), Fraction(8)])
def test_a_part_of_a_file_is_that_part_of_the_clip(tmp_path: Path, name: str, start: Fraction) -> None:
    """Eight seconds into the long ones a key frame is looked for; beyond the end of the short ones all is held."""
    path = write_file(tmp_path / name, **STEADY[name])
    file = open_user_file(path)
    fitted, report = fit_file(file, TIMELINE, start=start)
    expected, said = fit_clip(read_clip(path), TIMELINE, start=start)
    assert torch.equal(fitted.video.frames, expected.video.frames)
    assert report.picture.area == said.picture.area
    assert report.picture.known_frames == said.picture.known_frames
    assert file.size == (64, 48) and file.turn == 0
    if file.sound is not None and not file.notes:
        assert torch.equal(fitted.audio.waveform, expected.audio.waveform)
        assert report.sentences() == said.sentences()


def test_the_sound_of_whole_files_begins_with_the_picture(tmp_path: Path) -> None:
    """No delay of an encoder is taken for one of the clip."""
    for name, how in STEADY.items():
        if how.get("sound") in ("aac", "flac"):
            assert open_user_file(write_file(tmp_path / name, **how)).notes == ()


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_a_phone_s_clip_is_turned_upright(tmp_path: Path, rotation: int) -> None:
    lying = open_user_file(write_file(tmp_path / "lying.mp4"))
    file = open_user_file(write_file(tmp_path / "upright.mp4", rotation=rotation))
    assert file.size == ((64, 48) if rotation == 180 else (48, 64))
    assert any(f"turned upright by {abs(rotation)}°" in note for note in file.notes)
    square = Timeline(5, Fraction(15), 48, 48)
    whole, turned = (fit_file(each, square)[0].video.frames for each in (lying, file))
    expected = torch.rot90(whole, rotation // 90, (1, 2))
    assert float((turned - expected).abs().max()) < 0.02


def test_frames_of_changing_intervals_are_taken_by_their_own_times(tmp_path: Path) -> None:
    """A frame that stands for 0.8 s stands for it in the fitted clip, too."""
    times = [0, 33, 66, 100, 900, 933, 966]
    path = write_file(tmp_path / "screen.mkv", times=times, codec="ffv1", pixels="bgr0")
    file = open_user_file(path)
    assert any("changing intervals" in note for note in file.notes)
    fitted, _ = fit_file(file, Timeline(17, Fraction(15), 64, 48))
    frames = read_clip(path).video.frames
    distances = [[float((frame - other).abs().mean()) for other in frames] for frame in fitted.video.frames]
    assert [row.index(min(row)) for row in distances] == [0, 2, *[3] * 12, 5, 6, 6]


def test_a_picture_and_a_song_with_a_cover(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 30, 3), np.uint8)
    for name in ("still.png", "still.jpg", "still.webp"):
        Image.fromarray(pixels).save(tmp_path / name)
        file = open_user_file(tmp_path / name)
        fitted, report = fit_file(file, TIMELINE)
        assert file.size == (30, 40) and file.sound is None
        assert report.picture.known_frames == 1 and "still" in report.sentences()[0]
        assert torch.equal(fitted.video.frames, fitted.video.frames[:1].expand(9, -1, -1, -1))
    song = open_user_file(user_files.write_sound_with_cover(tmp_path / "song.mp4"))
    assert read_clip(song.path).video is None and probe(song.path).video_codec is None
    assert song.picture is None and float(song.seconds) == pytest.approx(1, abs=0.03)
    fitted, report = fit_file(song, TIMELINE, channels=1)
    assert fitted.video is None and report.picture is None and fitted.audio.waveform.shape[0] == 1


def test_pixels_that_are_not_square_are_made_so(tmp_path: Path) -> None:
    """64 columns of pixels that are 3/2 as wide as high are played as 96."""
    file = open_user_file(write_file(tmp_path / "dv.mp4", pixel_shape=Fraction(3, 2)))
    assert file.size == (96, 48) and any("not square" in note for note in file.notes)
    plain = open_user_file(write_file(tmp_path / "plain.mp4"))
    fitted, report = fit_file(file, Timeline(5, Fraction(15), 96, 48))
    assert report.picture.area == (0, 0, 96, 48)
    wide = torch.nn.functional.interpolate(
        fit_file(plain, Timeline(5, Fraction(15), 64, 48))[0].video.frames.permute(0, 3, 1, 2), (48, 96), mode="bicubic"
    )
    assert float((fitted.video.frames.permute(0, 3, 1, 2) - wide.clamp(0, 1)).abs().mean()) < 0.01


def test_a_sound_that_begins_later_keeps_its_moment(tmp_path: Path) -> None:
    file = open_user_file(write_file(tmp_path / "late.mkv", sound="flac", sound_late=0.5, num_frames=30))
    assert any("begins 0.500 s after the picture" in note for note in file.notes)
    first = int(file.sound.waveform[0].abs().gt(0.01).nonzero()[0])
    assert first == pytest.approx(24_000, abs=60)


def test_what_is_no_clip_is_told_and_a_stop_is_heard(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    for path in (tmp_path / "notes.txt", tmp_path / "gone.mp4", tmp_path):
        with pytest.raises(InputError, match=r"not a media file|no such file|neither picture nor sound"):
            open_user_file(path)
    file = open_user_file(write_file(tmp_path / "a.mp4"))
    with pytest.raises(InputError, match="begins before it"):
        fit_file(file, TIMELINE, start=Fraction(-1))

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), stoppable(Progress(check_cancelled=stop)):
        fit_file(file, TIMELINE)
    (tmp_path / "a.mp4").write_bytes(b"")
    with pytest.raises(InputError):
        fit_file(file, TIMELINE)
    assert isinstance(AVClip(None, open_user_file(write_file(tmp_path / "b.mp4", sound="aac")).sound), AVClip)


def test_the_sound_of_a_video_is_left_alone_where_nobody_wants_it(tmp_path):
    """Ten minutes of it would be 200 MB; a file of sound alone is still one."""
    both = AVClip(VideoClip(torch.rand(5, 16, 16, 3), Fraction(10)), AudioClip(torch.rand(2, 22_050) - 0.5, 44_100))
    video = write_clip(both, tmp_path / "both.mkv").path
    sound = write_clip(AVClip(None, both.audio), tmp_path / "alone.wav").path
    assert open_user_file(video).sound is not None
    assert open_user_file(video, sound=False).sound is None
    assert open_user_file(video, sound=False).picture == open_user_file(video).picture
    assert open_user_file(sound, sound=False).sound.waveform.shape == (2, 22_050)
