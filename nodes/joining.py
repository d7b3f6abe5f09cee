"""The node that puts one clip behind another."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from .host import io
from .listing import listing
from .output import audio_value, av_clip
from .sockets import CATEGORY
from .wiring import incomplete

if TYPE_CHECKING:
    from torch import Tensor

    from ..core.types import AVClip

# A second that arrives as a float is one of these fractions again: every frame and sample has one.
FINEST = 10**7


class JoinClips(io.ComfyNode):
    """Node T2SVJoinClips."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="T2SVJoinClips",
            display_name="Join Clips",
            category=f"{CATEGORY}/output",
            description="Puts a second clip behind your own, which stays as it is: what both show is in the result "
            "once, and their sounds meet in a short crossfade.",
            **listing("T2SVJoinClips"),
            inputs=[
                io.Image.Input("images", optional=True, tooltip="Your clip's own frames."),
                io.Audio.Input("audio", optional=True, tooltip="Your clip's own sound."),
                io.Float.Input(
                    "fps",
                    default=30.0,
                    min=0.1,
                    max=1000.0,
                    step=0.001,
                    tooltip="Frames per second of your clip; the result has them too.",
                ),
                io.Image.Input("next_images", optional=True, tooltip="Frames of the second clip, of any size."),
                io.Audio.Input("next_audio", optional=True, tooltip="Sound of the second clip."),
                io.Float.Input(
                    "next_fps",
                    default=15.0,
                    min=0.1,
                    max=1000.0,
                    step=0.001,
                    tooltip="Frames per second of the second clip.",
                ),
                io.Float.Input(
                    "start",
                    optional=True,
                    force_input=True,
                    tooltip="Second of your clip at which the second one begins, from Encode Clip. Open: at its end.",
                ),
            ],
            outputs=[
                io.Image.Output("images_out", display_name="images", tooltip="All frames, at your clip's size."),
                io.Audio.Output("audio_out", display_name="audio", tooltip="The whole sound, at your clip's rate."),
                io.Float.Output("fps_out", display_name="fps", tooltip="Frames per second, for AV Mux."),
                io.Float.Output("seconds", display_name="seconds", tooltip="Length of the result."),
            ],
        )

    @classmethod
    def execute(
        cls,
        *,
        fps: float,
        next_fps: float,
        images: Tensor | None = None,
        audio: dict[str, Any] | None = None,
        next_images: Tensor | None = None,
        next_audio: dict[str, Any] | None = None,
        start: float | None = None,
    ) -> io.NodeOutput:
        """Join them."""
        from ..media.joining import put_behind

        first = _clip("your clip", ("images", "audio"), images, audio, fps)
        second = _clip("the second clip", ("next_images", "next_audio"), next_images, next_audio, next_fps)
        whole = put_behind(first, second, start=None if start is None else Fraction(start).limit_denominator(FINEST))
        return io.NodeOutput(whole.video and whole.video.frames, audio_value(whole.audio), fps, float(whole.seconds))


def _clip(name: str, ports: tuple[str, str], images: Tensor | None, audio: dict[str, Any] | None, fps: float) -> AVClip:
    if images is None and audio is None:
        raise incomplete(f"{name} is absent", connect=f"{ports[0]}, {ports[1]} or both")
    return av_clip(images, audio, fps)[0]
