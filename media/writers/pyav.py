"""Writer ``pyav``: FFmpeg's libraries through PyAV; no program is started."""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction

import av
import numpy as np
import torch
from av.video.reformatter import ColorRange, Colorspace

from ...core.progress import Progress
from ...core.types import AudioClip, VideoClip
from ..audio import as_planes, layout_of
from ..video import BT709, YUV, coded_frame
from . import WRITERS
from .base import Container, WriteJob, Writer

AAC_FRAME = 1024
_LOSSLESS_BLOCK = 4096
_SVT_LOG = "SVT_LOG"
_MAX_INT32 = 2**31 - 1
_NARROW = 32  # pixels
_MAX_INT16 = 2**15 - 1


@WRITERS.register("pyav")
class PyAV(Writer):
    """Every format and codec, in this process."""

    def __call__(self, job: WriteJob, progress: Progress) -> None:
        """Progress counts frames; without a picture, sound blocks."""
        write(job, progress)


def write(job: WriteJob, progress: Progress) -> None:
    """Encode picture and sound side by side, in time order. Progress counts frames; without a picture, sound blocks."""
    with (
        _quiet_svt(),
        av.open(str(job.path), "w", format=job.container.format, options=container_options(job)) as output,
    ):
        output.metadata.update(job.tags)
        tracks: list[Iterator[_Stamped]] = []
        if job.video is not None:
            picture = _add_video(output, job.container, job.video)
            kind = job.container.pixel_format
            tracks.append((picture, coded_frame(job.video, index, kind)) for index in range(job.video.frames.shape[0]))
        if job.audio is not None:
            sound = add_audio(output, job.container, job.audio)
            tracks.append((sound, block) for block in audio_blocks(job.container, job.audio, sound))
        counted = output.streams[0]
        total = job.video.frames.shape[0] if job.video is not None else _num_blocks(job.container, job.audio, counted)
        done = 0
        progress.step("mux", done, total)
        for stream, frame in heapq.merge(*tracks, key=_start_time):
            output.mux(stream.encode(frame))
            if stream is counted:
                done += 1
                progress.step("mux", done, total)
        for stream in output.streams:
            output.mux(stream.encode(None))


@contextmanager
def _quiet_svt() -> Iterator[None]:
    """Errors only from the AV1 encoder, which reads its level from the environment and has no other switch."""
    if _SVT_LOG in os.environ:
        yield
        return
    os.environ[_SVT_LOG] = "1"
    try:
        yield
    finally:
        os.environ.pop(_SVT_LOG, None)


_Stamped = tuple[av.VideoStream | av.AudioStream, av.VideoFrame | av.AudioFrame]


def _start_time(stamped: _Stamped) -> Fraction:
    frame = stamped[1]
    return frame.pts * Fraction(frame.time_base)


def container_options(job: WriteJob) -> dict[str, str]:
    """Muxer options: tags of any name and exact edit lists in the mp4 family; elsewhere no random numbers."""
    if job.container.suffix not in (".mp4", ".m4a"):
        return {"fflags": "+bitexact"}
    # The edit list says where sound and picture start and end, in units of the movie's time scale. Its default,
    # a millisecond, would round both ends.
    scale = job.audio.sample_rate if job.audio else job.video.fps.numerator
    return {
        "movflags": "+faststart+use_metadata_tags",
        "movie_timescale": str(scale if scale >= 1000 else scale * 1000),
    }


def repeatable_options(encoder: str) -> dict[str, str]:
    """Encoder settings with which the same frames always give the same bytes.

    The macroblock tree of x264 for AVX-512 reads past its rows for narrow pictures: of 250 files of 32 x 32 made from
    the same frames, 7 differed. Its AVX2 code gives the bytes of all the others. What torch calls AVX2 may be an
    AVX-512 processor too.
    """
    if encoder == "libx264" and torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512"):
        return {"x264-params": "asm=AVX2"}
    return {}


