"""Small random models of the real classes in the real folder layout, for tests that need weights on disk.

Geometry: video latents of 4 channels, 4× in time and 8× in space with 2×2 patches; audio latents of 6 channels, 16
samples each at 8000 Hz (a rate that AAC takes). ``write_models`` makes both folders and a bridge in under a second.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from sounding_video.core.types import Conditioning, Modality
    from sounding_video.models.native import Stop
    from sounding_video.models.towers.base import Tower

SAMPLE_RATE, AUDIO_HOP = 8000, 16
VIDEO_WIDTH, AUDIO_WIDTH = 24, 32
VIDEO_BLOCKS, AUDIO_BLOCKS = 3, 3
TEXT_WIDTH_VIDEO, TEXT_WIDTH_AUDIO = 16, 16


def write_tokenizer(folder: Path, max_length: int) -> int:
    """Save a byte-level tokenizer (every text can be encoded) and return its vocabulary size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "</s>", "<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(
        models.BPE(vocab={word: index for index, word in enumerate(words)}, merges=[], unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=max_length,
    ).save_pretrained(folder)
    return len(words)


def write_wan_folder(path: str | Path, seed: int = 0) -> Path:
    """A Wan 2.1 diffusers folder: transformer, vae, text_encoder, tokenizer."""
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    path = Path(path)
    vocabulary = write_tokenizer(path / "tokenizer", 64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = WanTransformer3DModel(
            patch_size=(1, 2, 2),
            num_attention_heads=2,
            attention_head_dim=VIDEO_WIDTH // 2,
            in_channels=4,
            out_channels=4,
            text_dim=TEXT_WIDTH_VIDEO,
            freq_dim=16,
            ffn_dim=32,
            num_layers=VIDEO_BLOCKS,
            rope_max_seq_len=64,
        )
        vae = AutoencoderKLWan(
            base_dim=4,
            z_dim=4,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            latents_mean=[0.1, -0.2, 0.3, 0.0],
            latents_std=[1.5, 2.0, 1.0, 0.5],
        )
        encoder = UMT5EncoderModel(
            UMT5Config(
                vocab_size=vocabulary, d_model=TEXT_WIDTH_VIDEO, d_kv=8, d_ff=24, num_layers=2, num_heads=2,
                tie_word_embeddings=True, pad_token_id=0, eos_token_id=1,
            )
        )  # fmt: skip
    transformer.save_pretrained(path / "transformer")
    vae.save_pretrained(path / "vae")
    encoder.save_pretrained(path / "text_encoder")
    UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, num_train_timesteps=1000
    ).save_pretrained(path / "scheduler")
    return path


