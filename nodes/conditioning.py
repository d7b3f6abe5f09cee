"""Nodes that turn captions into conditioning and set the clip's size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ..core.clock import MAX_SIDE, Timeline
from ..core.progress import stoppable
from ..core.types import Captions
from ..models.own import joint_settings
from .av import FPS_KEY, av_output, joined
from .host import io, progress
from .listing import listing
from .own import AS_SET, defaults_input, followed, settled
from .sockets import CATEGORY, AudioCodec, AudioText, Conditioning, VideoCodec, VideoText
from .telling import REPORT_KEY, managed_stage, told
from .wiring import incomplete

if TYPE_CHECKING:
    from ..models.own import OwnSettings
    from ..models.parts import AudioParts, VideoParts

# The published system's negative captions, written out because a node's default is frozen with its surface;
# a test holds them equal to the pipeline's.
VIDEO_NEGATIVE = (
    "Bright tones, overexposed, static, blurred details, subtitles, style, works, paintings, images, static, "
    "overall gray, worst quality, low quality, JPEG compression residue, ugly, incomplete, extra fingers, poorly "
    "drawn hands, poorly drawn faces, deformed, disfigured, misshapen limbs, fused fingers, still picture, messy "
    "background, three legs, many people in the background, walking backwards"
)
AUDIO_NEGATIVE = "Low quality, unclear and noisy."


class EncodeCaptions(io.ComfyNode):
    """Node T2SVEncodeCaptions."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="T2SVEncodeCaptions",
            display_name="Encode Captions",
            category=f"{CATEGORY}/conditioning",
            description="Encodes one caption for the picture and one for the sound, each with its negative.",
            **listing("T2SVEncodeCaptions"),
            inputs=[
                VideoText.Input(
                    "video_text_encoder", optional=True, tooltip="From Load Wan Tower; leave open to make sound only."
                ),
                AudioText.Input(
                    "audio_text_encoder",
                    optional=True,
                    tooltip="From Load Stable Audio Tower; leave open to make a silent video.",
                ),
                *_text_inputs(),
                io.Float.Input(
                    "seconds",
                    default=5.4,
                    min=0.01,
                    max=512.0,
                    step=0.001,
                    tooltip="Length that the audio tower is told; connect seconds of Empty AV Latent.",
                ),
                defaults_input("negatives"),
            ],
            outputs=[
                Conditioning.Output(
                    "conditioning", display_name="conditioning", tooltip="Encoded captions, for the Joint Sampler."
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        *,
        video_caption: str,
        audio_caption: str,
        video_negative: str,
        audio_negative: str,
        seconds: float,
        video_text_encoder: VideoParts | None = None,
        audio_text_encoder: AudioParts | None = None,
        defaults: str = AS_SET,
    ) -> io.NodeOutput:
        """Encode for the towers that are connected."""
        from ..captions.known import unknown_to_model
        from ..pipeline import encode_captions, told_of_captions

        parts = video_text_encoder or audio_text_encoder
        if parts is None:
            raise incomplete(
                "no caption encoder is connected",
                connect="the text encoder of Load Wan Tower, of Load Stable Audio Tower or both",
            )
        given = {"video_negative": video_negative, "audio_negative": audio_negative}
        own = _own(video_text_encoder, audio_text_encoder)
        values = settled(defaults, own, given)
        captions = Captions(video_caption, audio_caption)
        negatives = Captions(values["video_negative"], values["audio_negative"])
        with managed_stage(followed(given, values)) as shown:
            unknown = unknown_to_model(captions, own.knows)
            shown[REPORT_KEY] += [*filter(None, [unknown]), *told_of_captions(captions, negatives)]
            conditioning = encode_captions(
                video_text_encoder,
                audio_text_encoder,
                captions,
                negatives=negatives,
                seconds=seconds,
                placement=parts.placement,
                progress=progress(),
            )
        return io.NodeOutput(conditioning, ui=shown)


def _own(video: VideoParts | None, audio: AudioParts | None) -> OwnSettings:
    """What the connected sides were made for."""
    return joint_settings(video and video.own, audio and audio.own)


def _text_inputs() -> list[io.Input]:
    """The page draws no labels beside text fields, so the placeholders tell empty ones apart."""
    return [
        io.String.Input(name, multiline=True, default=default, placeholder=name.replace("_", " "), tooltip=tooltip)
        for name, default, tooltip in (
            ("video_caption", "", "What is seen, and only what is seen."),
            ("audio_caption", "", "What is heard, and only what is heard."),
            ("video_negative", VIDEO_NEGATIVE, "What the picture should not be."),
            ("audio_negative", AUDIO_NEGATIVE, "What the sound should not be."),
        )
    ]


class EmptyAVLatent(io.ComfyNode):
    """Node T2SVEmptyAVLatent."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="T2SVEmptyAVLatent",
            display_name="Empty AV Latent",
            category=f"{CATEGORY}/latent",
            description="Sets size, length and frame rate of the clip; the sound gets the length of the picture.",
            **listing("T2SVEmptyAVLatent"),
            inputs=[
                io.Int.Input(
                    "width", default=832, min=16, max=MAX_SIDE, step=16, tooltip="Pixels; a multiple of 16 for Wan 2.1."
                ),
                io.Int.Input(
                    "height",
                    default=480,
                    min=16,
                    max=MAX_SIDE,
                    step=16,
                    tooltip="Pixels; a multiple of 16 for Wan 2.1.",
                ),
                io.Int.Input(
                    "num_frames",
                    default=81,
                    min=1,
                    max=4097,
                    step=4,
                    tooltip="Pictures, 4k+1 for Wan 2.1. 81 frames at 15 fps last 5.4 s.",
                ),
                io.Float.Input(
                    "fps",
                    default=15.0,
                    min=1.0,
                    max=120.0,
                    step=0.001,
                    tooltip="Frames per second. The bridges were trained at 15.",
                ),
                io.Int.Input("batch_size", default=1, min=1, max=64, tooltip="Clips made at once."),
                VideoCodec.Input(
                    "video_codec",
                    optional=True,
                    tooltip="Connect it when the model is not Wan 2.1, to take its strides.",
                ),
                AudioCodec.Input(
                    "audio_codec",
                    optional=True,
                    tooltip="Connect it when the model is not Stable Audio Open, to take its strides.",
                ),
                defaults_input("size, frames and rate"),
            ],
            outputs=[
                io.Latent.Output("video_latent", display_name="video_latent", tooltip="Empty video latent."),
                io.Latent.Output("audio_latent", display_name="audio_latent", tooltip="Empty audio latent, as long."),
                io.Float.Output("fps_out", display_name="fps", tooltip="The frame rate, for Decode AV and AV Mux."),
                io.Float.Output("seconds", display_name="seconds", tooltip="num_frames / fps, for Encode Captions."),
                av_output("av_latent"),
            ],
        )

    @classmethod
    def execute(
        cls,
        *,
        width: int,
        height: int,
        num_frames: int,
        fps: float,
        batch_size: int,
        video_codec: VideoParts | None = None,
        audio_codec: AudioParts | None = None,
        defaults: str = AS_SET,
    ) -> io.NodeOutput:
        """Compute the latents' shapes."""
        from ..forecast import clip_note
        from ..pipeline import geometry_of

        geometry = geometry_of(video_codec and video_codec.codec, audio_codec and audio_codec.codec)
        own = _own(video_codec, audio_codec)
        given = {"num_frames": num_frames, "fps": fps, "width": width, "height": height}
        values = settled(defaults, own, given)
        timeline = Timeline(**values, geometry=geometry)
        video, audio = _empty(timeline, batch_size)
        with stoppable(progress()):
            slow = clip_note(video_codec, audio_codec, timeline, batch_size)
        said = told("\n".join([followed(given, values), slow or _made_for(own, timeline)]))
        return io.NodeOutput(video, audio, float(timeline.fps), float(timeline.seconds), joined(video, audio), ui=said)


def _empty(timeline: Timeline, batch_size: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Picture and sound without content, which carry the frame rate."""
    rate = {FPS_KEY: float(timeline.fps)}
    video, audio = (torch.zeros(batch_size, *s) for s in (timeline.video_latent_shape, timeline.audio_latent_shape))
    return {"samples": video, **rate}, {"samples": audio, "type": "audio", **rate}


def _made_for(own: OwnSettings, timeline: Timeline) -> str:
    """A sentence where the clip is another than the model itself says it was made for."""
    extents = [(each.width, each.height, each.num_frames) for each in (own, timeline)]
    return f"this model was made for {own.extent}" if own.is_noted and len(set(extents)) > 1 else ""
