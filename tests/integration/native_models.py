"""Small native models in ComfyUI's own classes, and the same weights in ours."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from diffusers import StableAudioDiTModel, StableAudioProjectionModel, WanTransformer3DModel
from sounding_video.core.types import ModalityConditioning
from sounding_video.models.bridges import BRIDGES
from sounding_video.models.joint import BridgePoints, BridgeStack
from sounding_video.models.towers.stable_audio import StableAudioTower
from sounding_video.models.towers.wan import WanTower
from sounding_video.models.weights.bridges import LoadedBridges

WIDTH = 128  # of both towers: ComfyUI reads one head of Wan's 128 channels from it
VIDEO_BLOCKS, AUDIO_BLOCKS = 4, 3
VIDEO_SHAPE, AUDIO_SHAPE = (1, 16, 3, 6, 8), (1, 64, 13)
POINTS = BridgePoints((0, 2, 3), (0, 1, 2))


def _single_files(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("single_files", root / "tests" / "models" / "single_files.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class SmallModels:
    """One set of weights, twice."""

    wan: WanTower
    stable_audio: StableAudioTower
    projection: StableAudioProjectionModel
    native_wan: Any
    native_audio: Any


def build(root: Path) -> SmallModels:
    """Random weights; ComfyUI must be importable."""
    import comfy.model_patcher
    import comfy.sd
    import comfy.supported_models

    files = _single_files(root)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        wan = WanTransformer3DModel(
            num_attention_heads=1, attention_head_dim=WIDTH, ffn_dim=96, num_layers=VIDEO_BLOCKS
        ).eval()
        audio = StableAudioDiTModel(
            num_layers=AUDIO_BLOCKS, attention_head_dim=64, num_attention_heads=2, num_key_value_attention_heads=2,
            cross_attention_dim=WIDTH, cross_attention_input_dim=768, time_proj_dim=256, global_states_input_dim=1536,
        ).eval()  # fmt: skip
        projection = StableAudioProjectionModel(768, 768, min_value=0, max_value=512).eval()
    native_wan = comfy.sd.load_diffusion_model_state_dict(
        files.rename({name: tensor.clone() for name, tensor in wan.state_dict().items()}, files.WAN_RULES),
        model_options={"dtype": torch.float32},
    )
    state = files.stable_audio_checkpoint(
        {name: tensor.clone() for name, tensor in audio.state_dict().items()},
        {name: tensor.clone() for name, tensor in projection.state_dict().items()},
        small_autoencoder(),
    )
    frequencies = 1 / 10_000 ** (torch.arange(0, 32, 2) / 32)  # the published checkpoint's
    state["model.model.transformer.rotary_pos_emb.inv_freq"] = frequencies
    config = comfy.supported_models.StableAudio(
        {
            "audio_model": "dit1.0",
            "embed_dim": WIDTH,
            "depth": AUDIO_BLOCKS,
            "num_heads": 2,
            "project_cond_tokens": True,
        }
    )
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model(state, "model.model.")
    model.load_model_weights(state, "model.model.")
    native_audio = comfy.model_patcher.ModelPatcher(model, torch.device("cpu"), torch.device("cpu"))
    return SmallModels(WanTower(wan), StableAudioTower(audio), projection, native_wan, native_audio)


def small_autoencoder() -> dict[str, torch.Tensor]:
    """The smallest Oobleck; the checkpoint's writer wants one, the transformers do not use it."""
    from diffusers import AutoencoderOobleck

    return AutoencoderOobleck(
        encoder_hidden_size=4, downsampling_ratios=[2], channel_multiples=[1], decoder_channels=4,
        decoder_input_channels=2,
    ).state_dict()  # fmt: skip


def audio_vae(root: Path) -> Any:
    """ComfyUI's VAE of Stable Audio with its strides, narrow; random weights."""
    import comfy.sd
    from comfy.ldm.audio.autoencoder import AudioOobleckVAE
    from diffusers import AutoencoderOobleck

    sizes = {"strides": [2, 4, 4, 8, 8], "c_mults": [1, 2, 2, 4, 4]}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        ours = AutoencoderOobleck(
            encoder_hidden_size=4, downsampling_ratios=sizes["strides"], channel_multiples=sizes["c_mults"],
            decoder_channels=4, decoder_input_channels=64,
        )  # fmt: skip
        last = ours.encoder.conv2  # diffusers cannot be told that the latent is wider than the last layer
        ours.encoder.conv2 = torch.nn.utils.weight_norm(torch.nn.Conv1d(last.in_channels, 128, 3, padding=1))
    state = _single_files(root)._oobleck_original(ours.state_dict(), True)
    with mock.patch.object(comfy.sd, "AudioOobleckVAE", lambda: AudioOobleckVAE(channels=4, **sizes)):
        return comfy.sd.VAE(sd={name.removeprefix("pretransform.model."): value for name, value in state.items()})


def bridges(
    *,
    identity: bool,
    tower_weights: dict[str, dict[str, torch.Tensor]] | None = None,
    rope: str = "official",
    kind: str = "dual_cross",
    **settings: Any,
) -> LoadedBridges:
    """Bridges as a file would give them."""
    config = BRIDGES.get(kind).Config(
        video_width=WIDTH, audio_width=WIDTH, qk_width=64, v_width=64, num_heads=2, video_time_width=WIDTH,
        audio_time_width=WIDTH, rope=rope, **settings,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        stack = BridgeStack(kind, config, POINTS).eval()
        if not identity:
            for parameter in stack.parameters():
                torch.nn.init.normal_(parameter, std=0.05)
    return LoadedBridges(stack, tower_weights or {}, Path("bridge.safetensors"), "metadata")


def texts() -> dict[str, torch.Tensor]:
    """Encoded captions as both systems' encoders give them: rows beyond the text are zero."""
    generator = torch.Generator().manual_seed(11)
    result = {}
    for name, length, width, words in (
        ("video_positive", 512, 4096, 9), ("video_negative", 512, 4096, 5),
        ("audio_positive", 128, 768, 7), ("audio_negative", 128, 768, 4),
    ):  # fmt: skip
        text = torch.zeros(1, length, width)
        text[:, :words] = torch.randn(1, words, width, generator=generator)
        result[name] = text
    return result


def our_conditioning(models: SmallModels, seconds: float) -> dict[str, ModalityConditioning]:
    """The same texts as our encoders give them: 1024 rows for the picture, the duration as global states."""
    given = texts()
    padded = {
        name: torch.nn.functional.pad(given[f"video_{name}"], (0, 0, 0, 512)) for name in ("positive", "negative")
    }
    with torch.no_grad():
        states = models.projection(None, torch.tensor([0.0]), torch.tensor([seconds]))
    duration = torch.cat([states.seconds_start_hidden_states, states.seconds_end_hidden_states], dim=-1)
    return {
        "video": ModalityConditioning(padded["positive"], padded["negative"]),
        "audio": ModalityConditioning(given["audio_positive"], given["audio_negative"], duration),
    }