def lead_in(num_samples: int) -> int:
    """Silent samples to put before an AAC track so that it ends on a whole AAC frame.

    AAC stores 1024 samples a frame, and FFmpeg's reader trims only the start of an mp4 track (by its edit list), not
    the padding of its last frame: 238140 samples would be read as 238592. The lead-in lies before time zero, inside
    the edit list's trim together with the encoder's own priming, so what is read is exact at both ends.
    """
    return -num_samples % AAC_FRAME


def audio_bit_rate(audio: AudioClip) -> int:
    """Bits a second for AAC and Opus: transparent, and below the 6 bits a sample and channel that AAC can hold."""
    return audio.waveform.shape[0] * min(128_000, 4 * audio.sample_rate)


def as_int32(samples: np.ndarray) -> np.ndarray:
    """-1..1 to 32-bit integers, rounded to nearest."""
    return np.rint(samples.astype(np.float64) * _MAX_INT32).astype(np.int32)


def as_int16(samples: np.ndarray) -> np.ndarray:
    """-1..1 to 16-bit integers, rounded to nearest."""
    return np.rint(samples.astype(np.float64) * _MAX_INT16).astype(np.int16)


def _add_video(output: av.container.OutputContainer, container: Container, video: VideoClip) -> av.VideoStream:
    options = {**container.video_options, **repeatable_options(container.video_codec)}
    if container.video_codec == "libsvtav1" and min(video.frames.shape[1:3]) < _NARROW:
        options["svtav1-params"] = "lp=1"  # its threads wait for each other for ever on 16 x 1024 pixels
    stream = output.add_stream(container.video_codec, rate=video.fps, options=options)
    stream.height, stream.width, stream.pix_fmt = *video.frames.shape[1:3], container.pixel_format
    context = stream.codec_context
    context.time_base = stream.time_base = 1 / video.fps
    if container.codec_tag:
        context.codec_tag = container.codec_tag
    if container.pixel_format == YUV:
        context.color_range, context.colorspace = ColorRange.MPEG, Colorspace.ITU709
        context.color_primaries, context.color_trc = BT709, BT709
    context.thread_count = 0
    return stream


def add_audio(output: av.container.OutputContainer, container: Container, audio: AudioClip) -> av.AudioStream:
    """A stream for the sound, its encoder open."""
    stream = output.add_stream(
        container.audio_codec, rate=audio.sample_rate, layout=layout_of(audio.waveform), format=container.sample_format
    )
    stream.codec_context.bit_rate = audio_bit_rate(audio)
    stream.codec_context.time_base = Fraction(1, audio.sample_rate)
    stream.codec_context.open()
    return stream


def _samples_with_lead(container: Container, audio: AudioClip) -> tuple[int, int]:
    """Samples to encode per channel, and how many of them come before time zero."""
    num_samples = audio.waveform.shape[-1]
    lead = lead_in(num_samples) if container.audio_codec == "aac" else 0
    return num_samples + lead, lead


def _block_size(stream: av.AudioStream) -> int:
    return stream.codec_context.frame_size or _LOSSLESS_BLOCK


def _num_blocks(container: Container, audio: AudioClip, stream: av.AudioStream) -> int:
    return -(-_samples_with_lead(container, audio)[0] // _block_size(stream))


def audio_blocks(container: Container, audio: AudioClip, stream: av.AudioStream) -> Iterator[av.AudioFrame]:
    """The sound in frames of the size the encoder wants, stamped in samples; AAC's lead-in has negative times."""
    total, lead = _samples_with_lead(container, audio)
    samples = as_planes(audio.waveform)
    as_integers = {"s32": as_int32, "s16": as_int16}.get(container.sample_format)
    packed = container.sample_format != "fltp"
    size = _block_size(stream)
    for start in range(0, total, size):
        block = samples[:, max(0, start - lead) : max(0, start - lead + size)]
        if start < lead:
            block = np.pad(block, ((0, 0), (min(size, lead - start), 0)))
        if as_integers:
            block = as_integers(block)
        block = np.ascontiguousarray(block.T.reshape(1, -1) if packed else block)
        frame = av.AudioFrame.from_ndarray(block, format=container.sample_format, layout=layout_of(audio.waveform))
        frame.sample_rate, frame.pts, frame.time_base = audio.sample_rate, start - lead, Fraction(1, audio.sample_rate)
        yield frame
