"""Captions for training clips: a video model looks, an audio model listens, the checker compares, the rewriter writes.

The two that look and listen never see each other's work (BridgeDiT section 3.2, "Training Stage").
"""

from __future__ import annotations

import base64
import io
import json
import os
import wave
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ..core.errors import CaptionError, InputError, OutputError, SoundingVideoError
from ..core.progress import SILENT, Progress
from ..core.types import AudioClip, AVClip, VideoClip
from .backends.base import ChatBackend, Message
from .checker import verify
from .crr import Expansion, expand_anchors
from .dialogue import MAX_TOKENS, TEMPERATURE
from .prompts import load_prompt

NUM_FRAMES = 16
FRAME_SIDE = 448
AUDIO_TOKENS, AUDIO_TEMPERATURE = 256, 0.2  # BridgeDiT reference, section 7, stage 1b


class Describer(Protocol):
    """Looks at pictures or listens to sound, and says what is there."""

    def see(self, clip: VideoClip, *, progress: Progress = SILENT) -> str:
        """A raw caption of the picture."""
        ...

    def hear(self, clip: AudioClip, *, progress: Progress = SILENT) -> str:
        """A raw caption of the sound."""
        ...


@dataclass(frozen=True)
class ChatDescriber:
    """Looking and listening through chat models that take pictures and sound, such as a server's.

    Args:
        eyes: Takes ``image_url`` parts.
        ears: Takes ``input_audio`` parts.
    """

    eyes: ChatBackend
    ears: ChatBackend

    def see(self, clip: VideoClip, *, progress: Progress = SILENT) -> str:
        """Frames go as JPEG pictures in time order."""
        system, user = load_prompt("raw_video").messages({})
        pictures = [{"type": "image_url", "image_url": {"url": _jpeg_url(frame)}} for frame in sampled_frames(clip)]
        text = f"These {len(pictures)} pictures are the frames of one video of {float(clip.seconds):.1f} s, in order. "
        parts = [*pictures, {"type": "text", "text": text + user["content"]}]
        return _ask(self.eyes, [system, {"role": "user", "content": parts}], MAX_TOKENS, TEMPERATURE, progress)

    def hear(self, clip: AudioClip, *, progress: Progress = SILENT) -> str:
        """The sound goes as a WAV file of 16 bits."""
        system, user = load_prompt("raw_audio").messages({})
        sound = {"type": "input_audio", "input_audio": {"data": _wav_base64(clip), "format": "wav"}}
        parts = [sound, {"type": "text", "text": user["content"]}]
        return _ask(self.ears, [system, {"role": "user", "content": parts}], AUDIO_TOKENS, AUDIO_TEMPERATURE, progress)


def _ask(backend: ChatBackend, messages: list[Message], max_tokens: int, temperature: float, progress: Progress) -> str:
    answer = backend.complete(
        messages, max_tokens=max_tokens, temperature=temperature, check_cancelled=progress.check_cancelled
    )
    return " ".join(answer.rpartition("</think>")[2].split())


def sampled_frames(clip: VideoClip, num_frames: int = NUM_FRAMES) -> Tensor:
    """Frames spread evenly over the clip, first and last among them: ``(N, H, W, 3)`` uint8, long side at most 448."""
    total = clip.frames.shape[0]
    places = torch.linspace(0, total - 1, min(total, num_frames)).round().long()
    frames = clip.frames[places].permute(0, 3, 1, 2)
    scale = FRAME_SIDE / max(frames.shape[-2:])
    if scale < 1:
        frames = torch.nn.functional.interpolate(frames, scale_factor=scale, mode="area")
    return (frames.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)


