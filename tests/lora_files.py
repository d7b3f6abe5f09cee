"""LoRA files as trainers write them: one writer a layout, for the LoRA tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import small_models as small
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

RANK, ALPHA = 3, 1.5
SCALE = ALPHA / RANK
Factors = dict[str, tuple[Tensor, Tensor]]


def factors(module: nn.Module, seed: int = 0, *, only: str = "") -> Factors:
    """A and B for every linear layer."""
    g = torch.Generator().manual_seed(seed)
    layers = {n: c for n, c in module.named_modules() if isinstance(c, nn.Linear) and only in n}
    return {
        name: (
            0.3 * torch.randn(RANK, layer.in_features, generator=g),
            0.3 * torch.randn(layer.out_features, RANK, generator=g),
        )
        for name, layer in layers.items()
    }


@cache
def original(name: str) -> str:
    """Diffusers' name to Wan's, without the table under test: the other way round through diffusers' own renaming."""
    from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

    stems = ["self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o"]
    stems += [stem.replace("self", "cross") for stem in stems] + ["ffn.0", "ffn.2"]
    stems = [f"blocks.{number}.{stem}" for number in range(small.VIDEO_BLOCKS) for stem in stems]
    stems += ["text_embedding.0", "text_embedding.2", "time_embedding.0", "time_embedding.2", "time_projection.1"]
    renamed = convert_wan_transformer_to_diffusers({f"{stem}.weight": stem for stem in [*stems, "head.head"]})
    return renamed[f"{name}.weight"]


def dotted(prefix: str, down: str, up: str, rename: Callable[[str], str] = str, *, alpha: bool) -> Callable:
    def write(path: Path, pairs: Factors) -> Path:
        tensors = {}
        for name, (a, b) in pairs.items():
            stem = prefix + rename(name)
            tensors |= {f"{stem}.{down}.weight": a, f"{stem}.{up}.weight": b if alpha else b * SCALE}
            if alpha:
                tensors[f"{stem}.alpha"] = torch.tensor(ALPHA)
        save_file(tensors, path)
        return path

    return write


def diffusers_with_metadata(path: Path, pairs: Factors) -> Path:
    """As ``save_lora_weights`` of diffusers 0.34 and later writes it, alpha in the header."""
    names = {f"transformer.{n}.lora_{x}.weight": t for n, ab in pairs.items() for x, t in zip("AB", ab, strict=True)}
    config = {"transformer.r": RANK, "transformer.lora_alpha": ALPHA, "transformer.alpha_pattern": {}}
    save_file(names, path, metadata={"format": "pt", "lora_adapter_metadata": json.dumps(config)})
    return path


def peft_folder(path: Path, pairs: Factors) -> Path:
    """As ``PeftModel.save_pretrained`` writes it: a folder with the configuration beside the weights."""
    folder = path.with_suffix("")
    folder.mkdir()
    names = {
        f"base_model.model.{n}.lora_{x}.weight": t for n, ab in pairs.items() for x, t in zip("AB", ab, strict=True)
    }
    save_file(names, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 99, "alpha_pattern": {r".*\.\w+|proj_out|\w+": ALPHA}}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def torch_file(path: Path, pairs: Factors) -> Path:
    tensors = {f"{n}.lora_{x}.default.weight": t for n, ab in pairs.items() for x, t in zip("AB", ab, strict=True)}
    tensors = {name: t * SCALE if "lora_B" in name else t for name, t in tensors.items()}
    torch.save(tensors, path.with_suffix(".pt"))
    return path.with_suffix(".pt")


def underscored(name: str) -> str:
    return original(name).replace(".", "_")


LAYOUTS = {
    "diffusers": dotted("transformer.", "lora_A", "lora_B", alpha=False),
    "diffusers, alpha in the header": diffusers_with_metadata,
    "diffusers before peft": dotted("transformer.", "lora.down", "lora.up", alpha=False),
    "peft folder": peft_folder,
    "peft keys in a torch file": torch_file,
    "original names": dotted("diffusion_model.", "lora_down", "lora_up", original, alpha=True),
    "original names, peft words": dotted("diffusion_model.", "lora_A", "lora_B", original, alpha=False),
    "original names of a whole checkpoint": dotted(
        "model.diffusion_model.", "lora_down", "lora_up", original, alpha=True
    ),
    "kohya": dotted("lora_unet_", "lora_down", "lora_up", underscored, alpha=True),
    "kohya with diffusers names": dotted(
        "lora_transformer_", "lora_down", "lora_up", lambda n: n.replace(".", "_"), alpha=True
    ),
}


def mixed(path: Path) -> Path:
    """LoHa, a DoRA, and whole differences of the patch embedding, a norm and a modulation, for the small Wan."""
    g, width = torch.Generator().manual_seed(3), small.VIDEO_WIDTH
    shapes = {
        "blocks.0.self_attn.q.hada_w1_a": (width, 2), "blocks.0.self_attn.q.hada_w1_b": (2, width),
        "blocks.0.self_attn.q.hada_w2_a": (width, 2), "blocks.0.self_attn.q.hada_w2_b": (2, width),
        "blocks.1.cross_attn.v.lora_down.weight": (2, width), "blocks.1.cross_attn.v.lora_up.weight": (width, 2),
        "blocks.1.cross_attn.v.dora_scale": (width, 1), "patch_embedding.diff": (width, 4, 1, 2, 2),
        "blocks.2.norm3.diff": (width,), "blocks.2.diff_m": (1, 6, width), "blocks.0.ffn.0.diff_b": (32,),
    }  # fmt: skip
    tensors = {f"diffusion_model.{n}": 0.3 + 0.3 * torch.randn(shape, generator=g) for n, shape in shapes.items()}
    save_file(tensors, path)
    return path
