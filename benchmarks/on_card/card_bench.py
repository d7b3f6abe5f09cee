"""What the rows of ``card.py`` share: a model at its sizes, the clock, and how peaks and seconds are taken."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from sounding_video.core.clock import Timeline
from sounding_video.core.device import Placement
from sounding_video.core.pair import Pair
from sounding_video.core.progress import Progress
from sounding_video.core.sizes import size_text
from sounding_video.core.types import Conditioning, ModalityConditioning
from sounding_video.forecast import sampling_stage
from sounding_video.models.families.base import FamilyModel
from sounding_video.models.joined import JoinedModel
from sounding_video.models.plan.fit import Stage
from sounding_video.models.plan.plans import free_bytes, required_bytes
from sounding_video.pipeline import sample_latents
from sounding_video.sampling.given import Given
from sounding_video.sampling.options import SamplingOptions
from torch import Tensor, nn

# A stock forward that takes longer is measured once a row, not twice.
SLOW_SECONDS = 1.5


class OutOfTime(Exception):
    """The time for all rows is over."""


class TooLarge(Exception):
    """The planner says that a row does not fit the memory."""


class Clock:
    """The time that all rows have together.

    Args:
        seconds: From now on.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.perf_counter() + seconds

    def left(self) -> float:
        """Seconds."""
        return self._end - time.perf_counter()

    def check(self) -> None:
        """Between layers and steps.

        Raises:
            OutOfTime: nothing is left.
        """
        if self.left() < 0:
            raise OutOfTime


