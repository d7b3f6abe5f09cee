"""What a weight file is, told by the names and shapes in its header, never by its file name.

Known: Wan 2.1 (text to video), its VAE, UMT5, Stable Audio Open's checkpoint, T5, bridges and alignments. Anything else
is named as well as its keys allow, with what is wanted and where to get it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import IncompatibleWeightsError
from ...core.json_text import parse_json
from ._bridge_layouts import FORMAT
from ._header import WeightFile, open_weights, require_float
from ._stable_audio import AUTOENCODER, CONDITIONER, TRANSFORMER_PREFIXES
from ._wan import VAE_PREFIX, find_prefix

TITLES = {
    "wan": "Wan 2.1 transformer",
    "wan_vae": "Wan 2.1 VAE",
    "umt5": "UMT5 text encoder",
    "stable_audio": "Stable Audio Open checkpoint",
    "t5": "T5 text encoder",
    "alignment": "SAVA alignment file",
    "bridge": "bridge file",
}
GET = {
    "wan": "wan2.1_t2v_1.3B_fp16.safetensors of Comfy-Org/Wan_2.1_ComfyUI_repackaged (diffusion_models/)",
    "wan_vae": "wan_2.1_vae.safetensors of Comfy-Org/Wan_2.1_ComfyUI_repackaged (vae/)",
    "umt5": "umt5_xxl_fp8_e4m3fn_scaled.safetensors of Comfy-Org/Wan_2.1_ComfyUI_repackaged (text_encoders/)",
    "stable_audio": "stable-audio-open-1.0.safetensors of Comfy-Org/stable-audio-open-1.0_repackaged (checkpoints/)",
    "t5": "model.safetensors of google-t5/t5-base, as text_encoders/t5-base.safetensors",
    "alignment": "what `sounding-video train` writes for the recipe sava_align, and for sava_audio and sava_video",
    "bridge": "a BridgeDiT checkpoint, as published or converted",
}
# Part of a name that only that model has -> the model. The first match wins.
FOREIGN = (
    ("lora_", "a LoRA"),
    (".lora.", "a LoRA"),
    (".hada_w1_", "a LoRA"),
    (".lokr_w1", "a LoRA"),
    ("vace_blocks.", "Wan VACE"),
    ("motion_encoder.", "Wan Animate"),
    ("img_emb.proj.", "Wan image to video"),
    ("condition_embedder.image_embedder.", "Wan image to video"),
    ("decoder.upsamples.0.upsamples.", "the VAE of Wan 2.2 5B"),
    ("double_blocks.0.img_attn", "Flux or HunyuanVideo"),
    ("transformer_blocks.0.attn1.to_q", "a diffusers transformer, for example LTX-Video or Stable Audio's"),
    ("joint_blocks.0.", "Stable Diffusion 3"),
    ("conditioner.embedders.1.", "Stable Diffusion XL"),
    ("cond_stage_model.", "Stable Diffusion 1 or 2"),
    ("input_blocks.0.", "a Stable Diffusion U-Net"),
    ("text_model.encoder.layers.", "a CLIP text encoder"),
    ("vision_model.encoder.layers.", "a CLIP vision encoder"),
    ("decoder.mid.attn_1.", "the VAE of Stable Diffusion or Flux"),
    ("model.layers.0.self_attn.", "a language model"),
)
# One of these is in every block of a published bridge and of SyncFlow's, and in no other model; other kinds say so in
# their metadata.
BRIDGE_ENDS = ("attn.q_proj_1.weight", "video_to_audio_proj.weight", "audio_time_token.weight")
# The first of these in a block is as wide as the video tower.
VIDEO_WIDTH_ENDS = (*BRIDGE_ENDS[:2], "along_time.q_proj.weight", "cross.k_proj.weight")
# What the metadata of alignment files say.
ALIGNMENT = "sounding_video.alignment"
WAN_WIDTHS = {1536: "1.3B", 5120: "14B"}


@dataclass(frozen=True)
class WanFiles:
    """Wan 2.1 in single files.

    Args:
        transformer: The transformer; of a sharded one, its ``.index.json``.
        vae: The VAE.
        text_encoder: UMT5.
        tokenizer: A tokenizer folder, a sentencepiece file or a text encoder file with its tokenizer inside; None
            takes the one inside or beside the text encoder.
        spare_tokenizer: The same, for when there is none inside and none that fits beside.
    """

    transformer: Path
    vae: Path
    text_encoder: Path
    tokenizer: Path | None = None
    spare_tokenizer: Path | None = None

    @property
    def main(self) -> Path:
        """The file that gives the whole its name."""
        return self.transformer


@dataclass(frozen=True)
class StableAudioFiles:
    """Stable Audio Open in single files.

    Args:
        checkpoint: Transformer, duration embeddings and autoencoder.
        text_encoder: T5 base.
        tokenizer: As for Wan; None takes the one beside the text encoder.
    """

    checkpoint: Path
    text_encoder: Path
    tokenizer: Path | None = None

    @property
    def main(self) -> Path:
        """The file that gives the whole its name."""
        return self.checkpoint


@dataclass(frozen=True)
class Layout:
    """What a file is.

    Args:
        kind: A key of ``TITLES``.
        names: Whose tensor names it uses: "original", "diffusers", "transformers", "ComfyUI", "Kijai's", "llama.cpp"
            or "ours".
        format: "safetensors", "torch" or "gguf".
        dtype: The type most numbers have.
        detail: Size of the model in a word or two, for people; may be empty.
        text_width: Of a text encoder, the width it gives; of a tower, the width it wants; else 0.
        num_bytes: Size on disk.
        has_tokenizer: A text encoder whose tokenizer is inside the file.
    """

    kind: str
    names: str
    format: str
    dtype: str
    detail: str
    text_width: int
    num_bytes: int
    has_tokenizer: bool = False

    @property
    def description(self) -> str:
        """One line for lists: "Wan 2.1 transformer 1.3B, original names, float16 safetensors"."""
        title = f"{TITLES[self.kind]} {self.detail}".strip()
        return f"{title}, {self.names} names, {self.dtype} {self.format}"


def identify(file: WeightFile | str | Path) -> Layout:
    """What a weight file is, by its header.

    Raises:
        IncompatibleWeightsError: none of ours; the message says what it looks like, what is wanted and where it is.
        MissingModelError, CorruptWeightsError, UnsafeWeightsError: it cannot be opened.
    """
    file = file if isinstance(file, WeightFile) else open_weights(file)
    told = _told(file)
    if told is not None:
        kind, (names, detail, text_width) = told
        return Layout(kind, names, file.format, file.dtype, detail, text_width, file.num_bytes, file.has_tokenizer)
    raise IncompatibleWeightsError(
        "the weight file is none of the models this needs",
        got=f"{file.path}, which looks like {looks_like(file)}",
        expected="a " + ", ".join(list(TITLES.values())[:-1]) + f" or {TITLES['bridge']}",
        remedy="Get for example " + "; ".join([GET["wan"], GET["stable_audio"]]) + ".",
    )


def kind_of(file: WeightFile) -> str | None:
    """A key of ``TITLES``, or None for another model."""
    told = _told(file)
    return told and told[0]


def _told(file: WeightFile) -> tuple[str, tuple[str, str, int]] | None:
    for kind, tell in (
        ("alignment", _alignment), ("wan", _wan), ("wan_vae", _wan_vae), ("umt5", _umt5),
        ("stable_audio", _stable_audio), ("t5", _t5), ("bridge", _bridge),
    ):  # fmt: skip
        try:
            told = tell(file)
        except (IndexError, ValueError):  # a tensor of that name with other axes belongs to another model
            continue
        if told is not None:
            return kind, told
    return None


def require_kind(file: WeightFile, kind: str) -> Layout:
    """The layout of a file that has to be of one kind.

    Raises:
        IncompatibleWeightsError: it is another model, and the message says which and where to get the right one; or
            its weights are packed in a way that cannot be undone here.
    """
    try:
        layout = identify(file)
        found = layout.description
    except IncompatibleWeightsError:
        layout, found = None, looks_like(file)
    if layout is None or layout.kind != kind:
        raise IncompatibleWeightsError(
            f"the file is not a {TITLES[kind]}",
            got=f"{file.path}, which looks like {found}",
            expected=f"a {TITLES[kind]}",
            remedy=f"Get for example {GET[kind]}.",
        )
    require_float(file)
    return layout


def looks_like(file: WeightFile) -> str:
    """What an unknown file seems to be."""
    patch = next((name for name in file if name.endswith("patch_embedding.weight")), None)
    channels = file.shape(patch)[1] if patch and len(file.shape(patch)) == 5 else 0
    for part, title in FOREIGN:
        if any(part in name for name in file):
            return title
    if channels:
        return {36: "Wan image to video", 48: "Wan 2.2 5B"}.get(channels, f"a Wan with {channels} input channels")
    examples = ", ".join(list(file)[:3])
    return f"an unknown model ({len(file.infos)} tensors: {examples})" if examples else "a file without tensors"


def _any(file: Iterable[str], *parts: str) -> bool:
    return any(part in name for name in file for part in parts)


def _wan(file: WeightFile) -> tuple[str, str, int] | None:
    prefix = find_prefix(file)
    original = f"{prefix}head.modulation" in file and f"{prefix}text_embedding.0.weight" in file
    diffusers = f"{prefix}condition_embedder.text_embedder.linear_1.weight" in file
    patch = f"{prefix}patch_embedding.weight"
    if not (original or diffusers) or patch not in file:
        return None
    if _any(file, "vace_blocks.", "img_emb.", "image_embedder.", "motion_encoder.", "lora_"):
        return None
    width, channels = file.shape(patch)[:2]
    if channels in (36, 48):
        return None
    text = "text_embedding.0.weight" if original else "condition_embedder.text_embedder.linear_1.weight"
    names = "diffusers" if diffusers else "ComfyUI" if prefix or file.is_scaled else "original"
    return names, WAN_WIDTHS.get(width, f"of width {width}"), file.shape(prefix + text)[1]


def _wan_vae(file: WeightFile) -> tuple[str, str, int] | None:
    for prefix, names in (("", "original"), (VAE_PREFIX, "Kijai's")):
        if all(f"{prefix}decoder.{part}.0.residual.0.gamma" in file for part in ("middle", "upsamples")):
            return names, "", 0
    return ("diffusers", "", 0) if "decoder.mid_block.resnets.0.norm1.gamma" in file else None


def _umt5(file: WeightFile) -> tuple[str, str, int] | None:
    if "blocks.0.pos_embedding.embedding.weight" in file and "token_embedding.weight" in file:
        return "original", _t5_size(file, "token_embedding.weight"), file.shape("token_embedding.weight")[1]
    if "enc.blk.1.attn_rel_b.weight" in file and "token_embd.weight" in file:
        return "llama.cpp", _t5_size(file, "token_embd.weight"), file.shape("token_embd.weight")[1]
    # UMT5 has a position table in every block, T5 in its first one only.
    second = "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"
    shared = _shared(file)
    return ("transformers", _t5_size(file, shared), file.shape(shared)[1]) if second in file and shared else None


def _shared(file: WeightFile) -> str:
    """The table of tokens has two names; files hold one or both."""
    return next((name for name in ("shared.weight", "encoder.embed_tokens.weight") if name in file), "")


def _t5(file: WeightFile) -> tuple[str, str, int] | None:
    if "enc.blk.0.attn_rel_b.weight" in file and "token_embd.weight" in file:
        return "llama.cpp", _t5_size(file, "token_embd.weight"), file.shape("token_embd.weight")[1]
    table = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    shared = _shared(file)
    return ("transformers", _t5_size(file, shared), file.shape(shared)[1]) if table in file and shared else None


def _t5_size(file: WeightFile, table: str) -> str:
    width = file.shape(table)[1]
    return {768: "base", 4096: "XXL"}.get(width, f"of width {width}")


def _stable_audio(file: WeightFile) -> tuple[str, str, int] | None:
    project = next(
        (p + "to_cond_embed.0.weight" for p in TRANSFORMER_PREFIXES if p + "to_cond_embed.0.weight" in file), ""
    )
    if not project or not _any(file, AUTOENCODER) or not _any(file, CONDITIONER):
        return None
    comfy = project.startswith(TRANSFORMER_PREFIXES[1]) or _any(file, ".parametrizations.weight.")
    return "ComfyUI" if comfy else "original", "", file.shape(project)[1]


def _alignment(file: WeightFile) -> tuple[str, str, int] | None:
    return ("ours", "", 0) if file.metadata.get("format") == ALIGNMENT else None


def refuse_alignment(metadata: Mapping[str, str], what: str, path: Path, expected: str, more: str = "") -> None:
    """Refuse an alignment file where another kind is wanted.

    Raises:
        IncompatibleWeightsError: it is one.
    """
    if metadata.get("format") == ALIGNMENT:
        raise IncompatibleWeightsError(
            what,
            got=f"{path}, which is a {TITLES['alignment']}{more}",
            expected=expected,
            remedy="Load it by Load Alignment, or as --alignment.",
        )


def has_bridge_names(names: Iterable[str]) -> bool:
    """Whether a bridge's tensors are among the names."""
    return any(name.endswith(BRIDGE_ENDS) for name in names)


def _bridge(file: WeightFile) -> tuple[str, str, int] | None:
    own = file.metadata.get("format") == FORMAT
    blocks = [name for name in file if name.endswith(BRIDGE_ENDS)]
    if not blocks and not own:
        return None
    names = "ours" if "fusion" in file.metadata else "original"
    widths = (file.shape(name)[-1] for end in VIDEO_WIDTH_ENDS for name in file if name.endswith(end))
    width = next(widths, None) or _noted_width(file.metadata)
    count = len(blocks) or len({name.split(".")[0] for name in file if name.split(".")[0].isdecimal()})
    sizes = WAN_WIDTHS.get(width, f"for a video tower of width {width}")
    return names, f"{sizes}, {count} bridges", 0


def _noted_width(metadata: Mapping[str, str]) -> int | str:
    """Of the video tower, as the metadata of a bridge of any kind has it."""
    try:
        width = parse_json(metadata["config"])["video_width"]
    except (LookupError, ValueError, TypeError):
        return "?"
    return width if isinstance(width, int) else "?"
