"""A media file that somebody gives us, opened: whole, of a modest size, a file and not a list of addresses.

FFmpeg believes what a file says of itself: a picture of 50 000 × 50 000 pixels, a sound with the rate of a picture, a
"video" that is a text with addresses to fetch. Whatever it raises for a file ends here in a sentence.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from ..core.disk import is_file, what_is_there
from ..core.errors import GeometryError, InputError, SoundingVideoError
from ..core.rates import MAX_FPS, as_fps
from ..core.room import require_memory
from .whole import require_modest_size, require_modest_still, require_whole

NOT_MEDIA = "this is not a media file that can be read, or it is damaged"
EXPECTED = "for example an mp4, webm or mkv file"
# How FFmpeg opens a plain text (as a film of the text), and texts that name other files or addresses.
_TEXTS = frozenset({"tty", "hls", "concat", "dash", "sdp", "rtsp", "imf", "lrc", "webm_dash_manifest", "avs", "vpx"})
# Codecs whose colour profiles have a name, which PyAV frees twice.
_NAMED_PROFILES = frozenset({"png", "apng"})
# A slide is shown ten minutes at the most, and a film for a day: beyond this a time is a mistake of the file.
LOWEST_FPS, MOST_SECONDS = Fraction(1, 600), 24 * 3600
ASK_BYTES = 1 << 27
# Hz: telephones have 8 000, the highest rate of any recorder is 768 000.
LOWEST_RATE, HIGHEST_RATE = 1000, 768_000


@contextmanager
def opened(path: Path) -> Iterator[av.container.InputContainer]:
    """A media file, to be read.

    Raises:
        InputError: no such file, not a media file, truncated, or with a picture larger than any that is watched.
    """
    if not is_file(path):
        there = what_is_there(path)
        what = "this is a folder, not a media file" if there == "a folder" else "there is no such file"
        raise InputError(what, got=path if there in ("nothing", "a folder") else f"{path} ({there})", expected=EXPECTED)
    require_whole(path)
    require_modest_still(path)
    with reading(path, NOT_MEDIA):
        # An absolute path is never taken for a protocol, and tags need not be UTF-8.
        source = av.open(str(path.absolute()), metadata_errors="replace")
    with source:
        if source.format.name in _TEXTS:
            raise InputError(
                NOT_MEDIA,
                got=f"{path} (neither picture nor sound in it, but a text, read as {source.format.name})",
                expected=EXPECTED,
            )
        for stream in source.streams.video:
            if stream.codec_context is not None:  # of a codec that nobody here decodes
                require_modest_size(path, stream.codec_context.width, stream.codec_context.height)
        yield source


@contextmanager
def reading(path: Path, what: str = "this file cannot be decoded, or it is damaged") -> Iterator[None]:
    """While FFmpeg reads a file: whatever it raises is a sentence about the file.

    Raises:
        InputError: in place of an error that is not ours.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, SoundingVideoError):
            raise
        words = getattr(error, "strerror", None) or str(error).partition("\n")[0][:200] or type(error).__name__
        raise InputError(what, got=f"{path} ({words})", expected=EXPECTED) from error


def rate_of(path: Path, stream: av.VideoStream) -> Fraction:
    """Frames per second of a file's picture.

    Raises:
        InputError: the file says none that a film can have.
    """
    said = [rate for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate) if rate]
    for rate in said:
        try:
            fps = as_fps(Fraction(rate))
        except GeometryError:
            continue
        if fps >= LOWEST_FPS:
            return fps
    raise InputError(
        "the picture of this file has no rate that a film can have",
        got=f"{path} with {said[0] if said else 'no'} frames per second",
        expected=f"{LOWEST_FPS} to {MAX_FPS} frames per second",
        remedy="Convert the file to mp4 first.",
    )


