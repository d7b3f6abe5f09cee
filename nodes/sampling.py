"""The node that denoises picture and sound together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..sampling.guidance import BATCHING
from ..sampling.schedules import FLOW_SIGMAS, SCHEDULES
from .av import av_input, av_output, joined, parted, rate_of, times_of
from .host import io, progress, shows_previews
from .listing import ADVANCED, listing
from .own import AS_SET, defaults_input, followed, settled
from .sockets import CATEGORY, Conditioning, JointModel
from .telling import managed_stage
from .wiring import require_sides

if TYPE_CHECKING:
    from ..core.types import Conditioning as EncodedCaptions
    from ..core.types import JointLatents
    from ..pipeline import JoinedModel, SamplingOptions

MAX_SEED = 0xFFFF_FFFF_FFFF_FFFF
# Settings that may follow the model.
FOLLOWING = (
    "num_steps",
    "video_guidance_scale",
    "audio_guidance_scale",
    "flow_shift",
    "video_modality_scale",
    "audio_modality_scale",
)


class JointSampler(io.ComfyNode):
    """Node T2SVJointSampler."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="T2SVJointSampler",
            display_name="Joint Sampler (dual CFG)",
            category=f"{CATEGORY}/sampling",
            description="Denoises picture and sound together, with a guidance scale for each (dual CFG).",
            **listing("T2SVJointSampler"),
            inputs=[
                JointModel.Input("model", tooltip="From Join Towers."),
                Conditioning.Input("conditioning", tooltip="From Encode Captions."),
                io.Latent.Input(
                    "video_latent",
                    optional=True,
                    tooltip="Sets the picture's size, its content is not used; leave open to make sound only.",
                ),
                io.Latent.Input(
                    "audio_latent",
                    optional=True,
                    tooltip="Sets the sound's length, its content is not used; leave open to make a silent video.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=MAX_SEED,
                    control_after_generate=True,
                    tooltip="Start of all randomness; the same seed draws the same noise on any device.",
                ),
                io.Int.Input("steps", default=50, min=1, max=1000, tooltip="Denoising steps; the paper uses 50."),
                *guidance_inputs(),
                io.Combo.Input(
                    "schedule",
                    options=list(SCHEDULES),
                    default="lockstep",
                    tooltip="lockstep: as published, each tower on its own points. coupled: both towers always at one "
                    "time, as trained.",
                    **ADVANCED,
                ),
                io.Combo.Input(
                    "flow_sigmas",
                    options=list(FLOW_SIGMAS),
                    default="diffusers-0.36",
                    tooltip="Which diffusers version's spacing of the video's points; the published system used 0.36.",
                    **ADVANCED,
                ),
                io.Combo.Input(
                    "guidance_batching",
                    options=list(BATCHING),
                    default="auto",
                    tooltip="Both guidance passes as one batch, or one after the other: same result, half the memory.",
                    **ADVANCED,
                ),
                io.Float.Input(
                    "flow_shift",
                    default=3.0,
                    min=0.1,
                    max=100.0,
                    step=0.1,
                    optional=True,
                    tooltip="Wan's shift of the video's points towards high noise: 3 for 480p, 5 for 720p, 1 for the "
                    "pocket model.",
                ),
                io.Boolean.Input(
                    "preview",
                    default=True,
                    optional=True,
                    tooltip="Show picture and sound while they emerge. It takes at most a twentieth of the time.",
                ),
                *modality_inputs(),
                defaults_input("steps, scales and shift"),
                av_input("av_latent", "video_latent and audio_latent"),
            ],
            outputs=[
                io.Latent.Output(
                    "video_samples",
                    display_name="video_samples",
                    tooltip="Video latent; also fits the native VAE Decode.",
                ),
                io.Latent.Output(
                    "audio_samples",
                    display_name="audio_samples",
                    tooltip="Audio latent; also fits the native VAE Decode Audio.",
                ),
                av_output("av_samples"),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: JoinedModel,
        conditioning: EncodedCaptions,
        *,
        video_latent: dict[str, Any] | None = None,
        audio_latent: dict[str, Any] | None = None,
        flow_shift: float = 3.0,
        preview: bool = True,
        video_modality_scale: float = 1.0,
        audio_modality_scale: float = 1.0,
        defaults: str = AS_SET,
        av_latent: dict[str, Any] | None = None,
        **options: Any,
    ) -> io.NodeOutput:
        """Sample; results leave in raw VAE space."""
        from ..pipeline import preview_maps, sample_latents

        towers = model.video is not None, model.audio is not None
        video_latent, audio_latent = parted(av_latent, video_latent, audio_latent, wanted=towers)
        require_sides(model, conditioning, {"video": video_latent, "audio": audio_latent})
        scales = {"video_modality_scale": video_modality_scale, "audio_modality_scale": audio_modality_scale}
        asked, taken = _options(model, defaults, {**options, **scales, "flow_shift": flow_shift})
        watched = progress(("preview", 0), ("sample", 1))
        with managed_stage(taken) as shown:
            if preview and shows_previews():
                watched = preview_maps(model, watched).watch(watched)
            latents = sample_latents(
                model,
                conditioning,
                video_shape=video_latent and tuple(video_latent["samples"].shape),
                audio_shape=audio_latent and tuple(audio_latent["samples"].shape),
                options=asked,
                progress=watched,
                times=times_of(model.geometry, video_latent, audio_latent),
            )
        video, audio = _results(model, latents, rate_of(video_latent, audio_latent))
        return io.NodeOutput(video, audio, joined(video, audio), ui=shown)


def _results(model: JoinedModel, made: JointLatents, rate: dict[str, Any]) -> tuple[dict[str, Any] | None, ...]:
    """Picture and sound in raw VAE space, with the frame rate that the inputs carried."""
    video = None if made.video is None else {"samples": model.video.codec.to_raw(made.video), **rate}
    if made.audio is None:
        return video, None
    return video, {"samples": model.audio.codec.to_raw(made.audio), "type": "audio", **rate}


def _options(model: JoinedModel, defaults: str, given: dict[str, Any]) -> tuple[SamplingOptions, str]:
    """How to sample, and a sentence about what was taken from the model."""
    from ..pipeline import SamplingOptions

    given["num_steps"] = given.pop("steps")
    following = {name: given[name] for name in FOLLOWING}
    values = settled(defaults, model.own, following)
    return SamplingOptions(**{**given, **values}), followed(following, values)


def guidance_inputs() -> list[io.Input]:
    """One guidance scale a modality."""
    return [
        io.Float.Input(
            f"{modality}_guidance_scale",
            default=6.0,
            min=0.0,
            max=100.0,
            step=0.1,
            tooltip=f"How strongly the {thing} follows its caption (CFG). 1 turns guidance off.",
        )
        for modality, thing in (("video", "picture"), ("audio", "sound"))
    ]


def modality_inputs() -> list[io.Input]:
    """One scale of modality guidance a modality."""
    return [
        io.Float.Input(
            f"{modality}_modality_scale",
            default=1.0,
            min=0.0,
            max=100.0,
            step=0.1,
            optional=True,
            tooltip=f"How far the {thing} is pushed from what it would be without the {other}: more in time with it. "
            "1 is off, as published; more costs a pass of this tower at every step.",
        )
        for modality, thing, other in (("video", "picture", "sound"), ("audio", "sound", "picture"))
    ]
