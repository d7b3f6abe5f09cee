"""A custom node pack for the tests on the page: the template of ComfyUI's own models runs, with small random weights.

The files lie where the template looks for them. Transformer and VAE of Wan are read from theirs by ComfyUI itself. Of
the others it knows one size only, so their files are empty, and its loaders give small ones instead.
"""

import importlib.util
import json
import sys
import zlib
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import comfy.ldm.wan.vae
import folder_paths
import torch

import nodes

ROOT = Path(__file__).resolve().parents[3]
TEMPLATE = ROOT / "workflows" / "text_to_sounding_video_native.json"
BRIDGE = "native_bridge.safetensors"
VAE_WIDTH = 8
# Rows and width of a text, by the kind that the loader of text encoders is told.
TEXTS = {"wan": (512, 4096), "stable_audio": (128, 768)}
NODE_CLASS_MAPPINGS: dict[str, type] = {}


def _load(name: str, file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@lru_cache
def _probe() -> ModuleType:
    return _load("native_probe", ROOT / "tests" / "integration" / "native_probe" / "__init__.py")


class SmallText:
    """What a text encoder gives: numbers that hang on the text alone, nothing behind its words."""

    def __init__(self, rows: int, width: int) -> None:
        self._rows, self._width = rows, width

    def tokenize(self, text: str) -> str:
        return text

    def encode_from_tokens_scheduled(self, tokens: str) -> list[list[Any]]:
        words = min(self._rows, 1 + len(tokens.split()))
        generator = torch.Generator().manual_seed(zlib.crc32(tokens.encode()))
        text = torch.zeros(1, self._rows, self._width)
        text[:, :words] = torch.randn(1, words, self._width, generator=generator)
        return [[text, {}]]


def _write_files() -> None:
    """Put a file of each name that the template wants into its folder, and bridges beside our own models."""
    from diffusers import AutoencoderKLWan, WanTransformer3DModel

    parts = _probe()._parts()
    writer = parts._single_files(ROOT)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        wan = WanTransformer3DModel(
            num_attention_heads=1, attention_head_dim=parts.WIDTH, ffn_dim=96, num_layers=parts.VIDEO_BLOCKS
        )
        vae = AutoencoderKLWan(base_dim=VAE_WIDTH, z_dim=16)
    states = {
        "diffusion_models": writer.rename(wan.state_dict(), writer.WAN_RULES),
        "vae": writer.vae_names(vae.state_dict()),
    }
    for node in json.loads(TEMPLATE.read_text(encoding="utf-8"))["nodes"]:
        for model in node.get("properties", {}).get("models", ()):
            if model["directory"] in folder_paths.folder_names_and_paths:
                path = Path(folder_paths.get_folder_paths(model["directory"])[0], model["name"])
                writer.save(path, states.get(model["directory"], {}))
    from sounding_video.models.weights.bridges import save_bridges

    folder = Path(folder_paths.models_dir, "sounding_video")
    folder.mkdir(parents=True, exist_ok=True)
    save_bridges(folder / BRIDGE, parts.bridges(identity=False).stack, trained=True)


def _narrow(load: Any) -> Any:
    """A loader of VAEs under which Wan's is narrow: older ComfyUI knows one width."""
    stock = comfy.ldm.wan.vae.WanVAE

    def loading(*given: Any, **named: Any) -> Any:
        with mock.patch.object(comfy.ldm.wan.vae, "WanVAE", lambda **sizes: stock(**{**sizes, "dim": VAE_WIDTH})):
            return load(*given, **named)

    return loading


def _small_checkpoint(self: Any, ckpt_name: str) -> tuple[Any, None, Any]:
    return _probe()._models().native_audio, None, _probe()._parts().audio_vae(ROOT)


def _small_text(self: Any, clip_name: str, type: str = "stable_diffusion", device: str = "default") -> tuple[SmallText]:
    return (SmallText(*TEXTS[type]),)


_write_files()
nodes.VAELoader.load_vae = _narrow(nodes.VAELoader.load_vae)
nodes.CheckpointLoaderSimple.load_checkpoint = _small_checkpoint
nodes.CLIPLoader.load_clip = _small_text
