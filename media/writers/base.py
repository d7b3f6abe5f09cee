"""What every writer gets: a checked job whose sound already has its final rate, length and level."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ...core.optional import require
from ...core.progress import Progress
from ...core.types import AudioClip, VideoClip

_COMMON_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)


@dataclass(frozen=True)
class Container:
    """A file format and the codecs that go into it.

    Args:
        suffix: File name ending, with the dot.
        format: FFmpeg's muxer.
        video_codec: FFmpeg's encoder for the picture; None where the format is for sound alone.
        audio_codec: FFmpeg's encoder for the sound.
        sample_format: What the audio encoder takes.
        sample_rates: Rates in Hz that the audio codec stores; others are resampled. None where it stores any.
        video_options: Encoder settings.
        codecs: Names of the codecs that can be chosen for it (:data:`..codecs.CODECS`); the first is its own.
        pixel_format: What the video encoder takes.
        codec_tag: Four letters for the picture where the muxer's own would not be played.
        keeps_any_tag: False where only a comment is kept, and the tags go into it together.
    """

    suffix: str
    format: str
    video_codec: str | None
    audio_codec: str
    sample_format: str
    sample_rates: tuple[int, ...] | None
    video_options: Mapping[str, str]
    codecs: tuple[str, ...] = ()
    pixel_format: str = "yuv420p"
    codec_tag: str | None = None
    keeps_any_tag: bool = True

    def rate_for(self, sample_rate: int) -> int:
        """The rate to store: the given one, else the next higher one that the codec has, else its highest."""
        if self.sample_rates is None or sample_rate in self.sample_rates:
            return sample_rate
        return min((rate for rate in self.sample_rates if rate > sample_rate), default=max(self.sample_rates))


# Quality first: clips are short and were expensive to make. crf 18 is x264's "visually lossless".
X264 = {"crf": "18", "preset": "medium"}
VP9 = {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"}

CONTAINERS = {
    container.suffix: container
    for container in (
        # FFmpeg's AAC encoder lowers single frames that peak above 0.95 by up to 5 % (0.45 dB) so that its own error
        # cannot clip; below 0.95 a tone comes back within 0.1 %.
        Container(".mp4", "mp4", "libx264", "aac", "fltp", _COMMON_RATES, X264, ("h264", "hevc", "av1")),
        Container(".webm", "webm", "libvpx-vp9", "libopus", "flt", (48000,), VP9, ("vp9", "av1")),
        # FLAC, not AAC: FFmpeg 5 to 8 give back AAC from Matroska with its padding (238592 or 239616 samples instead
        # of 238140; with FFmpeg 5 shifted by 1024), FLAC is exact and lossless in every reader.
        Container(
            ".mkv",
            "matroska",
            "libx264",
            "flac",
            "s32",
            _COMMON_RATES,
            X264,
            ("h264", "hevc", "av1", "vp9", "ffv1"),
        ),
        Container(".m4a", "ipod", None, "aac", "fltp", _COMMON_RATES, {}),
        Container(".flac", "flac", None, "flac", "s32", (*_COMMON_RATES, 176_400, 192_000), {}),
        Container(
            ".wav", "wav", None, "pcm_s24le", "s32", None, {}, ("pcm_s24", "pcm_s16", "pcm_f32"), keeps_any_tag=False
        ),
    )
}


@dataclass(frozen=True)
class WriteJob:
    """One file to write.

    Args:
        path: A temporary path that does not exist yet.
        container: Format and codecs.
        video: Pictures of even size, values checked; or None.
        audio: Sound at a rate that the codec stores, exactly as long as the picture, peak at most 1.0; or None.
        tags: Container tags, text by name.
    """

    path: Path
    container: Container
    video: VideoClip | None
    audio: AudioClip | None
    tags: Mapping[str, str]


class Writer(ABC):
    """One way to write files; a value without state."""

    packages: ClassVar[tuple[str, ...]] = ()  # optional ones that it imports, by import name

    def require(self) -> None:
        """Fail before the sampler has run for minutes, not after.

        Raises:
            MissingPackageError: a package is not installed.
        """
        for package in self.packages:
            require(package, f"writing video through {package}")

    def check(self, container: Container) -> None:  # noqa: B027 (most write everything)
        """The same for a format.

        Raises:
            InputError: a format or codec that it does not write.
        """

    @abstractmethod
    def __call__(self, job: WriteJob, progress: Progress) -> None:
        """Write the file.

        Args:
            job: What.
            progress: Told of each frame under the stage "mux".
        """
