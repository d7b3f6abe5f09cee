"""What a model was made for: size, length, steps, guidance, negatives. Its folder says so in a note beside the towers.

The note is ``pocket.json`` in the folder that holds the tower folders, wherever that lies. A model without one is taken
to be the published system's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..core.clock import as_fps
from ..core.disk import is_file
from ..core.errors import CorruptWeightsError, SoundingVideoError, TextError
from ..core.json_text import read_json
from ..core.options import shown

NOTE = "pocket.json"
# In the folder of a model that is one folder.
MODEL_NOTE = "model.json"


@dataclass(frozen=True)
class OwnSettings:
    """Settings that a model was made for; the defaults are the published system's (Table 6, and its sampling script).

    Args:
        num_frames: Pictures.
        fps: Frames per second.
        width: Pixels.
        height: Pixels.
        num_steps: Denoising steps.
        video_guidance_scale: Of the picture.
        audio_guidance_scale: Of the sound.
        flow_shift: Of the picture's points.
        video_modality_scale: Modality guidance of the picture.
        audio_modality_scale: Modality guidance of the sound.
        video_negative: What the picture should not be: Wan's standard list in English.
        audio_negative: What the sound should not be.
        captions: Length profile of captions.
        is_noted: Whether the model itself says so.
        knows: The only scenes that it knows, each with the words by which a text about it is told (of each entry all);
            none for a model of anything.
        schedule: Points of both modalities.
        solver: By which they are walked.
        unconditional: What guidance leads away from.
        given_how: How what is given is shown.
    """

    num_frames: int = 81
    fps: Fraction = Fraction(15)
    width: int = 832
    height: int = 480
    num_steps: int = 50
    video_guidance_scale: float = 6.0
    audio_guidance_scale: float = 6.0
    flow_shift: float = 3.0
    video_modality_scale: float = 1.0
    audio_modality_scale: float = 1.0
    video_negative: str = (
        "Bright tones, overexposed, static, blurred details, subtitles, style, works, paintings, images, static, "
        "overall gray, worst quality, low quality, JPEG compression residue, ugly, incomplete, extra fingers, poorly "
        "drawn hands, poorly drawn faces, deformed, disfigured, misshapen limbs, fused fingers, still picture, messy "
        "background, three legs, many people in the background, walking backwards"
    )
    audio_negative: str = "Low quality, unclear and noisy."
    captions: str = "bridgedit"
    is_noted: bool = False
    knows: tuple[tuple[str, tuple[str, ...]], ...] = ()
    schedule: str = "lockstep"
    solver: str = "auto"
    unconditional: str = "texts"
    given_how: str = "replace"

    @property
    def seconds(self) -> float:
        """Length of the clip."""
        return float(self.num_frames / self.fps)

    @property
    def extent(self) -> str:
        """Size, length and rate in words."""
        return f"{self.width}×{self.height} pixels, {self.num_frames} frames at {float(self.fps):g} fps"


def _scenes(value: dict[str, list[str]]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if not isinstance(value, dict) or not all(isinstance(entries, list) for entries in value.values()):
        raise TypeError("knows: no object with a list of words for each scene")
    return tuple((str(scene), tuple(map(str, entries))) for scene, entries in value.items())


PUBLISHED = OwnSettings()
# Keys of a note, what each sets, and how its value is read.
_READ: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "frames": ("num_frames", int),
    "fps": ("fps", as_fps),
    "num_steps": ("num_steps", int),
    "video_cfg": ("video_guidance_scale", float),
    "audio_cfg": ("audio_guidance_scale", float),
    "flow_shift": ("flow_shift", float),
    "video_modality_cfg": ("video_modality_scale", float),
    "audio_modality_cfg": ("audio_modality_scale", float),
    "video_negative": ("video_negative", str),
    "audio_negative": ("audio_negative", str),
    "captions": ("captions", str),
    "knows": ("knows", _scenes),
}
# A note that says nothing of them is a small model's: it knows no such words and was trained with none.
_UNSAID = {"video_negative": "", "audio_negative": "", "captions": "short"}


def read_note(folder: Path) -> dict[str, Any]:
    """What the note about a tower folder says; nothing where there is none.

    A note that counts parameters speaks of the folders that it counts, and not of others that lie beside them.

    Raises:
        CorruptWeightsError: the note cannot be read.
    """
    for where in dict.fromkeys((folder.absolute(), folder.resolve())):
        note = where.parent / NOTE
        if not is_file(note):
            continue
        values = _parsed(note)
        sizes = values.get("sizes", {})
        if not isinstance(sizes, dict):
            raise _unreadable(note, f"sizes {shown(sizes)}")
        counted = {part.partition("/")[0] for part in sizes}
        if not counted or where.name in counted:
            return values
    return {}


def _parsed(note: Path) -> dict[str, Any]:
    try:
        values = read_json(note)
    except TextError as error:
        raise _unreadable(note, error.got) from error
    if not isinstance(values, dict):
        raise _unreadable(note, "no JSON object")
    return values


def _unreadable(note: Path, problem: object) -> CorruptWeightsError:
    return CorruptWeightsError(
        "the note about a model cannot be read",
        got=f"{note} ({problem})",
        expected="a JSON object such as the bundled model's",
        remedy="Mend or remove the note; without one the model is sampled as the published system's.",
    )


def own_settings(source: object) -> OwnSettings:
    """What a model was made for.

    Args:
        source: A tower folder; single files have no note.

    Raises:
        CorruptWeightsError: the note cannot be read.
    """
    if not isinstance(source, Path):
        return PUBLISHED
    return _settings(read_note(source), source.parent / NOTE)


def folder_settings(folder: Path) -> OwnSettings:
    """What a model that is one folder was made for, by the note ``model.json`` in it.

    Raises:
        CorruptWeightsError: the note cannot be read.
    """
    note = folder / MODEL_NOTE
    return _settings(_parsed(note) if is_file(note) else {}, note)


def _settings(note: dict[str, Any], where: Path) -> OwnSettings:
    if "size" not in note and not set(note).intersection(_READ):
        return PUBLISHED
    values: dict[str, Any] = {**_UNSAID, "is_noted": True}
    try:
        values |= {name: read(note[key]) for key, (name, read) in _READ.items() if key in note}
        if "size" in note:
            size = note["size"]
            values["width"], values["height"] = map(int, size if isinstance(size, list) else (size, size))
    except (TypeError, ValueError, SoundingVideoError) as error:
        raise _unreadable(where, error) from error
    return replace(PUBLISHED, **values)


def joint_settings(video: OwnSettings | None, audio: OwnSettings | None) -> OwnSettings:
    """What a pair of towers was made for: the picture's settings, and of the sound what is its own.

    Args:
        video: Of the video tower, or None without one.
        audio: Of the audio tower, or None without one.
    """
    if video is None or audio is None:
        return video or audio or PUBLISHED
    named = {field.name: getattr(audio, field.name) for field in fields(audio) if field.name.startswith("audio_")}
    return replace(video, **named, is_noted=video.is_noted or audio.is_noted)
