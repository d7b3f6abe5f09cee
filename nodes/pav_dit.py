"""The node that loads a PAV-DiT model: what denoises, the caption encoder and the autoencoder of both sides at once."""

from __future__ import annotations

from ..core.device import DTYPE_NAMES, resolve_placement
from ..core.progress import stoppable
from .host import default_device, io, progress
from .host.folders import NONE_FOUND, list_models, resolve_model, why_not_listed
from .listing import ADVANCED, listing
from .loaders import PLAN_KEY
from .sockets import CATEGORY, AudioCodec, AudioText, JointModel, VideoCodec, VideoText
from .telling import told

# What the family offers, written out because a node's choices are frozen with its surface; a test holds them equal.
ATTENTIONS = ("auto", "sdpa")
OFFLOADS = ("none", "model", "auto")


class LoadPavDit(io.ComfyNode):
    """Node T2SVLoadPavDit."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        found = list_models("pav_dit") or [NONE_FOUND]
        return io.Schema(
            node_id="T2SVLoadPavDit",
            display_name="Load PAV-DiT",
            category=f"{CATEGORY}/loaders",
            description="Loads a PAV-DiT folder: one transformer that makes picture and sound together, their "
            "autoencoder and the caption encoder. It takes the place of both tower loaders and of Join Towers.",
            **listing("T2SVLoadPavDit"),
            inputs=[
                io.Combo.Input(
                    "pav_dit_model",
                    options=found,
                    default=found[0],
                    tooltip="A folder with transformer, autoencoder, text_encoder, tokenizer and model.json in "
                    "models/sounding_video or models/diffusers, as sounding-video train pav_dit writes it. Nobody has "
                    "published weights.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=list(DTYPE_NAMES),
                    default="auto",
                    tooltip="Number type of the weights; the autoencoder stays float32. auto: bfloat16 on cards that "
                    "compute in it, float32 on a CPU.",
                    **ADVANCED,
                ),
                io.Combo.Input(
                    "attention",
                    options=list(ATTENTIONS),
                    default="auto",
                    tooltip="Attention kernel; this model needs one that takes masks.",
                    **ADVANCED,
                ),
                io.Combo.Input(
                    "offload",
                    options=list(OFFLOADS),
                    default="auto",
                    tooltip="none keeps the model on the device; model keeps there only what is running. auto picks "
                    "the fastest that fits, and says which.",
                ),
            ],
            outputs=[
                JointModel.Output("model", display_name="model", tooltip="The whole model, for the Joint Sampler."),
                VideoText.Output(
                    "video_text_encoder",
                    display_name="video_text_encoder",
                    tooltip="The caption encoder of the picture, for Encode Captions.",
                ),
                AudioText.Output(
                    "audio_text_encoder",
                    display_name="audio_text_encoder",
                    tooltip="The same of the sound, for Encode Captions.",
                ),
                VideoCodec.Output(
                    "video_codec",
                    display_name="video_codec",
                    tooltip="The autoencoder's picture, for Empty AV Latent, Encode Clip and Decode AV.",
                ),
                AudioCodec.Output(
                    "audio_codec",
                    display_name="audio_codec",
                    tooltip="The autoencoder's sound. Connect both codecs to Decode AV: each side is decoded with the "
                    "other.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, pav_dit_model: str | None = None) -> bool | str:
        """Say why a model is not on the list; a linked name arrives as None."""
        return why_not_listed("pav_dit_model", pav_dit_model)

    @classmethod
    def execute(cls, pav_dit_model: str, *, dtype: str, attention: str, offload: str) -> io.NodeOutput:
        """Load the folder."""
        from ..forecast import forecast_of
        from ..pipeline import load_models

        placement = resolve_placement(device=default_device(), dtype=dtype, attention=attention, offload=offload)
        folder = resolve_model("pav_dit", pav_dit_model)
        with stoppable(progress()):
            model = load_models(folder, placement=placement)
            shown = {PLAN_KEY: [forecast_of(model)], **told("" if model.trained else model.description)}
        sides = model.sides
        return io.NodeOutput(model, sides.video, sides.audio, sides.video, sides.audio, ui=shown)
