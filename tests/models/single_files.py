"""Writes small models of the real classes in the single-file layouts users have; the inverse of what is tested.

Widths differ everywhere, so that no two sizes can be confused; head widths, the VAE's levels and its 16 channels are
those of the published models, because single files do not state them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import small_models
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

State = dict[str, Tensor]
VIDEO_TEXT, AUDIO_TEXT = 24, 48
FP8 = torch.float8_e4m3fn


def write_folders(root: Path) -> Path:
    """``wan`` and ``stable_audio`` as diffusers folders whose sizes single files can express."""
    torch.manual_seed(1)
    _write_wan(root / "wan")
    _write_stable_audio(root / "stable_audio")
    return root


def _write_wan(path: Path) -> None:
    from diffusers import AutoencoderKLWan, WanTransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    vocabulary = small_models.write_tokenizer(path / "tokenizer", 64)
    WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=128, text_dim=VIDEO_TEXT, freq_dim=32, ffn_dim=40, num_layers=2
    ).save_pretrained(path / "transformer")
    AutoencoderKLWan(base_dim=8).save_pretrained(path / "vae")
    config = UMT5Config(
        vocab_size=vocabulary + 100, d_model=VIDEO_TEXT, d_kv=8, d_ff=20, num_layers=2, num_heads=2, pad_token_id=0
    )
    UMT5EncoderModel(config).save_pretrained(path / "text_encoder")


def _write_stable_audio(path: Path) -> None:
    from diffusers import AutoencoderOobleck, StableAudioDiTModel, StableAudioProjectionModel
    from transformers import T5Config, T5EncoderModel

    vocabulary = small_models.write_tokenizer(path / "tokenizer", 128)
    StableAudioDiTModel(
        in_channels=6, out_channels=6, num_layers=2, attention_head_dim=64, num_attention_heads=4,
        num_key_value_attention_heads=2, cross_attention_dim=40, cross_attention_input_dim=AUDIO_TEXT, time_proj_dim=16,
        global_states_input_dim=2 * AUDIO_TEXT,
    ).save_pretrained(path / "transformer")  # fmt: skip
    vae = AutoencoderOobleck(
        encoder_hidden_size=12, downsampling_ratios=[2, 4, 4], channel_multiples=[1, 2, 4], decoder_channels=4,
        decoder_input_channels=6, audio_channels=2, sampling_rate=44_100,
    )  # fmt: skip
    for name, parameter in vae.named_parameters():
        if name.endswith((".alpha", ".beta")):
            torch.nn.init.normal_(parameter, std=0.3)  # zeros would hide a swap of the two
    vae.save_pretrained(path / "vae")
    config = T5Config(vocab_size=vocabulary, d_model=AUDIO_TEXT, d_kv=8, d_ff=20, num_layers=2, num_heads=2)
    T5EncoderModel(config).save_pretrained(path / "text_encoder")
    StableAudioProjectionModel(
        text_encoder_dim=AUDIO_TEXT, conditioning_dim=AUDIO_TEXT, min_value=0, max_value=512
    ).save_pretrained(path / "projection_model")


def part(folder: Path) -> State:
    """The tensors of one diffusers sub-folder."""
    return load_file(next(folder.glob("*.safetensors")))


def rename(state: State, rules: list[tuple[str, str]], prefix: str = "") -> State:
    """Every rule on every name, in order, and a prefix in front."""
    renamed = {}
    for name, tensor in state.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        renamed[prefix + name] = tensor
    return renamed


WAN_RULES = [
    (r"^condition_embedder\.time_embedder\.linear_(\d)", lambda m: f"time_embedding.{2 * int(m[1]) - 2}"),
    (r"^condition_embedder\.text_embedder\.linear_(\d)", lambda m: f"text_embedding.{2 * int(m[1]) - 2}"),
    (r"^condition_embedder\.time_proj", "time_projection.1"),
    (r"^scale_shift_table$", "head.modulation"),
    (r"^proj_out", "head.head"),
    (r"\.scale_shift_table$", ".modulation"),
    (r"\.attn1\.", ".self_attn."),
    (r"\.attn2\.", ".cross_attn."),
    (r"\.to_([qkv])\.", r".\1."),
    (r"\.to_out\.0\.", ".o."),
    (r"\.ffn\.net\.0\.proj", ".ffn.0"),
    (r"\.ffn\.net\.2", ".ffn.2"),
    (r"^(blocks\.\d+)\.norm2\.", r"\1.norm3."),
]
RESIDUAL = [
    (r"\.norm1\.gamma$", ".residual.0.gamma"),
    (r"\.conv1\.(weight|bias)$", r".residual.2.\1"),
    (r"\.norm2\.gamma$", ".residual.3.gamma"),
    (r"\.conv2\.(weight|bias)$", r".residual.6.\1"),
]
VAE_RULES = [
    (r"\.mid_block\.resnets\.(\d)", lambda m: f".middle.{2 * int(m[1])}"),
    (r"\.mid_block\.attentions\.0", ".middle.1"),
    (r"\.conv_shortcut\.", ".shortcut."),
    (r"^encoder\.down_blocks\.", "encoder.downsamples."),
    (r"^decoder\.up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"decoder.upsamples.{4 * int(m[1]) + int(m[2])}"),
    (r"^decoder\.up_blocks\.(\d)\.upsamplers\.0", lambda m: f"decoder.upsamples.{4 * int(m[1]) + 3}"),
    (r"\.norm_out\.", ".head.0."),
    (r"\.conv_out\.", ".head.2."),
    (r"coder\.conv_in\.", "coder.conv1."),
    (r"^quant_conv\.", "conv1."),
    (r"^post_quant_conv\.", "conv2."),
]
UMT5_RULES = [
    (r"^shared", "token_embedding"),
    (r"^encoder\.final_layer_norm", "norm"),
    (r"^encoder\.block\.(\d+)\.layer\.0\.layer_norm", r"blocks.\1.norm1"),
    (r"^encoder\.block\.(\d+)\.layer\.1\.layer_norm", r"blocks.\1.norm2"),
    (r"^encoder\.block\.(\d+)\.layer\.0\.SelfAttention\.relative_attention_bias", r"blocks.\1.pos_embedding.embedding"),
    (r"^encoder\.block\.(\d+)\.layer\.0\.SelfAttention\.", r"blocks.\1.attn."),
    (r"^encoder\.block\.(\d+)\.layer\.1\.DenseReluDense\.wi_0", r"blocks.\1.ffn.gate.0"),
    (r"^encoder\.block\.(\d+)\.layer\.1\.DenseReluDense\.wi_1", r"blocks.\1.ffn.fc1"),
    (r"^encoder\.block\.(\d+)\.layer\.1\.DenseReluDense\.wo", r"blocks.\1.ffn.fc2"),
]
DIT_RULES = [
    (r"^timestep_proj\.", "to_timestep_embed."),
    (r"^global_proj\.", "to_global_embed."),
    (r"^cross_attention_proj\.", "to_cond_embed."),
    (r"^time_proj\.", "timestep_features."),
    (r"^proj_(in|out)\.", r"transformer.project_\1."),
    (r"^transformer_blocks\.", "transformer.layers."),
    (r"\.norm1\.", ".pre_norm."),
    (r"\.norm2\.", ".cross_attend_norm."),
    (r"\.norm3\.", ".ff_norm."),
    (r"norm\.weight$", "norm.gamma"),
    (r"norm\.bias$", "norm.beta"),
    (r"\.attn1\.", ".self_attn."),
    (r"\.attn2\.", ".cross_attn."),
    (r"\.to_out\.0\.", ".to_out."),
    (r"\.ff\.net\.", ".ff.ff."),
]


def wan_original(folder: Path, prefix: str = "") -> State:
    """The transformer under Wan's own names."""
    return rename(part(folder / "transformer"), WAN_RULES, prefix)


