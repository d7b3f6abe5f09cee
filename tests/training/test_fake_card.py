"""Training steps of the published models on a card that is not there, and what is told of them before they begin."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from fake_card import SizedCard, fake_card, learn, published
from sounding_video.core.clock import Timeline
from sounding_video.core.device import Placement
from sounding_video.core.errors import PlacementError
from sounding_video.core.pair import Pair
from sounding_video.core.progress import Progress
from sounding_video.core.residency import managed_by
from sounding_video.models.bridges import BRIDGES
from sounding_video.models.parts import AudioParts, VideoParts
from sounding_video.models.plan.published import SHAPES
from sounding_video.models.plan.training import TrainingNeeds, training_needs
from sounding_video.training.assembly import build_workbench
from sounding_video.training.batches import Batches, Share
from sounding_video.training.config import TrainConfig
from sounding_video.training.recipes import recipe
from sounding_video.training.room import foretell
from sounding_video.training.tasks import TRAINING_TASKS
from sounding_video.training.trainable import select
from sounding_video.training.trainer import train

CUDA = torch.device("cuda")
TIMELINE = Timeline(81, Fraction(15), 832, 480)
ROW = {
    "t": (),
    "video_latents": TIMELINE.video_latent_shape,
    "video_noise": TIMELINE.video_latent_shape,
    "video_text": (1024, 4096),
    "audio_latents": TIMELINE.audio_latent_shape,
    "audio_noise": TIMELINE.audio_latent_shape,
    "audio_text": (128, 768),
    "duration": (1, 1536),
}
# Of one clip; 1.2 billion numbers learn beside Wan 1.3B, 1.5 billion beside 14B, each of 12 bytes beside its weight.
PEAK_OF_STAGE_2 = {"wan-1.3b": 35.5e9, "wan-14b": 104.7e9}
BOTH_HEAR = [kind for kind in BRIDGES if BRIDGES.get(kind).listeners == {"video", "audio"}]


def made_step(shape: str, kind: str, *overrides: str, name: str = "bridgedit") -> torch.nn.Module:
    """What a run of a recipe trains, without numbers; its weights are float32, its passes bfloat16."""
    config = recipe(name, [f"bridges.kind={kind}", *overrides])
    task, towers = TRAINING_TASKS.get(config.task)(config), published(shape, torch.float32).joint
    rest = {"codec": None, "text": None, "placement": Placement(torch.device("cpu"), torch.float32), "name": shape}
    with torch.device("meta"):
        step = task.make_step(Pair(VideoParts(towers.video, **rest), AudioParts(towers.audio, **rest)), TIMELINE)
    select(config.trainable, step, task.parts(step))
    for parameter in task.idle(step):
        parameter.requires_grad_(False)
    return step.train()


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        pytest.param(shape, kind, marks=() if (shape, kind) == (SHAPES[0], "dual_cross") else pytest.mark.slow)
        for shape in SHAPES
        for kind in BOTH_HEAR
    ],
)
def test_a_training_step_takes_what_is_foretold(shape: str, kind: str) -> None:
    assert_foretold(made_step(shape, kind))


# AV-Link's own form: width 1024, 16 heads, eight blocks spread over both towers.
EIGHT_BLOCKS = (
    "bridges.rope=token_clock", "bridges.qk_width=1024", "bridges.num_heads=16",
    "bridges.video_points=1,5,9,13,16,20,24,28", "bridges.audio_points=1,4,7,10,13,16,19,22",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("task", ["joint", "sound_for_picture"])
def test_a_step_of_eight_fusion_blocks_takes_what_is_foretold(task: str) -> None:
    step = made_step(SHAPES[0], "fusion_block", f"task={task}", "trainable=bridges", *EIGHT_BLOCKS)
    learning = {name for name, parameter in step.named_parameters() if parameter.requires_grad}
    hearing = ("joint.bridges.7.mlp_1.", "joint.bridges.7.attn.q_proj_1.", "joint.bridges.7.attn.q_norm_1.")
    all_of_them = {name for name, _ in step.named_parameters() if name.startswith("joint.bridges.")}
    idle = {name for name in all_of_them if name.startswith(hearing)} if task != "joint" else set()
    assert learning == all_of_them - idle
    assert_foretold(step)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_a_step_of_loras_takes_what_is_foretold(shape: str) -> None:
    """Of all that is there, only what stands beside the frozen layers has gradients and moments."""
    step = made_step(shape, "dual_cross", "trainable=video_lora:16:8,audio_lora:16")
    assert {name.rpartition(".")[2] for name, p in step.named_parameters() if p.requires_grad} == {"down_0", "up_0"}
    assert_foretold(step)
    published.cache_clear()  # its layers have LoRAs beside them now


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_a_step_of_syncflows_stage_2_takes_what_is_foretold(shape: str) -> None:
    """Eight adaptors and the audio tower learn."""
    step = made_step(shape, "modality_adaptor", name="syncflow_audio")
    foretold = assert_foretold(step, ROW | {"audio_t": (), "audio_weight": ()})
    assert foretold.peak_bytes == pytest.approx(PEAK_OF_STAGE_2[shape], rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_of_the_pictures_tower_waits_for_a_gradient_in_stage_2(shape: str) -> None:
    """With bridges in which the picture hears too, each of its blocks behind the first bridge keeps what went in."""
    one_way, both_ways = (
        training_needs(
            made_step(shape, kind, name="syncflow_audio"), empty(ROW), batch_size=1, device=CUDA, averaged=False
        )
        for kind in ("modality_adaptor", "dual_cross")
    )
    assert passing(one_way) < 0.6 * passing(both_ways)


def passing(needs: TrainingNeeds) -> int:
    """What a step holds beside what lasts."""
    return needs.peak_bytes - needs.weights_bytes - needs.gradient_bytes - needs.optimizer_bytes


def empty(row: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    return {name: torch.empty(size, device="meta") for name, size in row.items()}


def assert_foretold(step: torch.nn.Module, row: dict[str, tuple[int, ...]] = ROW) -> TrainingNeeds:
    """A whole step on the card, and what is told of it."""
    with fake_card() as card:
        learning = learn(step, empty(row))
        found = {(p.grad is not None and p.grad.dtype, p.grad is not None and p.grad.device.type) for p in learning}
    assert found == {(torch.float32, "cuda")}, "all that learns has a gradient on the card"
    foretold = training_needs(step, empty(row), batch_size=1, device=CUDA, averaged=False)
    assert foretold.peak_bytes == pytest.approx(card.peak, rel=0.05)
    parameters = sum(parameter.numel() for parameter in learning)
    assert (foretold.gradient_bytes, foretold.optimizer_bytes) == (4 * parameters, 8 * parameters)
    return foretold


def prepared(config: TrainConfig) -> tuple[object, Batches]:
    bench = build_workbench(config, Path(config.models.root))
    return bench, Batches(config, bench, Path(config.data.cache))


@pytest.mark.parametrize(
    "name", ["pocket_bridges", "pocket_video", "pocket_audio", "pocket_pav_dit", "pocket_pav_dit_mdsa"]
)
def test_rows_are_shaped_as_planned(name: str, small_run: Callable[..., TrainConfig]) -> None:
    _, batches = prepared(small_run(name))
    batches.prepare(torch.device("cpu"), Share(), Progress())
    planned, row = batches.samples.empty_row(), batches.at(0, 1).tensors
    assert {key: (tensor.shape, tensor.dtype) for key, tensor in planned.items()} == {
        key: (tensor.shape[1:], tensor.dtype) for key, tensor in row.items()
    }


def test_what_makes_a_step_larger_is_foretold(small_run: Callable[..., TrainConfig]) -> None:
    def peak(*overrides: str, processes: int = 1) -> int:
        settings = ("precision=bf16", "optimizer.ema_decay=0", "trainable=audio_last:2")
        config = small_run("pocket_audio", *settings, *overrides)
        bench, batches = prepared(config)
        needs = {"batch_size": config.batch_size, "averaged": bool(config.optimizer.ema_decay), "copies": processes}
        return training_needs(bench.step, batches.samples.empty_row(), device=CUDA, **needs).peak_bytes

    plain = peak()
    assert peak("batch_size=4", processes=2) > peak("batch_size=4") > plain
    assert peak("trainable=audio_tower", "optimizer.ema_decay=0.9") > plain
    assert peak("models.gradient_checkpointing=true") < plain


def test_a_run_that_fits_is_told_and_one_that_does_not_is_refused(small_run: Callable[..., TrainConfig]) -> None:
    config = small_run("pocket_bridges")
    bench, batches = prepared(config)
    with managed_by(SizedCard(80e9)):
        told = foretell(bench, batches.samples, config, CUDA)
    assert told.startswith("a training step needs 0.3 GB of 80.0 GB free memory: ")
    assert "weights" in told and "optimizer moments" in told and "averaged weights" in told
    with managed_by(SizedCard(1e6)), pytest.raises(PlacementError, match="does not fit the memory of cuda") as refused:
        foretell(bench, batches.samples, config, CUDA)
    assert "got 1.0 MB free" in str(refused.value) and "models.gradient_checkpointing=true" in str(refused.value)


def test_a_run_is_refused_before_it_prepares_anything(
    small_run: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_run("pocket_bridges", f"data.cache={tmp_path / 'cache'}")
    monkeypatch.setattr(Accelerator, "device", CUDA)
    with managed_by(SizedCard(1e6)), pytest.raises(PlacementError, match="a training step does not fit"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "cache").exists()
