"""Stable Audio Open in one checkpoint, and T5 in one file: names and sizes.

The checkpoint holds the transformer (``model.model.``), the duration embeddings (``conditioner.conditioners.``) and the
autoencoder (``pretransform.model.``); the text encoder is a file of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from ...core.errors import IncompatibleWeightsError
from ._build import Recipe, Recipes, build, require_all_used
from ._header import WeightFile
from ._limits import by_shapes
from ._wan import count_blocks, t5_config, t5_names

TRANSFORMER_PREFIXES = ("model.model.", "model.diffusion_model.")
CONDITIONER, AUTOENCODER = "conditioner.conditioners.", "pretransform.model."
# Stable Audio Open's configuration file: none of this is in a shape.
HEAD_WIDTH, SAMPLE_RATE, MAX_SECONDS, SAMPLE_SIZE, TEXT_LENGTH = 64, 44_100, 512, 1024, 128
# ComfyUI saves the text encoder into the checkpoint; it is read from a file of its own.
TEXT_ENCODERS = "text_encoders."
# Rotary frequencies follow from the head width; the checkpoint keeps them as a buffer.
DERIVED = "transformer.rotary_pos_emb.inv_freq"

TRANSFORMER_NAMES = (
    (r"^to_timestep_embed\.", "timestep_proj."),
    (r"^to_global_embed\.", "global_proj."),
    (r"^to_cond_embed\.", "cross_attention_proj."),
    (r"^timestep_features\.weight$", "time_proj.weight"),
    (r"^transformer\.project_(in|out)\.", r"proj_\1."),
    (r"^transformer\.layers\.", "transformer_blocks."),
    (r"\.pre_norm\.", ".norm1."),
    (r"\.cross_attend_norm\.", ".norm2."),
    (r"\.ff_norm\.", ".norm3."),
    (r"\.gamma$", ".weight"),
    (r"\.beta$", ".bias"),
    (r"\.self_attn\.", ".attn1."),
    (r"\.cross_attn\.", ".attn2."),
    (r"\.to_out\.", ".to_out.0."),
    (r"\.ff\.ff\.", ".ff.net."),
)
CONDITIONER_NAMES = (
    (r"^seconds_start\.embedder\.embedding\.", "start_number_conditioner.time_positional_embedding."),
    (r"^seconds_total\.embedder\.embedding\.", "end_number_conditioner.time_positional_embedding."),
    (r"^prompt\.proj_out\.", "text_projection."),
)
# ComfyUI writes PyTorch's newer weight normalisation, diffusers reads the older one: g is the length, v the direction.
WEIGHT_NORM = (
    (r"\.parametrizations\.weight\.original0$", ".weight_g"),
    (r"\.parametrizations\.weight\.original1$", ".weight_v"),
)


@by_shapes
def load_checkpoint(file: WeightFile, dtype: torch.dtype, vae_dtype: torch.dtype) -> tuple[nn.Module, ...]:
    """Transformer, autoencoder and projection model from one checkpoint.

    Returns:
        ``StableAudioDiTModel``, ``AutoencoderOobleck`` and ``StableAudioProjectionModel``.

    Raises:
        IncompatibleWeightsError: other tensors than Stable Audio Open has.
    """
    from diffusers import AutoencoderOobleck, StableAudioDiTModel, StableAudioProjectionModel

    transformer = with_norm_biases(transformer_recipes(file))
    conditioner = _conditioner_recipes(file)
    autoencoder = _autoencoder_recipes(file)
    used = {recipe.source for part in (transformer, conditioner, autoencoder) for recipe in part.values()}
    aside = {prefix + DERIVED for prefix in TRANSFORMER_PREFIXES}
    aside |= {name for name in file if name.startswith(TEXT_ENCODERS)}
    require_all_used(file, used | aside, "Stable Audio Open")
    configs = [
        _transformer_config(file, transformer),
        _autoencoder_config(file, autoencoder),
        _projection_config(file, conditioner),
    ]
    return (
        build(lambda: StableAudioDiTModel(**configs[0]), file, transformer, dtype=dtype),
        build(lambda: AutoencoderOobleck(**configs[1]), file, autoencoder, dtype=vae_dtype),
        build(lambda: StableAudioProjectionModel(**configs[2]), file, conditioner, dtype=dtype),
    )


def text_width(file: WeightFile) -> int:
    """Width of the text encoder that a checkpoint wants (768, T5 base)."""
    recipes = transformer_recipes(file)
    return _shape(file, recipes, "cross_attention_proj.0.weight")[1]


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _shape(file: WeightFile, recipes: Recipes, name: str) -> tuple[int, ...]:
    return file.shape(recipes[name].source if name in recipes else name)


def transformer_recipes(names: Iterable[str]) -> dict[str, Recipe]:
    """Diffusers' names of the transformer's tensors to the checkpoint's names, and which part of them they are."""
    names = list(names)
    recipes = {}
    for prefix in TRANSFORMER_PREFIXES:
        for source in (name for name in names if name.startswith(prefix) and not name.endswith(DERIVED)):
            name = _renamed(source[len(prefix) :], TRANSFORMER_NAMES)
            if name == "time_proj.weight":
                recipes[name] = Recipe(source, trailing=-1)
            elif ".to_qkv." in name or ".to_kv." in name:
                joined = "qkv" if ".to_qkv." in name else "kv"
                for index, letter in enumerate(joined):
                    recipes[name.replace(joined, letter)] = Recipe(source, part=(index, len(joined)))
            else:
                recipes[name] = Recipe(source)
    return recipes


