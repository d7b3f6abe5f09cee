"""Alignments of picture and sound (SAVA): their file, and what a sampler of one side is told of the other one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..core.errors import InputError
from ..core.pair import OTHER, THINGS
from ..core.progress import stoppable
from .av import parted
from .host import io, progress
from .host.folders import NONE_FOUND, list_models, resolve_model, why_not_listed
from .listing import ADVANCED, listing
from .sockets import CATEGORY, Alignment, Conditioning, JointModel
from .telling import told
from .wiring import LOADERS, incomplete, require_latent

if TYPE_CHECKING:
    from torch import Tensor

    from ..core.types import Conditioning as EncodedCaptions
    from ..models.weights.alignment import LoadedAlignment
    from ..pipeline import FamilyModel

SUPPORTS = ("learned", "all")


class LoadAlignment(io.ComfyNode):
    """Node T2SVLoadAlignment."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        found = list_models("alignment") or [NONE_FOUND]
        return io.Schema(
            node_id="T2SVLoadAlignment",
            display_name="Load Alignment (SAVA)",
            category=f"{CATEGORY}/loaders",
            description="Loads an alignment of picture and sound, by which one side is made after the other. It says "
            "what is kept of each side, and which towers read it.",
            **listing("T2SVLoadAlignment"),
            inputs=[
                io.Combo.Input(
                    "alignment_file",
                    options=found,
                    default=found[0],
                    tooltip="A file in models/sounding_video, as sounding-video train writes it for the recipes "
                    "sava_align, sava_audio and sava_video. pocket is the bundled model's.",
                ),
            ],
            outputs=[
                Alignment.Output(
                    "alignment", display_name="alignment", tooltip="For Condition on Picture and Condition on Sound."
                ),
                io.String.Output("report", display_name="report", tooltip="What is kept, and which towers read it."),
            ],
        )

    @classmethod
    def validate_inputs(cls, alignment_file: str | None = None) -> bool | str:
        """Say why a file is not on the list; a linked name arrives as None."""
        return why_not_listed("alignment_file", alignment_file)

    @classmethod
    def execute(cls, alignment_file: str) -> io.NodeOutput:
        """Read the file."""
        from ..models.weights.alignment import load_alignment

        path = resolve_model("alignment", alignment_file)
        with stoppable(progress()):
            loaded = load_alignment(path)
        report = "\n".join([loaded.summary(), *loaded.warnings()])
        return io.NodeOutput(loaded, report, ui=told(report))


def _inputs(given: str) -> list[io.Input]:
    """What both nodes have."""
    thing, made = THINGS[given], THINGS[OTHER[given]]
    return [
        JointModel.Input("model", tooltip="From Join Towers, with both towers; without bridges is best."),
        Conditioning.Input("conditioning", tooltip="From Encode Captions."),
        Alignment.Input("alignment", tooltip="From Load Alignment (SAVA)."),
        io.Latent.Input(
            f"{given}_latent", tooltip=f"The {thing} that is there: from a Joint Sampler or from Encode Clip."
        ),
        io.Float.Input(
            "strength",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip=f"How strongly the {made} is told of the {thing}; 0 tells nothing of it.",
        ),
        io.Combo.Input(
            "support",
            options=list(SUPPORTS),
            default=SUPPORTS[0],
            optional=True,
            tooltip="learned tells the dimensions that both sides share; all tells every one.",
            **ADVANCED,
        ),
    ]


def _outputs(made: str) -> list[io.Output]:
    thing = THINGS[made]
    return [
        JointModel.Output(
            "model_out",
            display_name="model",
            tooltip=f"The {made} tower alone, with the LoRA that reads, for a Joint Sampler with {made}_latent only.",
        ),
        Conditioning.Output(
            "conditioning_out", display_name="conditioning", tooltip=f"The captions, that of the {thing} with tokens."
        ),
        io.String.Output("report", display_name="report", tooltip="How many tokens were put behind the caption."),
    ]


