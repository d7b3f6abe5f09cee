"""Writer ``moviepy``: encodes with moviepy 2's own ffmpeg writers, then PyAV joins the streams and adds the tags.

moviepy alone cannot keep the house's promises: it rounds the frame rate to two decimals, cuts sound at floating point
times and writes no tags. So its frame and sample writers are fed exactly, and the copied packets get exact times.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import TextIO

import av
import numpy as np

from ...core.errors import InputError
from ...core.optional import require
from ...core.progress import Progress
from ..audio import as_planes
from ..video import to_uint8
from . import WRITERS
from .base import Container, WriteJob, Writer
from .pyav import as_int32, audio_bit_rate, container_options, lead_in, repeatable_options

# Any rate that two decimals can hold will do: times are set again when the packets are joined.
_NOMINAL_FPS = 25
_COLOUR = (
    "scale=in_range=full:out_range=limited:out_color_matrix=bt709:flags=bicubic+accurate_rnd+full_chroma_int,"
    "format=yuv420p,setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
)


@WRITERS.register("moviepy")
class MoviePy(Writer):
    """Files .mp4 with H.264."""

    packages = ("moviepy",)

    def check(self, container: Container) -> None:
        """Another format or codec is refused."""
        if container.suffix != ".mp4" or container.video_codec != "libx264":
            raise InputError(
                "the moviepy writer makes .mp4 files with H.264 only",
                got=f"{container.suffix} with codec {container.video_codec or container.audio_codec}",
                expected="format mp4 with codec auto or h264",
                remedy="Use writer pyav for others.",
            )

    def __call__(self, job: WriteJob, progress: Progress) -> None:
        """Errors as :func:`write`."""
        write(job, progress)


def write(job: WriteJob, progress: Progress) -> None:
    """Encode the picture, then the sound, each to a part file; then join them.

    Raises:
        InputError: another container than mp4, another codec than H.264, or no picture.
        MissingPackageError: moviepy is not installed.
        OSError: ffmpeg stopped early; the message is what it printed.
    """
    if job.container.suffix != ".mp4" or job.video is None:
        raise InputError(
            "the moviepy writer makes .mp4 files with a picture only",
            got=job.container.suffix if job.video is not None else "a clip without a picture",
            expected=".mp4 with a picture",
            remedy="Use writer 'pyav' for webm, mkv and sound alone.",
        )
    if job.container.video_codec != "libx264":
        raise InputError(
            "the moviepy writer encodes H.264 only",
            got=job.container.video_codec,
            expected="codec auto or h264",
            remedy="Use writer 'pyav' for other codecs.",
        )
    picture, sound = job.path.with_suffix(".picture.mp4"), job.path.with_suffix(".sound.mp4")
    # a file, not moviepy's default pipe: ffmpeg's last words must be readable when it fails at the very end
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        try:
            _write_picture(job, picture, log, progress)
            if job.audio is not None:
                _write_sound(job, sound, log)
            with ExitStack() as inputs:
                video_packets = _video_packets(job, _open(picture, log, inputs), log)
                audio_packets = _audio_packets(job, _open(sound, log, inputs), log) if job.audio is not None else []
                _join(job, video_packets, audio_packets)
        finally:
            picture.unlink(missing_ok=True)
            sound.unlink(missing_ok=True)


def _write_picture(job: WriteJob, path: Path, log: TextIO, progress: Progress) -> None:
    writers = require("moviepy.video.io.ffmpeg_writer", "writing video through moviepy")
    num_frames, height, width = job.video.frames.shape[:3]
    settings = ["-crf", job.container.video_options["crf"], "-vf", _COLOUR]
    for name, value in repeatable_options(job.container.video_codec).items():
        settings += [f"-{name}", value]
    preset = job.container.video_options["preset"]
    progress.step("mux", 0, num_frames)
    with writers.FFMPEG_VideoWriter(
        str(path), (width, height), _NOMINAL_FPS, preset=preset, logfile=log, ffmpeg_params=settings
    ) as writer:
        for index in range(num_frames):
            writer.write_frame(to_uint8(job.video.frames[index]).numpy())
            progress.step("mux", index + 1, num_frames)


def _write_sound(job: WriteJob, path: Path, log: TextIO) -> None:
    writers = require("moviepy.audio.io.ffmpeg_audiowriter", "writing sound through moviepy")
    planes, rate = as_planes(job.audio.waveform), job.audio.sample_rate
    samples = as_int32(np.pad(planes, ((0, 0), (lead_in(planes.shape[1]), 0)))).T
    with writers.FFMPEG_AudioWriter(
        str(path),
        rate,
        nbytes=4,
        nchannels=samples.shape[1],
        codec="aac",
        bitrate=str(audio_bit_rate(job.audio)),
        logfile=log,
    ) as writer:
        for start in range(0, samples.shape[0], rate):
            writer.write_frames(np.ascontiguousarray(samples[start : start + rate]))


def _open(path: Path, log: TextIO, inputs: ExitStack) -> av.container.InputContainer:
    try:
        return inputs.enter_context(av.open(str(path)))
    except av.error.FFmpegError as error:
        raise _stopped_early(log) from error


def _stopped_early(log: TextIO) -> OSError:
    log.seek(0)
    lines = log.read().splitlines()
    complaints = [line for line in lines if "error" in line.lower() or "no space left" in line.lower()]
    return OSError("ffmpeg stopped early: " + " | ".join((complaints or lines)[-4:]))


def _video_packets(job: WriteJob, source: av.container.InputContainer, log: TextIO) -> list[av.Packet]:
    """The picture's packets, timed in units of 1 / fps."""
    packets = [packet for packet in source.demux(video=0) if packet.size]
    if len(packets) != job.video.frames.shape[0]:
        raise _stopped_early(log)
    for packet in packets:
        in_frames = Fraction(packet.time_base) * _NOMINAL_FPS
        packet.pts, packet.dts, packet.duration = round(packet.pts * in_frames), round(packet.dts * in_frames), 1
        packet.time_base = 1 / job.video.fps
    return packets


def _audio_packets(job: WriteJob, source: av.container.InputContainer, log: TextIO) -> list[av.Packet]:
    """The sound's packets, timed in samples, with the lead-in before time zero."""
    packets = [packet for packet in source.demux(audio=0) if packet.size]
    lead = lead_in(job.audio.waveform.shape[-1])
    if packets[-1].pts + packets[-1].duration != job.audio.waveform.shape[-1] + lead:
        raise _stopped_early(log)
    for packet in packets:
        packet.pts, packet.dts = packet.pts - lead, packet.dts - lead
    return packets


def _join(job: WriteJob, video_packets: list[av.Packet], audio_packets: list[av.Packet]) -> None:
    """Copy the packets into ``job.path`` in time order and add the tags."""
    with av.open(str(job.path), "w", format=job.container.format, options=container_options(job)) as output:
        output.metadata.update(job.tags)
        for packets in filter(None, (video_packets, audio_packets)):
            stream = output.add_stream_from_template(packets[0].stream)
            stream.time_base = packets[0].time_base
            for packet in packets:
                packet.stream = stream
        for packet in sorted(video_packets + audio_packets, key=_decode_time):
            output.mux(packet)


def _decode_time(packet: av.Packet) -> Fraction:
    return packet.dts * Fraction(packet.time_base)
