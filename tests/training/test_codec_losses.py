"""Reconstruction losses: zero for a perfect copy, bounded and with finite gradients in silence, and they hear level."""

from __future__ import annotations

import math

import pytest
import torch
from sounding_video.models.codecs.wan_vae import WanVAECodec
from sounding_video.training.assembly import build_workbench
from sounding_video.training.codec_losses import QUIET, SILENCE, edge_loss, stft_loss
from sounding_video.training.statistics import latent_statistics, rescale_latents


def sine(level: float, num_samples: int = 8192) -> torch.Tensor:
    wave = level * torch.sin(2 * math.pi * 0.125 * torch.arange(num_samples))
    return torch.stack([wave, 0.5 * wave])[None]


def test_a_perfect_copy_costs_nothing() -> None:
    assert float(stft_loss(sine(0.5), sine(0.5))) == 0
    pictures = torch.rand(1, 3, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    assert float(edge_loss(pictures, pictures)) == 0
    assert float(edge_loss(pictures + 0.3, pictures)) == pytest.approx(0, abs=1e-6)  # level is not its business
    assert float(edge_loss(0 * pictures, pictures)) > 0.3


@pytest.mark.parametrize("guess_level", [0.0, 1e-6, 1.0])
def test_silence_is_bounded_and_differentiable(guess_level: float) -> None:
    guess = sine(guess_level).requires_grad_(True)
    loss = stft_loss(guess, torch.zeros(1, 2, 8192))
    loss.backward()
    assert float(loss.detach()) < 1 / QUIET - math.log(SILENCE)
    assert torch.isfinite(guess.grad).all()


def test_a_nearer_sound_costs_less_and_sides_matter() -> None:
    truth = sine(0.5)
    assert float(stft_loss(sine(0.45), truth)) < float(stft_loss(sine(0.3), truth)) < float(stft_loss(sine(0), truth))
    assert float(stft_loss(truth.flip(1), truth)) > 0.05


def test_measured_statistics_normalise_what_towers_see(small_run, small_models_dir) -> None:
    """Latents drawn from the posterior have mean 0 and deviation 1 under the measured statistics."""
    vae = build_workbench(small_run("pocket_wan_vae"), small_models_dir).step.vae
    generator = torch.Generator().manual_seed(0)
    pictures = [torch.rand(1, 3, 9, 64, 64, generator=generator) * 2 - 1 for _ in range(4)]
    mean, std = latent_statistics(vae, pictures)
    vae.register_to_config(latents_mean=mean, latents_std=std)
    codec = WanVAECodec(vae)
    drawn = [codec.encode((p[0].permute(1, 2, 3, 0) + 1) / 2, sample=True, generator=generator) for p in pictures]
    channels = torch.cat(drawn).transpose(0, 1).flatten(1)
    torch.testing.assert_close(channels.mean(1), torch.zeros(4), atol=0.1, rtol=0)
    torch.testing.assert_close(channels.std(1), torch.ones(4), atol=0.1, rtol=0)


def test_a_decoder_that_fell_silent_is_called_back() -> None:
    """There is a slope below the level that counts as silence."""
    guess = sine(1e-5).requires_grad_(True)
    stft_loss(guess, sine(0.5)).backward()
    assert float(guess.grad.abs().max()) > 1e-5


def test_audio_latents_are_rescaled_inside_the_weights(small_run, small_models_dir) -> None:
    """Every channel gets a deviation of one, and what comes back of a sound stays the same."""
    vae = build_workbench(small_run("pocket_oobleck", "trainable=audio_codec"), small_models_dir).step.vae
    generator = torch.Generator().manual_seed(0)
    sounds = [torch.rand(1, 2, 4096, generator=generator) * 2 - 1 for _ in range(4)]
    with torch.no_grad():
        # Its posterior is narrow, as a trained one is.
        vae.encoder.conv2.bias[6:] = -6.0
        before = vae.decode(vae.encode(sounds[0]).latent_dist.mode()).sample
        std = latent_statistics(vae, sounds)[1]
        assert max(abs(value - 1) for value in std) > 0.2
        rescale_latents(vae, std)
        after = vae.decode(vae.encode(sounds[0]).latent_dist.mode()).sample
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(torch.tensor(latent_statistics(vae, sounds)[1]), torch.ones(6), atol=0.02, rtol=0)
