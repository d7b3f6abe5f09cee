"""The passes of guidance: what a tower sees in them, their rows in one forward, and what they said."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..core.pair import Pair
from ..core.types import POSITIVE, FrameShifts, Modality, ModalityConditioning, Pass


@dataclass(frozen=True)
class View:
    """What a tower sees of its modality at one step, before the text is added.

    Args:
        latents: ``(B, …)`` scaled model input on the model's device.
        timestep: ``(1,)``.
        given: Whether all of it is known.
        at: The timestep as a number, so that nobody has to wait for the device to tell it.
    """

    latents: Tensor
    timestep: Tensor
    given: bool = False
    at: float = 0.0


@dataclass(frozen=True)
class PassForward:
    """One call of the model: the passes whose rows it holds, and their texts."""

    passes: tuple[Pass, ...]
    rows: Pair[ModalityConditioning]


@dataclass
class Predictions:
    """What the passes of one step said, by modality and name of the pass; float32, where the solvers work."""

    video: dict[str, Tensor] = field(default_factory=dict)
    audio: dict[str, Tensor] = field(default_factory=dict)


def in_order(passes: list[Pass]) -> tuple[Pass, ...]:
    """Each once, the positive one last, as the official system orders its rows."""
    unique = sorted(set(passes), key=lambda one: one.name)
    return (*(one for one in unique if one != POSITIVE), POSITIVE)


def rows_of(text: ModalityConditioning, needed: Pass) -> ModalityConditioning:
    """The text of one pass, as ``positive``."""
    negative = needed.text == "negative" and text.negative is not None
    frames = text.frames
    if negative and frames is not None:
        frames = replace(frames, positive=frames.negative)
    return ModalityConditioning(text.negative if negative else text.positive, duration=text.duration, frames=frames)


def joined(rows: list[ModalityConditioning | None]) -> ModalityConditioning | None:
    """Several passes as one batch."""
    if rows[0] is None:
        return None
    durations = [row.duration for row in rows]
    duration = None if durations[0] is None else torch.cat(durations)
    texts = torch.cat([row.positive for row in rows])
    return ModalityConditioning(texts, duration=duration, frames=_joined_frames([row.frames for row in rows]))


def _joined_frames(rows: list[FrameShifts | None]) -> FrameShifts | None:
    if rows[0] is None:
        return None
    both = {way: torch.cat([getattr(row, way) for row in rows]) for way in ("positive", "negative")}
    return replace(rows[0], **both)


def modality_of(view: View, text: ModalityConditioning, passes: tuple[Pass, ...]) -> Modality:
    """Latents repeated to the rows of these passes, with their text."""
    latents = torch.cat([view.latents] * len(passes))
    frames = None if text.frames is None else text.frames.positive
    return Modality(latents, view.timestep, text.positive, text.duration, passes, view.given, frames=frames)