def vae_original(folder: Path) -> State:
    """The VAE under Wan's own names."""
    return vae_names(part(folder / "vae"))


def vae_names(tensors: State) -> State:
    """The same from the VAE's tensors."""
    outer = ("encoder.conv", "decoder.conv", "quant", "post", "encoder.norm", "decoder.norm")
    state = {}
    for name, tensor in tensors.items():
        rules = VAE_RULES if name.startswith(outer) else [*RESIDUAL, *VAE_RULES]
        state.update(rename({name: tensor}, rules))
    return state


def umt5_original(folder: Path) -> State:
    """UMT5 under Wan's own names."""
    return rename(part(folder / "text_encoder"), UMT5_RULES)


def stable_audio_original(folder: Path, *, newer_weight_norm: bool = False) -> State:
    """Stable Audio's one checkpoint; with ComfyUI's newer weight normalisation if wished."""
    states = (part(folder / name) for name in ("transformer", "projection_model", "vae"))
    return stable_audio_checkpoint(*states, newer_weight_norm=newer_weight_norm)


def stable_audio_checkpoint(
    transformer: State, conditioner: State, autoencoder: State, *, newer_weight_norm: bool = False
) -> State:
    """The same from the three parts' tensors."""
    state = rename(transformer, DIT_RULES, "model.model.")
    for name in [n for n in state if n.endswith("_attn.to_q.weight")]:
        stem, is_self = name.removesuffix("q.weight"), ".self_attn." in name
        letters = "qkv" if is_self else "kv"
        joined = torch.cat([state.pop(f"{stem}{letter}.weight") for letter in letters])
        state[f"{stem}{letters}.weight"] = joined
    features = "model.model.timestep_features.weight"
    state[features] = state[features][:, None]
    state["model.model.transformer.rotary_pos_emb.inv_freq"] = torch.rand(16)
    start = "conditioner.conditioners.seconds_"
    state.update(
        rename(
            conditioner,
            [
                (r"^start_number_conditioner\.time_positional_embedding", f"{start}start.embedder.embedding"),
                (r"^end_number_conditioner\.time_positional_embedding", f"{start}total.embedder.embedding"),
            ],
        )
    )
    state.update(_oobleck_original(autoencoder, newer_weight_norm))
    return {name: tensor.contiguous() for name, tensor in state.items()}


