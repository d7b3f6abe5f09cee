"""The node that turns a user's own clip into latents."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch

from ..core.clock import MAX_SIDE, Timeline, tail_start, whole_latents
from ..core.errors import require_choice
from ..core.progress import stoppable
from ..models.own import PUBLISHED, OwnSettings, joint_settings
from .av import FPS_KEY, av_output, joined
from .decode import TILING
from .host import io, progress
from .listing import ADVANCED, listing
from .output import av_clip
from .own import AS_SET, FROM_MODEL, defaults_input, followed, settled
from .sockets import CATEGORY, AudioCodec, VideoCodec
from .telling import REPORT_KEY, managed_stage
from .wiring import LOADERS, incomplete

if TYPE_CHECKING:
    from torch import Tensor

    from ..core.types import AVClip, JointLatents
    from ..media.fit_report import FitReport
    from ..models.parts import AudioParts, VideoParts

HELD, OPEN = "hold and silence", "leave to generate"
Latent = dict[str, Any]


class EncodeClip(io.ComfyNode):
    """Node T2SVEncodeClip."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="T2SVEncodeClip",
            display_name="Encode Clip",
            category=f"{CATEGORY}/latent",
            description="Fits your own picture and sound to the model, encodes them, and says what was cut, resampled "
            "and cropped. A side that is missing becomes an empty latent of the same length.",
            **listing("T2SVEncodeClip"),
            inputs=[
                io.Image.Input("images", optional=True, tooltip="The clip's frames; a single picture is a still."),
                io.Audio.Input("audio", optional=True, tooltip="The clip's sound, of any rate and length."),
                io.Float.Input(
                    "fps",
                    default=30.0,
                    min=0.1,
                    max=1000.0,
                    step=0.001,
                    tooltip="Frames per second of the images: the clip's own rate, from Get Video Components.",
                ),
                VideoCodec.Input("video_codec", optional=True, tooltip="From Load Wan Tower."),
                AudioCodec.Input("audio_codec", optional=True, tooltip="From Load Stable Audio Tower."),
                io.Float.Input(
                    "start",
                    default=0.0,
                    min=-86400.0,
                    max=86400.0,
                    step=0.01,
                    tooltip="Where in the clip to begin, in seconds. Below zero it counts from the clip's end, as "
                    "near as whole latents allow: -1 begins with the last second, to continue the clip.",
                ),
                io.Combo.Input(
                    "after_the_end",
                    options=[HELD, OPEN],
                    default=HELD,
                    tooltip="What follows a clip that is shorter than the model's. hold and silence: the last frame "
                    "and silence. leave to generate: a mask leaves it to the sampler; of a still, all but the first "
                    "frame.",
                ),
                *_model_inputs(),
                io.Int.Input("batch_size", default=1, min=1, max=64, tooltip="Clips made of it at once."),
                io.Combo.Input(
                    "tiling",
                    options=list(TILING),
                    default="auto",
                    tooltip="Encode large pictures in overlapping tiles to save memory; auto does so above 832×480.",
                    **ADVANCED,
                ),
                defaults_input("size, frames and rate"),
            ],
            outputs=[
                io.Latent.Output("video_latent", display_name="video_latent", tooltip="The picture's latent."),
                io.Latent.Output("audio_latent", display_name="audio_latent", tooltip="The sound's latent, as long."),
                av_output("av_latent"),
                io.Float.Output("fps_out", display_name="fps", tooltip="The model's frame rate, for Decode AV."),
                io.Float.Output("seconds", display_name="seconds", tooltip="Length, for Encode Captions."),
                io.String.Output("report", display_name="report", tooltip="What was changed, one sentence a line."),
                io.Float.Output(
                    "start_out", display_name="start", tooltip="Second of the clip at which it begins, for Join Clips."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        *,
        fps: float,
        start: float,
        after_the_end: str,
        batch_size: int,
        tiling: str,
        images: Tensor | None = None,
        audio: dict[str, Any] | None = None,
        video_codec: VideoParts | None = None,
        audio_codec: AudioParts | None = None,
        defaults: str = AS_SET,
        **model: Any,
    ) -> io.NodeOutput:
        """Fit, encode, and say what was done."""
        from ..media.fit import fit_clip
        from ..models.clip_encoding import encode_clip

        require_choice("way to go on after the end", after_the_end, (HELD, OPEN))
        _require_codecs(images, audio, video_codec, audio_codec)
        clip, notes = av_clip(images, audio, fps)
        timeline, taken = _timeline(clip, video_codec, audio_codec, defaults, model)
        watched = progress(("encode picture", 4), ("encode sound", 1))
        with managed_stage() as shown, stoppable(watched):
            channels = audio_codec.codec.channels if audio_codec else 2
            start = _start(clip, timeline, start)
            fitted, report = fit_clip(clip, timeline, start=start, channels=channels)
            latents = encode_clip(
                fitted,
                timeline,
                video_codec=video_codec and video_codec.codec,
                audio_codec=audio_codec and audio_codec.codec,
                placement=(video_codec or audio_codec).placement,
                tiling=tiling,
                progress=watched,
            )
            report = report.left_open() if after_the_end == OPEN else report
            said = [*filter(None, [*taken, *notes]), *report.sentences()]
            shown[REPORT_KEY][:0] = said
        sides = _Sides(timeline, batch_size, report if after_the_end == OPEN else None)
        video, sound = sides.video(latents, video_codec), sides.audio(latents, audio_codec)
        return io.NodeOutput(
            video,
            sound,
            joined(video, sound),
            float(timeline.fps),
            float(timeline.seconds),
            "\n".join(said) or "The clip fits the model as it is.",
            float(start),
            ui=shown,
        )


@dataclass(frozen=True)
class _Sides:
    """Makes ComfyUI's LATENTs, in raw VAE space.

    Args:
        timeline: Of the model.
        batch_size: Rows.
        report: Where the clip ends, if what follows is left to the sampler; else None.
    """

    timeline: Timeline
    batch_size: int
    report: FitReport | None

    def video(self, latents: JointLatents, parts: VideoParts | None) -> Latent | None:
        """The picture's, empty where the clip has none; None without a codec."""
        if parts is None:
            return None
        if latents.video is None:
            return self._empty(self.timeline.video_latent_shape)
        known = self.report and whole_latents(self.timeline, self.report.picture.known_frames, 0)[0]
        return self._latent(parts.codec.to_raw(latents.video), known)

    def audio(self, latents: JointLatents, parts: AudioParts | None) -> Latent | None:
        """The sound's, likewise."""
        if parts is None:
            return None
        if latents.audio is None:
            return self._empty(self.timeline.audio_latent_shape) | {"type": "audio"}
        known = self.report and whole_latents(self.timeline, 0, self.report.sound.known_samples)[1]
        return self._latent(parts.codec.to_raw(latents.audio), known) | {"type": "audio"}

    def _empty(self, shape: tuple[int, ...]) -> Latent:
        return {"samples": torch.zeros(self.batch_size, *shape), FPS_KEY: float(self.timeline.fps)}

    def _latent(self, samples: Tensor, known: int | None) -> Latent:
        """With a mask where a part is to be made: 0 is kept, 1 is made, as ComfyUI has it."""
        rows = samples.repeat(self.batch_size, *[1] * (samples.ndim - 1))
        latent = {"samples": rows, FPS_KEY: float(self.timeline.fps)}
        if known is not None and known < samples.shape[2]:
            mask = torch.zeros(1, 1, *samples.shape[2:])
            mask[:, :, known:] = 1
            latent["noise_mask"] = mask
        return latent


def _require_codecs(
    images: Tensor | None, audio: dict[str, Any] | None, video: VideoParts | None, sound: AudioParts | None
) -> None:
    if images is None and audio is None:
        raise incomplete("there is nothing to encode", connect="images, audio or both to Get Video Components")
    for port, value, name, codec in (("images", images, "video", video), ("audio", audio, "audio", sound)):
        if value is not None and codec is None:
            thing = "a picture" if name == "video" else "a sound"
            raise incomplete(
                f"there is {thing} but no {name} codec", disconnect=port, connect=f"{name}_codec to {LOADERS[name]}"
            )


def _timeline(
    clip: AVClip, video: VideoParts | None, audio: AudioParts | None, defaults: str, given: dict[str, Any]
) -> tuple[Timeline, list[str]]:
    """What the clip is fitted to, and what of it comes from the model."""
    from ..pipeline import geometry_of

    given = {**given, "fps": given["model_fps"]}
    del given["model_fps"]
    own = joint_settings(video and video.own, audio and audio.own)
    turned = defaults == FROM_MODEL and _lies_across(clip, own, given)
    if turned:
        own = replace(own, width=own.height, height=own.width)
    values = settled(defaults, own, given)
    if turned:
        values |= {"width": own.width, "height": own.height}
    timeline = Timeline(**values, geometry=geometry_of(video and video.codec, audio and audio.codec))
    sentence = f"The model's picture was turned to {own.width}×{own.height}, as the clip's is." if turned else ""
    return timeline, [followed(given, values), sentence]


def _lies_across(clip: AVClip, own: OwnSettings, given: dict[str, Any]) -> bool:
    """Whether an upright clip meets a model of wide pictures, or the other way round, and no size was asked for."""
    if clip.video is None or (given["width"], given["height"]) != (PUBLISHED.width, PUBLISHED.height):
        return False
    rows, columns = clip.video.frames.shape[1:3]
    return (rows - columns) * (own.height - own.width) < 0


def _start(clip: AVClip, timeline: Timeline, start: float) -> Fraction:
    """The exact time; below zero it is counted from the end of the picture, or of the sound alone."""
    if start >= 0:
        return Fraction(str(start))
    return tail_start(timeline, clip.seconds, Fraction(str(-start)))


def _model_inputs() -> list[io.Input]:
    """What the clip is fitted to."""
    return [
        io.Int.Input(
            "width",
            default=832,
            min=16,
            max=MAX_SIDE,
            step=16,
            tooltip="Pixels of the model; the middle is cropped to it.",
        ),
        io.Int.Input("height", default=480, min=16, max=MAX_SIDE, step=16, tooltip="Pixels of the model."),
        io.Int.Input(
            "num_frames", default=81, min=1, max=4097, step=4, tooltip="Pictures of the model, 4k+1 for Wan 2.1."
        ),
        io.Float.Input(
            "model_fps",
            default=15.0,
            min=1.0,
            max=120.0,
            step=0.001,
            tooltip="Frames per second of the model. The bridges were trained at 15.",
        ),
    ]
