"""How a picture moves: the mean optical flow of each frame and its peaks, which AV-Align compares with onsets."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np

from ..core.clock import frame_times
from ..core.errors import MissingPackageError
from ..core.optional import available, require
from ..core.progress import SILENT, Progress, ask_to_stop
from ..core.types import VideoClip, require_finite
from .video import to_uint8

log = logging.getLogger(__name__)

MIN_FLOW = 0.1
# pyramid scale, levels, window, iterations, neighbourhood, its sigma, flags
FARNEBACK = (0.5, 3, 15, 3, 5, 1.2, 0)
LIBRARY = "cv2"


def flow_magnitudes(video: VideoClip, progress: Progress = SILENT) -> np.ndarray:
    """Mean length of Farnebäck's optical flow in pixels, one value a frame ``(F,)``.

    Value i belongs to the motion from frame i-1 to frame i; value 0 repeats value 1, as in AV-Align (TempoTokens). A
    single frame has no motion: ``(0,)``.

    Args:
        video: Pictures.
        progress: Told of each frame under the stage "measure"; may stop the run.

    Raises:
        MissingPackageError: OpenCV is not installed.
        NonFiniteError: NaN or infinity in the frames.
    """
    cv2 = require(LIBRARY, "measuring motion by optical flow")
    require_finite("the frames tensor", video.frames)
    grays = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in to_uint8(video.frames).numpy()]
    lengths = []
    for before, after in pairwise(grays):
        ask_to_stop()
        flow = cv2.calcOpticalFlowFarneback(before, after, None, *FARNEBACK)
        lengths.append(float(np.hypot(flow[..., 0], flow[..., 1]).mean()))
        progress.step("measure", len(lengths), len(grays) - 1)
    return np.array(lengths[:1] + lengths)


def flow_peaks(magnitudes: Sequence[float] | np.ndarray, fps: Fraction) -> list[float]:
    """Seconds of the strict local maxima of at least 0.1 pixels; the first and the last value cannot be one."""
    times = frame_times(len(magnitudes), fps)
    return [
        times[index]
        for index in range(1, len(magnitudes) - 1)
        if magnitudes[index] >= MIN_FLOW and magnitudes[index - 1] < magnitudes[index] > magnitudes[index + 1]
    ]


def seen_peaks(video: VideoClip, progress: Progress = SILENT) -> list[float] | None:
    """Seconds of the motion's peaks; None where OpenCV is not installed or does not import."""
    if not available(LIBRARY):
        return None
    try:
        return flow_peaks(flow_magnitudes(video, progress), video.fps)
    except MissingPackageError as error:
        log.info("no motion peaks: %s", error)
        return None