def with_norm_biases(recipes: Mapping[str, Recipe]) -> dict[str, Recipe]:
    """The recipes, and where no norm of a block has a bias, zeros for all of them: ComfyUI leaves them out."""
    norms = [name.removesuffix("weight") for name in recipes if re.search(r"\.norm[123]\.weight$", name)]
    if any(f"{norm}bias" in recipes for norm in norms):
        return dict(recipes)
    return {**recipes, **{f"{norm}bias": Recipe(recipes[f"{norm}weight"].source, zeros=True) for norm in norms}}


def _transformer_config(file: WeightFile, recipes: Recipes) -> dict[str, Any]:
    width = _shape(file, recipes, "proj_in.weight")[0]
    joined, cross_width = _shape(file, recipes, "transformer_blocks.0.attn2.to_k.weight")
    channels = _shape(file, recipes, "preprocess_conv.weight")[0]
    if width % HEAD_WIDTH:
        raise IncompatibleWeightsError(
            "the width of the audio transformer is not Stable Audio Open's",
            got=f"{width} in {file.path}",
            expected=f"a multiple of the head width {HEAD_WIDTH}",
        )
    return {
        "sample_size": SAMPLE_SIZE,
        "in_channels": channels,
        "out_channels": _shape(file, recipes, "postprocess_conv.weight")[0],
        "num_layers": count_blocks(recipes, r"transformer_blocks\.(\d+)\."),
        "attention_head_dim": HEAD_WIDTH,
        "num_attention_heads": width // HEAD_WIDTH,
        "num_key_value_attention_heads": joined // 2 // HEAD_WIDTH,
        "cross_attention_dim": cross_width,
        "cross_attention_input_dim": _shape(file, recipes, "cross_attention_proj.0.weight")[1],
        "time_proj_dim": _shape(file, recipes, "timestep_proj.0.weight")[1],
        "global_states_input_dim": _shape(file, recipes, "global_proj.0.weight")[1],
    }


def _conditioner_recipes(file: WeightFile) -> dict[str, Recipe]:
    names = (name for name in file if name.startswith(CONDITIONER))
    return {_renamed(name[len(CONDITIONER) :], CONDITIONER_NAMES): Recipe(name) for name in names}


