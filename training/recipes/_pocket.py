"""What the recipes of the bundled model share."""

from __future__ import annotations

from dataclasses import replace

from ..sections import BridgesConfig, DataConfig, ModelsConfig, OptimizerConfig

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
