"""A file's own picture with another sound: its packets are copied, nothing is decoded, nothing loses quality.

What belongs to the picture goes with it: rotation, pixel shape, colour, HDR, variable rates. Other streams, chapters
and tags do not.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from ..core.errors import InputError, OutputError
from ..core.progress import SILENT, Progress
from ..core.types import AudioClip
from .audio import FADE_SECONDS
from .files import new_file
from .moving import MovingPicture, moving_picture, picture_of
from .mux import MuxReport, prepare_sound
from .source import opened
from .tags import encode_tags
from .writers.base import CONTAINERS, Container
from .writers.pyav import add_audio, audio_blocks

# Apple's players open HEVC under this name only.
_TAGS = {("hevc", ".mp4"): "hvc1"}


def why_not_copied(path: str | Path, suffix: str) -> str:
    """A sentence where a file's picture cannot be copied into a format; empty where it can.

    Args:
        path: The file.
        suffix: Of the new one: ``.mp4``, ``.mkv`` or ``.webm``.
    """
    try:
        _require_held(picture_of(path), _container(suffix))
    except InputError as error:
        return str(error)
    return ""


def copy_with_sound(
    source: str | Path,
    audio: AudioClip | None,
    path: str | Path,
    *,
    metadata: Mapping[str, Any] | None = None,
    fade_seconds: float = FADE_SECONDS,
    progress: Progress = SILENT,
) -> MuxReport:
    """Write a file with the picture of another, bit for bit, and a sound in place of its own.

    The sound begins with the first frame and lasts as long as the picture, to the sample.

    Args:
        source: Whose picture is copied; it may be ``path`` itself.
        audio: The sound, encoded as the format's own is; None leaves the file silent.
        path: ``.mp4``, ``.mkv`` or ``.webm``; it appears only when it is whole.
        metadata: Tags, as :func:`~.mux.write_clip` takes them; the source's own are not copied.
        fade_seconds: Fade where the sound ends before the picture or is longer than it.
        progress: Told of each frame under the stage "mux"; may stop the run, and then no file is left.

    Returns:
        What was written; ``writer`` is "copy".

    Raises:
        InputError: :func:`picture_of`'s, or a picture that the format cannot hold.
        OutputError: the place cannot be written, or the disk is full.
        Cancelled: raised by ``progress``.
    """
    source, path = Path(source), Path(path)
    container = _container(path.suffix)
    picture = picture_of(source)
    _require_held(picture, container)
    tags = encode_tags(metadata)
    sound, changes = (None, {}) if audio is None else prepare_sound(audio, picture.seconds, container, fade_seconds)
    try:
        with new_file(path) as part:
            _write(source, picture, sound, part, container, tags, progress)
    except av.error.FFmpegError as error:
        raise _not_held(picture, container, error.strerror) from error
    return MuxReport(
        path=path, writer="copy", seconds=picture.seconds, num_frames=picture.num_frames, fps=picture.fps, **changes
    )


def _write(
    source: Path,
    picture: MovingPicture,
    sound: AudioClip | None,
    path: Path,
    container: Container,
    tags: Mapping[str, str],
    progress: Progress,
) -> None:
    options = _container_options(container, picture, sound)
    with opened(source) as given, av.open(str(path), "w", format=container.format, options=options) as output:
        output.metadata.update(tags)
        stream = moving_picture(source, given)
        # With opaque, what is known of the stream is taken over as it is; without, an encoder of it is asked for.
        copied = output.add_stream_from_template(stream, opaque=True)
        copied.time_base = picture.time_base
        tag = _TAGS.get((picture.codec, container.suffix))
        if tag:
            copied.codec_context.codec_tag = tag
        track = None if sound is None else add_audio(output, container, sound)
        blocks = iter(()) if sound is None else audio_blocks(container, sound, track)
        done, waiting = 0, next(blocks, None)
        total = picture.num_frames + picture.num_hidden
        progress.step("mux", done, total)
        for packet in _shifted(given, stream, picture):
            decoded_at = (packet.pts if packet.dts is None else packet.dts) * picture.time_base
            while waiting is not None and waiting.pts * Fraction(waiting.time_base) <= decoded_at:
                output.mux(track.encode(waiting))
                waiting = next(blocks, None)
            packet.stream = copied
            output.mux(packet)
            done += 1
            progress.step("mux", done, total)
        while waiting is not None:
            output.mux(track.encode(waiting))
            waiting = next(blocks, None)
        if track is not None:
            output.mux(track.encode(None))


def _shifted(source: av.container.InputContainer, stream: av.VideoStream, picture: MovingPicture) -> Iterator[Any]:
    """The picture's packets, the first frame shown at zero: that is where the sound begins."""
    for packet in source.demux(stream):
        if not packet.size:
            continue
        if not picture.timed:
            packet.pts = packet.dts
        packet.pts -= picture.first
        if packet.dts is not None:
            packet.dts -= picture.first
        yield packet


def _container_options(container: Container, picture: MovingPicture, sound: AudioClip | None) -> dict[str, str]:
    """Tags of any name and exact edit lists in mp4, as the writers have them; no random numbers elsewhere."""
    if container.suffix != ".mp4":
        return {"fflags": "+bitexact"}
    scale = sound.sample_rate if sound is not None else picture.time_base.denominator
    return {
        "movflags": "+faststart+use_metadata_tags",
        "movie_timescale": str(scale if scale >= 1000 else scale * 1000),
    }


def _container(suffix: str) -> Container:
    container = CONTAINERS.get(suffix.lower())
    if container is None or container.video_codec is None:
        held = [name for name, other in CONTAINERS.items() if other.video_codec]
        raise OutputError(
            "no video format goes with this file name", got=repr(suffix), expected="a name ending in " + ", ".join(held)
        )
    return container


def _require_held(picture: MovingPicture, container: Container) -> None:
    """Ask FFmpeg whether the format holds the codec."""
    with av.open(io.BytesIO(), "w", format=container.format) as output:
        held = picture.codec in output.supported_codecs
    if not held:
        raise _not_held(picture, container, picture.codec)
    if picture.num_hidden and container.suffix != ".mp4":
        raise _not_held(picture, container, f"{picture.num_hidden} frames at its beginning are cut off by an edit list")


def _not_held(picture: MovingPicture, container: Container, got: str) -> InputError:
    other = ".mp4" if container.suffix == ".mkv" else ".mkv, which holds most of them"
    return InputError(
        f"{container.suffix} cannot hold the picture of this file as it is",
        got=got if got == picture.codec else f"{picture.codec} ({got})",
        expected="a picture such as H.264, HEVC, AV1 or VP9",
        remedy=f"Write to {other}, or let the picture be encoded anew.",
    )
