"""The objectives: identities of both paths, and the two readings of the video timestep."""

from __future__ import annotations

import math

import pytest
import torch
from sounding_video.core.errors import InputError
from sounding_video.training.objectives import TrainingBatch, add_noise, joint_loss, video_timestep


@pytest.fixture
def case() -> tuple[TrainingBatch, dict[str, torch.Tensor]]:
    g = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=g)  # noqa: E731
    batch = TrainingBatch(draw(3, 4, 2, 4, 4), draw(3, 6, 9), draw(3, 5, 8), draw(3, 5, 8), draw(3, 1, 8))
    return batch, {
        "t": torch.tensor([0.05, 0.5, 0.95]),
        "video_noise": draw(3, 4, 2, 4, 4),
        "audio_noise": draw(3, 6, 9),
    }


def test_targets_lead_back_to_the_clean_latents(case) -> None:
    """Flow: x0 = x_t − s·(ε − x0). v: x0 = α·x_t − σ·v."""
    batch, noise = case
    noisy = add_noise(batch, **noise)
    s = noise["t"][:, None, None, None, None]
    torch.testing.assert_close(noisy.video.latents - s * noisy.video_target, batch.video_latents, rtol=0, atol=1e-5)
    angle = noise["t"][:, None, None] * math.pi / 2
    back = angle.cos() * noisy.audio.latents - angle.sin() * noisy.audio_target
    torch.testing.assert_close(back, batch.audio_latents, rtol=0, atol=1e-5)


def test_both_towers_stand_at_one_time(case) -> None:
    batch, noise = case
    paper = add_noise(batch, **noise)
    assert torch.equal(paper.audio.timestep, noise["t"])
    torch.testing.assert_close(paper.video.timestep, 1000 * noise["t"])
    official = add_noise(batch, **noise, reading="official")
    assert official.video.timestep.tolist() == [49, 499, 949]
    assert official.video.timestep.dtype == torch.int64
    with pytest.raises(InputError, match="unknown timestep reading: got 'mine'"):
        video_timestep(noise["t"], "mine")


def test_loss_is_the_unweighted_sum_and_zero_for_a_perfect_model(case) -> None:
    batch, noise = case
    noisy = add_noise(batch, **noise)
    perfect = joint_loss(lambda video, audio: (noisy.video_target, noisy.audio_target), noisy)
    assert float(perfect.total) == 0
    off = joint_loss(lambda video, audio: (noisy.video_target + 2, noisy.audio_target + 3), noisy)
    assert float(off.video) == pytest.approx(4, rel=1e-5)
    assert float(off.audio) == pytest.approx(9, rel=1e-5)
    assert float(off.total) == pytest.approx(13, rel=1e-5)
