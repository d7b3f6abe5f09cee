"""The node that shows whether picture and sound belong together."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from ..core.clock import as_fps
from ..core.errors import SoundingVideoError
from ..core.optional import available
from ..core.progress import stoppable
from ..core.types import AVClip, VideoClip
from .host import check_place, io, progress, save_place, ui, verdict
from .listing import listing
from .output import audio_clip, file_tags
from .sockets import CATEGORY
from .telling import told

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

LEAST_WIDTH, MOST_WIDTH = 320, 8192


class SyncReport(io.ComfyNode):
    """Node T2SVSyncReport."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="T2SVSyncReport",
            display_name="Sync Report",
            category=f"{CATEGORY}/evaluation",
            description="Draws picture and sound on one time axis, marks the onsets and measures AV-Align.",
            **listing("T2SVSyncReport"),
            is_output_node=True,
            inputs=[
                io.Image.Input("images", tooltip="The frames of one clip."),
                io.Audio.Input("audio", tooltip="Its sound."),
                io.Float.Input(
                    "fps", default=15.0, min=1.0, max=120.0, step=0.001, tooltip="Frames per second of the picture."
                ),
                io.String.Input(
                    "filename_prefix",
                    default="sounding_video/sync",
                    tooltip="File name of the PNG in the output folder, with the words that AV Mux fills in. A counter "
                    "is appended.",
                ),
                io.Int.Input(
                    "width", default=1200, min=LEAST_WIDTH, max=MOST_WIDTH, step=10, tooltip="Pixels of the picture."
                ),
            ],
            outputs=[
                io.Image.Output("picture", display_name="picture", tooltip="The time-axis picture."),
                io.String.Output(
                    "report", display_name="report", tooltip="Onsets, motion peaks and AV-Align, as JSON."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, filename_prefix: str | None = None) -> bool | str:
        """Refuse a bad name before the sampler has run."""
        try:
            if filename_prefix is not None:
                check_place(filename_prefix, ".png")
        except SoundingVideoError as error:
            return verdict(error)
        return True

    @classmethod
    def execute(
        cls, *, images: Tensor, audio: dict[str, Any], fps: float, filename_prefix: str, width: int
    ) -> io.NodeOutput:
        """Measure, draw, save and show."""
        from ..media.plot import time_axis_picture

        sound, notes = audio_clip(audio)
        clip = AVClip(VideoClip(images[..., :3].float().cpu(), as_fps(fps)), sound)
        with stoppable(progress()):
            found = measured(clip)
        place = save_place(filename_prefix, width=width, height=0, suffix=".png", hidden=cls.hidden)
        markers = [time for time in found["onsets_seconds"] if time <= found["seconds"]]
        time_axis_picture(
            clip,
            place.name,
            width=width,
            markers_seconds=markers,
            peaks_seconds=found["motion_peaks_seconds"],
            metadata=file_tags(cls.hidden),
        )
        report = json.dumps(found, indent=2)
        saved = ui.SavedResult(place.path.name, place.subfolder, io.FolderType.output)
        shown = {"images": [saved], **told("\n".join([found["summary"], *notes]))}
        return io.NodeOutput(_image(place.path), report, ui=shown)


def measured(clip: AVClip) -> dict[str, Any]:
    """Onsets, motion peaks and AV-Align of a clip with picture and sound: the metric's own values.

    Without OpenCV there are onsets only, the same ones, and the summary says what to install.
    """
    from ..evaluation.metrics.av_align import AVAlign
    from ..evaluation.sample import Sample
    from ..media.flow import LIBRARY
    from ..media.onsets import onsets

    seconds = float(max(clip.video.seconds, clip.audio.seconds))
    if not available(LIBRARY):
        times = [round(time, 4) for time in onsets(clip.audio)]
        summary = f"{_counted(times, 'onset')}; motion and AV-Align need: pip install opencv-python-headless"
        return _found(seconds, times, None, None, summary)
    measurement = AVAlign().measure(Sample(clip))
    details, score = measurement.details, measurement.values["av_align"]
    times, peaks = ([round(time, 4) for time in details[name]] for name in ("onsets", "flow_peaks"))
    summary = (
        f"{_counted(times, 'onset')}, {_counted(peaks, 'motion peak')}, {len(details['pairs'])} of them together: "
        f"AV-Align {score:.3f} (0 to 1)"
    )
    return _found(seconds, times, peaks, score, summary)


def _counted(times: list[float], noun: str) -> str:
    return f"{len(times)} {noun}" if len(times) == 1 else f"{len(times)} {noun}s"


def _found(
    seconds: float, times: list[float], peaks: list[float] | None, score: float | None, summary: str
) -> dict[str, Any]:
    return {
        "summary": summary,
        "seconds": seconds,
        "onsets_seconds": times,
        "motion_peaks_seconds": peaks,
        "av_align": score,
    }


def _image(path: Path) -> Tensor:
    """A saved picture as ComfyUI's IMAGE ``(1, H, W, 3)``."""
    with Image.open(path) as picture:
        return torch.from_numpy(np.asarray(picture.convert("RGB"), dtype=np.float32) / 255)[None]
