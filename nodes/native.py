"""The node that samples ComfyUI's own models together, with the bridges between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..core.clock import WAN_STABLE_AUDIO
from ..core.errors import InputError, require_choice
from .av import av_input, av_output, joined, parted, rate_of, times_of
from .given import BOTH, task_input
from .host import io, progress, shows_previews
from .listing import ADVANCED, listing
from .options import PLACED, input_of, later_inputs, sampling_options
from .sockets import CATEGORY, Bridge

if TYPE_CHECKING:
    from torch import Tensor

    from ..core.progress import Progress
    from ..models.weights.bridges import LoadedBridges
    from .host.native import NativeSide

TEXTS = ("official", "native")
_SHIFT = "Wan's shift of the video's points towards high noise: 3 for 480p, 5 for 720p."
# Modality, its model's input and title, what it makes, and what of it the latent sets.
_SIDES = (
    ("video", "wan_model", "Wan 2.1", "picture", "size"),
    ("audio", "stable_audio_model", "Stable Audio Open", "sound", "length"),
)


class NativeSampler(io.ComfyNode):
    """Node T2SVNativeSampler."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="T2SVNativeSampler",
            display_name="Joint Sampler (native models)",
            category=f"{CATEGORY}/sampling",
            description="Denoises picture and sound together with ComfyUI's own Wan and Stable Audio models, so that "
            "fp8, scaled, GGUF, LoRA and model-patch loaders keep working. The results fit the native VAE nodes.",
            **listing("T2SVNativeSampler"),
            inputs=[
                *(port for side in _SIDES for port in _side_inputs(*side)),
                Bridge.Input(
                    "bridge",
                    optional=True,
                    tooltip="From Load Bridge; leave open and the two models run side by side, unaware of each other.",
                ),
                input_of(
                    "seed",
                    tooltip="Start of all randomness; the same seed draws the same noise as in the Joint Sampler.",
                ),
                *(input_of(name) for name in PLACED[1:4]),
                input_of(
                    "schedule",
                    tooltip="lockstep: as published, each model on its own points. coupled: both always at one time. "
                    "flow: both at one level of clearness, walked by Euler.",
                ),
                input_of("flow_sigmas"),
                input_of("flow_shift", tooltip=_SHIFT),
                io.Combo.Input(
                    "text",
                    options=list(TEXTS),
                    default="official",
                    tooltip="official: the captions as the published bridges know them (zero rows up to 1024 for the "
                    "picture, no duration tokens for the sound). native: as ComfyUI's own samplers give them.",
                    **ADVANCED,
                ),
                io.Float.Input(
                    "seconds",
                    default=0.0,
                    min=0.0,
                    max=512.0,
                    step=0.001,
                    tooltip="Length that the audio model is told; connect seconds of Empty AV Latent. 0 leaves it to "
                    "the conditioning (Conditioning Stable Audio).",
                ),
                io.Boolean.Input(
                    "preview",
                    default=True,
                    tooltip="Show the picture while it emerges, and the sound where audio_vae is connected.",
                ),
                io.Vae.Input(
                    "audio_vae",
                    optional=True,
                    tooltip="For the preview only: the VAE of the Stable Audio checkpoint, by which the sound is shown "
                    "while it emerges.",
                ),
                *(input_of(name, optional=True) for name in PLACED[8:]),
                av_input("av_latent", "video_latent and audio_latent"),
                task_input(),
                *later_inputs(("compile",)),  # ComfyUI has a node for that
            ],
            outputs=[
                io.Latent.Output(
                    "video_samples", display_name="video_samples", tooltip="For the native VAE Decode, or Decode AV."
                ),
                io.Latent.Output(
                    "audio_samples",
                    display_name="audio_samples",
                    tooltip="For the native VAE Decode Audio, or Decode AV.",
                ),
                av_output("av_samples"),
            ],
        )

    @classmethod
    def execute(
        cls,
        *,
        wan_model: Any = None,
        video_positive: Any = None,
        video_negative: Any = None,
        video_latent: dict[str, Any] | None = None,
        stable_audio_model: Any = None,
        audio_positive: Any = None,
        audio_negative: Any = None,
        audio_latent: dict[str, Any] | None = None,
        bridge: LoadedBridges | None = None,
        audio_vae: Any = None,
        av_latent: dict[str, Any] | None = None,
        task: str = BOTH,
        **options: Any,
    ) -> io.NodeOutput:
        """Sample what is connected; results leave in the native VAEs' space."""
        wanted = wan_model is not None, stable_audio_model is not None
        latents = parted(av_latent, video_latent, audio_latent, wanted=wanted)
        given = {
            "video": (wan_model, video_positive, video_negative, latents[0]),
            "audio": (stable_audio_model, audio_positive, audio_negative, latents[1]),
        }
        _require_whole(given, options["text"])
        from .host.native import NativeSide, sample_native  # only ComfyUI can make a MODEL

        sides = [NativeSide(name, *values) for name, values in given.items() if values[0] is not None]
        watched = _watched(sides, audio_vae, options.pop("preview"))
        results = sample_native(
            sides,
            bridges=bridge,
            official_text=options.pop("text") == "official",
            seconds=options.pop("seconds"),
            task=task,
            options=sampling_options(options),
            progress=watched,
            times=times_of(WAN_STABLE_AUDIO, *latents),
        )
        video, audio = (_latent(name, results.get(name), rate_of(*latents)) for name in given)
        return io.NodeOutput(video, audio, joined(video, audio))


