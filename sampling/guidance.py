"""Guidance around a joint denoiser: runs the passes that the guiders ask for, in as few forwards as possible.

Each guider is a file in :mod:`.guiders`. Classifier-free guidance with one scale per modality is BridgeDiT eq. 9–10.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from ..core.errors import InputError, require_choice
from ..core.pair import MODALITIES, Pair
from ..core.protocols import Denoiser, Guider
from ..core.types import POSITIVE, Conditioning, Heard, ModalityConditioning, Pass
from ._passes import PassForward, Predictions, View, in_order, joined, modality_of, rows_of
from .cache._run import CacheRun
from .guiders import GUIDERS
from .words import BATCHING, UNCONDITIONAL

_log = logging.getLogger(__name__)

# "auto" batches the two passes while the video latent has at most this many positions (B·T·H·W; Wan makes one token of
# four). A rule of thumb: small inputs leave a card idle and gain from one forward of two rows, large ones fill it with
# one row and save half the activation memory by going one after the other. 832×480×81 has 131 040: sequential.
MAX_BATCHED_POSITIONS = 32_768


@dataclass(frozen=True)
class Guidance:
    """What moves the predictions, and how the passes are run.

    Args:
        guiders: Applied in this order; none gives the plain prediction.
        batching: ``batched`` runs passes of both modalities as one forward of [negative, positive], ``sequential`` one
            after the other (same result, half the activation memory), ``auto`` decides by the size of the video latent.

    Raises:
        InputError: an unknown batching.
    """

    guiders: tuple[Guider, ...] = ()
    batching: str = "auto"

    def __post_init__(self) -> None:
        require_choice("guidance batching", self.batching, BATCHING)

    def passes(self, modality: str, share: float | None = None) -> list[Pass]:
        """What one modality needs beside the positive pass, each once.

        Args:
            modality: ``video`` or ``audio``.
            share: How much of the run is done, 0..1; None for the whole run.
        """
        active = self.guiders if share is None else [self.guiders[index] for index in self.acting(share)]
        return list(dict.fromkeys(needed for guider in active for needed in guider.passes(modality)))

    def acting(self, share: float) -> list[int]:
        """Numbers of the guiders that act when this share of the run is done."""
        return [index for index, guider in enumerate(self.guiders) if guider.start <= share < guider.end]


def dual_guidance(
    video_scale: float = 6.0,
    audio_scale: float = 6.0,
    batching: str = "auto",
    *,
    modality_scales: tuple[float, float] = (1.0, 1.0),
    unconditional: str = "texts",
    interval: tuple[float, float] = (0.0, 1.0),
    modality_interval: tuple[float, float] = (0.0, 1.0),
    every: tuple[int, int] = (1, 1),
) -> Guidance:
    """One text scale and one modality scale for picture and sound each.

    Args:
        video_scale: w_V. At 1 or below guidance is off for the video.
        audio_scale: w_A, likewise. When both are off there is one pass instead of two.
        batching: See :class:`Guidance`.
        modality_scales: m_V and m_A: how far each modality is pushed from what it would be without the other. At 1 or
            below this is off; else it costs one more pass of that tower a step.
        unconditional: What text guidance moves away from: ``texts``, both with negative texts; ``alone``, the tower
            alone with its negative text (AV-Link).
        interval: Shares of the run between which text guidance acts.
        modality_interval: The same for modality guidance.
        every: At which steps text and modality guidance run their passes; between them their last push is repeated.

    Raises:
        InputError: a scale, an interval or a choice that cannot be used; ``alone`` together with modality scales, which
            it contains.
    """
    require_choice("unconditional pass", unconditional, UNCONDITIONAL)
    text = GUIDERS.get("text" if unconditional == "texts" else "alone")(
        Pair(video_scale, audio_scale), *interval, every[0]
    )
    modality = GUIDERS.get("modality")(Pair(*modality_scales), *modality_interval, every[1])
    if unconditional == "alone" and max(modality_scales) > 1:
        raise InputError(
            "guidance away from the tower alone already contains modality guidance",
            got=f"unconditional alone and modality scales {modality_scales[0]:g} and {modality_scales[1]:g}",
            expected="modality scales of 1, or unconditional texts",
        )
    return Guidance((text, modality), batching)


class GuidedDenoiser:
    """A joint denoiser with guidance folded in.

    Both rows of both modalities pass the bridges, so in the ``negative`` pass every caption is negative; one without a
    negative embedding keeps its positive one there. In a pass ``alone`` bridges do not act, and only the modality that
    asked for it runs. A modality that is given takes part in the passes, and nobody asks what is predicted of it.

    Args:
        denoiser: The joint model.
        conditioning: Already on the model's device, with the batch of the latents; only modalities of this run.
        guidance: Guiders and batching.
        num_positions: Video latent positions B·T·H·W, 0 without video; what ``auto`` looks at.
        given: Modalities that are known as a whole.
        cache: What steps are computed and what the others take instead; None computes all.
        place: Where predictions are combined.

    Raises:
        InputError: a guider needs the negative embedding of a generated modality that has none; when called, a tower is
            missing.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        conditioning: Conditioning,
        guidance: Guidance,
        *,
        num_positions: int,
        given: frozenset[str] = frozenset(),
        cache: CacheRun | None = None,
        place: torch.device | str = "cpu",
    ) -> None:
        self._denoiser, self._guidance, self._given, self._cache = denoiser, guidance, given, cache
        self._place = place
        self._num_computed, self._asked = 0, {}
        self._differences: dict[tuple[int, str], Tensor] = {}
        texts = Pair.of(conditioning)
        self._generated = [name for name in MODALITIES if texts[name] is not None and name not in given]
        for name in self._generated:
            _require_negative(name, texts[name], guidance)
        passes = [POSITIVE, *(needed for name in self._generated for needed in guidance.passes(name))]
        self._rows = {needed: texts.map(lambda text, needed=needed: rows_of(text, needed)) for needed in passes}
        together = [needed for needed in passes if not needed.alone]
        self._batched: PassForward | None = None
        if len(together) > 1 and _batched(guidance.batching, num_positions):
            self._batched = self._forward(in_order(together))

    def __call__(
        self, video: View | None, audio: View | None, share: float = 0.0, step: int = 0
    ) -> tuple[Tensor | None, ...]:
        """Guided predictions ``(B, …)``, float32 on ``place``; None for a modality that is not there, or given.

        Args:
            video: What the video tower sees, or None.
            audio: What the audio tower sees, or None.
            share: How much of the run is done, 0..1.
            step: From 0, what the cache counts.
        """
        views = Pair(video, audio)
        places = self._places(views)
        looks = {name: partial(self._first_block, name, views[name]) for name in self._seen(views)}
        computed = self._cache is None or self._cache.computes(step, looks, places)
        turns, wanted = self._wanted(views, share, computed)
        if not computed and not self._known(wanted):
            computed = True
            turns, wanted = self._wanted(views, share, computed)
        if self._cache is not None:
            (self._cache.begin if computed else self._cache.rest)(step, looks)
        predictions = (self._computed if computed else self._reused)(views, wanted, places)
        result = tuple(
            None if view is None or name in self._given else self._guided(name, getattr(predictions, name), turns)
            for name, view in zip(MODALITIES, views, strict=True)
        )
        self._asked |= {index: self._num_computed for index, asks in turns.items() if asks}
        self._num_computed += computed
        return result

    def _wanted(self, views: Pair[View], share: float, computed: bool) -> tuple[dict[int, bool], dict[str, list[Pass]]]:
        """Guiders that act, by number, and whether each asks for its passes; and the passes of each modality."""
        turns = {index: self._asks(index, computed) for index in self._guidance.acting(share)}
        asking = [self._guidance.guiders[index] for index, asks in turns.items() if asks]
        wanted = {
            name: list(dict.fromkeys(needed for guider in asking for needed in guider.passes(name)))
            for name in self._generated
        }
        if views.video is None or views.audio is None:  # alone anyway, so the positive pass says the same
            wanted = {name: [one for one in passes if one.text != "positive"] for name, passes in wanted.items()}
        return turns, wanted

    def _asks(self, index: int, computed: bool) -> bool:
        """Whether it is a guider's turn, counted in computed steps: what a cache made up is no news."""
        every = self._guidance.guiders[index].every
        if every == 1 or index not in self._asked:
            return True
        return computed and self._num_computed - self._asked[index] >= every

    def _computed(self, views: Pair[View], wanted: dict[str, list[Pass]], at: dict[str, float]) -> Predictions:
        """All passes of the modalities in ``wanted``, run; a cache is told."""
        predictions = Predictions()
        for forward in self._together({needed for passes in wanted.values() for needed in passes if not needed.alone}):
            self._run(forward, views, predictions, self._heard(forward, at))
        for name, passes in wanted.items():
            for needed in passes:
                if needed.alone:
                    self._run(self._forward((needed,)), Pair(**{name: views[name]}), predictions)
        for name in self._generated if self._cache is not None else ():
            if name in wanted and name in self._cache.kept:
                for passed, prediction in getattr(predictions, name).items():
                    self._cache.note(name, passed, at[name], prediction)
        return predictions

    def _reused(self, views: Pair[View], wanted: dict[str, list[Pass]], at: dict[str, float]) -> Predictions:
        """Extrapolated passes, and those of a modality that runs without the others."""
        cached = self._resting()
        fresh = {name: passes for name, passes in wanted.items() if name not in cached}
        live = Pair(**{name: view for name, view in views.present.items() if name not in self._cache.resting})
        predictions = self._computed(live, fresh, at) if fresh else Predictions()
        for name in cached:
            extrapolated = {
                one.name: self._cache.prediction(name, one.name, at[name]) for one in (POSITIVE, *wanted[name])
            }
            getattr(predictions, name).update(extrapolated)
        return predictions

    def _resting(self) -> list[str]:
        """Modalities whose predictions are extrapolated at this step."""
        return [name for name in self._generated if name in self._cache.resting]

    def _known(self, wanted: dict[str, list[Pass]]) -> bool:
        """Whether the cache has something of all that would be extrapolated, and of what the sound would hear."""
        cached = self._resting()
        heard = {one for name in wanted if name not in cached for one in (POSITIVE, *wanted[name]) if not one.alone}
        return self._cache.has_heard(heard) and all(
            self._cache.knows(name, (POSITIVE, *wanted[name])) for name in cached
        )

    def _heard(self, forward: PassForward, at: dict[str, float]) -> Heard | None:
        """What the bridges give the sound in the passes of a forward, where it runs without the picture at times."""
        if self._cache is None or "audio" in self._cache.reused or "audio" not in self._generated:
            return None
        return self._cache.heard(forward.passes, next(iter(at.values())))

    def _seen(self, views: Pair[View]) -> list[str]:
        """Modalities at which a cache may look: the picture, and a sound that is made."""
        return [name for name in views.present if name == "video" or name in self._generated]

    def _first_block(self, name: str, view: View) -> Tensor:
        """What the first block adds to the stream of a modality in the positive pass."""
        inputs = replace(modality_of(view, self._rows[POSITIVE][name], (POSITIVE,)), first_block=True)
        return Pair(*self._denoiser(*Pair(**{name: inputs})))[name]

    def _places(self, views: Pair[View]) -> dict[str, float]:
        """Where the run is, in each modality's time; of a given one in that of the other, for its own may rest."""
        made = {name: view.at for name, view in views.present.items() if name in self._generated}
        return dict.fromkeys(views.present, next(iter(made.values()), 0.0)) | made

    def _together(self, needed: set[Pass]) -> list[PassForward]:
        """Forwards of the passes in which both modalities run; the positive one is always among them."""
        passes = in_order([POSITIVE, *needed])
        if self._batched is not None and set(self._batched.passes) == set(passes):
            return [self._batched]
        return [self._forward((one,)) for one in passes]

    def _forward(self, passes: tuple[Pass, ...]) -> PassForward:
        rows = [self._rows[one] for one in passes]
        if len(rows) == 1:
            return PassForward(passes, rows[0])
        return PassForward(passes, Pair(joined([one.video for one in rows]), joined([one.audio for one in rows])))

    def _run(
        self, forward: PassForward, views: Pair[View], predictions: Predictions, heard: Heard | None = None
    ) -> None:
        inputs = views.zip(forward.rows).map(lambda pair: modality_of(*pair, forward.passes))
        if heard is not None:
            inputs = Pair(inputs.video, replace(inputs.audio, heard=heard))
        for name, output in zip(MODALITIES, self._denoiser(*inputs), strict=True):
            if views[name] is None or name in self._given:
                continue
            if output is None:
                raise InputError(
                    f"the model predicts no {name} but {name} noise is given",
                    expected=f"a model with a tower for {name}",
                    remedy=f"Join a {name} tower to the model, or generate without {name}.",
                )
            parts = output.to(self._place, torch.float32).chunk(len(forward.passes))
            getattr(predictions, name).update(zip((one.name for one in forward.passes), parts, strict=True))

    def _guided(self, name: str, predictions: dict[str, Tensor], turns: dict[int, bool]) -> Tensor:
        result = predictions["positive"]
        for index, asks in turns.items():
            guider = self._guidance.guiders[index]
            needed, known = guider.passes(name), self._differences.get((index, name))
            if asks and needed and all(one.name in predictions for one in needed):
                plain, result = result, guider.combine(name, result, predictions)
                if guider.every > 1:
                    self._differences[index, name] = result - plain
            elif not asks and known is not None:
                result = result + known
        return result


