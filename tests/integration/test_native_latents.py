"""Our LATENT values are in the space that ComfyUI's native VAE nodes expect. Needs COMFYUI_PATH."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from sounding_video.core.clock import Timeline
from sounding_video.models.codecs.oobleck import OobleckCodec
from sounding_video.models.codecs.wan_vae import WanVAECodec


@pytest.fixture(scope="module")
def latent_formats(comfyui_path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("comfy_latent_formats", comfyui_path / "comfy/latent_formats.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_video_latent_is_raw_as_comfyui_s_wan_format_makes_it(latent_formats) -> None:
    from diffusers import AutoencoderKLWan

    native = latent_formats.Wan21()
    # Small, but with the mean and standard deviation of the real VAE (diffusers' defaults) and its 16 channels.
    codec = WanVAECodec(AutoencoderKLWan(base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1).eval())
    latents = torch.randn(1, *Timeline(9, 15, 64, 32).video_latent_shape)
    assert latents.shape[1] == native.latent_channels
    torch.testing.assert_close(codec.to_raw(latents), native.process_out(latents), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(codec.from_raw(latents), native.process_in(latents), rtol=1e-5, atol=1e-5)


def test_the_audio_latent_is_the_same_in_both_spaces(latent_formats) -> None:
    from diffusers import AutoencoderOobleck

    native = latent_formats.StableAudio1()
    codec = OobleckCodec(
        AutoencoderOobleck(
            encoder_hidden_size=128, downsampling_ratios=[2, 2], channel_multiples=[1, 1], decoder_channels=8
        ).eval()
    )
    latents = torch.randn(1, *Timeline().audio_latent_shape)
    assert latents.shape[1] == native.latent_channels == codec.latent_channels
    assert torch.equal(codec.to_raw(latents), native.process_out(latents))