def _latent(name: str, samples: Tensor | None, rate: dict[str, Any]) -> dict[str, Any] | None:
    """A result as ComfyUI's LATENT, with the frame rate that the inputs carried."""
    return None if samples is None else {"samples": samples, **({"type": "audio"} if name == "audio" else {}), **rate}


def _watched(sides: list[NativeSide], audio_vae: Any, preview: bool) -> Progress:
    """The node's progress, with pictures when they are wanted and somebody looks."""
    from .host.native_preview import preview_maps

    plain = progress(("preview", 0), ("sample", 1))
    return preview_maps(sides, audio_vae, plain).watch(plain) if preview and shows_previews() else plain


def _require_whole(given: dict[str, tuple[Any, ...]], text: str) -> None:
    """Refuse no model at all, a side that is only half connected, and an unknown form of the text.

    Args:
        given: By modality: model, positive, negative, latent.
        text: One of ``TEXTS``.
    """
    require_choice("text", text, TEXTS)
    if all(values[0] is None for values in given.values()):
        raise InputError("no model is connected", expected="a Wan model, a Stable Audio model or both")
    for name, (model, positive, negative, latent) in given.items():
        parts = {"model": model, "positive": positive, "latent": latent}
        missing = [part for part, value in parts.items() if value is None]
        if 0 < len(missing) < len(parts) or (missing and negative is not None):
            rest = [part for part in ("model", "positive", "negative", "latent") if part not in missing]
            raise InputError(
                f"the {name} side is only half connected",
                got=f"no {', no '.join(missing)}",
                expected="model, positive, latent and, with guidance, negative; or none of them",
                remedy=f"Disconnect {', '.join(rest)} of the {name} too, or connect {', '.join(missing)}; a node on "
                "the way may be muted or bypassed.",
            )


def _side_inputs(name: str, model_port: str, title: str, thing: str, extent: str) -> list[io.Input]:
    return [
        io.Model.Input(
            model_port,
            optional=True,
            tooltip=f"A {title} MODEL from any loader, with any LoRA; leave open to make no {thing}.",
        ),
        io.Conditioning.Input(f"{name}_positive", optional=True, tooltip=f"What the {thing} should be."),
        io.Conditioning.Input(
            f"{name}_negative", optional=True, tooltip=f"What the {thing} should not be; needed with guidance."
        ),
        io.Latent.Input(
            f"{name}_latent",
            optional=True,
            tooltip=f"Sets the {thing}'s {extent}; its content counts where task or a noise mask says so.",
        ),
    ]
