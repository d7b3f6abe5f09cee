"""The node that writes the clip to a file and shows it."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from ..core.clock import as_fps
from ..core.errors import InputError, SoundingVideoError, require_choice
from ..core.optional import available
from ..core.types import AudioClip, AVClip, VideoClip
from ..media.writers import WRITERS, writer_names
from .host import check_place, embeds_metadata, io, progress, save_place, shows_previews, ui, verdict, video_value
from .host.common import SavePlace
from .listing import ADVANCED, listing
from .sockets import CATEGORY
from .telling import REPORT_KEY
from .wiring import incomplete

if TYPE_CHECKING:
    from torch import Tensor

FORMATS = ("mp4", "webm", "mkv", "wav", "flac", "m4a")
SOUND_FORMATS = ("wav", "flac", "m4a")
CODEC_NAMES = ("auto", "h264", "hevc", "av1", "vp9", "ffv1", "pcm_s16", "pcm_s24", "pcm_f32")
OUTPUT, PREVIEW = "output", "preview only"


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
                    tooltip="File name in the output folder, with sub-folders if wanted; %width%, %height%, "
                    "%date:yyyy-MM-dd% (also hh, mm, ss) and %Node.input% of any node, by its type or title, are "
                    "filled in. A counter is appended.",
                ),
                io.Combo.Input(
                    "format",
                    options=list(FORMATS),
                    default="mp4",
                    tooltip="mp4: H.264 and AAC, plays everywhere. webm: VP9 and Opus. mkv: H.264 and FLAC. wav, flac "
                    "and m4a hold the sound alone, as long as the picture.",
                ),
                io.Combo.Input(
                    "writer",
                    options=writer_names(),
                    default="pyav",
                    tooltip="pyav needs nothing else; moviepy must be installed.",
                    **ADVANCED,
                ),
                io.Combo.Input(
                    "codec",
                    optional=True,
                    options=list(CODEC_NAMES),
                    default="auto",
                    tooltip="auto: the format's own. mp4 also holds hevc and av1; webm av1; mkv hevc, av1, vp9 and "
                    "ffv1, which loses nothing; wav pcm_s16, pcm_s24 and pcm_f32.",
                    **ADVANCED,
                ),
                io.Int.Input(
                    "quality",
                    optional=True,
                    default=-1,
                    min=-1,
                    max=63,
                    tooltip="CRF of the picture: less is better and larger. -1: 18 for h264, 20 for hevc, 24 for vp9 "
                    "and av1.",
                    **ADVANCED,
                ),
                io.Combo.Input(
                    "save",
                    optional=True,
                    options=[OUTPUT, PREVIEW],
                    default=OUTPUT,
                    tooltip="preview only writes into ComfyUI's temporary folder: the clip is shown and nothing is "
                    "kept.",
                ),
            ],
            outputs=[
                io.Video.Output("video", display_name="video", tooltip="The written file, for native video nodes.")
            ],
        )

    @classmethod
    def validate_inputs(
        cls,
        filename_prefix: str | None = None,
        format: str | None = None,
        writer: str | None = None,
        codec: str | None = None,
        quality: int | None = None,
        save: str | None = None,
    ) -> bool | str:
        """Refuse before the sampler has run for minutes, not after; linked inputs arrive as None."""
        try:
            require_choice("way to save", save or OUTPUT, (OUTPUT, PREVIEW))
            if filename_prefix is not None:
                check_place(_named(filename_prefix, save), f".{format or FORMATS[0]}", temporary=save == PREVIEW)
            if writer is not None:
                require_choice("writer", writer, writer_names())
                WRITERS.get(writer)().require()
            if format is not None:
                require_choice("format", format, FORMATS)
                check_encoding(format, writer, "auto" if codec is None else codec, -1 if quality is None else quality)
        except SoundingVideoError as error:
            return verdict(error)
        return True

    @classmethod
    def execute(
        cls,
        *,
        fps: float,
        format: str,
        images: Tensor | None = None,
        audio: dict[str, Any] | None = None,
        codec: str = "auto",
        quality: int = -1,
        save: str = OUTPUT,
        **options: Any,
    ) -> io.NodeOutput:
        """Write the file and show it."""
        from ..media.mux import write_clip
        from ..media.timeline import timeline

        require_choice("format", format, FORMATS)
        clip, notes = _clip(images, audio, fps)
        place = file_place(options["filename_prefix"], format, images, passing=save == PREVIEW, hidden=cls.hidden)
        measures = _measures(clip, format)
        watched = progress(("mux", 3), *([("measure", 1)] if measures else []))
        report = write_clip(
            clip,
            place.name,
            writer=options["writer"],
            codec=codec,
            crf=quality,
            metadata=file_tags(cls.hidden),
            progress=watched,
        )
        notes += [*report.notes, *(["A preview: nothing was saved."] if save == PREVIEW else [])]
        drawn = {"sounding_video_timeline": [timeline(_as_shown(clip, format), watched, motion=measures)]}
        return io.NodeOutput(
            video_value(place.path), ui={**file_shown(place, format, save), REPORT_KEY: notes, **drawn}
        )


def _measures(clip: AVClip, format: str) -> bool:
    """Whether to measure how the picture moves, for the arrows on the player: it takes time, and somebody must look."""
    from ..media.flow import LIBRARY
    from ..media.timeline import is_short

    return shows_previews() and format not in SOUND_FORMATS and is_short(clip) and available(LIBRARY)


def _clip(images: Tensor | None, audio: dict[str, Any] | None, fps: float) -> tuple[AVClip, list[str]]:
    """What is connected, and what was changed about the sound."""
    if images is None and audio is None:
        raise incomplete("a clip needs a picture, a sound or both", connect="images, audio or both to Decode AV")
    return av_clip(images, audio, fps)


def _as_shown(clip: AVClip, format: str) -> AVClip:
    """What the file holds of the clip."""
    from ..media.audio import fit_length

    if format not in SOUND_FORMATS or clip.video is None:
        return clip
    return AVClip(None, fit_length(clip.audio, clip.num_samples))


def _named(prefix: str, save: str | None) -> str:
    """A preview has a name of its own, or the page would show what it remembers of an earlier session's preview."""
    return f"{prefix}_{uuid.uuid4().hex[:6]}" if save == PREVIEW else prefix