def _jpeg_url(frame: Tensor) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(frame.numpy()).save(file, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _wav_base64(clip: AudioClip) -> str:
    samples = (clip.waveform.clamp(-1, 1) * 32767).round().to(torch.int16).T.contiguous()
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(clip.waveform.shape[0])
        writer.setsampwidth(2)
        writer.setframerate(clip.sample_rate)
        writer.writeframes(samples.numpy().astype("<i2").tobytes())
    return base64.b64encode(file.getvalue()).decode("ascii")


@dataclass(frozen=True)
class RawCaptions:
    """What the two that look and listen said; unverified."""

    video: str
    audio: str


def describe(clip: AVClip, describer: Describer, *, progress: Progress = SILENT) -> RawCaptions:
    """Raw captions of a clip.

    Raises:
        InputError: the clip has no picture or no sound.
    """
    if clip.video is None or clip.audio is None:
        missing = "picture" if clip.video is None else "sound"
        raise InputError(f"the clip has no {missing}", expected="a clip with picture and sound")
    seen = describer.see(clip.video, progress=progress)
    return RawCaptions(seen, describer.hear(clip.audio, progress=progress))


def verified_captions(
    raw: RawCaptions, *, backend: ChatBackend, profile: str = "bridgedit", progress: Progress = SILENT
) -> Expansion:
    """Checker in training mode, then rewriter; the anchors keep what was discarded, the rewriter does not see it.

    Raises:
        CaptionError: a model gave no usable answer.
    """
    checked = verify(raw.video, raw.audio, backend=backend, progress=progress)
    made = expand_anchors(checked.value, backend=backend, profile=profile, progress=progress)
    report = replace(
        made.report,
        mode="training",
        attempts=(("checker", checked.attempts), *made.report.attempts),
        problems=(*checked.problems, *made.report.problems),
    )
    return Expansion(made.captions, checked.value, report)


def caption_row(file: str, raw: RawCaptions, made: Expansion) -> dict[str, Any]:
    """One line of the output: the keys that training reads, the raw captions, the anchors and the report."""
    return {
        "file": file,
        "video_caption": made.captions.video,
        "audio_caption": made.captions.audio,
        "video_raw_caption": raw.video,
        "audio_raw_caption": raw.audio,
        "anchors": made.anchors and made.anchors.as_json(),
        "report": made.report.as_json(),
    }


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSONL file, each with a ``file``.

    Raises:
        InputError: the file cannot be read, or a line is not such a row; a half line at the end is left out, it is
            where an earlier run was stopped.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("the list of clips cannot be read", got=path, remedy=str(error)) from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            if number == len(lines):
                continue
            raise InputError(
                "a line is not JSON", got=f"{path}, line {number}", expected="one object a line"
            ) from error
        if not isinstance(row, dict) or not isinstance(row.get("file"), str):
            raise InputError("a line names no file", got=f"{path}, line {number}", expected='an object with "file"')
        rows.append(row)
    return rows


def caption_files(
    rows: Iterable[Mapping[str, Any]],
    output: Path,
    *,
    read: Callable[[str], AVClip],
    describer: Describer | None,
    backend: ChatBackend,
    profile: str = "bridgedit",
    progress: Progress = SILENT,
) -> Iterator[tuple[str, SoundingVideoError | None]]:
    """Caption clips and append a line each to ``output``; clips that stand there already are left out.

    Under ``accelerate launch`` each process takes its share of the rows (``RANK``, ``WORLD_SIZE``) and all append to
    one file.

    Args:
        rows: Each with ``file``; ``video_raw_caption`` and ``audio_raw_caption`` are used where given.
        output: JSONL file.
        read: Reads a clip.
        describer: Makes the raw captions that are not given; None when all are.
        backend: Checker and rewriter.
        profile: Wanted lengths.
        progress: Told after each clip.

    Yields:
        The file and None, or the error for which it was left out.

    Raises:
        OutputError: the output cannot be written.
    """
    done = {row["file"] for row in read_rows(output)} if output.exists() else set()
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    todo = [row for row in rows if row["file"] not in done][rank::world]
    for number, row in enumerate(todo, start=1):
        try:
            raw = _raw_of(row, read, describer, progress)
            made = verified_captions(raw, backend=backend, profile=profile, progress=progress)
        except (InputError, CaptionError, OSError) as error:
            problem = error if isinstance(error, SoundingVideoError) else InputError(str(error), got=row["file"])
            yield row["file"], problem
        else:
            _append(output, caption_row(row["file"], raw, made))
            yield row["file"], None
        progress.step("caption", number, len(todo))


def _raw_of(
    row: Mapping[str, Any], read: Callable[[str], AVClip], describer: Describer | None, progress: Progress
) -> RawCaptions:
    given = row.get("video_raw_caption"), row.get("audio_raw_caption")
    if all(isinstance(text, str) and text.strip() for text in given):
        return RawCaptions(*given)
    if describer is None:
        raise InputError(
            "the clip has no raw captions",
            got=row["file"],
            expected="video_raw_caption and audio_raw_caption in its line, or models that look and listen",
        )
    return describe(read(row["file"]), describer, progress=progress)


def _append(output: Path, row: Mapping[str, Any]) -> None:
    """One line in one write, so that several processes can share the file; a half line of a stopped run is closed."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        half = b""
        if output.exists() and output.stat().st_size:
            with output.open("rb") as file:
                file.seek(-1, os.SEEK_END)
                half = b"" if file.read(1) == b"\n" else b"\n"
        handle = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, half + json.dumps(row, ensure_ascii=True).encode("ascii") + b"\n")
        finally:
            os.close(handle)
    except OSError as error:
        raise OutputError("the captions cannot be written", got=output, remedy=str(error)) from error
