"""Captions for training clips: a video model looks, an audio model listens, the checker compares, the rewriter writes.

The two that look and listen never see each other's work (BridgeDiT section 3.2, "Training Stage").
"""

from __future__ import annotations

import base64
import io
import wave
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from ..core.errors import CaptionError, InputError, OutputError, SoundingVideoError, require_choice
from ..core.locks import alone_in
from ..core.progress import SILENT, Progress
from ..core.types import AudioClip, AVClip, Captions, VideoClip
from .backends.base import ChatBackend, Message
from .checker import verify
from .crr import Expansion, Report, expand_anchors, expansion_of
from .dialogue import MAX_TOKENS, TEMPERATURE
from .jsonl import append_row, read_rows
from .profiles import PROFILES
from .prompts import load_prompt
from .ranks import process_rank, share_of
from .rewriter import rewrite_directly

T = TypeVar("T")
# What becomes of raw captions: nothing; one step without anchors; checker, anchors, rewriter (the paper's Table 4).
TRAINING_MODES = ("raw", "direct", "full")
VIDEO_RAW, AUDIO_RAW = "video_raw_caption", "audio_raw_caption"

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

    def close(self) -> None:
        """Free what is loaded; what is needed again loads again."""
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

    def close(self) -> None:
        """Close both backends."""
        self.eyes.close()
        self.ears.close()


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
    _require_both(clip)
    seen = describer.see(clip.video, progress=progress)
    return RawCaptions(seen, describer.hear(clip.audio, progress=progress))


def _require_both(clip: AVClip) -> None:
    if clip.video is None or clip.audio is None:
        missing = "picture" if clip.video is None else "sound"
        raise InputError(f"the clip has no {missing}", expected="a clip with picture and sound")


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


def written_captions(
    raw: RawCaptions,
    *,
    backend: ChatBackend | None,
    mode: str = "full",
    profile: str = "bridgedit",
    progress: Progress = SILENT,
) -> Expansion:
    """What becomes of raw captions in each of :data:`TRAINING_MODES`.

    Args:
        raw: What was seen and heard.
        backend: What writes; None for mode raw.
        mode: raw takes them as they are; direct rewrites both in one step; full checks first.
        profile: Wanted lengths.
        progress: Its cancel check stops a waiting request.

    Raises:
        InputError: an unknown mode, or one that needs a backend.
        CaptionError: a model gave no usable answer.
    """
    _check_mode(mode, backend)
    if mode == "raw":
        return Expansion(Captions(raw.video, raw.audio), None, Report(mode, profile))
    if mode == "full":
        return verified_captions(raw, backend=backend, profile=profile, progress=progress)
    material = f"What is seen: {raw.video}\nWhat is heard: {raw.audio}"
    written = rewrite_directly(material, backend=backend, profile=PROFILES.get(profile), progress=progress)
    return expansion_of(written, None, Report(mode, profile, backend.identity))


def _check_mode(mode: str, backend: ChatBackend | None) -> None:
    require_choice("way of writing", mode, TRAINING_MODES)
    if backend is None and mode != "raw":
        raise InputError(f"the mode {mode!r} needs a language model", expected="a chat backend, or the mode 'raw'")


def caption_row(file: str, raw: RawCaptions, made: Expansion) -> dict[str, Any]:
    """One line of the output: the keys that training reads, the raw captions, the anchors and the report."""
    return {
        "file": file,
        "video_caption": made.captions.video,
        "audio_caption": made.captions.audio,
        VIDEO_RAW: raw.video,
        AUDIO_RAW: raw.audio,
        "anchors": made.anchors and made.anchors.as_json(),
        "report": made.report.as_json(),
    }


