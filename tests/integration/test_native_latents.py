"""Our LATENT values are in the space that ComfyUI's native VAE nodes expect. Needs COMFYUI_PATH."""

from __future__ import annotations

import importlib.util
import sys
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


@pytest.fixture(scope="module")
def native_vaes(comfyui_path: Path, root: Path):
    """ComfyUI's own VAE classes, small, with the weights of small ones of ours: ``(ours, theirs)`` a modality."""
    found = str(comfyui_path) in sys.path
    if not found:
        sys.path.append(str(comfyui_path))
    from comfy.cli_args import args

    args.cpu = True
    from comfy.ldm.audio.autoencoder import AudioOobleckVAE
    from comfy.ldm.wan.vae import WanVAE
    from diffusers import AutoencoderKLWan, AutoencoderOobleck

    spec = importlib.util.spec_from_file_location("single_files", root / "tests" / "models" / "single_files.py")
    files = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(files)
    torch.manual_seed(4)
    wan = AutoencoderKLWan(base_dim=8).eval()
    native_wan = WanVAE(
        dim=8, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2, attn_scales=[],
        temperal_downsample=[False, True, True], dropout=0.0,
    ).eval()  # fmt: skip
    native_wan.load_state_dict(files.vae_names(wan.state_dict()), strict=True)
    sizes = {"channels": 8, "c_mults": [1, 2, 4], "strides": [2, 4, 4]}
    oobleck = AutoencoderOobleck(
        encoder_hidden_size=8, downsampling_ratios=sizes["strides"], channel_multiples=sizes["c_mults"],
        decoder_channels=8, decoder_input_channels=64,
    ).eval()  # fmt: skip
    with torch.no_grad():
        last = oobleck.encoder.conv2  # diffusers cannot be told that the latent is wider than the last layer
        oobleck.encoder.conv2 = torch.nn.utils.weight_norm(torch.nn.Conv1d(last.in_channels, 128, 3, padding=1))
    native_oobleck = AudioOobleckVAE(latent_dim=64, **sizes).eval()
    state = files._oobleck_original(oobleck.state_dict(), True)
    native_oobleck.load_state_dict({n.removeprefix("pretransform.model."): t for n, t in state.items()}, strict=True)
    yield {"video": (WanVAECodec(wan), native_wan), "audio": (OobleckCodec(oobleck), native_oobleck)}
    if not found:
        sys.path.remove(str(comfyui_path))


@torch.no_grad()
def test_the_native_decoder_makes_the_same_picture_of_our_latent(native_vaes) -> None:
    codec, native = native_vaes["video"]
    latents = torch.randn(1, *Timeline(5, 15, 16, 16).video_latent_shape, generator=torch.Generator().manual_seed(1))
    ours = codec.decode(latents, tiling="off")
    theirs = (native.decode(codec.to_raw(latents)) / 2 + 0.5).clamp(0, 1)[0].permute(1, 2, 3, 0)
    assert ours.shape == (5, 16, 16, 3)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_our_tower_reads_what_the_native_encoder_makes_of_a_picture(native_vaes) -> None:
    codec, native = native_vaes["video"]
    frames = torch.rand(5, 16, 16, 3, generator=torch.Generator().manual_seed(2))
    theirs = native.encode(frames.permute(3, 0, 1, 2)[None] * 2 - 1)
    torch.testing.assert_close(codec.encode(frames), codec.from_raw(theirs), rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_the_native_decoder_makes_the_same_sound_of_our_latent(native_vaes) -> None:
    codec, native = native_vaes["audio"]
    latents = torch.randn(1, 64, 12, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(codec.decode(latents), native.decode(codec.to_raw(latents))[0], rtol=1e-4, atol=1e-4)