class Meter:
    """Peaks of a card as torch's allocator has them, and waiting for it. A CPU has no such record.

    Args:
        device: Of the rows.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def start(self) -> None:
        """From here on."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()

    def wait(self) -> None:
        """Until the device has done what it was told."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def peak(self) -> int:
        """The most bytes that were held since; 0 where nobody knows."""
        self.wait()
        return torch.cuda.max_memory_allocated() if self.device.type == "cuda" else 0


@dataclass(frozen=True)
class Measured:
    """What a row took.

    Args:
        seconds: Of a step, or of what the row says; None where it is not timed.
        ratio: To a stock Wan forward right beside it.
        peak_bytes: 0 where it was not measured.
        foretold_bytes: By the planner; 0 where it says nothing of this.
        said: A few words more.
    """

    seconds: float | None = None
    ratio: float | None = None
    peak_bytes: int = 0
    foretold_bytes: int = 0
    said: str = ""


@dataclass
class Bench:
    """The model, and how it is run and measured.

    Args:
        model: Two towers with bridges, in main memory between the rows.
        timeline: The clip.
        placement: Device and type; offload ``none``.
        clock: What is left.
        meter: Peaks.
        planes: A PAV-DiT, or None.
        outlined: The model that the planner looks at, where it cannot look at the one that runs.
        aside: Entered wherever the planner works.
        rounds: How often each way is measured, where a stock forward is quick.
        stock_seconds: Of the last stock forward.
    """

    model: JoinedModel
    timeline: Timeline
    placement: Placement
    clock: Clock
    meter: Meter
    planes: FamilyModel | None = None
    outlined: JoinedModel | None = None
    aside: Callable[[], AbstractContextManager[Any]] = nullcontext
    rounds: int = 2
    stock_seconds: float = 0.0
    _warm: bool = field(default=False, init=False)

    @property
    def device(self) -> torch.device:
        """Where rows run."""
        return self.placement.device

    @property
    def shapes(self) -> Pair[tuple[int, ...]]:
        """Of the latents."""
        return self.shapes_of(self.model)

    def shapes_of(self, model: FamilyModel) -> Pair[tuple[int, ...]]:
        """Of the latents of a model: towers make this clip, others their own."""
        return model.shapes(self.timeline if isinstance(model, JoinedModel) else timeline_of(model))

    def texts(self, model: FamilyModel | None = None) -> Conditioning:
        """Captions of random numbers, as long as the encoders of a model make them."""
        model = model or self.model
        sides = {}
        for side, encoder in model.texts.present.items():
            tower = getattr(getattr(model, side, None), "tower", None)
            width = encoder.model.config.d_model if tower is None else tower.text_width
            rows = [self.noise(1, encoder.max_length, width) for _ in range(2)]
            told = getattr(tower, "duration_width", 0)
            sides[side] = ModalityConditioning(*rows, self.noise(1, 1, told) if told else None)
        return Conditioning(**sides, seconds=float(self.timeline.seconds))

    def noise(self, *shape: int) -> Tensor:
        """Random numbers in main memory, in the type of computation."""
        return torch.randn(*shape, dtype=torch.float32).to(self.placement.dtype)

    def parts(self) -> list[nn.Module]:
        """All that rows move."""
        sides = [self.model.video, self.model.audio]
        owned = [self.model.joint, *(side.text for side in sides), *(side.codec for side in sides)]
        planes = [] if self.planes is None else [self.planes.root, *self.planes.codecs.present.values()]
        return [part for part in (*owned, *planes) if isinstance(part, nn.Module)]

    def only(self, *present: nn.Module) -> None:
        """These are on the device, and nothing else of the rows."""
        for part in self.parts():
            if part not in present:
                part.to("cpu")
        for part in present:
            part.to(self.device)

    def stock(self) -> float:
        """Seconds of one forward of diffusers' own Wan; the weights have to be there."""
        wan, shape = self.model.joint.video.model, self.shapes.video
        like = {"device": self.device, "dtype": self.placement.dtype}
        inputs = torch.ones(shape, **like), torch.full((1,), 500.0, device=self.device)
        text = torch.ones(1, self.model.video.text.max_length, self.model.joint.video.text_width, **like)
        with torch.no_grad():
            for _ in range(1 if self._warm else 2):
                self.meter.wait()
                started = time.perf_counter()
                wan(*inputs, text, return_dict=False)
                self.meter.wait()
                self.stock_seconds = time.perf_counter() - started
        self._warm = True
        return self.stock_seconds

    def beside_stock(self, step: Callable[[], float], foretold: int = 0, *, away: bool = False) -> Measured:
        """A way to take a step, in turn with stock forwards.

        Args:
            step: Runs some steps; gives the seconds of one.
            foretold: Bytes at the worst moment.
            away: Whether nothing may be on the device when it begins.

        Raises:
            TooLarge: more than is free.
        """
        self.only()
        self.require(foretold)
        seconds, ratios, peak = [], [], 0
        for _ in range(1 if self.stock_seconds > SLOW_SECONDS else self.rounds):
            self.only(self.model.joint)
            base = self.stock()
            if away:
                self.only()
            self.meter.start()
            seconds.append(step())
            peak = max(peak, self.meter.peak())
            ratios.append(seconds[-1] / base)
        return Measured(statistics.median(seconds), statistics.median(ratios), peak, foretold)

    def require(self, num_bytes: int) -> None:
        """Refuse what does not fit what is free when nothing of the rows is on the device."""
        needed, free = required_bytes(num_bytes, self.device), free_bytes(self.device)
        if needed > free:
            raise TooLarge(f"needs {size_text(needed)} of {size_text(free)} free memory, says the planner")

    def foretold(self, stage: Callable[[], Stage], where: Placement) -> int:
        """Bytes of a stage by the planner, as a placement runs it."""
        with self.aside():
            made = stage()
            return next(made.plans(where, stays=True)).peak_of([made.name])

    def foretold_sampling(self, where: Placement, options: SamplingOptions, model: FamilyModel | None = None) -> int:
        """The same of sampling."""
        planned = model or self.outlined or self.model
        return self.foretold(
            lambda: sampling_stage(planned, self.texts(planned), options, self.shapes_of(planned)), where
        )

    def sampled(
        self,
        where: Placement,
        options: SamplingOptions,
        model: FamilyModel | None = None,
        *,
        given: Pair[Given] | None = None,
        tell: Callable[[str], None] = lambda sentence: None,
    ) -> float:
        """Seconds of a step of sampling, by the product's own way; the first step is not counted where there are more.

        Args:
            where: With offload and kernel.
            options: Steps and the rest.
            model: Another one than the bench's.
            given: What is known.
            tell: Hears what the product says of the run.
        """
        model = model or self.model
        times: list[float] = [time.perf_counter()]

        def report(stage: str, done: int, total: int, preview: object = None) -> None:
            self.meter.wait()
            times.append(time.perf_counter())

        shapes = self.shapes_of(model)
        sample_latents(
            replace(model, placement=where),
            self.texts(model),
            video_shape=shapes.video,
            audio_shape=shapes.audio,
            options=options,
            given=given,
            progress=Progress(report, self.clock.check, tell),
        )
        skipped = 1 if len(times) > 2 else 0
        return (times[-1] - times[skipped]) / (len(times) - 1 - skipped)

    @contextmanager
    def timed(self) -> Iterator[Callable[[], tuple[float, int]]]:
        """Gives seconds and peak of the block, once it is done."""
        self.meter.start()
        started = time.perf_counter()
        found: list[tuple[float, int]] = []
        yield lambda: found[0]
        peak = self.meter.peak()
        found.append((time.perf_counter() - started, peak))


def timeline_of(model: FamilyModel) -> Timeline:
    """The clip that a model was made for."""
    own = model.own
    return Timeline(own.num_frames, own.fps, own.width, own.height, model.geometry)