def own_clips(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """This process's share of the clips, by file; what several rows say of one clip is put together."""
    clips: dict[str, dict[str, Any]] = {}
    for row in rows:
        clips.setdefault(row["file"], {}).update(row)
    return {file: clips[file] for file in share_of(clips)}


def raw_captions_file(output: Path) -> Path:
    """Where a batch keeps what was seen and heard: ``captions.raw.jsonl`` beside ``captions.jsonl``."""
    return output.with_name(f"{output.stem}.raw.jsonl")


def caption_files(
    rows: Iterable[Mapping[str, Any]],
    output: Path,
    *,
    read: Callable[[str], AVClip],
    describer: Describer | None,
    backend: ChatBackend | None,
    mode: str = "full",
    profile: str = "bridgedit",
    progress: Progress = SILENT,
) -> Iterator[tuple[str, SoundingVideoError | None]]:
    """Caption clips and append a line each to ``output``; clips that stand there already are left out.

    All pictures are looked at, then all sounds are listened to, then ``describer`` is closed and all captions are
    written, so that one model is in memory at a time and each is loaded once. What was seen and heard is kept in
    :func:`raw_captions_file` and is not asked for again; deleting that file has clips described anew.

    Under ``accelerate launch`` each process takes its share of the rows (``RANK``, ``WORLD_SIZE``) and all append to
    the same files.

    Args:
        rows: Each with ``file``; ``video_raw_caption`` and ``audio_raw_caption`` are used where given.
        output: JSONL file.
        read: Reads a clip.
        describer: Makes the raw captions that are not given; None when all are.
        backend: Checker and rewriter; None for mode raw.
        mode: One of :data:`TRAINING_MODES`.
        profile: Wanted lengths.
        progress: Told after each clip of each stage: "looking", "listening", "caption".

    Yields:
        The file and None, or the error for which it was left out.

    Raises:
        InputError: an unknown mode, or one that needs a backend; a file to go on with that cannot be read; another run
            that writes into ``output``.
        OutputError: the output cannot be written.
    """
    _check_mode(mode, backend)
    with _alone(output):
        clips, kept = _unfinished(rows, output), raw_captions_file(output)
        yield from _describe_all(clips, kept, read, describer, progress)
        if describer is not None:
            describer.close()

        def write(file: str) -> dict[str, Any]:
            raw = RawCaptions(clips[file][VIDEO_RAW], clips[file][AUDIO_RAW])
            made = written_captions(raw, backend=backend, mode=mode, profile=profile, progress=progress)
            return caption_row(file, raw, made)

        for file, row, problem in _each(list(clips), write, "caption", progress):
            if problem is None:
                append_row(output, row)
            yield file, problem


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Be the only process of this rank that captions into a file: two would not know of each other's clips."""
    refused = InputError(
        "another run is writing captions into this file",
        got=output,
        expected="one run a file",
        remedy="Wait for it, or choose another --output.",
    )

    def unwritable(error: OSError) -> OutputError:
        return OutputError("the captions cannot be written", got=output, remedy=str(error))

    with alone_in(output.parent, f".{output.name}.{process_rank()}.lock", refused, unwritable):
        yield


def _describe_all(
    clips: dict[str, dict[str, Any]],
    kept: Path,
    read: Callable[[str], AVClip],
    describer: Describer | None,
    progress: Progress,
) -> Iterator[tuple[str, SoundingVideoError]]:
    """Look at all pictures, then listen to all sounds; what is seen and heard enters ``clips`` and the file ``kept``.

    Yields:
        Each clip that fails, taken out of ``clips``, with its error.
    """
    for key, stage in ((VIDEO_RAW, "looking"), (AUDIO_RAW, "listening")):
        missing = [file for file, row in clips.items() if key not in _given(row)]
        perceive = partial(_perceived, key=key, read=read, describer=describer, progress=progress)
        for file, text, problem in _each(missing, perceive, stage, progress):
            if problem is None:
                append_row(kept, {"file": file, key: text})
                clips[file][key] = text
            else:
                del clips[file]
                yield file, problem


def _unfinished(rows: Iterable[Mapping[str, Any]], output: Path) -> dict[str, dict[str, Any]]:
    """This process's clips that are not in the output, with what was seen and heard of them by an earlier run."""
    done = {row["file"] for row in _rows_of(output)}
    clips = {file: row for file, row in own_clips(rows).items() if file not in done}
    for row in _rows_of(raw_captions_file(output)):
        if row["file"] in clips:
            clips[row["file"]] = {**row, **_given(clips[row["file"]])}
    return clips


def _rows_of(path: Path) -> list[dict[str, Any]]:
    return read_rows(path) if path.exists() else []


def _given(row: Mapping[str, Any]) -> dict[str, str]:
    """The raw captions that a row has."""
    texts = {key: row.get(key) for key in (VIDEO_RAW, AUDIO_RAW)}
    return {key: text for key, text in texts.items() if isinstance(text, str) and text.strip()}


def _each(
    files: Sequence[str], work: Callable[[str], T], stage: str, progress: Progress
) -> Iterator[tuple[str, T | None, SoundingVideoError | None]]:
    """Each file with its result, or with the error for which it has none."""
    for number, file in enumerate(files, start=1):
        try:
            result, problem = work(file), None
        except (InputError, CaptionError, OSError) as error:
            result, problem = None, error if isinstance(error, SoundingVideoError) else InputError(str(error), got=file)
        yield file, result, problem
        progress.step(stage, number, len(files))


def _perceived(
    file: str, *, key: str, read: Callable[[str], AVClip], describer: Describer | None, progress: Progress
) -> str:
    if describer is None:
        raise InputError(
            "the clip has no raw captions",
            got=file,
            expected=f"{VIDEO_RAW} and {AUDIO_RAW} in its line, or models that look and listen",
        )
    clip = read(file)
    _require_both(clip)
    if key == VIDEO_RAW:
        text = describer.see(clip.video, progress=progress)
    else:
        text = describer.hear(clip.audio, progress=progress)
    if not text:
        raise CaptionError(f"the model that {'looks' if key == VIDEO_RAW else 'listens'} said nothing", got=file)
    return text
