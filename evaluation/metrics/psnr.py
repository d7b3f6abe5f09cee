"""PSNR of picture and sound against the true clip: what an autoencoder keeps of a clip.

* ``picture``: of every frame in 0…1, the mean over frames (``frame_mean`` of the two orders that are in use).
* ``sound``: of the mel spectrogram as an image, 64 bands in decibels below the clip's loudest point, 0 at −80 dB and 1
  at the top. PAV-DiT prints such a number and does not say of which spectrogram; compare with its own kind only.
"""

from __future__ import annotations

from torch import Tensor

from ...core.types import AudioClip, VideoClip
from ..classifier import sound_features
from ..sample import Sample
from . import METRICS
from .base import Measurement, Metric, Value

# Equal to the last bit; beyond it a number says nothing.
MOST_DECIBELS = 100.0
# A codec's last block may be longer than the sound.
SPARE_COLUMNS = 8


@METRICS.register("psnr")
class Psnr(Metric):
    """Decibels up to 100, more is better. Needs true clips (``--references``) of the same length and size."""

    title = "PSNR (against the true clip)"
    values = ("picture", "sound")

    def measure(self, sample: Sample) -> Measurement:
        """Compare one clip with the true one."""
        found: dict[str, Value] = {}
        reasons = {}
        sides = {
            "picture": (sample.clip.video, sample.true_picture, _of_pictures),
            "sound": (sample.clip.audio, sample.reference, _of_sounds),
        }
        for name, (made, true, compare) in sides.items():
            found[name] = None
            if made is None:
                reasons[name] = f"the clip has no {name}"
            elif true is None:
                reasons[name] = f"the true {name} is not known"
            elif isinstance(outcome := compare(made, true), str):
                reasons[name] = outcome
            else:
                found[name] = outcome
        return Measurement(found, reasons)


def _of_pictures(made: VideoClip, true: VideoClip) -> float | str:
    """Of one size and as many frames; else why not."""
    if made.frames.shape != true.frames.shape:
        sizes = " and ".join("×".join(map(str, each.frames.shape[:3])) for each in (made, true))
        return f"the clip and the true one differ in frames, height or width: {sizes}"
    errors = (made.frames.float() - true.frames.float()).square().mean((1, 2, 3))
    return float(_decibels(errors).mean())


def _of_sounds(made: AudioClip, true: AudioClip) -> float | str:
    """Of about one length, compared over what both have; else why not."""
    images = [sound_features(each) for each in (made, true)]
    lengths = [image.shape[-1] for image in images]
    if abs(lengths[0] - lengths[1]) > SPARE_COLUMNS:
        seconds = " and ".join(f"{float(each.seconds):.2f} s" for each in (made, true))
        return f"the sound and the true one differ in length: {seconds}"
    mine, theirs = (image[..., : min(lengths)] for image in images)
    return float(_decibels((mine - theirs).square().mean()))


def _decibels(errors: Tensor) -> Tensor:
    return (-10 * errors.clamp_min(1e-30).log10()).clamp_max(MOST_DECIBELS)
