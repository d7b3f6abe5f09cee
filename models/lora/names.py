"""Names in LoRA files: what a tensor is, told by the end of its name, and which layer it belongs to, by the rest.

Trainers put their own words in front of a layer's name, often several in a row, and some write underscores for dots.
Tensors for a text encoder, and kinds of change that are no sum beside a layer, are told here too.
"""

from __future__ import annotations

import re

# End of a tensor's name -> what the tensor is. ``lora_A.default`` carries peft's adapter name.
ROLES = (
    (
        r"(?:\.weight)?\.lora_(?:A(?:\.(?!bias)\w+){0,2}|down)$|\.(?:lora_|lora_linear_layer\.)down\.weight$"
        r"|[._]lora\.down\.weight$",
        "down",
    ),
    (r"\.lora_B(?:\.\w+)?\.bias$|\.(?:lora_up|lora\.up)\.bias$", "up_bias"),
    (
        r"(?:\.weight)?\.lora_(?:B(?:\.\w+){0,2}|up)$|\.(?:lora_|lora_linear_layer\.)up\.weight$"
        r"|[._]lora\.up\.weight$",
        "up",
    ),
    (r"\.lora_mid\.weight$", "mid"),
    (r"\.(?:hada|lokr)_(?:w[12](?:_[ab])?|t[12])(?:\.\w+)?$", ""),
    (r"\.(?:dora_scale|lora_magnitude_vector)(?:\.\w+){0,2}$", "magnitude"),
    (r"\.(?:lora_)?alpha$", "alpha"),
    (r"\.(?:diff|w_norm)$", "diff"),
    (r"\.(?:diff_b|b_norm)$", "bias"),
    (r"\.diff_m$", "modulation"),
)  # fmt: skip
_ROLES = tuple((re.compile(pattern), role) for pattern, role in ROLES)
# What trainers put in front of a layer's name; several may stand in a row. The names of our own joint model are among
# them, so that an adapter trained inside it is read too.
PREFIX = re.compile(
    r"^(?:base_model[._]model[._]|(?:model[._])?diffusion_model[._]|(?:pipe|dit|denoiser|net|module|model)\."
    r"|transformer\.|unet\.|lora_(?:(?:prior_unet|unet|transformer|dit|denoiser|model)_)?|lycoris_|_+"
    r"|(?:pipe|dit|unet|wan(?:_video|2_1)?)_"
    r"|video\.|audio\.|bridges\.|video_diffusion\.|audio_diffusion\.|dual_dit_blocks\.)"
)
# What wrappers of torch and of trainers leave in the middle of a name.
WRAPPERS = re.compile(
    r"(?:^|(?<=[._]))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|base_layer|processor)[._]"
)
TEXT_ENCODER = re.compile(
    r"^(?:base_model\.model\.)?(?:(?:lora|lycoris)_(?:prior_)?te\d*_|lora_text_encoder|te\d*[._]|text_encoders?(?:_\d+)?[._]"
    r"|text_model[._]|clip(?:_[lgh])?[._]|cond_stage_model\.|conditioner\.|(?:um)?t5\w*[._])"
)
# Changes that are no sum beside a layer, or need numbers that are not in the file.
REFUSED = (
    (r"\.(?:oft_(?:blocks|diag|[RS])|boft_[RS])(?:\.|$)", "an OFT"),
    (r"\.[ab][12]\.weight$", "a GLoRA"),
    (r"\.lora_E(?:\.|$)", "an AdaLoRA"),
    (r"\.(?:ia3_l|on_input)(?:\.|$)", "an IA3"),
    (r"\.vera_lambda_[bd](?:\.|$)", "a VeRA"),
    (r"\.hra_u(?:\.|$)", "an HRA"),
)
# The names of the layers -> the model they belong to. The first match wins.
MODELS = (
    (r"(?:single_transformer|single|double|joint)_blocks[._]|(?:down|up|input|output)_blocks[._]", "an image model"),
    (r"^blocks[._]\d+[._](?:self_attn|cross_attn|attn1|attn2|ffn)[._]", "Wan"),
    (r"^transformer_blocks[._]\d+[._]attn", "Stable Audio, or another diffusers transformer"),
    (r"^(?:transformer[._])?layers[._]\d+[._](?:self_attn|cross_attn)[._]to_", "Stable Audio"),
    (r"^\d+[._](?:attn[._][qkvo]_proj|mlp_[12]|adaln_modulation)", "bridges"),
)  # fmt: skip


def role_of(name: str) -> tuple[str | None, str]:
    """What a tensor is, and the name of its layer as the file writes it.

    Returns:
        One of ``down up mid up_bias diff bias alpha magnitude``, or LyCORIS' own word such as ``hada_w1_a``; None for
        a tensor of no known kind.
    """
    for pattern, role in _ROLES:
        match = pattern.search(name)
        if match:
            stem = name[: match.start()]
            if role == "modulation":  # of the block or head that is named
                return "diff", f"{stem}.modulation"
            return role or match.group().split(".")[1], stem
    return None, name


def layer_of(stem: str) -> str:
    """The name of a layer without what trainers and wrappers put around it."""
    stem = WRAPPERS.sub("", stem)
    while PREFIX.match(stem):
        stem = PREFIX.sub("", stem, count=1)
    return stem


def flat(name: str) -> str:
    """A layer's name as files with underscores write it; the same for those with dots."""
    return name.replace(".", "_")


def refused_kind(name: str) -> str | None:
    """What a tensor belongs to that cannot be laid beside a layer: "an OFT"; None for all others."""
    return next((kind for pattern, kind in REFUSED if re.search(pattern, name)), None)
