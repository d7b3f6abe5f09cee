"""SAVA's second stage at the published sizes on a card that is not there: by tokens and frame by frame, as foretold."""

from __future__ import annotations

import copy
from fractions import Fraction

import pytest
import torch
from fake_card import fake_card, learn, published
from sounding_video.core.clock import Timeline
from sounding_video.core.pair import MODALITIES
from sounding_video.models.alignment.selective import Alignment, AlignmentConfig
from sounding_video.models.joint import JointModel
from sounding_video.models.plan.published import SHAPES
from sounding_video.models.plan.training import training_needs
from sounding_video.training.conditioned_step import ConditionedStep
from sounding_video.training.recipes import recipe
from sounding_video.training.tasks import TRAINING_TASKS
from sounding_video.training.trainable import select

CUDA = torch.device("cuda")
TIMELINE = Timeline(81, Fraction(15), 832, 480)
ROW = {
    "t": (),
    "condition_dropped": (),
    "text_dropped": (),
    "video_latents": TIMELINE.video_latent_shape,
    "video_noise": TIMELINE.video_latent_shape,
    "audio_latents": TIMELINE.audio_latent_shape,
    "audio_noise": TIMELINE.audio_latent_shape,
}
TEXTS = {"video": {"video_text": (1024, 4096)}, "audio": {"audio_text": (128, 768), "duration": (1, 1536)}}


def made_step(name: str, side: str, num_blocks: int) -> ConditionedStep:
    """What a run of a recipe trains, without numbers; its weights are float32, its passes bfloat16."""
    config = recipe(name, ["models.gradient_checkpointing=false"])
    tower = copy.deepcopy(getattr(published(SHAPES[0], torch.float32).joint, side))  # LoRAs come to stand in it
    del tower.blocks[num_blocks:]
    widths = {"tokens": {f"{side}_text_width": tower.text_width}, "frames": {f"{side}_stream_width": tower.width}}
    with torch.device("meta"):
        alignment = Alignment(AlignmentConfig(**widths[config.alignment.inject]))
        joint = JointModel(*(tower if each == side else None for each in MODALITIES))
        section = config.alignment
        step = ConditionedStep(
            joint, alignment, section.condition_noise, config.objective, config.precision, TIMELINE.times
        )
        select(config.trainable, step, TRAINING_TASKS.get(config.task)(config).parts(step))
    return step.train()


@pytest.mark.parametrize(
    ("name", "side", "num_blocks", "learning"),
    [
        # The LoRA, its tokens, the null token. Its blocks are alike; all of them take ten seconds.
        ("sava_audio", "audio", 4, 4 * 147_456 + 443_904 + 768),
        pytest.param("sava_audio", "audio", 24, 24 * 147_456 + 443_904 + 768, marks=pytest.mark.slow),
        pytest.param("sava_audio_frames", "audio", 24, 24 * 344_064 + 513 * 1536 + 1536, marks=pytest.mark.slow),
        pytest.param("sava_video_frames", "video", 30, 2 * 5_898_240 + 513 * 1536 + 1536, marks=pytest.mark.slow),
    ],
)
def test_a_step_takes_what_is_foretold(name: str, side: str, num_blocks: int, learning: int) -> None:
    step, sizes = made_step(name, side, num_blocks), ROW | TEXTS[side]
    empty = {key: torch.empty(size, device="meta") for key, size in sizes.items()}
    with fake_card() as card:
        learned = learn(step, empty)
        assert sum(parameter.numel() for parameter in learned) == learning
        assert all(parameter.grad is not None and parameter.grad.is_cuda for parameter in learned)
    foretold = training_needs(step, empty, batch_size=1, device=CUDA, averaged=False)
    # Of the picture's own attention with a LoRA beside it 7 % too much is foretold: 94 GB instead of 88.
    assert foretold.peak_bytes == pytest.approx(card.peak, rel=0.05 if name == "sava_audio" else 0.08)