def _projection_config(file: WeightFile, recipes: Recipes) -> dict[str, Any]:
    width = _shape(file, recipes, "start_number_conditioner.time_positional_embedding.1.weight")[0]
    projected = "text_projection.weight" in recipes
    return {
        "text_encoder_dim": _shape(file, recipes, "text_projection.weight")[1] if projected else width,
        "conditioning_dim": width,
        "min_value": 0,
        "max_value": MAX_SECONDS,
    }


def _autoencoder_recipes(file: WeightFile) -> dict[str, Recipe]:
    sources = {_renamed(name[len(AUTOENCODER) :], WEIGHT_NORM): name for name in file if name.startswith(AUTOENCODER)}
    last = {side: count_blocks(sources, rf"{side}\.layers\.(\d+)\.") - 1 for side in ("encoder", "decoder")}
    recipes = {}
    for name, source in sources.items():
        match = re.match(r"(encoder|decoder)\.layers\.(\d+)\.(.+)$", name)
        target = _autoencoder_name(*match.groups(), last=last[match[1]]) if match else name
        recipes[target] = Recipe(source, trailing=1 if target.endswith((".alpha", ".beta")) else 0)
    return recipes


def _autoencoder_name(side: str, layer: str, rest: str, *, last: int) -> str:
    """Oobleck is a plain list of layers: convolution, blocks, snake, convolution; a block is such a list again."""
    number = int(layer)
    outer = {0: "conv1", last - 1: "snake1", last: "conv2"}
    if number in outer:
        return f"{side}.{outer[number]}.{rest}"
    inner, _, rest = rest.removeprefix("layers.").partition(".")
    roles = {
        "encoder": ("res_unit1", "res_unit2", "res_unit3", "snake1", "conv1"),
        "decoder": ("snake1", "conv_t1", "res_unit1", "res_unit2", "res_unit3"),
    }[side]
    role = roles[int(inner)] if inner.isdecimal() and int(inner) < len(roles) else inner
    if role.startswith("res_unit"):
        unit, _, rest = rest.removeprefix("layers.").partition(".")
        role += "." + {"0": "snake1", "1": "conv1", "2": "snake2", "3": "conv2"}.get(unit, unit)
    return f"{side}.block.{number - 1}.{role}.{rest}"


def _autoencoder_config(file: WeightFile, recipes: Recipes) -> dict[str, Any]:
    hidden, audio_channels, _ = _shape(file, recipes, "encoder.conv1.weight_v")
    blocks = count_blocks(recipes, r"encoder\.block\.(\d+)\.")
    downs = [_shape(file, recipes, f"encoder.block.{index}.conv1.weight_v") for index in range(blocks)]
    return {
        "encoder_hidden_size": hidden,
        "downsampling_ratios": [kernel // 2 for _, _, kernel in downs],
        "channel_multiples": [width // hidden for width, _, _ in downs],
        "decoder_channels": _shape(file, recipes, "decoder.conv2.weight_v")[1],
        "decoder_input_channels": _shape(file, recipes, "decoder.conv1.weight_v")[1],
        "audio_channels": audio_channels,
        "sampling_rate": SAMPLE_RATE,
    }


@by_shapes
def load_t5(file: WeightFile, dtype: torch.dtype) -> nn.Module:
    """A ``T5EncoderModel`` from transformers' or llama.cpp's names; the decoder of a whole T5 is left aside.

    Raises:
        IncompatibleWeightsError: other tensors than a T5 encoder has.
    """
    from transformers import T5Config, T5EncoderModel

    names = t5_names(file)
    gated = "encoder.block.0.layer.1.DenseReluDense.wi_0.weight" in names
    config = T5Config(**t5_config(file, names), feed_forward_proj="gated-gelu" if gated else "relu")
    recipes = {name: Recipe(source) for name, source in names.items()}
    return build(lambda: T5EncoderModel(config), file, recipes, dtype=dtype)
