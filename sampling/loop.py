"""The denoising loop: from joint noise to joint latents, step by step, over any denoiser."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..core.errors import InputError
from ..core.pair import MODALITIES, Pair
from ..core.progress import SILENT, Progress
from ..core.protocols import Denoiser
from ..core.types import Conditioning, JointLatents, ModalityConditioning, require_finite
from .cache._run import LEAST_STEPS, CacheRun
from .cache.base import StepCache
from .given import Given, KnownPart
from .guidance import Guidance, GuidedDenoiser, View
from .noise import seeded_generator
from .schedules.base import ModalitySchedule, Schedule

_log = logging.getLogger(__name__)
MEASURES = "the step cache measures this model now: this run is computed whole"
_PREDICTION_REMEDY = "Run the towers in float32 or bfloat16, lower the guidance scale, or check the weight files."


@torch.no_grad()
def sample(
    denoiser: Denoiser,
    conditioning: Conditioning,
    noise: JointLatents,
    *,
    schedule: Schedule,
    guidance: Guidance,
    seed: int,
    given: Pair[Given] | None = None,
    cache: StepCache | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    latent_dtype: torch.dtype = torch.float32,
    progress: Progress = SILENT,
    on_step: Callable[[int, JointLatents], None] | None = None,
) -> JointLatents:
    """Denoise both modalities together; what ``noise`` holds takes part in the run.

    Solvers and guidance work in float32 on a CUDA device, or else on the CPU. All noise is drawn on the CPU, also that
    of the SDE, so it is the same on any device. Beside it one answer travels at a step: whether predictions are finite.

    Args:
        denoiser: One joint forward, for example a ``JointModel``.
        conditioning: Encoded text for every modality of the run; a batch of 1 serves the whole latent batch.
        noise: Unscaled N(0, 1) from :func:`~.noise.draw_noise`, also for what is given.
        schedule: From :func:`~.schedules.build_schedule`.
        guidance: Scales and batching.
        seed: Entropy of the audio solver's Brownian path; the official system uses the seed of the initial noise.
        given: What is known of each modality; its latents come back to the bit.
        cache: Extrapolates the picture at some steps; None computes all. A denoiser must know :class:`~.types.Heard`.
        device: Where the denoiser computes.
        dtype: Of model inputs and text; None leaves the text as it is and gives latents of ``latent_dtype``.
        latent_dtype: Latents are rounded to it after every step; bfloat16 rounds as the published system does.
        progress: Told ``("sample", done, total)`` after each step, with a preview of x0; asked first and then to stop.
        on_step: Given the step's index from 0 and the latents after it.

    Returns:
        Denoised and given latents in the towers' normalised space, float32 on the CPU.

    Raises:
        InputError: a modality lacks text or schedule, batches or sizes do not match, nothing is left to generate.
        NonFiniteError: NaN or infinity in the noise or in a prediction; names the step and the modality.
        Cancelled: or whatever ``progress.check_cancelled`` raises.
    """
    tracks = _tracks(noise, schedule, given or Pair(), latent_dtype, seed, place := _solver_device(device))
    settings = {**_surroundings(noise, tracks), "cache": _remembered(cache, tracks, schedule.num_steps, progress)}
    predict = GuidedDenoiser(denoiser, _place(conditioning, noise, device, dtype), guidance, place=place, **settings)
    to_model = {"device": device, "dtype": dtype or latent_dtype}
    progress.check_cancelled()
    for step in range(schedule.num_steps):
        views = tracks.map(lambda track, step=step: track.view(step, **to_model))
        predictions = Pair(*predict(*views, share=step / schedule.num_steps, step=step))
        _require_finite(predictions, f"at step {step + 1} of {schedule.num_steps}")
        for track, prediction in filter(None, tracks.zip(predictions)):
            track.advance(step, prediction)
        if on_step is not None:
            on_step(step, _joint(tracks, "latents"))
        _report(tracks, step + 1, schedule.num_steps, progress)
    _tell(settings["cache"], progress)
    return _joint(tracks, "latents")


def _report(tracks: Pair[_Track | _GivenTrack], done: int, total: int, progress: Progress) -> None:
    """Tell of a step; its estimates come to the CPU where somebody looks at them."""
    estimates = tracks.map(lambda track: track.estimate())
    progress.step("sample", done, total, preview=lambda: _on_host(estimates))


def _solver_device(device: torch.device | str) -> torch.device:
    """Where latents lie between the steps. Only CUDA is known to have all that the solvers ask for."""
    device = torch.device(device)
    return device if device.type == "cuda" else torch.device("cpu")


def _require_finite(predictions: Pair[Tensor], where: str) -> None:
    """Refuse NaN and infinity; the card is asked once, of both modalities."""
    present = predictions.present
    finite = torch.stack([prediction.isfinite().all() for prediction in present.values()])
    for (name, prediction), is_finite in zip(present.items(), finite.to("cpu").tolist(), strict=True):
        if not is_finite:
            require_finite(f"the {name} prediction {where}", prediction, _PREDICTION_REMEDY)


def _remembered(
    cache: StepCache | None, tracks: Pair[_Track | _GivenTrack], num_steps: int, progress: Progress
) -> CacheRun | None:
    """The state of a cache for this run; None, and a sentence, where there is nothing that it could leave out."""
    if cache is None:
        return None
    present = tracks.present
    made = {name for name, track in present.items() if isinstance(track, _Track)}
    reused = frozenset(present) & (frozenset(MODALITIES) if cache.sound == "cached" else {"video"})
    own = frozenset({"audio"} & made if cache.sound == "itself" else ())
    if not reused or (cache.looks and "video" not in present):
        progress.tell("the step cache does nothing here: it leaves out work on the picture, and none is made")
        return None
    leading = "video" if "video" in reused else "audio"
    if cache.measured and leading not in made:
        progress.tell("the step cache does nothing here: it goes by predictions of the picture, and none are made")
        return None
    if cache.curves and not {leading, *own} <= cache.curves.keys():
        progress.tell(MEASURES)
        cache = replace(cache, curves={})
    return CacheRun(cache, num_steps, reused, own)


def _tell(remembered: CacheRun | None, progress: Progress) -> None:
    """What a cache did, to the log and to the user; what it measured is kept."""
    if remembered is None:
        return
    _log.info(remembered.summary())
    progress.tell(remembered.summary())
    cache, curves = remembered.cache, remembered.measured() if remembered.cache.measured else {}
    if remembered.is_too_short:
        progress.tell(f"a run of {LEAST_STEPS} steps or more is needed to measure a model")
    if curves and not curves.keys() <= cache.curves.keys():
        if cache.keep is not None:
            cache.keep(curves)
        progress.tell("the step cache has measured this model: later runs leave steps out")


def _surroundings(noise: JointLatents, tracks: Pair[_Track | _GivenTrack]) -> dict[str, Any]:
    """What guidance has to know of a run beside its texts."""
    whole = frozenset(name for name, track in tracks.present.items() if isinstance(track, _GivenTrack))
    return {"num_positions": _num_positions(noise), "given": whole}


def _tracks(
    noise: JointLatents,
    schedule: Schedule,
    given: Pair[Given],
    latent_dtype: torch.dtype,
    seed: int,
    place: torch.device,
) -> Pair[_Track | _GivenTrack]:
    """Both modalities at their start; refused where all is given."""
    settings = {"latent_dtype": latent_dtype, "generator": seeded_generator(seed), "place": place}
    tracks = Pair(
        *(_begin(name, getattr(noise, name), getattr(schedule, name), given[name], **settings) for name in MODALITIES)
    )
    if all(isinstance(track, _GivenTrack) for track in tracks.present.values()):
        raise InputError(
            "there is nothing to generate: all of it is given", expected="a modality, or places of one, to be made"
        )
    return tracks


class _Track:
    """One modality on its way from noise to data: its latents, its solver and the points it passes.

    Args:
        name: ``video`` or ``audio``, for messages.
        noise: Unscaled initial noise ``(B, …)``.
        schedule: Points and solver.
        latent_dtype: Type the latents are kept in.
        generator: For a solver that draws noise.
        place: Where latents and solver are.
        given: What of it is known, or None.
    """

    def __init__(
        self,
        name: str,
        noise: Tensor,
        schedule: ModalitySchedule,
        latent_dtype: torch.dtype,
        generator: torch.Generator,
        place: torch.device,
        given: Given | None,
    ) -> None:
        require_finite(f"the initial {name} noise", noise, "Draw it again or check where the latents come from.")
        self._schedule, self._solver = schedule, schedule.start()
        self._times = _Times(schedule)
        self._settings = {"generator": generator} if self._solver.stochastic else {}
        self._latents = (noise.to("cpu", latent_dtype) * self._solver.init_noise_sigma).to(place)
        self._known = None if given is None else KnownPart(given, schedule.process, noise, place)

    def latents(self) -> Tensor:
        """Current latents ``(B, …)``, float32."""
        latents = self._latents.float()
        return latents if self._known is None else self._known.over_result(latents)

    def estimate(self) -> Tensor:
        """The x0 that the last step aimed at."""
        return self._solver.estimate() if self._known is None else self._known.over_result(self._solver.estimate())

    def view(self, step: int, device: torch.device | str, dtype: torch.dtype) -> View:
        """Model input and timestep of one step, on the model's device."""
        timestep = self._times.on(device)[step : step + 1]
        state = self._latents.float()
        if self._known is not None:
            state = self._known.over_state(state, self._solver.sigmas[step])
            self._latents = state.to(self._latents.dtype)
        latents = self._solver.scale_model_input(state, self._schedule.timesteps[step])
        return View(latents.to(device, dtype), timestep, at=self._times.told[step])

    def advance(self, step: int, prediction: Tensor) -> None:
        """Let the solver take one step."""
        if self._known is not None:
            prediction = self._known.over_prediction(prediction, self._solver.sigmas[step])
        timestep = self._schedule.timesteps[step]
        with warnings.catch_warnings():
            # The last step ends at sigma 0, outside the Brownian path; torchsde warns, and its noise is not used.
            warnings.filterwarnings("ignore", message=r"Should have t[ab]", module=r"torchsde\.")
            result = self._solver.step(prediction, timestep, self._latents.float(), **self._settings)
        self._latents = result.prev_sample.to(self._latents.dtype)


