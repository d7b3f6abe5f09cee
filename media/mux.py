"""From a clip to a file: picture and sound of exactly the same length, with the workflow inside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import Any

import av

from ..core.clock import samples_for
from ..core.errors import InputError, OutputError
from ..core.heap import trim_heap
from ..core.progress import SILENT, Progress
from ..core.room import require_memory
from ..core.types import AudioClip, AVClip, require_finite
from .audio import FADE_SECONDS, fit_length, limit_peak, resample
from .codecs import AUTO, DEFAULT_QUALITY, with_codec
from .files import new_file
from .tags import as_comment, encode_tags
from .video import check_frames
from .writers import WRITERS
from .writers.base import CONTAINERS, Container, WriteJob

# A sound is there as it came, fitted, resampled and levelled.
_SOUND_COPIES = 4


@dataclass(frozen=True)
class MuxReport:
    """What was written, and everything that was changed on the way. Fields of an absent modality are None or 0.

    Args:
        path: The file.
        writer: Which writer made it.
        seconds: Length of the picture, or of the sound where there is no picture.
        num_frames: Pictures.
        fps: Frames per second.
        sample_rate: Hz in the file.
        num_samples: Samples per channel in the file, at ``sample_rate``.
        num_samples_padded: Silent samples added at the end, at the clip's own rate.
        num_samples_left_out: Samples beyond the picture's end that were faded out and left out, at the clip's own rate.
        resampled_from_hz: The clip's rate when the codec does not store it, else None.
        gain_db: Level change of the whole sound, 0.0 or below.
        num_values_clamped: Frame values outside 0..1 that were clamped.
        picture_left_out: Whether there was a picture that the format cannot hold.
    """

    path: Path
    writer: str
    seconds: Fraction
    num_frames: int | None = None
    fps: Fraction | None = None
    sample_rate: int | None = None
    num_samples: int | None = None
    num_samples_padded: int = 0
    num_samples_left_out: int = 0
    resampled_from_hz: int | None = None
    gain_db: float = 0.0
    num_values_clamped: int = 0
    picture_left_out: bool = False

    @property
    def notes(self) -> list[str]:
        """Every change as a sentence; empty when the clip went into the file as it was."""
        rate = self.resampled_from_hz or self.sample_rate or 1
        padded, left_out = self.num_samples_padded, self.num_samples_left_out
        sentences = {
            f"The sound ended {padded} samples ({padded / rate:.3f} s) early; silence was added.": padded,
            f"The sound was {left_out} samples ({left_out / rate:.3f} s) too long; it was faded out.": left_out,
            f"The sound was resampled from {rate} to {self.sample_rate} Hz for this codec.": self.resampled_from_hz,
            f"The sound's level was lowered by {-self.gain_db:.1f} dB so that it does not clip.": self.gain_db,
            f"{self.num_values_clamped} frame values were outside 0..1 and were clamped.": self.num_values_clamped,
            f"The picture was left out: {self.path.suffix} files hold sound alone.": self.picture_left_out,
        }
        return [sentence for sentence, happened in sentences.items() if happened]

    def as_json(self) -> dict[str, Any]:
        """Plain values: the path and fps as text, seconds as a number, and the notes."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        fps = None if self.fps is None else str(self.fps)
        return values | {"path": str(self.path), "seconds": float(self.seconds), "fps": fps, "notes": self.notes}


