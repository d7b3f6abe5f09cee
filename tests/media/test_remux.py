"""A file's picture is copied bit for bit, whatever it is, and gets another sound of exactly its length."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import user_files
from sounding_video.core.clock import samples_for
from sounding_video.core.errors import Cancelled, InputError, OutputError
from sounding_video.core.progress import Progress
from sounding_video.core.types import AudioClip, AVClip, VideoClip
from sounding_video.media.own import with_own_picture, with_own_sound
from sounding_video.media.probe import probe
from sounding_video.media.remux import copy_with_sound, picture_of, why_not_copied
from user_files import write_file

# Name of the file, how it is made, the formats that hold its picture.
FILES = {
    "phone.mp4": ({"rotation": 90, "sound": "aac"}, (".mp4", ".mkv")),
    "phone.mov": ({"rotation": 180, "sound": "pcm_s16le"}, (".mp4", ".mkv")),
    "hdr.mp4": (
        {"codec": "libx265", "pixels": "yuv420p10le", "hdr": True, "x265-params": "log-level=error"},
        (".mp4", ".mkv"),
    ),
    "screen.mkv": ({"times": [0, 40, 100, 900, 950, 1000, 2500]}, (".mp4", ".mkv")),
    "camera.ts": ({"sound": "mp2"}, (".mp4", ".mkv")),
    "old.avi": ({"codec": "mpeg4", "sound": "mp2"}, (".mp4", ".mkv")),
    "web.webm": ({"codec": "libvpx-vp9", "sound": "libopus"}, (".mp4", ".mkv", ".webm")),
    "cut.mov": ({"codec": "prores_ks", "pixels": "yuv422p10le"}, (".mkv",)),
    "lossless.mkv": ({"codec": "ffv1", "pixels": "bgr0"}, (".mkv",)),
    "still.mp4": ({"num_frames": 1}, (".mp4", ".mkv")),
}
CASES = [(name, suffix) for name, (_, held) in FILES.items() for suffix in held]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("users")
    for name, (how, _) in FILES.items():
        write_file(folder / name, **how)
    return folder


def seen(path: Path) -> dict:
    """What a player shows: every frame's content and time from the first one on, its rotation and colour."""
    with av.open(str(path)) as source:
        frames = list(source.decode(video=0))
    first = frames[0].pts * frames[0].time_base
    return {
        "content": [hashlib.sha256(b"".join(bytes(plane) for plane in frame.planes)).hexdigest() for frame in frames],
        "times": [float(frame.pts * frame.time_base - first) for frame in frames],
        "start": float(first),
        "rotation": frames[0].rotation,
        "colour": (frames[0].color_primaries, frames[0].color_trc, frames[0].colorspace),
    }


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as source:
        return [bytes(packet) for packet in source.demux(video=0) if packet.size]


def tone(seconds: float, rate: int = 44_100) -> AudioClip:
    return AudioClip(0.3 * torch.sin(torch.arange(round(seconds * rate)) * 0.05).expand(2, -1).contiguous(), rate)


@pytest.mark.parametrize(("name", "suffix"), CASES)
def test_the_picture_is_the_same_and_the_sound_as_long(folder: Path, tmp_path: Path, name: str, suffix: str) -> None:
    target = tmp_path / f"out{suffix}"
    report = copy_with_sound(folder / name, tone(5), target, metadata={"prompt": "a tone"})
    before, after = seen(folder / name), seen(target)
    assert after["content"] == before["content"]
    assert after["times"] == pytest.approx(before["times"], abs=0.0011)  # Matroska counts milliseconds
    assert (after["rotation"], after["colour"]) == (before["rotation"], before["colour"])
    if not name.endswith(".ts"):  # H.264 in a transport stream is framed by start codes, in mp4 by lengths
        assert packets(target) == packets(folder / name)
    info = probe(target)
    assert info.tags["prompt"] == "a tone"
    assert info.num_samples == report.num_samples == samples_for(report.seconds, info.sample_rate)
    assert float(report.seconds) == pytest.approx(float(picture_of(folder / name).seconds), abs=1e-9)
    with av.open(str(target)) as file:
        assert len(file.streams.video) == len(file.streams.audio) == 1
        sound = next(file.decode(file.streams.audio[0]))
    assert float(sound.pts * sound.time_base) == pytest.approx(after["start"], abs=0.0015)  # they begin together
    assert report.writer == "copy" and report.num_frames == len(before["content"])


def test_the_lengths_of_files_are_known_without_decoding(folder: Path) -> None:
    assert picture_of(folder / "phone.mp4").seconds == Fraction(12, 15)
    assert picture_of(folder / "still.mp4").seconds == Fraction(1, 15)
    assert 2.5 < picture_of(folder / "screen.mkv").seconds < 2.6
    assert picture_of(folder / "camera.ts").fps == 15