class _GivenTrack:
    """A modality that is known as a whole: it is shown to the model and stays what it is.

    Args:
        given: All of it known.
        noise: ``(B, …)``.
        schedule: Where the others stand.
        place: Where it is kept.
    """

    def __init__(self, given: Given, noise: Tensor, schedule: ModalitySchedule, place: torch.device) -> None:
        self._known = KnownPart(replace(given, mask=None), schedule.process, noise, place)
        self._sigmas, self._times = schedule.start().sigmas, _Times(schedule)

    def latents(self) -> Tensor:
        """The given ones, to the bit."""
        return self._known.clean

    estimate = latents

    def view(self, step: int, device: torch.device | str, dtype: torch.dtype) -> View:
        """As the way to show it says."""
        shown, timestep = self._known.view(self._sigmas[step], self._times.on(device)[step : step + 1])
        return View(shown.to(device, dtype), timestep, given=True)

    def advance(self, step: int, prediction: Tensor | None) -> None:
        """Nothing: nobody asks what the model says of it."""


class _Times:
    """What a tower is told of the time at every step: as numbers, and as a tensor that travels once.

    Args:
        schedule: Has them.
    """

    def __init__(self, schedule: ModalitySchedule) -> None:
        self.told = schedule.timesteps.tolist()
        self._tensor = schedule.timesteps

    def on(self, device: torch.device | str) -> Tensor:
        """``(n,)`` on a device."""
        self._tensor = self._tensor.to(device)
        return self._tensor