def file_place(prefix: str, format: str, images: Tensor | None, *, passing: bool, hidden: Any = None) -> SavePlace:
    """The file to write; one that is only looked at lies in the temporary folder."""
    height, width = (0, 0) if images is None else images.shape[1:3]
    prefix = _named(prefix, PREVIEW if passing else OUTPUT)
    return save_place(prefix, width=width, height=height, suffix=f".{format}", temporary=passing, hidden=hidden)


def file_shown(place: SavePlace, format: str, save: str) -> dict[str, Any]:
    """What the page and queue clients are told of a file."""
    folder = io.FolderType.temp if save == PREVIEW else io.FolderType.output
    saved = ui.SavedResult(place.path.name, place.subfolder, folder)
    return {"audio": [saved]} if format in SOUND_FORMATS else ui.PreviewVideo([saved]).as_dict()


def check_encoding(format: str, writer: str | None, codec: str, quality: int) -> None:
    """Refuse a codec or a quality that the format or the writer cannot have, or that this PyAV cannot encode.

    Raises:
        InputError, MissingPackageError: see the messages.
    """
    from ..media.codecs import with_codec
    from ..media.writers.base import CONTAINERS

    container = with_codec(CONTAINERS[f".{format}"], codec, quality)
    if writer is not None:
        WRITERS.get(writer)().check(container)


def file_tags(hidden: Any) -> dict[str, Any] | None:
    """What ComfyUI's own nodes write into a file: the prompt and, where the page sent it, the graph."""
    if not embeds_metadata():
        return None
    tags = {"prompt": hidden.prompt, "workflow": (hidden.extra_pnginfo or {}).get("workflow")}
    return {name: value for name, value in tags.items() if value is not None}


def av_clip(images: Tensor | None, audio: dict[str, Any] | None, fps: float) -> tuple[AVClip, list[str]]:
    """A clip of what is connected, picture, sound or both, and a sentence where the sound had more than two channels.

    Args:
        images: ComfyUI's IMAGE ``(F, H, W, C)``; an alpha channel is left out.
        audio: ComfyUI's AUDIO.
        fps: Frames per second of the images.

    Raises:
        InputError: neither of them, or see :func:`audio_clip`.
    """
    sound, notes = (None, []) if audio is None else audio_clip(audio)
    return AVClip(None if images is None else VideoClip(images[..., :3].float().cpu(), as_fps(fps)), sound), notes


def audio_value(sound: AudioClip | None) -> dict[str, Any] | None:
    """ComfyUI's AUDIO value of a sound, and None of none."""
    return None if sound is None else {"waveform": sound.waveform[None], "sample_rate": sound.sample_rate}


def audio_clip(audio: dict[str, Any]) -> tuple[AudioClip, list[str]]:
    """A mono or stereo clip from ComfyUI's AUDIO value ``(B, C, samples)``, and a sentence where it had more channels.

    Raises:
        InputError: a batch of several sounds.
    """
    from ..media.channels import mix_down

    waveform = audio["waveform"]
    if waveform.shape[0] != 1:
        raise InputError(
            "the sound holds several clips", got=f"a batch of {waveform.shape[0]}", expected="one clip a file"
        )
    clip, note = mix_down(waveform[0].float().cpu(), int(audio["sample_rate"]))
    return clip, [note] if note else []
