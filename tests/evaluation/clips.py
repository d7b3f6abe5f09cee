"""Clips with flashes and clicks at known times, and files of them."""

from __future__ import annotations

from fractions import Fraction

import torch
from sounding_video.core.types import AudioClip, AVClip, VideoClip

FPS, RATE = Fraction(15), 44_100


def make_sound(times, seconds=2.2, rate=RATE):
    """Decaying noise bursts; stereo, both channels alike."""
    generator = torch.Generator().manual_seed(1)
    wave = torch.zeros(round(seconds * rate))
    burst = torch.randn(3000, generator=generator) * torch.exp(-torch.arange(3000) / 600) * 0.3
    for time in times:
        start = round(time * rate)
        wave[start : start + 3000] += burst[: len(wave) - start]
    return AudioClip(wave.expand(2, -1).clone(), rate)


def make_picture(times, num_frames=33, size=64, fps=FPS):
    """A textured square on a textured wall that jumps aside and flashes at the frame that shows each time."""
    generator = torch.Generator().manual_seed(2)
    wall = torch.nn.functional.interpolate(
        torch.rand(1, 3, size // 4, size // 4, generator=generator), (size, size), mode="bilinear"
    )[0].permute(1, 2, 0)
    frames = (wall * 0.5).repeat(num_frames, 1, 1, 1)
    shown = [int(time * fps) for time in times]
    for index in range(num_frames):
        jumps = sum(index >= start for start in shown)
        left = 8 + 12 * (jumps % 2)
        frames[index, 20:44, left : left + 24] = wall[20:44, 8:32] * 0.5 + 0.15
        if index in shown:
            frames[index, 4:60, 44:60] = 0.95
    return VideoClip(frames, fps)


def make_av(seen, heard, **options):
    return AVClip(make_picture(seen, **options), make_sound(heard))