def _begin(
    name: str,
    noise: Tensor | None,
    schedule: ModalitySchedule | None,
    given: Given | None,
    **settings: Any,
) -> _Track | _GivenTrack | None:
    """Start a modality; None when it is not in this run."""
    if noise is None:
        return None
    if schedule is None:
        raise InputError(
            f"the schedule has no {name} part but {name} noise is given",
            expected=f"a schedule built with {name}=True, or no {name} noise",
        )
    if given is None or given.is_empty:
        return _Track(name, noise, schedule, given=None, **settings)
    if given.latents.shape[1:] != noise.shape[1:] or given.latents.shape[0] not in (1, noise.shape[0]):
        raise InputError(
            f"the given {name} is not of the size of this run",
            got=tuple(given.latents.shape),
            expected=str(tuple(noise.shape)),
        )
    if given.is_whole:
        return _GivenTrack(given, noise, schedule, settings["place"])
    return _Track(name, noise, schedule, given=given, **settings)


def _joint(tracks: Pair[_Track | _GivenTrack], read: str) -> JointLatents:
    """One value of every track, side by side on the CPU."""
    return _on_host(tracks.map(lambda track: getattr(track, read)()))


def _on_host(values: Pair[Tensor]) -> JointLatents:
    return JointLatents(*values.map(lambda value: value.to("cpu")))


def _num_positions(noise: JointLatents) -> int:
    """B·T·H·W of the video latent."""
    return 0 if noise.video is None else noise.video[:, 0].numel()


def _place(
    conditioning: Conditioning, noise: JointLatents, device: torch.device | str, dtype: torch.dtype | None
) -> Conditioning:
    """Text of the generated modalities on the device, once for the whole run, with the latents' batch."""
    batches = {len(latents) for latents in (noise.video, noise.audio) if latents is not None}
    if len(batches) > 1:
        raise InputError(
            "video and audio noise have different batches",
            got=f"{len(noise.video)} and {len(noise.audio)}",
            expected="the same number of clips",
        )
    (batch,) = batches

    def place(name: str, latents: Tensor | None, text: ModalityConditioning | None) -> ModalityConditioning | None:
        if latents is None:
            return None
        if text is None:
            raise InputError(
                f"there is {name} noise but no {name} text",
                expected=f"an encoded {name} caption",
                remedy=f"Encode a caption for {name}, or leave the {name} noise out.",
            )

        def there(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else _expanded(name, tensor, batch).to(device, dtype)

        frames = None if text.frames is None else text.frames.over(latents.shape[2])
        if frames is not None:
            frames = replace(frames, positive=there(frames.positive), negative=there(frames.negative))
        return ModalityConditioning(there(text.positive), there(text.negative), there(text.duration), frames)

    return Conditioning(
        place("video", noise.video, conditioning.video), place("audio", noise.audio, conditioning.audio)
    )


def _expanded(name: str, text: Tensor, batch: int) -> Tensor:
    if len(text) not in (1, batch):
        raise InputError(
            f"the {name} text does not match the {name} noise",
            got=f"{len(text)} texts for {batch} clips",
            expected=f"1 or {batch}",
        )
    return text.expand(batch, *text.shape[1:])
