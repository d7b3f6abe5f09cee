"""What is measured in a clip before any score: onsets in the sound, optical flow and its peaks in the picture."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np

from ..core.clock import frame_times
from ..core.optional import require
from ..core.types import AudioClip, VideoClip, require_finite
from ..media.video import to_uint8

ONSET_HOP = 512
MIN_FLOW = 0.1
# pyramid scale, levels, window, iterations, neighbourhood, its sigma, flags
FARNEBACK = (0.5, 3, 15, 3, 5, 1.2, 0)
LIBRARIES = ("librosa", "cv2")


def onset_strength(audio: AudioClip) -> np.ndarray:
    """Onset envelope (librosa) of channel 0 at the sound's own rate, one value every 512 samples.

    Raises:
        MissingPackageError: librosa is not installed.
        NonFiniteError: NaN or infinity in the sound.
    """
    librosa = require("librosa", "finding onsets in sound")
    require_finite("the waveform", audio.waveform)
    samples = audio.waveform[0].detach().to("cpu").float().numpy()
    return librosa.onset.onset_strength(y=samples, sr=audio.sample_rate, hop_length=ONSET_HOP)


def onset_times(envelope: np.ndarray, sample_rate: int) -> list[float]:
    """Seconds of the peaks that librosa picks in an onset envelope; none in one that is zero throughout.

    Raises:
        MissingPackageError: librosa is not installed.
    """
    librosa = require("librosa", "finding onsets in sound")
    found = librosa.onset.onset_detect(
        onset_envelope=envelope, sr=sample_rate, hop_length=ONSET_HOP, units="time", backtrack=False
    )
    return [float(time) for time in found]


def flow_magnitudes(video: VideoClip) -> np.ndarray:
    """Mean length of Farnebäck's optical flow in pixels, one value a frame ``(F,)``.

    Value i belongs to the motion from frame i-1 to frame i; value 0 repeats value 1, as in AV-Align (TempoTokens). A
    single frame has no motion: ``(0,)``.

    Raises:
        MissingPackageError: OpenCV is not installed.
        NonFiniteError: NaN or infinity in the frames.
    """
    cv2 = require("cv2", "measuring motion by optical flow")
    require_finite("the frames tensor", video.frames)
    grays = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in to_uint8(video.frames).numpy()]
    lengths = []
    for before, after in pairwise(grays):
        flow = cv2.calcOpticalFlowFarneback(before, after, None, *FARNEBACK)
        lengths.append(float(np.hypot(flow[..., 0], flow[..., 1]).mean()))
    return np.array(lengths[:1] + lengths)


def flow_peaks(magnitudes: Sequence[float] | np.ndarray, fps: Fraction) -> list[float]:
    """Seconds of the strict local maxima of at least 0.1 pixels; the first and the last value cannot be one."""
    times = frame_times(len(magnitudes), fps)
    return [
        times[index]
        for index in range(1, len(magnitudes) - 1)
        if magnitudes[index] >= MIN_FLOW and magnitudes[index - 1] < magnitudes[index] > magnitudes[index + 1]
    ]
