"""The denoising loop: from joint noise to joint latents, step by step, over any denoiser."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..core.errors import InputError
from ..core.progress import SILENT, Progress
from ..core.protocols import Denoiser
from ..core.types import Conditioning, JointLatents, ModalityConditioning, require_finite
from .guidance import Guidance, GuidedDenoiser, View
from .noise import seeded_generator
from .schedules import ModalitySchedule, Schedule

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
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    latent_dtype: torch.dtype = torch.float32,
    progress: Progress = SILENT,
    on_step: Callable[[int, JointLatents], None] | None = None,
) -> JointLatents:
    """Denoise both modalities together; what ``noise`` holds is what is generated.

    The solvers work in float32 on the CPU and only model inputs travel to ``device``, so the SDE noise, like the
    initial noise, is the same on any device.

    Args:
        denoiser: One joint forward, for example a ``JointModel``.
        conditioning: Encoded text for every generated modality; a batch of 1 serves the whole latent batch.
        noise: Unscaled N(0, 1) from :func:`~.noise.draw_noise`.
        schedule: From :func:`~.schedules.build_schedule`.
        guidance: Scales and batching.
        seed: Entropy of the audio solver's Brownian path; the official system uses the seed of the initial noise.
        device: Where the denoiser computes.
        dtype: Type of model inputs and text, the towers' own; None leaves the text as it is and gives the model latents
            of ``latent_dtype``. Timesteps are never cast.
        latent_dtype: Type the latents are rounded to after every step. bfloat16 rounds as the published system does.
        progress: Told ``("sample", done, total)`` after every step, with a preview of the current x0 estimate; asked
            before the first and after every step whether to stop.
        on_step: Given the step's index from 0 and the latents after it.

    Returns:
        Denoised latents in the towers' normalised space, float32 on the CPU.

    Raises:
        InputError: a generated modality lacks text or schedule, or batches do not match.
        NonFiniteError: NaN or infinity in the noise or in a prediction; names the step and the modality.
        Cancelled: or whatever ``progress.check_cancelled`` raises.
    """
    generator = seeded_generator(seed)
    placed = _place(conditioning, noise, device, dtype)
    predict = GuidedDenoiser(denoiser, placed, guidance, num_positions=_num_positions(noise))
    del placed
    to_model = {"device": device, "dtype": dtype or latent_dtype}
    audio = _begin("audio", noise.audio, schedule.audio, latent_dtype, generator=generator)
    video = _begin("video", noise.video, schedule.video, latent_dtype)

    progress.check_cancelled()
    for step in range(schedule.num_steps):
        where = f"at step {step + 1} of {schedule.num_steps}"
        video_prediction, audio_prediction = predict(
            None if video is None else video.view(step, **to_model),
            None if audio is None else audio.view(step, **to_model),
        )
        if audio is not None:
            audio.advance(step, audio_prediction, where)
        if video is not None:
            video.advance(step, video_prediction, where)
        if on_step is not None:
            on_step(step, _joint(video, audio, _Track.latents))
        estimate = _joint(video, audio, _Track.estimate)
        progress.step("sample", step + 1, schedule.num_steps, preview=lambda estimate=estimate: estimate)
    return _joint(video, audio, _Track.latents)


class _Track:
    """One modality on its way from noise to data: its latents, its solver and the points it passes.

    Args:
        name: ``video`` or ``audio``, for messages.
        noise: Unscaled initial noise ``(B, …)``.
        schedule: Points and solver.
        latent_dtype: Type the latents are kept in.
        step_settings: What the solver's ``step`` takes beside prediction, timestep and latents.
    """

    def __init__(
        self, name: str, noise: Tensor, schedule: ModalitySchedule, latent_dtype: torch.dtype, **step_settings: Any
    ) -> None:
        require_finite(f"the initial {name} noise", noise, "Draw it again or check where the latents come from.")
        self.name, self._schedule, self._step_settings = name, schedule, step_settings
        self._solver = schedule.start()
        self._latents = noise.to("cpu", latent_dtype) * self._solver.init_noise_sigma

    def latents(self) -> Tensor:
        """Current latents ``(B, …)``, float32 on the CPU."""
        return self._latents.float()

    def estimate(self) -> Tensor:
        """The x0 that the last step aimed at; both solvers keep it as the newest converted output."""
        return self._solver.model_outputs[-1]

    def view(self, step: int, device: torch.device | str, dtype: torch.dtype) -> View:
        """Model input and timestep of one step, on the model's device."""
        timestep = self._schedule.timesteps[step : step + 1]
        latents = self._solver.scale_model_input(self.latents(), timestep[0])
        return View(latents.to(device, dtype), timestep.to(device))

    def advance(self, step: int, prediction: Tensor, where: str) -> None:
        """Let the solver take one step."""
        require_finite(f"the {self.name} prediction {where}", prediction, _PREDICTION_REMEDY)
        timestep = self._schedule.timesteps[step]
        with warnings.catch_warnings():
            # The last step ends at sigma 0, outside the Brownian path; torchsde warns, and its noise is not used.
            warnings.filterwarnings("ignore", message=r"Should have t[ab]", module=r"torchsde\.")
            result = self._solver.step(prediction, timestep, self.latents(), **self._step_settings)
        self._latents = result.prev_sample.to(self._latents.dtype)


def _begin(
    name: str, noise: Tensor | None, schedule: ModalitySchedule | None, latent_dtype: torch.dtype, **step_settings: Any
) -> _Track | None:
    """Start a modality; None when it is not generated."""
    if noise is None:
        return None
    if schedule is None:
        raise InputError(
            f"the schedule has no {name} part but {name} noise is given",
            expected=f"a schedule built with {name}=True, or no {name} noise",
        )
    return _Track(name, noise, schedule, latent_dtype, **step_settings)


def _joint(video: _Track | None, audio: _Track | None, read: Callable[[_Track], Tensor]) -> JointLatents:
    """One value of every track, side by side."""
    return JointLatents(None if video is None else read(video), None if audio is None else read(audio))


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
        return ModalityConditioning(
            *(
                None if tensor is None else _expanded(name, tensor, batch).to(device, dtype)
                for tensor in (text.positive, text.negative, text.duration)
            )
        )

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
