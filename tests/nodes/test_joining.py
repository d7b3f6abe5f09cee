"""Join Clips: what Encode Clip cut off at the start comes before what was made, exactly."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sounding_video.core.clock import as_fps
from sounding_video.core.errors import InputError
from sounding_video.nodes.joining import JoinClips


def clip(num_frames: int, fps: float, rate: int = 44_100, *, size: int = 8, rows: int = 1) -> dict[str, Any]:
    samples = round(num_frames / fps * rate)
    return {
        "images": torch.rand(num_frames, size, size, 3),
        "audio": {"waveform": torch.rand(rows, 2, samples) - 0.5, "sample_rate": rate},
    }


def behind(second: dict[str, Any]) -> dict[str, Any]:
    return {f"next_{name}": value for name, value in second.items()}


@pytest.mark.parametrize(("known", "fps"), [(17, 15.0), (5, 29.97), (13, 24.0), (1, 12.5)])
def test_a_second_that_went_through_a_float_is_still_exact(known: int, fps: float) -> None:
    """Else the frame before the seam would be shown twice, or one would be left out."""
    first, second = clip(33, fps), clip(33, fps)
    start = float((33 - known) / as_fps(fps))
    images, audio, rate, seconds = JoinClips.execute(fps=fps, next_fps=fps, **first, **behind(second), start=start).args
    assert torch.equal(images, torch.cat([first["images"], second["images"][known:]]))
    assert rate == fps and seconds == pytest.approx((66 - known) / fps)
    assert abs(audio["waveform"].shape[-1] - seconds * 44_100) <= 2 and audio["waveform"].shape[:2] == (1, 2)


def test_open_sides() -> None:
    first, second = clip(10, 10.0), clip(10, 10.0)
    images, audio, *_ = JoinClips.execute(
        fps=10.0, next_fps=10.0, images=first["images"], next_images=second["images"]
    ).args
    assert len(images) == 20 and audio is None
    images, audio, _, seconds = JoinClips.execute(
        fps=10.0, next_fps=10.0, audio=first["audio"], next_audio=second["audio"]
    ).args
    assert images is None and audio["waveform"].shape == (1, 2, 88_200) and seconds == 2.0
    with pytest.raises(InputError, match=r"the second clip is absent[\s\S]*Connect next_images"):
        JoinClips.execute(fps=10.0, next_fps=10.0, **first)
    with pytest.raises(InputError, match="several clips"):
        JoinClips.execute(fps=10.0, next_fps=10.0, **first, **behind(clip(10, 10.0, rows=2)))
