"""The codecs that can be chosen for a file: what each format holds, at which quality, and if this PyAV has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import av

from ..core.errors import InputError, MissingPackageError
from .writers.base import VP9, X264, Container

AUTO = "auto"
DEFAULT_QUALITY = -1


@dataclass(frozen=True)
class Codec:
    """One way to encode a picture or a sound.

    Args:
        encoder: FFmpeg's encoder.
        crf: Best and worst quality that the encoder knows; None where it is lossless.
        options: Encoder settings, with the house's own quality among them.
        sample_format: What an encoder of sound takes; None for one of pictures.
        pixel_format: What an encoder of pictures takes.
    """

    encoder: str
    crf: tuple[int, int] | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    sample_format: str | None = None
    pixel_format: str = "yuv420p"


# x265 writes its settings on the terminal unless it is told not to. FFV1 keeps the RGB pictures themselves.
CODECS = {
    "h264": Codec("libx264", (0, 51), X264),
    "hevc": Codec("libx265", (0, 51), {"crf": "20", "preset": "medium", "x265-params": "log-level=error"}),
    "av1": Codec("libsvtav1", (1, 63), {"crf": "24", "preset": "6"}),
    "vp9": Codec("libvpx-vp9", (0, 63), VP9),
    "ffv1": Codec("ffv1", None, {"level": "3", "slicecrc": "1"}, pixel_format="bgr0"),
    "pcm_s24": Codec("pcm_s24le", sample_format="s32"),
    "pcm_s16": Codec("pcm_s16le", sample_format="s16"),
    "pcm_f32": Codec("pcm_f32le", sample_format="flt"),
}


def with_codec(container: Container, codec: str = AUTO, crf: int = DEFAULT_QUALITY) -> Container:
    """The container with a codec and a quality of one's own; with neither it is returned as it is.

    Args:
        container: File format.
        codec: A name of :data:`CODECS`, or "auto" for the format's own.
        crf: Constant rate factor, less is better; -1 for the codec's own.

    Raises:
        InputError: a codec that the format cannot hold, or a quality that the codec does not know.
        MissingPackageError: this build of PyAV cannot encode it.
    """
    name = container.suffix.removeprefix(".")
    if codec != AUTO and codec not in container.codecs:
        raise InputError(
            f"{name} cannot hold this codec" if container.codecs else f"{name} has one codec only",
            got=repr(codec),
            expected="one of " + ", ".join((AUTO, *container.codecs)),
            remedy="" if codec in CODECS else "Codecs are " + ", ".join((AUTO, *CODECS)) + ".",
        )
    if codec == AUTO and crf == DEFAULT_QUALITY:
        return container
    codec = container.codecs[0] if codec == AUTO and container.codecs else codec
    chosen = CODECS.get(codec)
    _check_quality(name, codec, chosen and chosen.crf, crf)
    if not can_encode(codec):
        raise MissingPackageError(
            f"this build of PyAV cannot encode {codec}: it lacks FFmpeg's {chosen.encoder}",
            remedy="Choose codec auto, or install PyAV from its own wheels: pip install --force-reinstall av",
        )
    if chosen.sample_format:
        return replace(container, audio_codec=chosen.encoder, sample_format=chosen.sample_format)
    options = chosen.options if crf == DEFAULT_QUALITY else {**chosen.options, "crf": str(crf)}
    # Apple's players open HEVC under this name only.
    tag = "hvc1" if codec == "hevc" and container.suffix == ".mp4" else None
    return replace(
        container,
        video_codec=chosen.encoder,
        video_options=options,
        pixel_format=chosen.pixel_format,
        codec_tag=tag,
    )


def can_encode(codec: str) -> bool:
    """Whether this build of PyAV has the encoder of a codec."""
    try:
        av.Codec(CODECS[codec].encoder, "w")
    except ValueError:
        return False
    return True


def _check_quality(container: str, codec: str, known: tuple[int, int] | None, crf: int) -> None:
    """Refuse a quality that would be passed over or that the encoder would refuse."""
    if crf == DEFAULT_QUALITY:
        return
    if known is None:
        raise InputError(
            f"{container if codec == AUTO else codec} has no quality to choose", got=crf, expected=DEFAULT_QUALITY
        )
    if not known[0] <= crf <= known[1]:
        raise InputError(
            f"{codec} knows no such quality",
            got=crf,
            expected=f"{known[0]} (best) to {known[1]}, or {DEFAULT_QUALITY} for its own",
        )
