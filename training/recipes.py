"""Recipes: a run is a function that returns a frozen configuration. ``key=value`` overrides change it afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..core.registry import Registry
from .config import (
    BridgesConfig,
    DataConfig,
    ModelsConfig,
    ObjectiveConfig,
    OptimizerConfig,
    SavingConfig,
    TrainConfig,
)

RECIPES: Registry[Callable[[], TrainConfig]] = Registry("recipe")

# The bundled model's own: benchmarks/pocket/build.py.
POCKET_BRIDGES = BridgesConfig(
    rope="time_aligned",
    video_points=(1, 3, 5),
    audio_points=(1, 3, 5),
    qk_width=192,
    num_heads=6,
    gate_bias=1.0,
    moment_bias=3.0,
)
POCKET_CODEC_DATA = DataConfig(num_clips=2400, num_frames=33, width=64, height=64, keep_media=True)
POCKET_DATA = replace(POCKET_CODEC_DATA, num_clips=3200, looks=8, sound_latents="cepstral", expanded_share=0.4)
# The bundled model's own text length (pocket.json): the world's captions fit.
POCKET_MODELS = ModelsConfig(text_length=128)
POCKET_OPTIMIZER = OptimizerConfig(
    lr=5e-4, weight_decay=1e-2, betas=(0.9, 0.99), max_grad_norm=1.0, warmup_steps=200, ema_decay=0.999
)
POCKET_CODEC_OPTIMIZER = replace(POCKET_OPTIMIZER, lr=3e-4)


@RECIPES.register("bridgedit")
def bridgedit() -> TrainConfig:
    """The paper, done right: bridges and the last five blocks of each tower (BridgeDiT section 4.1).

    AdamW 5e-5, decay 1e-3, betas (0.9, 0.95); 1 000 steps of warm-up, cosine to 1e-6, 15 000 steps; bfloat16 autocast
    over float32 weights; one uniform t for both towers with t_V = 1000·t_A; text dropout 0.1 a modality.
    """
    return TrainConfig(
        recipe="bridgedit",
        task="joint",
        trainable=("bridges", "video_last:5", "audio_last:5"),
        batch_size=2,
        models=ModelsConfig(root="models", gradient_checkpointing=True),
        data=DataConfig(source="data/manifest.jsonl", crops_per_clip=4),
    )


@RECIPES.register("bridgedit_first5")
def bridgedit_first5() -> TrainConfig:
    """As ``bridgedit``, with the first five blocks of each tower, which the released code's settings name."""
    return replace(bridgedit(), recipe="bridgedit_first5", trainable=("bridges", "video_first:5", "audio_first:5"))


@RECIPES.register("bridgedit_official")
def bridgedit_official() -> TrainConfig:
    """What the released code really runs, for comparison only (BridgeDiT reference, sections 6 and 8).

    Rate 1e-4 without decay, constant after the warm-up; bfloat16 weights and moments; no text dropout; t from one Sobol
    sequence in bfloat16 and trunc(999·t); the head of each clip, repeated when short; mono; 512 text tokens. Its five
    trainable blocks are the first ones, but its re-entrant checkpoints give no gradient to blocks before the first
    bridge: only video block 4 and audio blocks 3 and 4 learn. Here the others are frozen, which is the same.
    """
    return TrainConfig(
        recipe="bridgedit_official",
        task="joint",
        trainable=("bridges", "video_blocks:4", "audio_blocks:3-4"),
        batch_size=2,
        precision="pure-bf16",
        models=ModelsConfig(root="models", text_length=512, gradient_checkpointing=True),
        data=DataConfig(source="data/manifest.jsonl", crop="head", short="loop", mono=True),
        objective=ObjectiveConfig(
            timestep="official", draw="sobol-bf16", video_text_dropout=0.0, audio_text_dropout=0.0
        ),
        optimizer=OptimizerConfig(lr=1e-4, weight_decay=0.0, decay="constant"),
    )


@RECIPES.register("pocket_wan_vae")
def pocket_wan_vae() -> TrainConfig:
    """The pocket model's video codec, on pictures alone: squares of 32 pixels, 9 frames long, of the world's clips."""
    return TrainConfig(
        recipe="pocket_wan_vae",
        task="video_codec",
        models=POCKET_MODELS,
        trainable=("video_codec",),
        num_steps=6_000,
        batch_size=4,
        precision="float32",
        data=replace(POCKET_CODEC_DATA, num_frames=9, clip_frames=33, crop_size=32),
        objective=ObjectiveConfig(kl_weight=1e-6),
        optimizer=POCKET_CODEC_OPTIMIZER,
    )