def write_stable_audio_folder(path: str | Path, seed: int = 0) -> Path:
    """A Stable Audio Open diffusers folder: as :func:`write_wan_folder`, and projection_model."""
    from diffusers import (
        AutoencoderOobleck,
        CosineDPMSolverMultistepScheduler,
        StableAudioDiTModel,
        StableAudioProjectionModel,
    )
    from transformers import T5Config, T5EncoderModel

    path = Path(path)
    vocabulary = write_tokenizer(path / "tokenizer", 32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = StableAudioDiTModel(
            sample_size=64,
            in_channels=6,
            out_channels=6,
            num_layers=AUDIO_BLOCKS,
            attention_head_dim=AUDIO_WIDTH // 4,
            num_attention_heads=4,
            num_key_value_attention_heads=2,
            cross_attention_dim=TEXT_WIDTH_AUDIO,
            cross_attention_input_dim=TEXT_WIDTH_AUDIO,
            time_proj_dim=16,
            global_states_input_dim=2 * TEXT_WIDTH_AUDIO,
        )
        vae = AutoencoderOobleck(
            encoder_hidden_size=12,
            downsampling_ratios=[2, 2, 4],
            channel_multiples=[1, 1, 2],
            decoder_channels=4,
            decoder_input_channels=6,
            audio_channels=2,
            sampling_rate=SAMPLE_RATE,
        )
        encoder = T5EncoderModel(
            T5Config(
                vocab_size=vocabulary, d_model=TEXT_WIDTH_AUDIO, d_kv=8, d_ff=24, num_layers=2, num_heads=2,
                pad_token_id=0, eos_token_id=1,
            )
        )  # fmt: skip
        projection = StableAudioProjectionModel(
            text_encoder_dim=TEXT_WIDTH_AUDIO, conditioning_dim=TEXT_WIDTH_AUDIO, min_value=0, max_value=512
        )
    transformer.save_pretrained(path / "transformer")
    vae.save_pretrained(path / "vae")
    encoder.save_pretrained(path / "text_encoder")
    projection.save_pretrained(path / "projection_model")
    CosineDPMSolverMultistepScheduler(prediction_type="v_prediction", sigma_schedule="exponential").save_pretrained(
        path / "scheduler"
    )
    return path


def write_bridge(
    path: str | Path,
    kind: str = "dual_cross",
    seed: int = 0,
    *,
    trained: bool = True,
    rope: str = "official",
    notes: dict[str, str] | None = None,
) -> Path:
    """A bridge file of two blocks with random weights (not the identity) that fits the two folders above."""
    from sounding_video.models.bridges import BRIDGES
    from sounding_video.models.joint import BridgePoints, BridgeStack
    from sounding_video.models.weights.bridges import save_bridges

    width = 16
    config = BRIDGES.get(kind).Config(
        video_width=VIDEO_WIDTH,
        audio_width=AUDIO_WIDTH,
        qk_width=width,
        v_width=width,
        num_heads=2,
        video_time_width=VIDEO_WIDTH,
        audio_time_width=AUDIO_WIDTH,
        rope=rope,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stack = BridgeStack(kind, config, BridgePoints((0, 1), (0, 1)))
        for parameter in stack.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
    save_bridges(path, stack, trained=trained, notes=notes)
    return Path(path)


def write_alignment(
    path: str | Path,
    *,
    reads: tuple[str, ...] = (),
    frames: tuple[str, ...] = (),
    seed: int = 0,
    trained: bool = True,
) -> Path:
    """An alignment file for the two folders above.

    ``reads`` names towers that get random tokens, or if in ``frames`` too a random shift of their stream; and a LoRA.
    """
    from sounding_video.models.alignment.selective import Alignment, AlignmentConfig
    from sounding_video.models.weights.alignment import LoraNote, save_alignment

    texts, streams = (TEXT_WIDTH_VIDEO, TEXT_WIDTH_AUDIO), (VIDEO_WIDTH, AUDIO_WIDTH)
    widths = {
        f"{side}_stream_width" if side in frames else f"{side}_text_width": (stream if side in frames else text)
        for side, text, stream in zip(("video", "audio"), texts, streams, strict=True)
        if side in reads
    }
    codecs = {"video_channels": 4, "audio_channels": 6, "sound_rate": SAMPLE_RATE / AUDIO_HOP / 15}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        alignment = Alignment(AlignmentConfig(width=8, hidden=12, grid=2, positions=2, **codecs, **widths))
        for parameter in alignment.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        alignment.video_support[6:] = alignment.audio_support[5:] = 0
        loras = {}
        blocks = {"video": ("blocks", VIDEO_WIDTH), "audio": ("transformer_blocks", AUDIO_WIDTH)}
        for side, (stem, width) in blocks.items():
            factors = (torch.randn(2, width), 0.3 * torch.randn(width, 2))
            if side in reads:
                loras[side] = (LoraNote(2, 2.0), {f"{stem}.{n}.attn2.to_q": factors for n in range(2)})
    save_alignment(path, alignment, loras=loras, trained=trained)
    return Path(path)


def cascade_graph(graph: dict) -> dict:
    """The pocket template as text, then picture, then sound."""
    nodes = {node["class_type"]: number for number, node in graph.items()}
    sampler, empty = graph[nodes["T2SVJointSampler"]], nodes["T2SVEmptyAVLatent"]
    graph[nodes["T2SVJoinTowers"]]["inputs"].pop("bridge")
    graph.pop(nodes["T2SVLoadBridge"])
    second = {"class_type": "T2SVJointSampler", "inputs": dict(sampler["inputs"])}
    sampler["inputs"].pop("audio_latent", None)
    second["inputs"].pop("video_latent", None)
    told = {"model": sampler["inputs"]["model"], "conditioning": sampler["inputs"]["conditioning"],
            "alignment": ["80", 0], "video_latent": [nodes["T2SVJointSampler"], 0], "strength": 1.0}  # fmt: skip
    graph["80"] = {"class_type": "T2SVLoadAlignment", "inputs": {"alignment_file": "both.safetensors"}}
    graph["81"] = {"class_type": "T2SVConditionOnPicture", "inputs": told}
    second["inputs"] |= {"model": ["81", 0], "conditioning": ["81", 1], "audio_latent": [empty, 1]}
    graph["82"] = second
    graph[nodes["T2SVDecodeAV"]]["inputs"]["audio_samples"] = ["82", 1]
    return graph


def write_models(root: str | Path, seed: int = 0) -> Path:
    """Both folders and the bridge file under one root: ``wan``, ``stable_audio``, ``bridge.safetensors``."""
    root = Path(root)
    write_wan_folder(root / "wan", seed)
    write_stable_audio_folder(root / "stable_audio", seed)
    write_bridge(root / "bridge.safetensors", seed=seed)
    return root


class Sheet(torch.nn.Module):
    """A module that can leave ``meta``, with new numbers; of ``size`` float32."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(size))

    def to(self, device: torch.device | str) -> Sheet:
        self.weight = torch.nn.Parameter(torch.zeros(len(self.weight), device=device))
        return self

    @property
    def device(self) -> torch.device:
        return self.weight.device


PAV_GRID, PAV_CHANNELS, PAV_TEXT = (4, 2, 3), 4, 16
PAV_AUTOENCODER = {
    "grid": PAV_GRID,
    "extent": {"frames": 8, "height": 16, "width": 24, "fps": "8"},
    "sound": {"hop": 100, "columns": 9, "bands": 8, "window": 256, "sample_rate": 3600},
    "latent_channels": PAV_CHANNELS,
    "body": {"width": 16, "encoder": 1, "decoder": 1, "heads": 2, "head_width": 8, "summary_depth": 1,
             "summary_heads": 2, "summary_hidden": 16},
    "fusion": {"heads": 2, "segments": 3},
}  # fmt: skip
PAV_TRANSFORMER = {
    "grid": PAV_GRID, "latent_channels": PAV_CHANNELS, "width": 24, "depth": 2, "heads": 3, "text_width": PAV_TEXT,
    "fps": 8.0,
}  # fmt: skip


# 9 frames of 32×32 at 15 fps, which the world makes too.
PAV_WORLD = {
    "grid": (3, 4, 4),
    "extent": {"frames": 9, "height": 32, "width": 32, "fps": "15"},
    "sound": {"hop": 90, "columns": 8, "bands": 8, "window": 256, "sample_rate": 3600},
}


def write_pav_dit_folder(
    path: str | Path, seed: int = 0, *, extent: dict[str, object] | None = None, **note: object
) -> Path:
    """A PAV-DiT folder: transformer, autoencoder, text_encoder, tokenizer, model.json; 24×16, 8 frames at 8 fps.

    ``extent``, such as ``PAV_WORLD``, makes another clip.
    """
    import json

    from sounding_video.models.pav_dit.mdsa import PavDitAutoencoder
    from sounding_video.models.pav_dit.stdit import PavDitTransformer
    from torch import nn
    from transformers import T5Config, T5EncoderModel

    path = Path(path)
    vocabulary = write_tokenizer(path / "tokenizer", 32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        grid = {"grid": extent["grid"]} if extent else {}
        transformer = PavDitTransformer(**{**PAV_TRANSFORMER, **grid})
        autoencoder = PavDitAutoencoder(**{**PAV_AUTOENCODER, **(extent or {})})
        # As after training: picture and sound hear each other, in the transformer and in the decoder.
        for part in (transformer.temporal, *autoencoder.planes.values(), *autoencoder.blocks.values()):
            for parameter in part.parameters():
                nn.init.normal_(parameter, std=0.2)
        autoencoder.latent_means.normal_()
        autoencoder.latent_deviations.uniform_(0.5, 2.0)
        config = T5Config(vocab_size=vocabulary, d_model=PAV_TEXT, d_kv=8, d_ff=24, num_layers=2, num_heads=2,
                          pad_token_id=0, eos_token_id=1)  # fmt: skip
        T5EncoderModel(config).save_pretrained(path / "text_encoder")
    transformer.save_pretrained(path / "transformer")
    autoencoder.save_pretrained(path / "autoencoder")
    said = {"num_steps": 3, "video_cfg": 3.0, "audio_cfg": 3.0, **note}
    (path / "model.json").write_text(json.dumps(said), encoding="utf-8")
    return path


def pav_dit_graph() -> dict[str, dict[str, object]]:
    """A workflow with the model ``planes``: a text to a clip, then a sound for its picture, a picture for its sound."""

    def node(class_type: str, **inputs: object) -> dict[str, object]:
        return {"class_type": class_type, "inputs": inputs}

    model, codecs = ["1", 0], {"video_codec": ["1", 3], "audio_codec": ["1", 4]}
    extent = {"width": 832, "height": 480, "num_frames": 81, "batch_size": 1, "defaults": "from the model"}
    options = {
        "steps": 2, "video_guidance_scale": 3.0, "audio_guidance_scale": 3.0, "seed": 0, "schedule": "lockstep",
        "flow_sigmas": "diffusers-0.36", "guidance_batching": "auto", "defaults": "from the model",
    }  # fmt: skip
    texts = {"video_caption": "a dog", "audio_caption": "a bark", "video_negative": "", "audio_negative": ""}
    graph = {
        "1": node("T2SVLoadPavDit", pav_dit_model="planes", dtype="float32", attention="auto", offload="auto"),
        "2": node("T2SVEmptyAVLatent", **extent, fps=15.0, **codecs),
        "3": node("T2SVEncodeCaptions", **texts, seconds=["2", 3], video_text_encoder=["1", 1],
                  audio_text_encoder=["1", 2]),
        "7": node("T2SVEncodeClip", images=["5", 0], audio=["5", 1], fps=["2", 2], start=0.0, model_fps=15.0,
                  after_the_end="hold and silence", tiling="auto", **extent, **codecs),
    }  # fmt: skip
    tasks = ({"task": "sound for the picture"}, {"task": "picture for the sound"})
    for sampler, source, task in (("4", "2", {}), ("8", "7", tasks[0]), ("11", "7", tasks[1])):
        decoder, mux = str(int(sampler) + 1), str(int(sampler) + 2)
        graph |= {
            sampler: node("T2SVJointSampler", model=model, conditioning=["3", 0], video_latent=[source, 0],
                          audio_latent=[source, 1], **options, **task),
            decoder: node("T2SVDecodeAV", video_samples=[sampler, 0], audio_samples=[sampler, 1], fps=["2", 2],
                          tiling="auto", **codecs),
            mux: node("T2SVMux", images=[decoder, 0], audio=[decoder, 1], fps=["2", 2], filename_prefix="planes",
                      format="mp4", writer="pyav"),
        }  # fmt: skip
    return graph


def hooked_forward(tower: Tower, modality: Modality, points: tuple[int, ...]) -> Callable[[Stop], torch.Tensor]:
    """A whole forward with a hook behind the blocks at ``points``, as a foreign model has it."""

    def run(stop: Stop) -> torch.Tensor:
        state, start = tower.enter(modality), 0
        for point in points:
            state = tower.walk(state, start, point + 1)
            state = state.with_hidden(stop(point, state))
            start = point + 1
        return tower.leave(tower.walk(state, start, tower.num_blocks))

    return run


def random_texts() -> Conditioning:
    """Encoded captions as the small towers read them, with negatives and the sound's length."""
    from sounding_video.core.types import Conditioning, ModalityConditioning

    generator = torch.Generator().manual_seed(0)
    rows = [torch.randn(1, length, 16, generator=generator) for length in (5, 5, 7, 7)]
    duration = torch.randn(1, 1, 32, generator=generator)
    return Conditioning(ModalityConditioning(*rows[:2]), ModalityConditioning(*rows[2:], duration))
