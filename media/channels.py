"""More than two channels become two, by the weights of ITU-R BS.775, and it is told."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..core.errors import InputError
from ..core.types import AudioClip

_HALF_POWER = math.sqrt(0.5)
_SUB_BASS = ("LFE", "LFE2")
_FRONT = ("FL", "FR", "DL", "DR", "FLC", "FRC")
# What a channel gives to left and right where its name alone does not say it. First-order ambisonics: omnidirectional
# plus and minus the left-right figure of eight, two cardioids back to back.
_PAIRS = {"FC": (_HALF_POWER, _HALF_POWER), "AMBI0": (0.5, 0.5), "AMBI1": (0.5, -0.5)}
# The usual order of channels that nobody named, FFmpeg's names.
_USUAL = {
    3: "FL FR FC",
    4: "FL FR BL BR",
    5: "FL FR FC BL BR",
    6: "FL FR FC LFE BL BR",
    7: "FL FR FC LFE BC SL SR",
    8: "FL FR FC LFE BL BR SL SR",
    10: "FL FR FC LFE BL BR TFL TFR TBL TBR",
    12: "FL FR FC LFE BL BR SL SR TFL TFR TBL TBR",
}


def mix_down(waveform: Tensor, sample_rate: int, channels: Sequence[str] = ()) -> tuple[AudioClip, str]:
    """A mono or stereo clip of any sound.

    Front channels go to their side as they are; the centre to both, and surround and height channels to their side,
    3 dB lower; a centre behind or above to both, 6 dB lower; sub-bass channels are left out, as the recommendation
    has it. The level is not changed beyond that: what then clips is lowered where it is written, and told there.

    Args:
        waveform: ``(C, samples)`` float.
        sample_rate: Hz.
        channels: FFmpeg's name of each, for example FL, FR, FC, LFE, BL, BR; without them the usual order counts.

    Returns:
        The clip, and a sentence that says what was done; empty for one or two channels.

    Raises:
        InputError: no channel.
    """
    count = waveform.shape[0]
    if not count:
        raise InputError("the sound has no channel", got="0 channels", expected="1 or more channels")
    if count <= 2:
        return AudioClip(waveform, sample_rate), ""
    known = len(channels) == count and not any(name.startswith(("NONE", "UNK")) for name in channels)
    names = list(channels) if known else _usual(count)
    weights = torch.tensor([_weights(name) for name in names], dtype=torch.float32).T
    mixed = weights.to(waveform.device) @ waveform.float()
    without = ", without its sub-bass channel" if any(name in _SUB_BASS for name in names) else ""
    note = f"The sound has {count} channels; they were mixed down to stereo by the weights of ITU-R BS.775{without}."
    return AudioClip(mixed, sample_rate), note


def _usual(count: int) -> list[str]:
    """Names of channels by their number; of a number without a usual order, left and right in turn behind the first."""
    if count in _USUAL:
        return _USUAL[count].split()
    return ["FL", "FR", *("SR" if index % 2 else "SL" for index in range(count - 2))]


def _weights(name: str) -> tuple[float, float]:
    """What a channel gives to left and right."""
    if name in _PAIRS:
        return _PAIRS[name]
    if name in _SUB_BASS or name.startswith("AMBI"):
        return 0.0, 0.0
    level = 1.0 if name in _FRONT else _HALF_POWER
    side = name.removesuffix("C") if name in _FRONT else name
    if side.endswith("L"):
        return level, 0.0
    if side.endswith("R"):
        return 0.0, level
    return 0.5, 0.5
