"""Wan 2.1 in single files: names and sizes of the transformer, the VAE and the UMT5 text encoder.

The renaming of transformer and VAE is diffusers' own; sizes are read from the shapes, so nothing is fetched from a hub.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from ...core.errors import IncompatibleWeightsError
from ._build import Recipe, build, require_all_used
from ._header import WeightFile
from ._limits import by_shapes

# Not in any shape: every published Wan has attention heads of this width.
HEAD_WIDTH = 128
# The single-file VAE's normalisation is not in the file either; diffusers' defaults are those of Wan 2.1's 16 channels.
LATENT_CHANNELS = 16
# Where diffusers' renaming expects blocks: two residual blocks a level in the encoder, three in the decoder.
VAE_LEVELS = (0, 3, 6, 9)
PREFIXES = ("model.diffusion_model.", "diffusion_model.")
# In front of the original names in Kijai's VAE files.
VAE_PREFIX = "model."


def find_prefix(names: Iterable[str]) -> str:
    """What stands in front of every name; empty in the original files."""
    return next((prefix for prefix in PREFIXES if any(name.startswith(prefix) for name in names)), "")


@by_shapes
def load_transformer(file: WeightFile, dtype: torch.dtype) -> nn.Module:
    """A ``WanTransformer3DModel`` from a file with the original or with diffusers' names.

    Raises:
        IncompatibleWeightsError: other tensors than a text-to-video Wan 2.1 has.
    """
    from diffusers import WanTransformer3DModel

    names = transformer_names(file)
    require_all_used(file, set(names.values()), "the Wan transformer")
    config = transformer_config(file, names)
    recipes = {name: Recipe(source) for name, source in names.items()}
    return build(lambda: WanTransformer3DModel(**config), file, recipes, dtype=dtype)


def transformer_names(names: Iterable[str]) -> dict[str, str]:
    """Diffusers' names to the given ones of a whole transformer."""
    from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

    names = list(names)
    prefix = find_prefix(names)
    plain = {name.removeprefix(prefix): name for name in names}
    if "condition_embedder.time_embedder.linear_1.weight" in plain:
        return plain
    # Diffusers renames the keys and passes the values on, so given names as values it gives the whole renaming.
    return convert_wan_transformer_to_diffusers(dict(plain))


def transformer_config(file: WeightFile, names: dict[str, str]) -> dict[str, Any]:
    """The sizes, from the shapes.

    Raises:
        IncompatibleWeightsError: a tensor they are read from is missing, or a width that no Wan has.
    """

    def shape(name: str) -> tuple[int, ...]:
        return file.shape(names.get(name, name))

    width, in_channels, *patch = shape("patch_embedding.weight")
    if width % HEAD_WIDTH:
        raise IncompatibleWeightsError(
            "the width of the transformer is none of Wan's",
            got=f"{width} in {file.path}",
            expected=f"a multiple of the head width {HEAD_WIDTH}",
            remedy="Of a diffusers folder, put config.json back beside the weights: it says the width of a head.",
        )
    return {
        "patch_size": tuple(patch),
        "num_attention_heads": width // HEAD_WIDTH,
        "attention_head_dim": HEAD_WIDTH,
        "in_channels": in_channels,
        "out_channels": shape("proj_out.weight")[0] // torch.Size(patch).numel(),
        "text_dim": shape("condition_embedder.text_embedder.linear_1.weight")[1],
        "freq_dim": shape("condition_embedder.time_embedder.linear_1.weight")[1],
        "ffn_dim": shape("blocks.0.ffn.net.0.proj.weight")[0],
        "num_layers": count_blocks(names, r"blocks\.(\d+)\."),
        "cross_attn_norm": "blocks.0.norm2.weight" in names,
    }


def count_blocks(names: Any, pattern: str) -> int:
    """One more than the highest number that a pattern's group matches.

    Raises:
        IncompatibleWeightsError: a number is left out, so that the highest one tells nothing.
    """
    # Of names with many digits only so many count as no file has blocks.
    numbers = {int(match[1][:9]) for name in names if (match := re.match(pattern, name))}
    if numbers and max(numbers) >= len(numbers):
        raise IncompatibleWeightsError(
            "blocks of the model are missing",
            got=f"{len(numbers)} blocks, the last of which is number {max(numbers)}",
            expected="0, 1, 2, … without gaps",
        )
    return len(numbers)


