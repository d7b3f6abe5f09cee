"""How to sample, each setting declared once: nodes, command line and tags are made from these fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..core.options import check_options, option
from .cache import SOUNDS, build_cache, cache_names
from .schedules import SCHEDULES
from .shown import shown_names
from .solvers import SOLVERS
from .windows import OFF, window_names
from .words import (
    AUTO,
    BATCHING,
    FLOW_SIGMAS,
    MAX_BEND,
    MAX_EVERY,
    MAX_FLOW_SHIFT,
    MAX_SCALE,
    MAX_SEED,
    MAX_STEPS,
    MAX_WINDOW_SECONDS,
    MIN_BEND,
    MIN_FLOW_SHIFT,
    UNCONDITIONAL,
)

if TYPE_CHECKING:
    from ..core.pair import Pair
    from .cache.base import StepCache
    from .guidance import Guidance
    from .schedules.base import Schedule

AS_TRAINED = -1.0
_MODALITY = (
    "How far the {} is pushed from what it would be without the {}: more in time with it. 1 is off, as published; more "
    "costs a pass of this tower at every step."
)


@dataclass(frozen=True)
class SamplingOptions:
    """How to sample; the defaults are the paper's (Table 6). New fields come last.

    Raises:
        InputError: a value out of its range, two that exclude each other.
    """

    num_steps: int = option(
        50, "Denoising steps; the paper uses 50.", low=1, high=MAX_STEPS, port="steps", flag="steps", follows=True
    )
    video_guidance_scale: float = option(
        6.0,
        "How strongly the picture follows its caption (CFG). 1 turns guidance off.",
        low=0.0,
        high=MAX_SCALE,
        step=0.1,
        flag="video-cfg",
        follows=True,
    )
    audio_guidance_scale: float = option(
        6.0,
        "How strongly the sound follows its caption (CFG). 1 turns guidance off.",
        low=0.0,
        high=MAX_SCALE,
        step=0.1,
        flag="audio-cfg",
        follows=True,
    )
    seed: int = option(
        0, "Start of all randomness; the same seed draws the same noise on any device.", low=0, high=MAX_SEED
    )
    schedule: str = option(
        "lockstep",
        "lockstep: as published, each tower on its own points. coupled: both towers always at one time, as trained. "
        "flow: both at one level of clearness, walked by Euler.",
        choices=SCHEDULES.names,
        follows=True,
        advanced=True,
    )
    flow_sigmas: str = option(
        "diffusers-0.36",
        "Which diffusers version's spacing of the video's points; the published system used 0.36.",
        choices=lambda: FLOW_SIGMAS,
        advanced=True,
    )
    guidance_batching: str = option(
        "auto",
        "Both guidance passes as one batch, or one after the other: same result, half the memory.",
        choices=lambda: BATCHING,
        advanced=True,
    )
    flow_shift: float = option(
        3.0,
        "Wan's shift of the video's points towards high noise: 3 for 480p, 5 for 720p, 1 for the pocket model.",
        low=MIN_FLOW_SHIFT,
        high=MAX_FLOW_SHIFT,
        step=0.1,
        follows=True,
    )
    video_modality_scale: float = option(
        1.0,
        _MODALITY.format("picture", "sound"),
        low=0.0,
        high=MAX_SCALE,
        step=0.1,
        flag="video-modality-cfg",
        follows=True,
    )
    audio_modality_scale: float = option(
        1.0,
        _MODALITY.format("sound", "picture"),
        low=0.0,
        high=MAX_SCALE,
        step=0.1,
        flag="audio-modality-cfg",
        follows=True,
    )
    solver: str = option(
        "auto",
        "auto: the solver that belongs to the schedule. Others walk picture and sound alike: unipc, dpmpp_2m and "
        "res_multistep take fewer steps for the same error than euler.",
        choices=lambda: (AUTO, *SOLVERS.names()),
        follows=True,
        advanced=True,
    )
    unconditional: str = option(
        "texts",
        "What the CFG scales lead away from. texts: both sides with their negative captions. alone: each tower alone "
        "with its negative caption, so they lead towards the other side too (AV-Link).",
        choices=lambda: UNCONDITIONAL,
        follows=True,
        advanced=True,
    )
    guidance_start: float = option(
        0.0, "Share of the steps before the CFG scales act.", low=0.0, high=1.0, step=0.01, advanced=True
    )
    guidance_end: float = option(
        1.0,
        "Share of the steps after which the CFG scales act no more; each step without them takes half the time.",
        low=0.0,
        high=1.0,
        step=0.01,
        advanced=True,
    )
    modality_start: float = option(
        0.0, "Share of the steps before the modality scales act.", low=0.0, high=1.0, step=0.01, advanced=True
    )
    modality_end: float = option(
        1.0,
        "Share of the steps after which the modality scales act no more.",
        low=0.0,
        high=1.0,
        step=0.01,
        advanced=True,
    )
    given_how: str = option(
        "replace",
        "How a given picture or sound is shown to the model. replace: at each step's own level of noise. fixed: at one "
        "level for the whole run, for bridges that were trained so (AV-Link).",
        choices=shown_names,
        follows=True,
        advanced=True,
    )
    given_time: float = option(
        AS_TRAINED,
        "The level of fixed, 0 to 1 in the time of the given tower; -1 is the bridges' own, or AV-Link's: 0.04 for a "
        "picture, 0.156 for a sound.",
        low=AS_TRAINED,
        high=1.0,
        step=0.001,
        advanced=True,
    )

    step_cache: str = option(
        "off",
        "Saves time: at some steps the picture is extrapolated and only the sound computed. gentle, fast and fastest "
        "compute every 2nd, 3rd or 4th step; the others are set by the options below.",
        choices=cache_names,
        advanced=True,
    )
    step_cache_every: int = option(
        0,
        "Step cache by interval: compute every so many steps, such as 3. 0 is its own.",
        low=0,
        high=100,
        advanced=True,
    )
    step_cache_threshold: float = option(
        0.0,
        "Step caches first_block and magnitude: the relative change of the first block, or of the predictions' size, "
        "from which a step is computed. 0 is their own: 0.2 and 0.02.",
        low=0.0,
        high=10.0,
        step=0.01,
        advanced=True,
    )
    step_cache_order: int = option(
        1,
        "How the step cache extrapolates: 0 repeats the last prediction, 1 goes on along a line, 2 along a curve.",
        low=0,
        high=2,
        advanced=True,
    )
    step_cache_sound: str = option(
        "auto",
        "The sound at steps where the picture is extrapolated. fresh: computed all the same, which costs next to "
        "nothing. cached: extrapolated too; it loses onsets. itself: extrapolated where it has not changed much "
        "either. auto: fresh wherever the model can.",
        choices=lambda: SOUNDS,
        advanced=True,
    )
    guidance_every: int = option(
        1,
        "The CFG scales are worked out at every such step, and their last push is repeated between: 2 saves a quarter "
        "of the time.",
        low=1,
        high=MAX_EVERY,
        advanced=True,
    )
    modality_every: int = option(1, "The same for the modality scales.", low=1, high=MAX_EVERY, advanced=True)
    windows: str = option(
        OFF,
        "How a clip that is longer than the model's own is made. off: all of it at once. given: window by window, each "
        "begins with the end of the one before. blended: all windows at once, which go over into each other.",
        choices=window_names,
        advanced=True,
    )
    window_seconds: float = option(
        0.0, "Length of a window; 0 is the model's own.", low=0.0, high=MAX_WINDOW_SECONDS, step=0.1, advanced=True
    )
    overlap_seconds: float = option(
        1.0,
        "Seconds that neighbouring windows share; at most half a window is taken.",
        low=0.001,
        high=60.0,
        step=0.1,
        flag="overlap",
        advanced=True,
    )
    compile: bool = option(
        False,
        "Compiles the models' blocks: takes a minute or two at the first step, then saves time at every step and for "
        "every clip of this size.",
        advanced=True,
    )

    audio_solver: str = option(
        AUTO,
        "The sound's own solver. auto: as solver says. cosine_dpm draws new noise at every step, the others draw none.",
        choices=lambda: (AUTO, *SOLVERS.names()),
        advanced=True,
    )
    step_bend: float = option(
        1.0,
        "Where the steps lie, for picture and sound alike. 1: as the schedule has them. 1.5 or 2: large steps at first "
        "and small ones towards the end, for runs of few steps.",
        low=MIN_BEND,
        high=MAX_BEND,
        step=0.05,
        advanced=True,
    )

    def __post_init__(self) -> None:
        check_options(self)
        self.guidance()
        self.build_cache()

    @property
    def given_level(self) -> float | None:
        """The level of ``fixed``; None where it is the bridges' own."""
        return None if self.given_time < 0 else self.given_time

    @property
    def _modality_scales(self) -> dict[str, float]:
        return {"video": self.video_modality_scale, "audio": self.audio_modality_scale}

    def guidance(self, hears: frozenset[str] = frozenset({"video", "audio"})) -> Guidance:
        """The guiders.

        Args:
            hears: Modalities that receive something from the other one; the rest cannot be pushed from being alone.
        """
        from .guidance import dual_guidance

        return dual_guidance(
            self.video_guidance_scale,
            self.audio_guidance_scale,
            self.guidance_batching,
            modality_scales=tuple(scale if name in hears else 1.0 for name, scale in self._modality_scales.items()),
            unconditional=self.unconditional,
            interval=(self.guidance_start, self.guidance_end),
            modality_interval=(self.modality_start, self.modality_end),
            every=(self.guidance_every, self.modality_every),
        )

    def build_cache(self, *, walked: bool = True) -> StepCache | None:
        """The step cache; None where all steps are computed.

        Args:
            walked: Whether the model's towers can run without each other.

        Raises:
            InputError: a setting that the cache does not have, or that the model cannot do.
        """
        own = {"every": self.step_cache_every, "threshold": self.step_cache_threshold}
        return build_cache(
            self.step_cache, order=self.step_cache_order, sound=self.step_cache_sound, walked=walked, **own
        )

    @property
    def num_computed(self) -> int:
        """Steps that are computed, at most."""
        cache = self.build_cache()
        return self.num_steps if cache is None else cache.num_computed(self.num_steps)

    def deaf(self, hears: frozenset[str]) -> str:
        """A sentence about modality scales that cannot act; empty where all can.

        Args:
            hears: See :meth:`guidance`.
        """
        scales = self._modality_scales
        idle = [f"{name}_modality_scale {scale:g}" for name, scale in scales.items() if scale > 1 and name not in hears]
        return f"{' and '.join(idle)} cannot act: nothing leads there from the other side" if idle else ""

    def build_schedule(self, *, video: bool = True, audio: bool = True, processes: Pair[str] | None = None) -> Schedule:
        """The points of both modalities; arguments as :func:`~.schedule.build_schedule`.

        Raises:
            InputError: a solver that does not walk a process.
        """
        from .schedule import build_schedule

        return build_schedule(
            self.schedule,
            self.num_steps,
            flow_sigmas=self.flow_sigmas,
            flow_shift=self.flow_shift,
            solver=self.solver,
            audio_solver=self.audio_solver,
            step_bend=self.step_bend,
            video=video,
            audio=audio,
            processes=processes,
        )
