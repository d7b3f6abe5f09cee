"""Windows ``blended``: all at the same time; at each step their predictions go over into each other (MultiDiffusion).

One solver walks the latents of the whole clip. Where windows overlap, each has a say that falls towards its end, so
nothing that one of them makes is final before the last step.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import torch
from torch import Tensor

from ...core.pair import MODALITIES, Pair
from ...core.protocols import Denoiser
from ...core.types import Heard, JointLatents, Modality, ModalityConditioning
from ...core.windows import LatentPlan, LatentWindow
from .._passes import rows_of
from ..loop import sample
from . import WINDOWS
from .base import LongRun, Stream, Windows


@WINDOWS.register("blended")
class BlendedWindows(Windows):
    """Side by side."""

    together = True

    def middle(self, window: LatentWindow, plan: LatentPlan) -> Fraction:
        """Of the whole window: it shares what it decides on at both ends."""
        return window.start + plan.seconds / 2

    def sample(self, run: LongRun) -> JointLatents:
        """One run of the sampler over the whole clip."""
        stream = run.stream
        made = sample(
            _Blend(run),
            run.conditionings[0],
            run.noise,
            seed=run.seed,
            given=Pair(**{side: stream.given(side, one) for side, one in run.given.present.items()}),
            **run.settings,
            progress=run.watched(lambda estimate: estimate),
        )
        return stream.cropped(made)


class _Blend:
    """A denoiser of the whole stream that runs the model window by window.

    Args:
        run: What is sampled.
    """

    def __init__(self, run: LongRun) -> None:
        self._stream, self._conditionings, self._stop = run.stream, run.conditionings, run.progress.check_cancelled
        self._denoisers = [run.denoiser(window.times) for window in run.plan.windows]
        self._weights = Pair(
            *(size and blend_weights(self._stream, side) for side, size in zip(MODALITIES, run.plan.size, strict=True))
        )

    def __call__(self, video: Modality | None, audio: Modality | None) -> tuple[Tensor | None, Tensor | None]:
        """Predictions of the stream, float32; of a first block, what it adds in all windows, side by side."""
        asked = Pair(video, audio)
        if any(one.first_block for one in asked.present.values()):
            parts = [self._run(number, denoise, asked) for number, denoise in enumerate(self._denoisers)]
            return tuple(None if side[0] is None else torch.cat(side, dim=1) for side in zip(*parts, strict=True))
        whole: dict[str, Tensor] = {}
        for number, denoise in enumerate(self._denoisers):
            self._stop()
            for side, part in zip(MODALITIES, self._run(number, denoise, asked), strict=True):
                if part is None or asked[side] is None:
                    continue
                if side not in whole:
                    whole[side] = torch.zeros_like(asked[side].latents, dtype=torch.float32)
                for there, here in self._stream.places(side, number):
                    whole[side][:, :, there] += part[:, :, here].float() * self._weight(side, number, part)[:, :, here]
        return whole.get("video"), whole.get("audio")

    def _weight(self, side: str, number: int, part: Tensor) -> Tensor:
        """``(1, 1, T, …)`` where the predictions are, brought there once."""
        known = self._weights[side][number]
        if known.device != part.device or known.ndim != part.ndim:
            known = self._weights[side][number] = known.to(part.device).view(1, 1, -1, *[1] * (part.ndim - 3))
        return known

    def _run(self, number: int, denoise: Denoiser, asked: Pair[Modality]) -> tuple[Tensor | None, Tensor | None]:
        """One window through the model."""
        sides = {side: self._part(number, side, modality) for side, modality in asked.present.items()}
        return denoise(sides.get("video"), sides.get("audio"))

    def _part(self, number: int, side: str, modality: Modality) -> Modality:
        """What a window sees of one side, with its own caption."""
        latents = self._stream.window(side, modality.latents, number)
        heard = None if modality.heard is None else _HeardInWindow(modality.heard, number, len(self._denoisers))
        part = replace(modality, latents=latents, heard=heard)
        own = Pair.of(self._conditionings[number])[side]
        if number == 0 or own is Pair.of(self._conditionings[0])[side]:
            return part
        return replace(part, text=_text(own, modality))


def blend_weights(stream: Stream, side: str) -> list[Tensor]:
    """How much each window says of each of its latents, ``(T,)`` a window; of every latent all of them say 1.

    Args:
        stream: Of the clip.
        side: ``video`` or ``audio``.
    """
    windows, size = stream.plan.windows, stream.plan.size[side]
    ramps = []
    for number, window in enumerate(windows):
        before = window.shared[side]
        after = windows[number + 1].shared[side] if number + 1 < len(windows) else 0
        place = torch.arange(size, dtype=torch.float64) + (0 if side == "video" and number else 1)
        rising = (place / (before + 1)).clamp(max=1)
        falling = ((size - torch.arange(size, dtype=torch.float64)) / (after + 1)).clamp(max=1)
        ramp = torch.minimum(rising, falling)
        if side == "video" and number:
            ramp[0] = 1  # its own, which nobody shares
        ramps.append(ramp)
    total = torch.zeros(stream.shape(side, (1, 1, size))[2], dtype=torch.float64)
    for number, ramp in enumerate(ramps):
        for there, here in stream.places(side, number):
            total[there] += ramp[here]
    return [(ramp / stream.window(side, total[None, None], number)[0, 0]).float() for number, ramp in enumerate(ramps)]


def _text(own: ModalityConditioning, modality: Modality) -> Tensor:
    """The texts of another caption, row by row of the passes, where the model's own text lies."""
    rows = len(modality.latents) // len(modality.passes)
    texts = [rows_of(own, one).positive.to(modality.text) for one in modality.passes]
    return torch.cat([text.expand(rows, *text.shape[1:]) for text in texts])


class _HeardInWindow:
    """What a window's sound hears, kept under numbers of its own.

    Args:
        heard: Of the whole run.
        number: Of the window.
        count: Of all windows.
    """

    def __init__(self, heard: Heard, number: int, count: int) -> None:
        self._heard, self._number, self._count = heard, number, count

    def note(self, bridge: int, change: Tensor) -> None:
        """As :class:`~...core.types.Heard`."""
        self._heard.note(bridge * self._count + self._number, change)

    def change(self, bridge: int) -> Tensor | None:
        """As :class:`~...core.types.Heard`."""
        return self._heard.change(bridge * self._count + self._number)

    def part(self, start: int, stop: int) -> _HeardInWindow:
        """As :class:`~...core.types.Heard`."""
        return _HeardInWindow(self._heard.part(start, stop), self._number, self._count)
