"""Files that people have and files that lie: the right reading or a sentence, never a traceback, a wait or a bomb."""

from __future__ import annotations

import os
import random
import struct
import time
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from sounding_video.core.clock import Timeline
from sounding_video.core.errors import InputError, SoundingVideoError
from sounding_video.core.types import AudioClip
from sounding_video.media.probe import probe, read_clip
from sounding_video.media.remux import copy_with_sound
from sounding_video.media.tag_reader import read_tags
from sounding_video.media.user_file import fit_file, open_user_file
from user_files import write_file

TIMELINE = Timeline(5, Fraction(15), 32, 32)
SECONDS = 10.0


def every_reader(path: Path) -> list[BaseException | None]:
    """What each reader raises, which has to be ours, or None."""

    def fitted(path: Path) -> object:
        return fit_file(open_user_file(path), TIMELINE)

    found: list[BaseException | None] = []
    for read in (probe, read_clip, fitted, read_tags):
        start = time.monotonic()
        try:
            read(path)
            found.append(None)
        except SoundingVideoError as error:
            assert len(str(error)) < 800
            found.append(error)
        assert time.monotonic() - start < SECONDS
    return found


def wav(path: Path, *, rate: int = 8000, channels: int = 1, samples: np.ndarray | None = None) -> Path:
    values = np.zeros((400, channels), "<f4") if samples is None else samples.astype("<f4")
    data = values.tobytes()
    form = struct.pack("<HHIIHH", 3, channels, rate, rate * 4 * channels, 4 * channels, 32)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(data)) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


