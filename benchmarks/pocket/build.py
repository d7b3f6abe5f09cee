"""Build the bundled pocket model's form: every part at a small size, random weights, diffusers folder layout.

    python benchmarks/pocket/build.py --output models/pocket --seed 0

The geometry is the real models' (16 and 64 latent channels, strides 4 × 8 × 8 and 2 048), so everything that runs on
Wan 2.1 and Stable Audio Open runs on this. The same seed and library versions give the same bytes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLWan,
    AutoencoderOobleck,
    CosineDPMSolverMultistepScheduler,
    StableAudioDiTModel,
    StableAudioPipeline,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from diffusers.pipelines.stable_audio import StableAudioProjectionModel
from sounding_video.models.bridges.config import BridgeConfig
from sounding_video.models.joint import BridgePoints, BridgeStack
from sounding_video.models.weights.bridges import save_bridges
from sounding_video.world.scenes import SCENES
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel, UMT5Config, UMT5EncoderModel

sys.path.insert(0, str(Path(__file__).parent))
from codec_start import straight_oobleck, straight_wan_vae

WORDS = Path(__file__).with_name("words.txt")
PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
MAX_VOCABULARY = 4096
VIDEO_TEXT_TOKENS, AUDIO_TEXT_TOKENS = 512, 128
TEXT_WIDTH = 128
STORED_AS = torch.float16
MAX_SHARD = "15MB"

NUM_FRAMES, FPS, SIZE, NUM_STEPS = 33, 15, 64, 50
GUIDANCE = 3.0
# The sound is pushed from what it would be without the picture, not the picture, which leads.
AUDIO_MODALITY_GUIDANCE = 3.0
# The picture's noise falls evenly, well before the sound's, which then follows it.
FLOW_SHIFT = 1.0
# Video text tokens: the world's captions fit, and the tower costs half of what 1024 would.
TEXT_LENGTH = 128

WAN_TRANSFORMER = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 6,
    "attention_head_dim": 32,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": TEXT_WIDTH,
    "freq_dim": 256,
    "ffn_dim": 576,
    "num_layers": 8,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "rope_max_seq_len": 1024,
}
# Random weights have no statistics yet, so the latents are left as they are; training writes the measured ones.
WAN_VAE = {
    "base_dim": 16,
    "z_dim": 16,
    "dim_mult": [1, 2, 4, 4],
    "num_res_blocks": 1,
    "temperal_downsample": [False, True, True],
    "latents_mean": [0.0] * 16,
    "latents_std": [1.0] * 16,
}
UMT5 = {
    "d_model": TEXT_WIDTH,
    "d_kv": 32,
    "d_ff": 384,
    "num_layers": 1,
    "num_heads": 4,
    "feed_forward_proj": "gated-gelu",
}
STABLE_AUDIO_TRANSFORMER = {
    "sample_size": 1024,
    "in_channels": 64,
    "out_channels": 64,
    "num_layers": 8,
    "attention_head_dim": 32,
    "num_attention_heads": 4,
    "num_key_value_attention_heads": 2,
    "cross_attention_dim": TEXT_WIDTH,
    "cross_attention_input_dim": TEXT_WIDTH,
    "global_states_input_dim": 2 * TEXT_WIDTH,
    "time_proj_dim": 256,
}
# The stock encoder's last layer has ``encoder_hidden_size`` channels, which must be twice the latent's 64.
OOBLECK = {
    "encoder_hidden_size": 128,
    # The long strides stand beside the waveform, so that little is computed at the full rate.
    "downsampling_ratios": [16, 8, 4, 4],
    "channel_multiples": [1, 1, 1, 2],
    "decoder_channels": 128,
    "decoder_input_channels": 64,
    "audio_channels": 2,
    "sampling_rate": 44_100,
}
T5 = {"d_model": TEXT_WIDTH, "d_kv": 32, "d_ff": 512, "num_layers": 1, "num_heads": 4, "feed_forward_proj": "relu"}
PROJECTION = {"text_encoder_dim": TEXT_WIDTH, "conditioning_dim": TEXT_WIDTH, "min_value": 0, "max_value": 512}

# The real models' schedulers (BridgeDiT reference, section 5).
FLOW_SCHEDULER = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": FLOW_SHIFT}
COSINE_SCHEDULER = {"sigma_min": 0.3, "sigma_max": 500, "sigma_data": 1.0, "sigma_schedule": "exponential"}

README = """\
# The pocket model

{state}