@RECIPES.register("pocket_wan_vae_long")
def pocket_wan_vae_long() -> TrainConfig:
    """Goes on with ``pocket_wan_vae`` on longer windows, so that the decoder stays true to the end of a clip."""
    short = pocket_wan_vae()
    return replace(
        short,
        recipe="pocket_wan_vae_long",
        num_steps=1_500,
        batch_size=2,
        data=replace(short.data, num_frames=17),
        optimizer=replace(short.optimizer, lr=2e-4, warmup_steps=100),
    )


@RECIPES.register("pocket_oobleck")
def pocket_oobleck() -> TrainConfig:
    """The pocket model's sound decoder, on sound alone: from cepstral codes to windows of 9 frames, 0.6 s."""
    return TrainConfig(
        recipe="pocket_oobleck",
        task="audio_codec",
        models=POCKET_MODELS,
        trainable=("audio_decoder",),
        num_steps=3_200,
        batch_size=4,
        precision="float32",
        data=replace(POCKET_CODEC_DATA, num_frames=9, clip_frames=33),
        objective=ObjectiveConfig(codes="cepstral", code_noise=0.1),
        optimizer=replace(POCKET_OPTIMIZER, lr=6e-4, warmup_steps=100),
    )


@RECIPES.register("pocket_oobleck_long")
def pocket_oobleck_long() -> TrainConfig:
    """Goes on with ``pocket_oobleck``: what is left above 10 kHz takes longest to go quiet."""
    return replace(pocket_oobleck(), recipe="pocket_oobleck_long", num_steps=5_000)


@RECIPES.register("pocket_oobleck_encoder")
def pocket_oobleck_encoder() -> TrainConfig:
    """The pocket model's sound encoder: what its decoder understands. Laid over ``pocket_oobleck``."""
    decoder = pocket_oobleck()
    return replace(
        decoder,
        recipe="pocket_oobleck_encoder",
        trainable=("audio_encoder",),
        num_steps=4_000,
        optimizer=replace(POCKET_OPTIMIZER, lr=1e-3),
    )


@RECIPES.register("pocket_video")
def pocket_video() -> TrainConfig:
    """The pocket model's video tower, on pictures alone. Needs the trained codec: ``models.overlays=RUN``."""
    return TrainConfig(
        recipe="pocket_video",
        task="video",
        models=POCKET_MODELS,
        trainable=("video_tower",),
        num_steps=6_900,
        batch_size=16,
        precision="float32",
        data=replace(POCKET_DATA, num_clips=1600),
        objective=ObjectiveConfig(times="lockstep"),
        optimizer=replace(POCKET_OPTIMIZER, lr=1e-3),
    )


@RECIPES.register("pocket_audio")
def pocket_audio() -> TrainConfig:
    """The pocket model's audio tower, on sound alone. Needs the trained codec: ``models.overlays=RUN``."""
    return replace(
        pocket_video(),
        recipe="pocket_audio",
        task="audio",
        trainable=("audio_tower",),
        num_steps=13_200,
        data=POCKET_DATA,
    )


@RECIPES.register("pocket_bridges")
def pocket_bridges() -> TrainConfig:
    """The pocket model's bridges between frozen towers. Needs the four runs before: ``models.overlays=…``."""
    return TrainConfig(
        recipe="pocket_bridges",
        task="joint",
        models=POCKET_MODELS,
        trainable=("bridges",),
        num_steps=9_550,
        batch_size=8,
        precision="float32",
        bridges=POCKET_BRIDGES,
        data=POCKET_DATA,
        objective=ObjectiveConfig(times="lockstep", flow_shift=1.0),
        optimizer=replace(POCKET_OPTIMIZER, lr=1e-3, weight_decay=1e-3, betas=(0.9, 0.95), warmup_steps=100),
        saving=SavingConfig(every=200),
    )


@RECIPES.register("pocket_bridges_clock")
def pocket_bridges_clock() -> TrainConfig:
    """As ``pocket_bridges``, with positions on the clock: pictures stand where they sound."""
    plain = pocket_bridges()
    return replace(plain, recipe="pocket_bridges_clock", bridges=replace(POCKET_BRIDGES, rope="clock"))


def recipe(name: str, overrides: list[str] | tuple[str, ...] = ()) -> TrainConfig:
    """A recipe's configuration with overrides applied.

    Raises:
        InputError: unknown recipe or key, or a value of the wrong type.
    """
    return RECIPES.get(name)().override(overrides)