def _condition(
    given: str,
    model: FamilyModel,
    conditioning: EncodedCaptions,
    alignment: LoadedAlignment,
    samples: Tensor,
    **how: Any,
) -> io.NodeOutput:
    """The made side's tower with what it learned, and captions with tokens of the given side."""
    from ..models.alignment.condition import conditioned, reading

    made, codec = OTHER[given], model.codecs[given]
    if codec is None:
        raise incomplete(
            f"there is no {given} tower in the joint model, whose codec the latent is read by",
            connect=f"{LOADERS[given]} to Join Towers",
        )
    if not bool(samples.any()):
        raise InputError(
            f"the {given} latent is empty, so it tells nothing",
            got="zeros only, as from an empty latent node",
            expected=f"a {THINGS[given]} that was made or encoded",
            remedy="Connect a Joint Sampler or Encode Clip.",
        )
    if samples.shape[1] != codec.latent_channels:
        raise InputError(
            f"the {given} latent is of another model",
            got=f"{samples.shape[1]} channels",
            expected=f"{codec.latent_channels}, those of this model's codec",
        )
    with stoppable(progress()):
        changed = reading(model.alone(made), alignment, made)
        longer = conditioned(conditioning, alignment, given, codec.from_raw(samples), **how)
    before, after = (getattr(each, made) for each in (conditioning, longer))
    if after.frames is before.frames:
        words = f"{after.positive.shape[1] - before.positive.shape[1]} tokens of the {THINGS[given]}"
    else:
        words = f"{after.frames.positive.shape[1]} moments of the {THINGS[given]}, told frame by frame,"
    lines = [f"{words} at strength {how['strength']:g}"]
    lines += [lora.summary() for lora in changed.loras]
    report = "\n".join([*lines, *alignment.warnings()])
    return io.NodeOutput(changed, longer, report, ui=told(report))


class ConditionOnPicture(io.ComfyNode):
    """Node T2SVConditionOnPicture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="T2SVConditionOnPicture",
            display_name="Condition on Picture",
            category=f"{CATEGORY}/conditioning",
            description="Tells the audio tower what a picture shows, so that a Joint Sampler with a sound alone makes "
            "the sound for it. The picture stays as it is while sounds are tried.",
            **listing("T2SVConditionOnPicture"),
            inputs=_inputs("video"),
            outputs=_outputs("audio"),
        )

    @classmethod
    def execute(
        cls,
        model: FamilyModel,
        conditioning: EncodedCaptions,
        alignment: LoadedAlignment,
        video_latent: dict[str, Any],
        *,
        strength: float,
        support: str = SUPPORTS[0],
    ) -> io.NodeOutput:
        """Fold the picture into tokens."""
        latent, _ = parted(None, video_latent, None)
        require_latent("video_latent", "video", latent, "a Joint Sampler or Encode Clip")
        how = {"strength": strength, "support": support}
        return _condition("video", model, conditioning, alignment, latent["samples"], **how)


class ConditionOnSound(io.ComfyNode):
    """Node T2SVConditionOnSound."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="T2SVConditionOnSound",
            display_name="Condition on Sound",
            category=f"{CATEGORY}/conditioning",
            description="Tells the video tower what a sound holds, so that a Joint Sampler with a picture alone makes "
            "the picture for it. The sound stays as it is.",
            **listing("T2SVConditionOnSound"),
            inputs=[
                *_inputs("audio"),
                io.Latent.Input(
                    "video_latent",
                    optional=True,
                    tooltip="The picture to be made, for its length; open, it is taken from the sound's.",
                ),
            ],
            outputs=_outputs("video"),
        )

    @classmethod
    def execute(
        cls,
        model: FamilyModel,
        conditioning: EncodedCaptions,
        alignment: LoadedAlignment,
        audio_latent: dict[str, Any],
        *,
        strength: float,
        support: str = SUPPORTS[0],
        video_latent: dict[str, Any] | None = None,
    ) -> io.NodeOutput:
        """Fold the sound into tokens."""
        picture, latent = parted(None, video_latent, audio_latent)
        require_latent("audio_latent", "audio", latent, "a Joint Sampler or Encode Clip")
        if picture is not None:
            require_latent("video_latent", "video", picture, "Empty AV Latent")
        how = {"strength": strength, "support": support, "num_frames": picture and picture["samples"].shape[2]}
        return _condition("audio", model, conditioning, alignment, latent["samples"], **how)