It is made for {frames} frames at {fps} frames per second, {size}×{size} pixels, {num_steps} steps, with stereo sound at
44.1 kHz. The latents have the geometry of Wan 2.1 and Stable Audio Open. Stored as float16 in the diffusers folder
layout; `wan` and `stable_audio` also load as `WanPipeline` and `StableAudioPipeline`.

| part | parameters |
|---|---|
{rows}
| together | {total:.2f} M |

The form is built by `python benchmarks/pocket/build.py --output models/pocket --seed {seed}`; the same seed and library
versions give the same bytes. `pocket.json` says the same for programs. The tokenizer knows the words in
`benchmarks/pocket/words.txt` as one token each and spells everything else in bytes.

Licence: Apache-2.0, as the repository.
"""

UNTRAINED = """\
**Untrained.** These are random weights: the picture is coloured noise, the sound is noise, and they have nothing to do
with the prompt or with each other. What is here is the form: every part of the real system at a small size, so that
the whole way from a prompt to an mp4 runs on a bare machine."""
PARTLY = """\
**Partly trained.** Trained on the sounding world: {parts}. The other parts are untrained, random
weights, so what the model makes has nothing to do with the prompt yet."""
TRAINED = """\
Trained on the sounding world (`world/`), with the recipes of `benchmarks/pocket/train.py`; settings, loss logs and
curves are in `benchmarks/pocket/logs/`, what it reaches in `benchmarks/pocket/evaluation.md`. The towers know eight
looks and voices of each scene: a colour that is asked for may not be the one that comes.{missing}"""
MISSING = """

Still random: {parts}. No clip from a prompt needs it; encoding a sound does."""

BRIDGE_KIND = "dual_cross"
BRIDGE_POINTS = BridgePoints((1, 3, 5), (1, 3, 5))


def build_tokenizer(max_length: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE over the word list: a listed word is one token, and any Unicode text has tokens."""
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=MAX_VOCABULARY,
        min_frequency=1,
        special_tokens=[AddedToken(token, normalized=False, special=True) for token in (PAD, END, UNKNOWN)],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sorted(set(WORDS.read_text(encoding="utf-8").split())), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", pair=f"$A {END} $B {END}", special_tokens=[(END, tokenizer.token_to_id(END))]
    )
    # Said again here, because transformers 4.x overrides the tokenizer's own setting with its default.
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        model_max_length=max_length,
        add_prefix_space=True,
    )


def build_wan(seed: int) -> dict[str, Any]:
    """The video side's parts, named as in the folder."""
    tokenizer = build_tokenizer(VIDEO_TEXT_TOKENS)
    return {
        "tokenizer": tokenizer,
        "text_encoder": _seeded(seed, lambda: UMT5EncoderModel(UMT5Config(vocab_size=_rows(tokenizer), **UMT5))),
        "vae": _seeded(seed + 1, lambda: straight_wan_vae(AutoencoderKLWan(**WAN_VAE))),
        "transformer": _seeded(seed + 2, lambda: WanTransformer3DModel(**WAN_TRANSFORMER)),
        "scheduler": UniPCMultistepScheduler(**FLOW_SCHEDULER),
    }


def build_stable_audio(seed: int) -> dict[str, Any]:
    """The audio side's parts, named as in the folder."""
    tokenizer = build_tokenizer(AUDIO_TEXT_TOKENS)
    return {
        "tokenizer": tokenizer,
        "text_encoder": _seeded(seed, lambda: T5EncoderModel(T5Config(vocab_size=_rows(tokenizer), **T5))),
        "vae": _seeded(seed + 1, lambda: straight_oobleck(AutoencoderOobleck(**OOBLECK))),
        "transformer": _seeded(seed + 2, lambda: StableAudioDiTModel(**STABLE_AUDIO_TRANSFORMER)),
        "projection_model": _seeded(seed + 3, lambda: StableAudioProjectionModel(**PROJECTION)),
        "scheduler": CosineDPMSolverMultistepScheduler(**COSINE_SCHEDULER),
    }


def build_bridges(seed: int) -> BridgeStack:
    """The bridges that fit both towers; they start as identity."""
    video_width = WAN_TRANSFORMER["num_attention_heads"] * WAN_TRANSFORMER["attention_head_dim"]
    audio_width = STABLE_AUDIO_TRANSFORMER["num_attention_heads"] * STABLE_AUDIO_TRANSFORMER["attention_head_dim"]
    config = BridgeConfig(
        video_width=video_width,
        audio_width=audio_width,
        qk_width=video_width,
        v_width=video_width,
        num_heads=WAN_TRANSFORMER["num_attention_heads"],
        video_time_width=video_width,
        audio_time_width=audio_width,
    )
    return _seeded(seed, lambda: BridgeStack(BRIDGE_KIND, config, BRIDGE_POINTS))


