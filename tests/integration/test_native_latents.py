"""Our LATENT values are in the space that ComfyUI's native VAE nodes expect. Runs inside it."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType
from unittest import mock

import numpy as np
import pytest
import torch
from comfyui_server import serving
from PIL import Image
from sounding_video.core.clock import Timeline
from sounding_video.headless.client import queue_workflow
from sounding_video.models.codecs.oobleck import OobleckCodec
from sounding_video.models.codecs.wan_vae import WanVAECodec

pytestmark = pytest.mark.inside_comfyui


@pytest.fixture(scope="module")
def latent_formats(comfyui_path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("comfy_latent_formats", comfyui_path / "comfy/latent_formats.py")
    module = importlib.util.module_from_spec(spec)
    with mock.patch.object(sys, "path", [*sys.path, str(comfyui_path)]):  # newer ones import their neighbours
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


def single_files(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("single_files", root / "tests" / "models" / "single_files.py")
    files = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(files)
    return files


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

    files = single_files(root)
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


@torch.no_grad()
def test_the_native_audio_node_makes_our_sound_at_its_own_loudness(native_vaes) -> None:
    """ComfyUI's node divides loud sound by five times its deviation; ours leaves that to the muxer."""
    import comfy.ldm.audio.autoencoder
    import comfy.sd
    from comfy_extras.nodes_audio import VAEDecodeAudio

    codec, native = native_vaes["audio"]
    state = native.state_dict()
    with mock.patch.object(comfy.sd, "AudioOobleckVAE", lambda: native):
        vae = comfy.sd.VAE(sd=state)
    generator = torch.Generator().manual_seed(3)
    for loudness, is_divided in ((1, False), (60, True)):
        latents = loudness * torch.randn(1, 64, 12, generator=generator)
        (theirs,) = VAEDecodeAudio().decode(vae, {"samples": codec.to_raw(latents), "type": "audio"})
        ours = codec.decode(latents)
        divisor = max(1.0, 5 * float(ours.std()))
        assert (divisor > 1) is is_divided
        torch.testing.assert_close(theirs["waveform"][0], ours / divisor, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_both_decoding_nodes_make_the_same_pictures_of_one_file(comfyui_path, root, tmp_path_factory, tmp_path) -> None:
    """A small model in single files; its VAE has the published size, which ComfyUI takes for granted."""
    from diffusers import AutoencoderKLWan

    files, base = single_files(root), tmp_path_factory.mktemp("comfyui")
    wan = files.write_folders(tmp_path_factory.mktemp("folders")) / "wan"
    models = base / "models"
    torch.manual_seed(5)
    vae = {name: tensor.half() for name, tensor in AutoencoderKLWan().state_dict().items()}
    files.save(models / "vae" / "wan.safetensors", files.vae_names(vae))
    files.save(models / "diffusion_models" / "wan.safetensors", files.wan_original(wan))
    files.save(models / "text_encoders" / "umt5.safetensors", files.part(wan / "text_encoder"))
    shutil.copytree(wan / "tokenizer", models / "text_encoders" / "umt5 tokenizer")
    loading = {"dtype": "float32", "attention": "auto", "offload": "none"}
    size = {"width": 32, "height": 32, "num_frames": 5, "fps": 15.0, "batch_size": 1}
    texts = {"video_caption": "a dog", "audio_caption": "", "video_negative": "", "audio_negative": ""}
    sampling = {
        "seed": 1, "steps": 1, "video_guidance_scale": 1.0, "audio_guidance_scale": 1.0, "schedule": "lockstep",
        "flow_sigmas": "diffusers-0.36", "guidance_batching": "auto", "preview": False,
    }  # fmt: skip
    graph = {
        "1": ("T2SVLoadWanTower", {"video_model": "wan.safetensors", **loading}),
        "2": ("T2SVJoinTowers", {"video_tower": ["1", 0]}),
        "3": ("T2SVEmptyAVLatent", size),
        "4": ("T2SVEncodeCaptions", {"video_text_encoder": ["1", 1], "seconds": ["3", 3], **texts}),
        "5": (
            "T2SVJointSampler",
            {"model": ["2", 0], "conditioning": ["4", 0], "video_latent": ["3", 0], **sampling},
        ),
        "6": (
            "T2SVDecodeAV",
            {"video_codec": ["1", 2], "video_samples": ["5", 0], "fps": 15.0, "tiling": "off"},
        ),
        "7": ("VAELoader", {"vae_name": "wan.safetensors"}),
        "8": ("VAEDecode", {"samples": ["5", 0], "vae": ["7", 0]}),
        "9": ("SaveImage", {"images": ["6", 0], "filename_prefix": "ours/frame"}),
        "10": ("SaveImage", {"images": ["8", 0], "filename_prefix": "native/frame"}),
    }
    prompt = {number: {"class_type": name, "inputs": inputs} for number, (name, inputs) in graph.items()}
    with serving(comfyui_path, root, base, None) as server:
        report = queue_workflow(server.url, prompt, output_dir=tmp_path)
    assert len(report.files) == 10
    for number in range(1, 6):
        ours, native = (
            np.asarray(Image.open(tmp_path / folder / f"frame_{number:05}_.png"), dtype=int)
            for folder in ("ours", "native")
        )
        assert ours.shape == (32, 32, 3)
        assert ours.std() > 5, "a picture of one colour says nothing"
        assert abs(ours - native).max() <= 1
