"""The node that denoises picture and sound together."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..core.pair import MODALITIES
from .av import av_input, av_output, joined, parted, rate_of, times_of
from .given import BOTH, given_latents, made_by, raw_latents, task_input
from .host import io, progress, shows_previews
from .listing import listing
from .options import PLACED, SAMPLING, input_of, later_inputs, sampling_options
from .own import AS_SET, defaults_input, followed, settled
from .sockets import CATEGORY, Conditioning, JointModel
from .telling import managed_stage
from .wiring import require_sides

if TYPE_CHECKING:
    from ..core.types import Conditioning as EncodedCaptions
    from ..pipeline import FamilyModel, SamplingOptions


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
                    tooltip="Sets the picture's size; its content counts where task or a noise mask says so. Leave "
                    "open to make sound only.",
                ),
                io.Latent.Input(
                    "audio_latent",
                    optional=True,
                    tooltip="Sets the sound's length; its content counts where task or a noise mask says so. Leave "
                    "open to make a silent video.",
                ),
                *(input_of(name) for name in PLACED[:7]),
                input_of("flow_shift", optional=True),
                io.Boolean.Input(
                    "preview",
                    default=True,
                    optional=True,
                    tooltip="Show picture and sound while they emerge. It takes at most a twentieth of the time.",
                ),
                *(input_of(name, optional=True) for name in PLACED[8:]),
                defaults_input("steps, scales, shift, schedule, solver, unconditional and given_how"),
                av_input("av_latent", "video_latent and audio_latent"),
                task_input(),
                *later_inputs(),
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
        model: FamilyModel,
        conditioning: EncodedCaptions,
        *,
        video_latent: dict[str, Any] | None = None,
        audio_latent: dict[str, Any] | None = None,
        preview: bool = True,
        defaults: str = AS_SET,
        av_latent: dict[str, Any] | None = None,
        task: str = BOTH,
        **options: Any,
    ) -> io.NodeOutput:
        """Sample; results leave in raw VAE space."""
        from ..pipeline import preview_maps, sample_latents

        codecs = model.codecs.present
        parts = parted(av_latent, video_latent, audio_latent, wanted=("video" in codecs, "audio" in codecs))
        latents = dict(zip(MODALITIES, parts, strict=True))
        require_sides(model, conditioning, latents)
        asked, taken = _options(model, defaults, options, task)
        given = given_latents(task, latents, asked, {name: codec.from_raw for name, codec in codecs.items()})
        watched = progress(("preview", 0), ("sample", 1))
        with managed_stage(taken) as shown:
            if preview and shows_previews():
                watched = preview_maps(model, watched).watch(watched)
            made = sample_latents(
                model,
                conditioning,
                **{f"{name}_shape": latent and tuple(latent["samples"].shape) for name, latent in latents.items()},
                options=asked,
                given=given,
                progress=watched,
                times=times_of(model.geometry, *parts),
            )
        results = raw_latents(made, latents, given, codecs, rate_of(*parts))
        return io.NodeOutput(*results, joined(*results), ui=shown)


def _options(model: FamilyModel, defaults: str, given: dict[str, Any], task: str) -> tuple[SamplingOptions, str]:
    """How to sample, and a sentence about what was taken from the model and its bridges."""
    from ..models.bridge_use import settings_for
    from ..models.lora.distilled import settings_with

    options = sampling_options(given)
    following = {name: getattr(options, name) for name, setting in SAMPLING.items() if setting.option.follows}
    made = made_by(task)
    own = settings_with(settings_for(model.own, model.use, made), [lora.distilled for lora in model.loras], made)
    values = settled(defaults, own, following)
    return replace(options, **values), followed(following, values)