def upright(frame: av.VideoFrame, codec: str) -> tuple[int, bool]:
    """How a frame is put upright: quarter turns against the clock, then whether left and right are exchanged.

    The file's matrix says where a pixel is shown (ISO/IEC 14496-12, 6.2.2); of an angle between two quarters the nearer
    one is taken.

    Args:
        frame: Decoded.
        codec: Of its stream.
    """
    # What PyAV gives out of a PNG with a colour profile ends the process when it is let go of.
    beside = () if codec in _NAMED_PROFILES else frame.side_data
    matrix = next((bytes(data) for data in beside if data.type.name == "DISPLAYMATRIX"), b"")
    if len(matrix) < 36:
        return round((frame.rotation or 0) / 90) % 4, False
    a, b, _, c, d = np.frombuffer(matrix, np.int32, 5).astype(np.int64)
    is_turned = abs(b) + abs(c) > abs(a) + abs(d)
    if is_turned:  # a column is shown as a row
        wanted = _exchanged(np.array(((0, 1), (2, 3))).T, across=c < 0, down=b < 0)
    else:
        wanted = _exchanged(np.array(((0, 1), (2, 3))), across=a < 0, down=d < 0)
    for turn in range(4):
        for flipped in (False, True):
            if np.array_equal(placed(np.array(((0, 1), (2, 3))), turn, flipped), wanted):
                return turn, flipped
    return 0, False


def _exchanged(square: np.ndarray, *, across: bool, down: bool) -> np.ndarray:
    square = square[:, ::-1] if across else square
    return square[::-1] if down else square


def placed(picture: np.ndarray, turn: int, flipped: bool) -> np.ndarray:
    """A picture ``(H, W, …)`` put upright, as :func:`upright` says."""
    turned = np.rot90(picture, turn)
    return turned[:, ::-1] if flipped else turned


class Room:
    """Asks for room in memory while something is read that may have no end.

    Args:
        what: What is read, for the message.
        copies: How many times its size it takes when it is all there.
    """

    def __init__(self, what: str, copies: int) -> None:
        self.what, self.copies, self.taken, self._asked = what, copies, 0, 0

    def take(self, num_bytes: int) -> None:
        """Note what was read; every so often the memory is looked at.

        Raises:
            PlacementError: there is no room for it.
        """
        self.taken += num_bytes
        if self.taken - self._asked >= ASK_BYTES:
            self._asked = self.taken
            require_memory(self.copies * self.taken, self.what)


class SoundBlocks:
    """The decoded blocks of one sound, which keeps its rate and its channels to its end.

    Args:
        path: For messages.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.rate, self.channels = path, 0, []
        self._blocks: list[np.ndarray] = []
        self._room = Room("the sound of this file", copies=3)

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def add(self, frame: av.AudioFrame) -> None:
        """Take one block.

        Raises:
            InputError: another rate or other channels than before, or numbers that are none.
        """
        channels = [channel.name for channel in frame.layout.channels]
        if not LOWEST_RATE <= frame.sample_rate <= HIGHEST_RATE:
            raise InputError(
                "the sound of this file has a rate that no sound has",
                got=f"{frame.sample_rate} Hz in {self.path}",
                expected=f"{LOWEST_RATE} to {HIGHEST_RATE} Hz",
            )
        if self._blocks and (frame.sample_rate, len(channels)) != (self.rate, len(self.channels)):
            raise InputError(
                "the sound of this file changes within it",
                got=f"{self.path}: {self.rate} Hz in {len(self.channels)} channels, "
                f"then {frame.sample_rate} Hz in {len(channels)}",
                expected="one rate and one set of channels",
                remedy="Convert the file first.",
            )
        planes = as_float_planes(frame)
        if not np.isfinite(planes).all():
            raise InputError("the sound of this file holds NaN or infinity", got=self.path, expected="finite samples")
        self._room.take(planes.nbytes)
        self.rate, self.channels = frame.sample_rate, channels
        self._blocks.append(planes)

    def planes(self) -> np.ndarray:
        """All of it, ``(C, samples)`` float32."""
        return np.concatenate(self._blocks, axis=1)


def as_float_planes(frame: av.AudioFrame) -> np.ndarray:
    """One decoded block as ``(C, samples)`` float32; integers map to -1..1."""
    values = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    if values.dtype == np.uint8:
        return (values.astype(np.float32) - 128) / 128
    if np.issubdtype(values.dtype, np.integer):
        return (values / -float(np.iinfo(values.dtype).min)).astype(np.float32)
    return values.astype(np.float32)
