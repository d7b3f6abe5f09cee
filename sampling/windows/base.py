"""What the ways of windows share: a run of a longer clip, and its latents laid out so that windows pick theirs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...core.clock import ClipTimes
from ...core.pair import Pair
from ...core.progress import Progress
from ...core.protocols import Denoiser
from ...core.types import Conditioning, JointLatents
from ...core.windows import LatentPlan, LatentWindow
from ..given import Given
from ..noise import draw_noise

_TIME = 2  # the dimension of time in latents of either side


@dataclass(frozen=True)
class Stream:
    """The latents of a whole clip, padded to where its windows end, and behind them latent 0 of each later window.

    See :class:`~...core.windows.LatentWindow` for why a window's picture begins with a latent that is no part of the
    clip.

    Args:
        plan: The windows.
    """

    plan: LatentPlan

    def shape(self, side: str, shape: Sequence[int]) -> tuple[int, ...]:
        """Of the stream, for a clip's latents of this shape."""
        own = len(self.plan.windows) - 1 if side == "video" else 0
        return (*shape[:_TIME], self.plan.padded[side] + own, *shape[_TIME + 1 :])

    def places(self, side: str, number: int) -> list[tuple[slice, slice]]:
        """Where the latents of window ``number`` lie in the stream, and where in the window."""
        first, size = self.plan.windows[number].first[side], self.plan.size[side]
        if side == "audio" or not number:
            return [(slice(first, first + size), slice(0, size))]
        own = self.plan.padded.video + number - 1
        return [(slice(own, own + 1), slice(0, 1)), (slice(first + 1, first + size), slice(1, size))]

    def window(self, side: str, latents: Tensor, number: int) -> Tensor:
        """A window's part of a stream."""
        return torch.cat([latents[:, :, there] for there, _ in self.places(side, number)], dim=_TIME)

    def cropped(self, latents: JointLatents) -> JointLatents:
        """The clip's own latents of a stream."""
        counts = self.plan.whole
        return JointLatents(
            *(None if one is None else one[:, :, :count] for one, count in zip(Pair.of(latents), counts, strict=True))
        )

    def given(self, side: str, given: Given) -> Given:
        """What is known of the clip as a stream. Of a side that is known as a whole, windows see it at their ends too.

        A mask leaves the ends to the sampler.
        """
        if given.is_whole:
            return replace(given, latents=self._laid_out(side, given.latents, whole=True), mask=None)
        latents = self._laid_out(side, given.latents, whole=False)
        mask = given.mask.expand(*given.mask.shape[:_TIME], self.plan.whole[side], *given.mask.shape[_TIME + 1 :])
        return replace(given, latents=latents, mask=self._laid_out(side, mask, whole=False))

    def _laid_out(self, side: str, values: Tensor, *, whole: bool) -> Tensor:
        stream = values.new_zeros(self.shape(side, values.shape))
        count, padded = values.shape[_TIME], self.plan.padded[side]
        stream[:, :, :count] = values
        if whole:
            stream[:, :, count:padded] = values[:, :, -1:]
            if side == "video":
                starts = torch.tensor([window.first.video for window in self.plan.windows[1:]], dtype=torch.long)
                stream[:, :, padded:] = stream.index_select(_TIME, starts)
        return stream


@dataclass(frozen=True)
class LongRun:
    """A clip that is sampled in windows.

    Args:
        plan: The windows.
        denoiser: What the sampler drives, for the times of a window.
        conditionings: Encoded captions, one a window.
        noise: From :func:`draw_long_noise`.
        given: What of the clip is known.
        seed: As :func:`~..loop.sample`.
        settings: Its other arguments: schedule, guidance, cache, device and types.
        progress: Told of steps, with the whole clip's estimate.
    """

    plan: LatentPlan
    denoiser: Callable[[ClipTimes], Denoiser]
    conditionings: Sequence[Conditioning]
    noise: JointLatents
    given: Pair[Given]
    seed: int
    settings: Mapping[str, Any]
    progress: Progress

    @property
    def stream(self) -> Stream:
        """Of all latents."""
        return Stream(self.plan)

    def watched(self, whole: Callable[[JointLatents], JointLatents], done: int = 0, runs: int = 1) -> Progress:
        """The progress of one of several loops, whose previews show the whole clip.

        Args:
            whole: From a loop's estimate to the stream.
            done: Loops before it.
            runs: All of them.
        """

        def report(stage: str, step: int, total: int, preview: Callable[[], Any] | None = None) -> None:
            shown = None if preview is None else lambda: self.stream.cropped(whole(preview()))
            self.progress.report(stage, done * total + step, runs * total, shown)

        return replace(self.progress, report=report)


class Windows(ABC):
    """A way: a value without state."""

    together: ClassVar[bool] = False  # whether a step cache keeps something of all windows at the same time

    @abstractmethod
    def middle(self, window: LatentWindow, plan: LatentPlan) -> Fraction:
        """The middle of what a window decides on, in seconds of the clip: the caption of that time is its own."""

    @abstractmethod
    def sample(self, run: LongRun) -> JointLatents:
        """Latents of the whole clip; arguments and errors as :func:`~..loop.sample`."""


def draw_long_noise(plan: LatentPlan, seed: int, shapes: Pair[tuple[int, ...]]) -> JointLatents:
    """Noise for the stream of a clip.

    Args:
        plan: The windows.
        seed: See :func:`~..noise.draw_noise`.
        shapes: Of the clip's latents.
    """
    stream = Stream(plan)
    long = {f"{side}_shape": stream.shape(side, shape) for side, shape in shapes.present.items()}
    return draw_noise(seed, **long)