def _require_negative(name: str, text: ModalityConditioning, guidance: Guidance) -> None:
    if text.negative is None and any(needed.text == "negative" for needed in guidance.passes(name)):
        scales = [guider.scales[name] for guider in guidance.guiders if hasattr(guider, "scales")]
        raise InputError(
            f"{name} guidance needs a negative text embedding",
            got=f"scale {max(scales, default=0):g} and no negative",
            expected="a negative embedding, or a scale of at most 1",
            remedy="Encode a negative caption (it may be empty) or set the scale to 1.",
        )


def _batched(batching: str, num_positions: int) -> bool:
    if batching != "auto":
        return batching == "batched"
    batched = _fits_one_batch(num_positions)
    _log.info(
        "guidance batching: auto picks %s (%d video latent positions, batched up to %d)",
        "batched" if batched else "sequential",
        num_positions,
        MAX_BATCHED_POSITIONS,
    )
    return batched


def _fits_one_batch(num_positions: int) -> bool:
    return num_positions <= MAX_BATCHED_POSITIONS


def is_small(video_shape: tuple[int, ...] | None) -> bool:
    """Whether ``auto`` runs both guidance passes as one batch.

    Args:
        video_shape: Latent ``(B, C, T, H, W)``, or None without video.
    """
    return video_shape is None or _fits_one_batch(math.prod(video_shape) // video_shape[1])