def _oobleck_original(state: State, newer_weight_norm: bool) -> State:
    blocks = 1 + max(int(m[1]) for n in state if (m := re.match(r"encoder\.block\.(\d+)", n)))
    inner = {
        "encoder": {"res_unit1": 0, "res_unit2": 1, "res_unit3": 2, "snake1": 3, "conv1": 4},
        "decoder": {"snake1": 0, "conv_t1": 1, "res_unit1": 2, "res_unit2": 3, "res_unit3": 4},
    }
    unit = {"snake1": 0, "conv1": 1, "snake2": 2, "conv2": 3}
    outer = {"conv1": 0, "snake1": blocks + 1, "conv2": blocks + 2}
    result = {}
    for name, tensor in state.items():
        side, first, *rest = name.split(".")
        layers = [outer[first]] if first != "block" else [int(rest[0]) + 1, inner[side][rest[1]]]
        if first == "block":
            rest = rest[2:]
            if len(rest) == 2:
                layers.append(unit[rest[0]])
                rest = rest[1:]
        leaf = rest[0]
        if newer_weight_norm:
            newer = "parametrizations.weight.original"
            leaf = {"weight_g": f"{newer}0", "weight_v": f"{newer}1"}.get(leaf, leaf)
        value = tensor[0, :, 0] if leaf in ("alpha", "beta") else tensor
        result["pretransform.model." + ".".join([side, *(f"layers.{n}" for n in layers), leaf])] = value
    return result


def cast(state: State, dtype: torch.dtype) -> State:
    """Every floating tensor in another type."""
    return {n: t.to(dtype) if t.is_floating_point() else t for n, t in state.items()}


def is_matrix(name: str, tensor: Tensor) -> bool:
    """Whether a quantiser would pack it."""
    return name.endswith("weight") and tensor.ndim == 2 and "embedding" not in name and "shared" not in name


def scaled_fp8(
    state: State, *, word: str = "scale_weight", dtype: torch.dtype = FP8, per_row: bool = False
) -> tuple[State, State]:
    """ComfyUI's scaled fp8 of the matrices, and what it stands for in float32."""
    stored: State = {"scaled_fp8": torch.zeros(2, dtype=dtype)} if word == "scale_weight" else {}
    meaning = {}
    for name, tensor in state.items():
        if is_matrix(name, tensor):
            largest = tensor.abs().amax(dim=1, keepdim=True) if per_row else tensor.abs().max()
            scale = largest / torch.finfo(dtype).max
            stored[name] = (tensor / scale).to(dtype)
            stored[f"{name.removesuffix('weight')}{word}"] = scale
            meaning[name] = stored[name].float() * scale
        else:
            stored[name] = meaning[name] = tensor
    return stored, meaning


def with_quantisation(stored: State, form: str, **more: object) -> State:
    """ComfyUI's newer writers say beside each packed matrix how it is packed."""
    text = json.dumps({"format": form, **more}).encode()
    packed = [name.removesuffix("weight_scale") for name in stored if name.endswith(".weight_scale")]
    return stored | {f"{stem}comfy_quant": torch.frombuffer(bytearray(text), dtype=torch.uint8) for stem in packed}


def saved_by_comfyui(folder: Path) -> State:
    """Stable Audio as ComfyUI's Save Checkpoint leaves it: no zero biases of norms, T5 inside, newer weight norm."""
    state = stable_audio_original(folder, newer_weight_norm=True)
    state = {name: tensor for name, tensor in state.items() if not name.endswith("norm.beta")}
    inside = {f"text_encoders.t5base.transformer.{n}": t for n, t in part(folder / "text_encoder").items()}
    return state | inside | {"text_encoders.t5base.logit_scale": torch.zeros(())}


def save(path: Path, state: State, metadata: dict[str, str] | None = None) -> Path:
    """A safetensors file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        save_file({n: t.clone().contiguous() for n, t in state.items()}, path, metadata=metadata)
    except KeyError as error:
        pytest.skip(f"this safetensors writes no {error}")
    return path


def save_sharded(folder: Path, stem: str, state: State) -> Path:
    """Two shards and their index, as Wan's own 14B repository has them."""
    names = sorted(state)
    halves = [names[: len(names) // 2], names[len(names) // 2 :]]
    where = {}
    for number, half in enumerate(halves, start=1):
        file = f"{stem}-0000{number}-of-00002.safetensors"
        save(folder / file, {name: state[name] for name in half})
        where.update(dict.fromkeys(half, file))
    index = folder / f"{stem}.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return index


def replace_part(folder: Path, name: str, change: Callable[[State], State]) -> None:
    """Rewrite one part of a diffusers folder with changed tensors."""
    file = next((folder / name).glob("*.safetensors"))
    new = file.with_suffix(".new")  # tensors may be mapped from the file itself
    save_file(change(load_file(file)), new, metadata={"format": "pt"})
    new.replace(file)