def test_what_a_format_cannot_hold_is_said_and_nothing_is_left(folder: Path, tmp_path: Path) -> None:
    for name, (_, held) in FILES.items():
        for suffix in (".mp4", ".mkv", ".webm"):
            sentence = why_not_copied(folder / name, suffix)
            assert bool(sentence) == (suffix not in held and (name, suffix) != ("lossless.mkv", ".mp4"))
            if sentence:
                assert "as it is" in sentence and "encoded anew" in sentence
                with pytest.raises(InputError, match="cannot hold the picture"):
                    copy_with_sound(folder / name, tone(1), tmp_path / f"out{suffix}")
    write_file(tmp_path / "moving.gif", codec="gif", pixels="rgb8")
    assert "cannot hold" in why_not_copied(tmp_path / "moving.gif", ".mp4")
    with pytest.raises(OutputError, match="no video format"):
        copy_with_sound(folder / "phone.mp4", tone(1), tmp_path / "out.wav")
    assert [path.name for path in tmp_path.iterdir()] == ["moving.gif"]


def test_files_without_a_moving_picture_are_refused(folder: Path, tmp_path: Path) -> None:
    cover = user_files.write_sound_with_cover(tmp_path / "song.mp4")
    with pytest.raises(InputError, match=r"no moving picture.*attached"):
        picture_of(cover)
    (tmp_path / "notes.mp4").write_text("no film")
    with pytest.raises(InputError, match="not a media file"):
        picture_of(tmp_path / "notes.mp4")
    with pytest.raises(InputError, match="no such file"):
        picture_of(tmp_path / "gone.mp4")
    whole = (folder / "phone.mp4").read_bytes()
    (tmp_path / "half.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="truncated"):
        copy_with_sound(tmp_path / "half.mp4", tone(1), tmp_path / "out.mp4")


def test_frames_that_an_edit_list_hides_stay_hidden(folder: Path, tmp_path: Path) -> None:
    """As phones and editors cut without encoding: five frames are decoded first and not shown."""
    full, cut = folder / "phone.mp4", tmp_path / "cut.mp4"
    with av.open(str(full)) as source, av.open(str(cut), "w") as output:
        stream = source.streams.video[0]
        copied = output.add_stream_from_template(stream, opaque=True)
        copied.time_base = stream.time_base
        for packet in source.demux(stream):
            if packet.size:
                packet.pts, packet.dts = (
                    time - round(Fraction(1, 3) / stream.time_base) for time in (packet.pts, packet.dts)
                )
                packet.stream = copied
                output.mux(packet)
    assert seen(cut)["content"] == seen(full)["content"][5:]
    copy_with_sound(cut, tone(3), tmp_path / "out.mp4")
    assert seen(tmp_path / "out.mp4")["content"] == seen(cut)["content"]
    assert picture_of(cut).seconds == Fraction(7, 15) == picture_of(tmp_path / "out.mp4").seconds
    assert "5 frames at its beginning are cut off" in why_not_copied(cut, ".mkv")


def test_a_file_may_be_replaced_by_itself_and_be_left_silent(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes((folder / "phone.mp4").read_bytes())
    before = seen(path)
    copy_with_sound(path, tone(0.2, 8000), path)
    assert seen(path) == before and probe(path).sample_rate == 8000
    assert "ended" in copy_with_sound(path, tone(0.2, 8000), path).notes[0]
    copy_with_sound(path, None, path)
    assert seen(path) == before and probe(path).audio_codec is None


def test_a_stop_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    def stop(stage: str, done: int, total: int, preview: object = None) -> None:
        if done == 5:
            raise Cancelled

    with pytest.raises(Cancelled):
        copy_with_sound(folder / "phone.mp4", tone(1), tmp_path / "out.mp4", progress=Progress(report=stop))
    assert list(tmp_path.iterdir()) == []


def test_a_flash_and_a_click_stay_together(tmp_path: Path) -> None:
    """A file whose picture begins at 1.4 s, as a transport stream's does: the click comes with the bright frame."""
    path = write_file(tmp_path / "late.ts", num_frames=30)
    waveform = torch.zeros(1, 88_200)
    waveform[:, 44_100] = 0.9  # with frame 15
    copy_with_sound(path, AudioClip(waveform, 44_100), tmp_path / "out.mkv")
    with av.open(str(tmp_path / "out.mkv")) as file:
        frames = [frame.time for frame in file.decode(video=0)]
    with av.open(str(tmp_path / "out.mkv")) as file:
        blocks = list(file.decode(audio=0))
    sound = np.concatenate([block.to_ndarray().reshape(-1) for block in blocks])
    click = blocks[0].time + int(np.abs(sound.astype(np.float64)).argmax()) / 44_100
    assert click == pytest.approx(frames[15], abs=0.002)


def test_own_picture_and_own_sound_are_handed_on_untouched() -> None:
    picture = VideoClip(torch.rand(50, 6, 8, 3), Fraction(30000, 1001))
    made = with_own_picture(picture, tone(1))
    assert made.video is picture and made.audio.waveform.shape[1] == made.num_samples
    assert with_own_picture(picture, tone(9)).audio.seconds == made.audio.seconds
    sound = AudioClip(torch.rand(1, 8000 * 2), 8000)
    for num_frames in (9, 30, 31, 81):
        clip = with_own_sound(sound, VideoClip(torch.rand(num_frames, 6, 8, 3), Fraction(15)))
        assert clip.audio is sound and clip.video.frames.shape[0] == 30
        assert isinstance(clip, AVClip)
    short = with_own_sound(sound, VideoClip(torch.arange(9.0).view(9, 1, 1, 1).expand(-1, 2, 2, 3), Fraction(15)))
    assert short.video.frames[:, 0, 0, 0].tolist() == [*range(9), *[8] * 21]