@by_shapes
def load_vae(file: WeightFile, dtype: torch.dtype) -> nn.Module:
    """An ``AutoencoderKLWan`` from a file with the original or with diffusers' names.

    Raises:
        IncompatibleWeightsError: other tensors than Wan 2.1's VAE has.
    """
    from diffusers import AutoencoderKLWan
    from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

    names = {name.removeprefix(VAE_PREFIX): name for name in file}
    if "encoder.conv_in.weight" not in names:
        names = convert_wan_vae_to_diffusers(names)
    base = file.shape(names.get("encoder.conv_in.weight", "encoder.conv1.weight"))[0]
    channels = file.shape(names.get("post_quant_conv.weight", "conv2.weight"))[0]
    if channels != LATENT_CHANNELS:
        raise IncompatibleWeightsError(
            "the VAE is not Wan 2.1's",
            got=f"{channels} latent channels in {file.path}",
            expected=f"{LATENT_CHANNELS}; others keep their normalisation in a configuration file",
            remedy="Give the VAE as a diffusers folder with its config.json, or use wan_2.1_vae.safetensors.",
        )
    widths = [file.shape(names[f"encoder.down_blocks.{level}.conv1.weight"])[0] // base for level in VAE_LEVELS]
    recipes = {name: Recipe(source) for name, source in names.items()}
    config = {"base_dim": base, "z_dim": channels, "dim_mult": widths, "num_res_blocks": 2}
    return build(lambda: AutoencoderKLWan(**config), file, recipes, dtype=dtype)


# UMT5 as Wan's own files name it (Kijai's keep the names), to transformers' names.
UMT5_NAMES = (
    (r"^token_embedding\.weight$", "shared.weight"),
    (r"^norm\.weight$", "encoder.final_layer_norm.weight"),
    (r"^blocks\.(\d+)\.norm1\.weight$", r"encoder.block.\1.layer.0.layer_norm.weight"),
    (r"^blocks\.(\d+)\.attn\.([qkvo])\.weight$", r"encoder.block.\1.layer.0.SelfAttention.\2.weight"),
    (
        r"^blocks\.(\d+)\.pos_embedding\.embedding\.weight$",
        r"encoder.block.\1.layer.0.SelfAttention.relative_attention_bias.weight",
    ),
    (r"^blocks\.(\d+)\.norm2\.weight$", r"encoder.block.\1.layer.1.layer_norm.weight"),
    (r"^blocks\.(\d+)\.ffn\.gate\.0\.weight$", r"encoder.block.\1.layer.1.DenseReluDense.wi_0.weight"),
    (r"^blocks\.(\d+)\.ffn\.fc1\.weight$", r"encoder.block.\1.layer.1.DenseReluDense.wi_1.weight"),
    (r"^blocks\.(\d+)\.ffn\.fc2\.weight$", r"encoder.block.\1.layer.1.DenseReluDense.wo.weight"),
)


# T5 and UMT5 as llama.cpp names them.
LLAMA_NAMES = (
    (r"^token_embd\.weight$", "shared.weight"),
    (r"^enc\.output_norm\.weight$", "encoder.final_layer_norm.weight"),
    (r"^enc\.blk\.(\d+)\.attn_norm\.weight$", r"encoder.block.\1.layer.0.layer_norm.weight"),
    (r"^enc\.blk\.(\d+)\.attn_([qkvo])\.weight$", r"encoder.block.\1.layer.0.SelfAttention.\2.weight"),
    (
        r"^enc\.blk\.(\d+)\.attn_rel_b\.weight$",
        r"encoder.block.\1.layer.0.SelfAttention.relative_attention_bias.weight",
    ),
    (r"^enc\.blk\.(\d+)\.ffn_norm\.weight$", r"encoder.block.\1.layer.1.layer_norm.weight"),
    (r"^enc\.blk\.(\d+)\.ffn_gate\.weight$", r"encoder.block.\1.layer.1.DenseReluDense.wi_0.weight"),
    (r"^enc\.blk\.(\d+)\.ffn_up\.weight$", r"encoder.block.\1.layer.1.DenseReluDense.wi_1.weight"),
    (r"^enc\.blk\.(\d+)\.ffn_down\.weight$", r"encoder.block.\1.layer.1.DenseReluDense.wo.weight"),
)
# The decoder of a whole T5, which nothing here uses, in both spellings.
DECODERS = ("decoder.", "lm_head.", "dec.", "output.")


def t5_names(file: WeightFile) -> dict[str, str]:
    """Transformers' names of an encoder's tensors to the given ones; the decoder of a whole T5 is left aside."""
    names = {_umt5_name(name): name for name in file if not name.startswith(DECODERS)}
    ungated = not any(".DenseReluDense.wi_0." in name for name in names)
    if ungated:  # llama.cpp calls the only matrix as it calls the second of two
        names = {name.replace(".DenseReluDense.wi_1.", ".DenseReluDense.wi."): given for name, given in names.items()}
    # A T5's table has two names in one model; files hold one or both.
    table = names.get("shared.weight", names.get("encoder.embed_tokens.weight", "shared.weight"))
    return {"shared.weight": table, "encoder.embed_tokens.weight": table} | names


@by_shapes
def load_umt5(file: WeightFile, dtype: torch.dtype) -> nn.Module:
    """A ``UMT5EncoderModel`` from transformers', Wan's own or llama.cpp's names.

    Raises:
        IncompatibleWeightsError: other tensors than a UMT5 encoder has.
    """
    from transformers import UMT5Config, UMT5EncoderModel

    names = t5_names(file)
    config = UMT5Config(**t5_config(file, names), feed_forward_proj="gated-gelu")
    recipes = {name: Recipe(source) for name, source in names.items()}
    return build(lambda: UMT5EncoderModel(config), file, recipes, dtype=dtype)


def _umt5_name(name: str) -> str:
    for pattern, replacement in (*UMT5_NAMES, *LLAMA_NAMES):
        renamed, count = re.subn(pattern, replacement, name)
        if count:
            return renamed
    return name


def t5_config(file: WeightFile, names: dict[str, str]) -> dict[str, Any]:
    """The sizes of a T5 or UMT5 encoder, from the shapes.

    Raises:
        IncompatibleWeightsError: a tensor they are read from is missing.
    """
    block = "encoder.block.0.layer."

    def shape(name: str) -> tuple[int, ...]:
        return file.shape(names.get(name, name))

    vocabulary, width = shape("shared.weight")
    buckets, heads = shape(f"{block}0.SelfAttention.relative_attention_bias.weight")
    inner = shape(f"{block}0.SelfAttention.q.weight")[0]
    gated = f"{block}1.DenseReluDense.wi_0.weight" in names
    return {
        "vocab_size": vocabulary,
        "d_model": width,
        "d_kv": inner // heads,
        "d_ff": shape(f"{block}1.DenseReluDense.{'wi_0' if gated else 'wi'}.weight")[0],
        "num_layers": count_blocks(names, r"encoder\.block\.(\d+)\."),
        "num_heads": heads,
        "relative_attention_num_buckets": buckets,
        "pad_token_id": 0,
        "eos_token_id": 1,
    }
