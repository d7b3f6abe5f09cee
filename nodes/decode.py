"""The node that turns latents into pictures and sound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..core.clock import as_fps
from ..core.errors import InputError
from ..core.types import JointLatents
from ..models.own import joint_settings
from .av import av_input, parted
from .host import io, progress
from .listing import ADVANCED, listing
from .output import audio_value
from .sockets import CATEGORY, AudioCodec, VideoCodec
from .telling import managed_stage
from .wiring import LOADERS, incomplete, require_latent

if TYPE_CHECKING:
    from torch import Tensor

    from ..core.types import AVClip
    from ..models.parts import AudioParts, VideoParts

TILING = ("auto", "on", "off")


class DecodeAV(io.ComfyNode):
    """Node T2SVDecodeAV."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="T2SVDecodeAV",
            display_name="Decode AV",
            category=f"{CATEGORY}/latent",
            description="Decodes picture and sound; the sound is fitted to the picture. Gives one clip a batch item.",
            **listing("T2SVDecodeAV"),
            inputs=[
                VideoCodec.Input("video_codec", optional=True, tooltip="From Load Wan Tower."),
                AudioCodec.Input("audio_codec", optional=True, tooltip="From Load Stable Audio Tower."),
                io.Latent.Input("video_samples", optional=True, tooltip="Video latent of the Joint Sampler."),
                io.Latent.Input("audio_samples", optional=True, tooltip="Audio latent of the Joint Sampler."),
                io.Float.Input(
                    "fps", default=15.0, min=1.0, max=120.0, step=0.001, tooltip="Frames per second of the picture."
                ),
                io.Combo.Input(
                    "tiling",
                    options=list(TILING),
                    default="auto",
                    tooltip="Decode large pictures in overlapping tiles to save memory; auto does so above 832×480.",
                    **ADVANCED,
                ),
                av_input("av_samples", "video_samples and audio_samples"),
            ],
            outputs=[
                io.Image.Output(
                    "images", display_name="images", tooltip="The frames, one batch a clip.", is_output_list=True
                ),
                io.Audio.Output(
                    "audio",
                    display_name="audio",
                    tooltip="The sound, exactly as long as the picture.",
                    is_output_list=True,
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        *,
        fps: float,
        tiling: str,
        video_codec: VideoParts | None = None,
        audio_codec: AudioParts | None = None,
        video_samples: dict[str, Any] | None = None,
        audio_samples: dict[str, Any] | None = None,
        av_samples: dict[str, Any] | None = None,
    ) -> io.NodeOutput:
        """Decode each batch item."""
        from ..pipeline import decode_latents

        video_samples, audio_samples = parted(av_samples, video_samples, audio_samples)
        if video_samples is None and audio_samples is None:
            raise incomplete(
                "there is nothing to decode: both latents are absent",
                connect="video_samples, audio_samples or both to a Joint Sampler",
            )
        latents = JointLatents(
            video=_raw("video", video_codec, video_samples),
            audio=_raw("audio", audio_codec, audio_samples),
        )
        items = _items(latents)
        watched = progress(*(stage for item in items for stage in _stages(item)))
        with managed_stage() as shown:
            clips = [
                decode_latents(
                    item,
                    video_codec=video_codec and video_codec.codec,
                    audio_codec=audio_codec and audio_codec.codec,
                    fps=as_fps(fps),
                    placement=(video_codec or audio_codec).placement,
                    raw=True,
                    tiling=tiling,
                    progress=watched,
                    own_seconds=audio_codec
                    and joint_settings(video_codec and video_codec.own, audio_codec.own).seconds,
                )
                for item in items
            ]
        return io.NodeOutput([_image(clip) for clip in clips], [audio_value(clip.audio) for clip in clips], ui=shown)


def _stages(item: JointLatents) -> list[tuple[str, float]]:
    """Stages of one clip: a picture takes several times as long as its sound."""
    picture, sound = item.video is not None, item.audio is not None
    return [*([("decode", 4)] if picture else []), *([("decode sound", 1)] if sound else [])]


def _raw(name: str, parts: VideoParts | AudioParts | None, samples: dict[str, Any] | None) -> Tensor | None:
    """Latents from the graph, which are in raw VAE space."""
    if samples is None:
        return None
    if parts is None:
        raise incomplete(
            f"there are {name} samples but no {name} codec",
            disconnect=f"{name}_samples",
            connect=f"{name}_codec to {LOADERS[name]}",
        )
    require_latent(f"{name}_samples", name, samples, "a Joint Sampler")
    return samples["samples"]


def _items(latents: JointLatents) -> list[JointLatents]:
    """One pair of latents a clip."""
    sizes = {len(tensor) for tensor in (latents.video, latents.audio) if tensor is not None}
    if len(sizes) > 1:
        raise InputError(
            "video and audio samples hold different numbers of clips",
            got=f"{len(latents.video)} and {len(latents.audio)}",
            expected="samples of one Joint Sampler",
        )
    return [
        JointLatents(
            *(None if tensor is None else tensor[index : index + 1] for tensor in (latents.video, latents.audio))
        )
        for index in range(sizes.pop())
    ]


def _image(clip: AVClip) -> Tensor | None:
    return None if clip.video is None else clip.video.frames