def write_clip(
    clip: AVClip,
    path: str | PathLike[str],
    *,
    writer: str = "pyav",
    codec: str = AUTO,
    crf: int = DEFAULT_QUALITY,
    metadata: Mapping[str, Any] | None = None,
    fade_seconds: float = FADE_SECONDS,
    progress: Progress = SILENT,
) -> MuxReport:
    """Write a clip to a file that appears only when it is whole.

    The suffix chooses the format: ``.mp4`` H.264 + AAC, ``.webm`` VP9 + Opus at 48 kHz, ``.mkv`` H.264 + FLAC,
    ``.m4a`` AAC, ``.flac`` and ``.wav`` (24 bits) lossless, these three without the picture. Decoded, the sound has
    exactly the picture's length, to the sample, also where the picture is left out.

    Args:
        clip: Picture, sound or both.
        path: Where to; missing folders are made, an existing file is replaced at the end,
            but by a :class:`~.files.FreeName`.
        writer: ``pyav``, or ``moviepy`` for mp4.
        codec: A name of :data:`.codecs.CODECS` that the format holds, or "auto" for those above.
        crf: Quality of the picture, less is better; -1 for the house's own.
        metadata: Tags, for example ``prompt`` and ``workflow``; values that are not text are stored as JSON.
        fade_seconds: Fade where the sound ends before the picture or is longer than it.
        progress: Told of each frame under the stage "mux"; may stop the run, and then no file is left.

    Raises:
        InputError: odd size, values out of range, unknown suffix or writer, a tag that cannot be kept, a codec that the
            format cannot hold.
        MissingPackageError: this build of PyAV lacks the codec.
        NonFiniteError: NaN or infinity in frames or waveform.
        OutputError: the place cannot be written, or the disk is full.
        Cancelled: raised by ``progress``.
    """
    name, path = path, Path(path)
    container = with_codec(_container_for(path, clip), codec, crf)
    write = WRITERS.get(writer)()
    tags = encode_tags(metadata)
    video = clip.video if container.video_codec else None
    num_clamped = 0 if video is None else check_frames(video.frames)
    sound, changes = None, {}
    if clip.audio is not None:
        sound, changes = prepare_sound(clip.audio, clip.video and clip.video.seconds, container, fade_seconds)
    try:
        with new_file(name) as part:
            kept = tags if container.keeps_any_tag else as_comment(tags)
            write(WriteJob(part, container, video, sound, kept), progress)
    except av.error.FFmpegError as error:  # what the operating system refused is an OutputError by now
        raise InputError(
            "the encoder refused this clip",
            got=error.strerror,
            expected=f"a clip that {container.video_codec or container.audio_codec} can hold",
            remedy="H.264 and VP9 hold pictures of up to 16384 pixels a side, HEVC none below 16, AV1 none below 4.",
        ) from error
    picture = {} if video is None else {"num_frames": video.frames.shape[0], "fps": video.fps}
    changes |= {"num_values_clamped": num_clamped, "picture_left_out": clip.video is not video}
    trim_heap()
    return MuxReport(path=Path(name), writer=writer, seconds=(video or sound).seconds, **picture, **changes)


def has_picture(path: Path) -> bool:
    """Whether a file of this name holds a picture; so say names that no format goes with."""
    container = CONTAINERS.get(path.suffix.lower())
    return container is None or container.video_codec is not None


def _container_for(path: Path, clip: AVClip) -> Container:
    container = CONTAINERS.get(path.suffix.lower())
    if container is None or (container.video_codec is None and clip.audio is None):
        usable = [name for name, other in CONTAINERS.items() if other.video_codec or clip.audio]
        raise OutputError(
            "no video format goes with this file name" if clip.video else "no sound format goes with this file name",
            got=repr(path.name),
            expected="a name ending in " + ", ".join(usable),
        )
    return container


def prepare_sound(
    audio: AudioClip, seconds: Fraction | None, container: Container, fade_seconds: float = FADE_SECONDS
) -> tuple[AudioClip, dict[str, Any]]:
    """The sound as it goes into the file, and what was done to it, by the names of :class:`MuxReport`.

    The length is fitted at the clip's own rate and kept through resampling: a clip that fits must not count as one
    sample too long only because both lengths were rounded at two rates.

    Args:
        audio: The sound.
        seconds: Length of the picture; None without one.
        container: File format.
        fade_seconds: Fade where the sound ends before the picture or is longer than it.

    Raises:
        InputError: no sample would be left.
        NonFiniteError: NaN or infinity.
        PlacementError: the memory cannot hold it.
    """
    require_finite("the waveform", audio.waveform, "The decoder overflowed; try dtype float32 or bfloat16 for it.")
    available = audio.waveform.shape[-1]
    wanted = available if seconds is None else samples_for(seconds, audio.sample_rate)
    require_memory(_SOUND_COPIES * 4 * wanted * len(audio.waveform), f"a sound of {wanted / audio.sample_rate:g} s")
    fitted = fit_length(audio, wanted, fade_seconds=fade_seconds)
    rate = container.rate_for(audio.sample_rate)
    in_file = samples_for(audio.seconds if seconds is None else seconds, rate)
    if wanted < 1 or in_file < 1:
        raise InputError("the clip is too short to hold a sample of sound", got=f"{float(fitted.seconds)} s")
    levelled, gain_db = limit_peak(resample(fitted, rate, num_samples=in_file))
    return levelled, {
        "sample_rate": rate,
        "num_samples": in_file,
        "num_samples_padded": max(0, wanted - available),
        "num_samples_left_out": max(0, available - wanted),
        "resampled_from_hz": audio.sample_rate if rate != audio.sample_rate else None,
        "gain_db": gain_db,
    }
