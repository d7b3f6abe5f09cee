"""The node that writes the clip to a file and shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..core.clock import as_fps
from ..core.errors import InputError, SoundingVideoError, require_choice
from ..core.optional import require
from ..core.types import AudioClip, AVClip, VideoClip
from .host import embeds_metadata, io, progress, save_place, ui, video_value
from .host.common import check_prefix
from .listing import ADVANCED, listing
from .sockets import CATEGORY

if TYPE_CHECKING:
    from torch import Tensor

FORMATS = ("mp4", "webm", "mkv")
WRITERS = ("pyav", "moviepy")


class Mux(io.ComfyNode):
    """Node T2SVMux."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="T2SVMux",
            display_name="AV Mux",
            category=f"{CATEGORY}/output",
            description="Writes pictures and sound into one file, with the workflow inside, and shows it.",
            **listing("T2SVMux"),
            is_output_node=True,
            inputs=[
                io.Image.Input("images", optional=True, tooltip="The frames; leave open for sound only."),
                io.Audio.Input("audio", optional=True, tooltip="The sound; made exactly as long as the picture."),
                io.Float.Input(
                    "fps", default=15.0, min=1.0, max=120.0, step=0.001, tooltip="Frames per second of the file."
                ),
                io.String.Input(
                    "filename_prefix",
                    default="sounding_video/clip",
                    tooltip="File name in the output folder, with sub-folders if wanted; %width%, %height%, %year%, "
                    "%month%, %day%, %hour%, %minute% and %second% are filled in. A counter is appended.",
                ),
                io.Combo.Input(
                    "format",
                    options=list(FORMATS),
                    default="mp4",
                    tooltip="mp4: H.264 and AAC, plays everywhere. webm: VP9 and Opus. mkv: H.264 and FLAC.",
                ),
                io.Combo.Input(
                    "writer",
                    options=list(WRITERS),
                    default="pyav",
                    tooltip="pyav needs nothing else; moviepy must be installed.",
                    **ADVANCED,
                ),
            ],
            outputs=[
                io.Video.Output("video", display_name="video", tooltip="The written file, for native video nodes.")
            ],
        )

    @classmethod
    def validate_inputs(
        cls, filename_prefix: str | None = None, format: str | None = None, writer: str | None = None
    ) -> bool | str:
        """Refuse before the sampler has run for minutes, not after; linked inputs arrive as None."""
        try:
            if filename_prefix is not None:
                check_prefix(filename_prefix)
            if format is not None:
                require_choice("format", format, FORMATS)
            if writer is not None:
                require_choice("writer", writer, WRITERS)
            if writer == "moviepy":
                require("moviepy", "writing video through moviepy")
        except SoundingVideoError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        *,
        fps: float,
        filename_prefix: str,
        format: str,
        writer: str,
        images: Tensor | None = None,
        audio: dict[str, Any] | None = None,
    ) -> io.NodeOutput:
        """Write the file and preview it."""
        from ..media.mux import write_clip
        from ..media.timeline import timeline

        require_choice("format", format, FORMATS)
        clip = AVClip(
            video=None if images is None else VideoClip(images[..., :3].float().cpu(), as_fps(fps)),
            audio=None if audio is None else audio_clip(audio),
        )
        height, width = (0, 0) if images is None else images.shape[1:3]
        place = save_place(filename_prefix, width=width, height=height, suffix=f".{format}")
        write_clip(clip, place.path, writer=writer, metadata=file_tags(cls.hidden), progress=progress())
        saved = ui.SavedResult(place.path.name, place.subfolder, io.FolderType.output)
        shown = {**ui.PreviewVideo([saved]).as_dict(), "sounding_video_timeline": [timeline(clip)]}
        return io.NodeOutput(video_value(place.path), ui=shown)


def file_tags(hidden: Any) -> dict[str, Any] | None:
    """What ComfyUI's own nodes write into a file: the prompt and, where the page sent it, the graph."""
    if not embeds_metadata():
        return None
    tags = {"prompt": hidden.prompt, "workflow": (hidden.extra_pnginfo or {}).get("workflow")}
    return {name: value for name, value in tags.items() if value is not None}


def audio_clip(audio: dict[str, Any]) -> AudioClip:
    """A clip from ComfyUI's AUDIO value, whose waveform is ``(B, C, samples)``."""
    waveform = audio["waveform"]
    if waveform.shape[0] != 1:
        raise InputError(
            "the sound holds several clips", got=f"a batch of {waveform.shape[0]}", expected="one clip a file"
        )
    return AudioClip(waveform[0].float().cpu(), int(audio["sample_rate"]))