def build(output: Path, seed: int) -> dict[str, Any]:
    """Write the whole pocket model into ``output`` and return what ``pocket.json`` says."""
    wan, stable_audio, bridges = (
        build_wan(100 * seed),
        build_stable_audio(100 * seed + 10),
        build_bridges(100 * seed + 20),
    )
    _save_pipeline(WanPipeline(**wan), output / "wan")
    _save_pipeline(StableAudioPipeline(**stable_audio), output / "stable_audio")
    write_bridge(bridges, output / "bridge.safetensors")
    sides = {"wan": wan, "stable_audio": stable_audio}
    sizes = {
        f"{side}/{name}": _size(part)
        for side, parts in sides.items()
        for name, part in parts.items()
        if isinstance(part, nn.Module)
    }
    note = {
        "trained": False,
        "trained_parts": [],
        "untrained_parts": [],
        "seed": seed,
        "frames": NUM_FRAMES,
        "fps": FPS,
        "size": SIZE,
        "num_steps": NUM_STEPS,
        "video_cfg": GUIDANCE,
        "audio_cfg": GUIDANCE,
        "flow_shift": FLOW_SHIFT,
        "video_modality_cfg": 1.0,
        "audio_modality_cfg": AUDIO_MODALITY_GUIDANCE,
        "video_negative": "",
        "audio_negative": "",
        "captions": "short",
        "knows": {scene.known_as: list(scene.told_by) for scene in map(SCENES.get, SCENES.names())},
        "text_length": TEXT_LENGTH,
        "sizes": {**sizes, "bridge": _size(bridges)},
    }
    (output / "pocket.json").write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")
    (output / "README.md").write_text(readme(note), encoding="utf-8")
    # safetensors makes its files readable for the owner only.
    for file in output.rglob("*.safetensors"):
        file.chmod(0o644)
    return note


def write_bridge(bridges: BridgeStack, path: Path) -> None:
    """Write the bridge file, marked as untrained."""
    save_bridges(path, bridges, dtype=STORED_AS, trained=False, notes={"towers": "pocket"})


def readme(note: dict[str, Any]) -> str:
    """The folder's README for what ``pocket.json`` says."""
    parts = ", ".join(f"`{part}`" for part in note["trained_parts"])
    missing = ", ".join(f"`{part}`" for part in note.get("untrained_parts", ()))
    whole = TRAINED.format(missing=MISSING.format(parts=missing) if missing else "")
    state = whole if note["trained"] else PARTLY.format(parts=parts) if parts else UNTRAINED
    rows = "\n".join(f"| `{name}` | {size / 1e6:.2f} M |" for name, size in note["sizes"].items())
    return README.format(state=state, rows=rows, total=sum(note["sizes"].values()) / 1e6, **note)


def _seeded(seed: int, make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(seed)
    return make().eval()


def _rows(tokenizer: PreTrainedTokenizerFast) -> int:
    return -(-len(tokenizer) // 64) * 64


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _save_pipeline(pipeline: WanPipeline | StableAudioPipeline, folder: Path) -> None:
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            part.to(STORED_AS)
    pipeline.save_pretrained(folder, safe_serialization=True, max_shard_size=MAX_SHARD)
    # transformers 5 writes its own new name of the class; this one is known to 4.x as well.
    for file, keys in (
        (folder / "model_index.json", ("tokenizer",)),
        (folder / "tokenizer" / "tokenizer_config.json", ("tokenizer_class",)),
    ):
        values = json.loads(file.read_text(encoding="utf-8"))
        for key in keys:
            values[key] = (
                ["transformers", "PreTrainedTokenizerFast"]
                if isinstance(values[key], list)
                else "PreTrainedTokenizerFast"
            )
        file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder to write, for example models/pocket")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random weights")
    arguments = parser.parse_args()
    note = build(arguments.output, arguments.seed)
    for name, size in note["sizes"].items():
        print(f"{name:32s} {size:>10,d} parameters")
    total = sum(file.stat().st_size for file in arguments.output.rglob("*") if file.is_file())
    print(f"{total / 1e6:.1f} MB in {arguments.output}")


if __name__ == "__main__":
    main()
