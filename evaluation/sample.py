"""One clip under measurement, with what a manifest knows about it and what several metrics need, found once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..core.disk import what_is_there
from ..core.errors import InputError
from ..core.json_text import read_json_lines
from ..core.types import AudioClip, AVClip, VideoClip, require_finite
from ..media.probe import read_clip
from ..world.detectors import picture_events, sound_events
from . import signals


@dataclass(frozen=True)
class Truth:
    """What a manifest says about a clip; None where it says nothing.

    Args:
        scene: Kind of scene, as the classifiers name it.
        events_seconds: Exact event times, rising. A clip that was only prompted for has none: what was asked for is
            how often, not when.
        num_events: How many events there are or should be; 0 for continuous scenes such as rain.
        true_sound: File of the sound that the picture really has.
    """

    scene: str | None = None
    events_seconds: tuple[float, ...] | None = None
    num_events: int | None = None
    true_sound: Path | None = None

    def __post_init__(self) -> None:
        if self.events_seconds is not None:
            events = tuple(float(time) for time in self.events_seconds)
            if not all(math.isfinite(time) and time >= 0 for time in events) or list(events) != sorted(events):
                raise InputError(
                    "the event times are not usable", got=list(events), expected="seconds from 0 on, in rising order"
                )
            object.__setattr__(self, "events_seconds", events)
            if self.num_events is None:
                object.__setattr__(self, "num_events", len(events))
        if self.num_events is not None and (not isinstance(self.num_events, int) or self.num_events < 0):
            raise InputError("the number of events is not usable", got=self.num_events, expected="0 or more")


class Sample:
    """A clip and its truth. Everything derived is computed when first asked for, and kept.

    Args:
        clip: Picture, sound or both.
        truth: What is known about it.
        name: How reports call it.
        reference: The sound that the picture really has, where it is known.
        true_picture: The picture of the true clip, where it is known.

    Raises:
        NonFiniteError: NaN or infinity in frames or waveform.
        InputError: a sound without samples.
    """

    def __init__(
        self,
        clip: AVClip,
        truth: Truth | None = None,
        *,
        name: str = "clip",
        reference: AudioClip | None = None,
        true_picture: VideoClip | None = None,
    ) -> None:
        if clip.video is not None:
            require_finite("the frames tensor", clip.video.frames)
        if clip.audio is not None:
            require_finite("the waveform", clip.audio.waveform)
            if clip.audio.waveform.shape[-1] == 0:
                raise InputError("the sound is empty", got="0 samples", expected="at least one sample")
        if reference is not None:
            require_finite("the true sound", reference.waveform)
        if true_picture is not None:
            require_finite("the true picture", true_picture.frames)
        self.clip, self.truth, self.name = clip, truth, name
        self.reference, self.true_picture = reference, true_picture

    @classmethod
    def read(cls, path: str | Path, truth: Truth | None = None, *, reference: str | Path | None = None) -> Sample:
        """Decode a file, and the true clip or its sound.

        Args:
            path: The clip.
            truth: What is known about it; its ``true_sound`` is taken where no other is named.
            reference: A sound, or a clip with it.

        Raises:
            InputError: no such file, not a media file, truncated or damaged; a reference without sound.
        """
        named = reference if reference is not None or truth is None else truth.true_sound
        known = {} if named is None else _true_sides(named)
        return cls(read_clip(path), truth, name=Path(path).name, **known)

    @property
    def fps(self) -> Fraction | None:
        """Frame rate; None without a picture."""
        return None if self.clip.video is None else self.clip.video.fps

    @property
    def missing(self) -> str | None:
        """Why picture and sound cannot be compared, or None."""
        if self.clip.video is None:
            return "the clip has no picture"
        return "the clip has no sound" if self.clip.audio is None else None

    @cached_property
    def picture_events(self) -> list[float] | None:
        """Seconds of the events that the world's detector sees; None without a picture."""
        video = self.clip.video
        return None if video is None else list(picture_events(video.frames, video.fps))

    @cached_property
    def sound_events(self) -> list[float] | None:
        """Seconds of the events that the world's detector hears; None without a sound."""
        audio = self.clip.audio
        return None if audio is None else list(sound_events(audio.waveform, audio.sample_rate))

    @cached_property
    def onset_strength(self) -> np.ndarray | None:
        """Onset envelope, as librosa has it; None without a sound."""
        return None if self.clip.audio is None else signals.onset_strength(self.clip.audio)

    @cached_property
    def onsets(self) -> list[float] | None:
        """Seconds of the onsets; None without a sound."""
        if self.onset_strength is None:
            return None
        return signals.onset_times(self.onset_strength, self.clip.audio.sample_rate)

    @cached_property
    def flow(self) -> np.ndarray | None:
        """Mean optical flow per frame in pixels; None without a picture."""
        return None if self.clip.video is None else signals.flow_magnitudes(self.clip.video)

    @cached_property
    def flow_peaks(self) -> list[float] | None:
        """Seconds of the flow's peaks; None without a picture."""
        return None if self.flow is None else signals.flow_peaks(self.flow, self.fps)


def _true_sides(path: str | Path) -> dict[str, Any]:
    true = read_clip(path)
    if true.audio is None:
        raise InputError("the file of the true sound has none", got=path, expected="a sound, or a clip with one")
    return {"reference": true.audio, "true_picture": true.video}


def read_manifest(path: str | Path) -> dict[str, Truth]:
    """Truth by file name, from a JSON-lines manifest as ``sounding-video synth`` writes it.

    A row needs ``file``; ``scene``, ``events`` (exact seconds), ``num_events`` and ``true_sound`` (a file, from the
    manifest's folder) are read where they are there, everything else is left alone.

    Raises:
        InputError: no such file, a line that is not a JSON object, a row without ``file``, a file named twice, or
            values of the wrong kind; the message names the line.
    """
    path = Path(path)
    if what_is_there(path) == "nothing":
        raise InputError("there is no such manifest", got=path, expected="a JSON-lines file, one clip a line")
    rows: dict[str, Truth] = {}
    for number, row in read_json_lines(path, what="the manifest"):
        name, truth = _read_row(f"{path.name}, line {number}", row, path.parent)
        if name in rows:
            raise InputError("the manifest names a file twice", got=f"{name} ({path.name}, line {number})")
        rows[name] = truth
    return rows


def _read_row(where: str, row: Mapping[str, Any], folder: Path) -> tuple[str, Truth]:
    if not isinstance(row.get("file"), str):
        raise InputError("a line of the manifest names no file", got=where, expected='an object with "file": "….mp4"')
    try:
        return row["file"], _truth(row, folder)
    except (InputError, TypeError, ValueError) as error:
        raise InputError("a line of the manifest cannot be used", got=f"{where}: {error}") from error


def _truth(row: Mapping[str, Any], folder: Path) -> Truth:
    events, sound = row.get("events"), row.get("true_sound")
    if sound is not None and not isinstance(sound, str):
        raise TypeError("true_sound is no text")
    return Truth(
        scene=row.get("scene"),
        events_seconds=None if events is None else tuple(events),
        num_events=row.get("num_events"),
        true_sound=None if sound is None else folder / sound,
    )