def png(width: int, height: int) -> bytes:
    """A whole PNG file that says it is so large, with a few rows in it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def gif(width: int, height: int) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    return head + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\0;"


NONE_OF_IT: dict[str, bytes] = {
    "empty": b"",
    "one byte": b"\0",
    "text": b"hello\n" * 50,
    "a list of addresses": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
    "a list of files": b"ffconcat version 1.0\nfile whole.mp4\n",
    "a session": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "the head of an mp4": struct.pack(">I", 24) + b"ftypisom\0\0\2\0isomiso2",
    "an mp4 of boxes without end": struct.pack(">I", 16) + b"ftypisom\0\0\0\0" + (struct.pack(">I", 8) + b"free") * 999,
    "a box of 2**63 bytes": struct.pack(">I", 16) + b"ftypisom\0\0\0\0" + struct.pack(">I", 1) + b"mdat" + b"\xff" * 8,
    "the head of a Matroska file": b"\x1a\x45\xdf\xa3",
    "a Matroska number of nine bytes": b"\x1a\x45\xdf\xa3\x00" + b"\xff" * 20,
    "a Matroska head of 2**56 bytes": b"\x1a\x45\xdf\xa3\x01\xff\xff\xff\xff\xff\xff\xfe",
    "a PNG of 50000": png(50_000, 50_000),
    "a PNG of 2**31": png(2**31 - 1, 2**31 - 1),
    "a PNG of zero": png(0, 0),
    "a narrow PNG": png(1, 60_000),
    "a GIF of 65535": gif(65_535, 65_535),
    "the head of a PNG": png(8, 8)[:20],
    "the head of a JPEG": b"\xff\xd8\xff\xe0\x00\x10JFIF",
    "the head of a WebP": b"RIFF\xff\xff\xff\xffWEBPVP8 ",
    "the head of a WAV": b"RIFF\x24\0\0\0WAVEfmt ",
    "zeros": b"\0" * 5000,
    "noise": random.Random(0).randbytes(5000),
    "a pickle": b"\x80\x04K\x01.",
    "an archive": b"PK\x03\x04" + b"\0" * 60,
}


@pytest.mark.parametrize("case", NONE_OF_IT)
@pytest.mark.parametrize("name", ["a.mp4", "a.png"])
def test_what_is_no_clip(case, name, tmp_path) -> None:
    path = tmp_path / name
    path.write_bytes(NONE_OF_IT[case])
    refused = every_reader(path)
    assert all(refused[:3])


def test_what_is_no_file(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "gone.mp4")
    for path in (tmp_path, tmp_path / "pipe.mp4", tmp_path / "link.mp4", tmp_path / ("x" * 300), tmp_path / "a\0b"):
        assert all(every_reader(path))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_file(tmp_path_factory.mktemp("clip") / "clip.mp4", sound="aac", num_frames=6)


@pytest.mark.parametrize("suffix", [".mkv", ".png", ".txt", ".wav", ".MP4", ""])
def test_a_clip_by_another_name(clip, suffix, tmp_path) -> None:
    path = tmp_path / f"clip{suffix}"
    path.write_bytes(clip.read_bytes())
    assert every_reader(path) == [None] * 4
    assert probe(path).num_frames == 6


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "1"])
@pytest.mark.parametrize("size", [(1, 1), (3, 5)])
def test_a_picture_called_a_video(kind, mode, size, tmp_path) -> None:
    path = tmp_path / "a.mp4"
    picture = Image.new("RGB", size, (200, 30, 60)).convert(mode)
    try:
        picture.save(path, kind)
    except OSError:
        pytest.skip("there is no such picture")
    refused = every_reader(path)
    assert all(error is None or isinstance(error, InputError) for error in refused)
    assert kind in ("TIFF", "BMP") or refused[:3] == [None] * 3
    if refused[2] is None:
        assert open_user_file(path).size == size


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_picture_with_a_colour_profile_does_not_end_the_process(kind, tmp_path, python_with_package) -> None:
    """As cameras and editors write them; a process of its own, as a crash would take the tests with it."""
    from PIL import ImageCms

    path = tmp_path / "a.mp4"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("RGB", (16, 8), (200, 30, 60)).save(path, kind, icc_profile=profile)
    process = python_with_package(
        "import gc\n"
        "from sounding_video.media.probe import read_clip\n"
        "from sounding_video.media.user_file import open_user_file\n"
        "print(*read_clip(sys.argv[1]).video.frames.shape, *open_user_file(sys.argv[1]).size)\n"
        "gc.collect()\n",
        [str(path)],
    )
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "1 8 16 3 16 8\n"), err


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation(kind, tmp_path) -> None:
    """What FFmpeg cannot read of them, it says."""
    path = tmp_path / "a.mp4"
    frames = [Image.new("RGB", (20, 10), (80 * number, 30, 60)) for number in range(3)]
    frames[0].save(path, kind, save_all=True, append_images=frames[1:], duration=100, loop=0)
    refused = every_reader(path)
    assert all(error is None or isinstance(error, InputError) for error in refused)
    if kind == "GIF":
        assert refused == [None] * 4 and probe(path).num_frames == 3


FORMS: dict[str, dict] = {
    "one frame": {"num_frames": 1},
    "10 bits": {"pixels": "yuv420p10le", "codec": "libx265", "x265-params": "log-level=error"},
    "12 bits": {"pixels": "yuv420p12le", "codec": "libx265", "x265-params": "log-level=error"},
    "HDR": {"pixels": "yuv420p10le", "codec": "libx265", "hdr": True, "x265-params": "log-level=error"},
    "alpha": {"pixels": "yuva420p", "codec": "libvpx-vp9"},
    "4:4:4": {"pixels": "yuv444p"},
    "grey": {"pixels": "gray", "codec": "ffv1"},
    "16 bits": {"pixels": "gbrp16le", "codec": "ffv1"},
    "changing intervals": {"times": [0, 30, 400, 401, 2000]},
    "a second before zero": {"times": [-1000, -500, 0, 500]},
    "five minutes between": {"times": [0, 300_000]},
    "pixels of another shape": {"pixel_shape": Fraction(4, 3)},
    "pixels of no shape": {"pixel_shape": Fraction(1, 255)},
    "interlaced": {"flags": "+ildct+ilme", "codec": "mpeg2video"},
}  # fmt: skip


@pytest.mark.parametrize("case", FORMS)
def test_forms_that_people_have(case, tmp_path) -> None:
    path = write_file(tmp_path / "a.mkv", **FORMS[case])
    refused = every_reader(path)
    assert refused == [None] * 4, refused
    notes = " ".join(open_user_file(path).notes)
    assert ("HDR (PQ)" in notes) == (case == "HDR")
    assert probe(path).num_frames == len(FORMS[case].get("times", range(FORMS[case].get("num_frames", 12))))


@pytest.mark.parametrize("times", [[0, 10**8], [0, 3_600_000], [0, 10**9]])
def test_times_that_no_film_has(times, tmp_path) -> None:
    path = write_file(tmp_path / "a.mkv", times=times, codec="ffv1", pixels="bgr0")
    refused = every_reader(path)
    assert refused[2] is not None
    with pytest.raises(InputError):
        copy_with_sound(path, AudioClip(torch.zeros(1, 800), 8000), tmp_path / "b.mkv")


def test_a_rate_of_one_frame_in_an_hour(tmp_path) -> None:
    """Of an AVI file, whose header alone says it: the sound for it would be as long."""
    path = write_file(tmp_path / "a.avi", codec="mpeg4", num_frames=5)
    data = path.read_bytes()
    rate = struct.pack("<II", 1, 15)
    assert data.count(rate)
    path.write_bytes(data.replace(rate, struct.pack("<II", 65_537, 15)))
    assert all(every_reader(path)[:3])
    with pytest.raises(InputError):
        copy_with_sound(path, AudioClip(torch.zeros(1, 800), 8000), tmp_path / "b.mkv")


@pytest.mark.parametrize(("rotation", "flips"), [(90, ()), (180, ()), (270, ()), (0, (0,)), (0, (1,)), (90, (1,))])
def test_what_is_turned_or_mirrored_is_read_as_it_is_played(rotation, flips, tmp_path) -> None:
    """The witness is numpy's own turning of the frames of the same file without a matrix."""
    path = _with_matrix(write_file(tmp_path / "plain.mp4"), rotation, flips)
    plain = read_clip(tmp_path / "plain.mp4").video.frames
    expected = torch.rot90(plain, rotation // 90, (1, 2))
    for axis in flips:
        expected = expected.flip(axis + 1)
    found = read_clip(path).video.frames
    assert torch.equal(found, expected)
    assert (probe(path).width, probe(path).height) == tuple(reversed(expected.shape[1:3]))
    file = open_user_file(path)
    assert file.size == tuple(reversed(expected.shape[1:3]))
    square = Timeline(5, Fraction(15), 48, 48)
    fitted = fit_file(file, square)[0].video.frames
    flat = fit_file(open_user_file(tmp_path / "plain.mp4"), square)[0].video.frames
    turned = torch.rot90(flat, rotation // 90, (1, 2))
    for axis in flips:
        turned = turned.flip(axis + 1)
    assert float((fitted - turned).abs().max()) < 0.02


def _with_matrix(plain: Path, rotation: int, flips: tuple[int, ...]) -> Path:
    """The matrix of ISO/IEC 14496-12 says where a pixel of the file is shown; it is written into a copy of the file."""
    path = plain.with_name("turned.mp4")
    a, b, c, d = {0: (1, 0, 0, 1), 90: (0, -1, 1, 0), 180: (-1, 0, 0, -1), 270: (0, 1, -1, 0)}[rotation]
    for axis in flips:
        (a, c) = (-a, -c) if axis == 1 else (a, c)
        (b, d) = (-b, -d) if axis == 0 else (b, d)
    one, data = 1 << 16, bytearray(plain.read_bytes())
    track = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 8
    identity = struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    assert data[track : track + 36] == identity
    data[track : track + 36] = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("rate", [100, 8000, 192_000, 768_000])
@pytest.mark.parametrize("channels", [1, 2, 6, 8])
def test_sounds_of_any_rate_and_number_of_channels(rate, channels, tmp_path) -> None:
    refused = every_reader(wav(tmp_path / "a.wav", rate=rate, channels=channels))
    assert all(error is None or isinstance(error, InputError) for error in refused)
    if 8000 <= rate <= 192_000:
        assert refused[:3] == [None] * 3


@pytest.mark.parametrize("rate", [0, 1, 2**29])
def test_sounds_of_no_rate(rate, tmp_path) -> None:
    assert all(every_reader(wav(tmp_path / "a.wav", rate=rate))[1:3])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_samples_that_are_no_numbers(value, tmp_path) -> None:
    samples = np.zeros((400, 1))
    samples[7] = value
    refused = every_reader(wav(tmp_path / "a.wav", samples=samples))
    assert np.isfinite(value) or all(refused[1:3])


def test_tags_that_are_not_utf_8(clip, tmp_path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as output:
        output.metadata["title"] = "QQQQQQQQ"
        stream = output.add_stream("ffv1", rate=15)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
        frame = av.VideoFrame(16, 16, "yuv420p")
        output.mux([*stream.encode(frame), *stream.encode(None)])
    path.write_bytes(path.read_bytes().replace(b"QQQQQQQQ", b"\xff\xfe\xc3\x28\xa0\xa1\xf0\x9f"))
    assert every_reader(path) == [None] * 4


def test_a_picture_that_changes_its_size_within_the_file(tmp_path) -> None:
    """MPEG transport streams may be put behind each other, as recorders do."""
    parts = []
    for number, side in enumerate((32, 64)):
        part = tmp_path / f"{number}.ts"
        with av.open(str(part), "w") as output:
            stream = output.add_stream("mpeg2video", rate=25)
            stream.width, stream.height, stream.pix_fmt = side, side, "yuv420p"
            for place in range(5):
                frame = av.VideoFrame.from_ndarray(np.full((side, side, 3), 90, np.uint8), format="rgb24")
                frame.pts = place
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
        parts.append(part.read_bytes())
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(parts))
    with pytest.raises(InputError, match="changes its size"):
        read_clip(path)
    assert all(error is None or isinstance(error, SoundingVideoError) for error in every_reader(path))


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Bytes changed, left out, doubled or cut off, most of them where headers stand."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 3, 10, 60))):
        place = chance.randrange(min(len(changed), 900)) if chance.random() < 0.5 else chance.randrange(len(changed))
        changed[place] = chance.choice((0, 255, 127, 128, chance.randrange(256)))
    if chance.random() < 0.3:
        del changed[(first := chance.randrange(len(changed))) : first + chance.randrange(1, 200)]
    return bytes(changed[: chance.randrange(1, len(changed))] if chance.random() < 0.2 else changed)


WHOLE: dict[str, Callable[[Path], Path]] = {
    "mp4": lambda path: write_file(path / "a.mp4", sound="aac", num_frames=5),
    "mkv": lambda path: write_file(path / "a.mkv", sound="flac", num_frames=5),
    "avi": lambda path: write_file(path / "a.avi", codec="mpeg4", num_frames=5),
    "wav": lambda path: wav(path / "a.wav"),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_damaged_bytes_are_never_a_traceback(kind, tmp_path) -> None:
    whole, chance = WHOLE[kind](tmp_path).read_bytes(), random.Random(kind)
    for number in range(25):
        path = tmp_path / f"{number}.{kind}"
        path.write_bytes(damaged(whole, chance))
        every_reader(path)
        path.unlink()
