"""What is trained and what the loss is: exactly the named parts, each with a gradient; the objective is joint_loss."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sounding_video.core.errors import InputError
from sounding_video.core.progress import SILENT
from sounding_video.models.bridges import BRIDGES
from sounding_video.models.bridges.config import READINGS
from sounding_video.sampling.schedules.lockstep import lockstep_times
from sounding_video.training.assembly import Workbench, build_workbench
from sounding_video.training.average import MovingAverage
from sounding_video.training.batches import Batches, Share
from sounding_video.training.config import TrainConfig
from sounding_video.training.objectives import TrainingBatch, add_noise, joint_loss
from sounding_video.training.randomness import draw_time, shuffled
from sounding_video.training.trainable import unused_in_bridge


def prepared(config: TrainConfig) -> tuple[Workbench, Batches]:
    bench = build_workbench(config, Path(config.models.root))
    batches = Batches(config, bench, Path(config.data.cache))
    batches.prepare(torch.device("cpu"), Share(), SILENT)
    return bench, batches


def wake_zero_layers(bench: Workbench) -> None:
    """Zero output layers hide what lies before them; after one real step they are not zero any more."""
    with torch.no_grad():
        for parameter in bench.parameters.values():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))


TRAINABLE = {
    ("pocket_bridges", "bridges"): ("joint.bridges.",),
    ("pocket_bridges", "bridges,video_last:1,audio_last:2"): (
        "joint.bridges.", "joint.video.model.blocks.2.", "joint.audio.model.transformer_blocks.1.",
        "joint.audio.model.transformer_blocks.2.",
    ),
    ("pocket_bridges", "bridges,video_first:2,audio_blocks:1"): (
        "joint.bridges.", "joint.video.model.blocks.0.", "joint.video.model.blocks.1.",
        "joint.audio.model.transformer_blocks.1.",
    ),
    ("pocket_video", "video_tower"): ("joint.video.model.",),
    ("pocket_audio", "audio_tower"): ("joint.audio.model.",),
    ("pocket_wan_vae", "video_codec"): ("vae.",),
    ("pocket_wan_vae", "video_decoder"): ("vae.decoder.", "vae.post_quant_conv."),
    ("pocket_wan_vae", "video_encoder"): ("vae.encoder.", "vae.quant_conv."),
    ("pocket_oobleck", "audio_codec"): ("vae.",),
    ("pocket_oobleck", "audio_decoder"): ("vae.decoder.",),
    ("pocket_oobleck", "audio_encoder"): ("vae.encoder.",),
}  # fmt: skip


@pytest.mark.parametrize("checkpointing", ["true", "false"])
@pytest.mark.parametrize(("name", "parts"), TRAINABLE)
def test_exactly_the_named_parts_learn_and_all_of_them(small_run, name: str, parts: str, checkpointing: str) -> None:
    """The published starvation (blocks before the first bridge without gradient) cannot happen."""
    config = small_run(name, f"trainable={parts}", f"models.gradient_checkpointing={checkpointing}")
    bench, batches = prepared(config)
    wanted = {n for n, _ in bench.step.named_parameters() if n.startswith(TRAINABLE[name, parts])}
    assert set(bench.parameters) == wanted != set()
    wake_zero_layers(bench)
    bench.step(batches.at(0, 2).tensors)["total"].backward()
    silent = [n for n, p in bench.step.named_parameters() if n in wanted and (p.grad is None or not p.grad.any())]
    assert silent == []
    assert [n for n, p in bench.step.named_parameters() if n not in wanted and p.grad is not None] == []


@pytest.mark.parametrize("kind", BRIDGES)
@pytest.mark.parametrize("reading", READINGS)
def test_every_kind_of_bridge_learns_wholly(small_run, kind: str, reading: str) -> None:
    """Layers that a one-way bridge only has for the file's sake are left out of the trainable set."""
    bench, batches = prepared(small_run("pocket_bridges", f"bridges.kind={kind}", f"bridges.reading={reading}"))
    wake_zero_layers(bench)
    bench.step(batches.at(0, 2).tensors)["total"].backward()
    assert [n for n, p in bench.parameters.items() if p.grad is None or not p.grad.any()] == []
    left_out = [n for n, p in bench.step.named_parameters() if "bridges.0." in n and not p.requires_grad]
    silent = unused_in_bridge(bench.step.joint.bridges)
    assert sorted(left_out) == sorted(f"joint.bridges.0.{name}" for name in silent)
    assert not left_out or len(BRIDGES.get(kind).listeners) == 1, "only one-way kinds have layers for the file's sake"


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        (
            "everything",
            "a trainable part is not in this task: got 'everything'; expected bridges, bridges_lora:16, video",
        ),
        ("video_last", "a trainable part is not written as it should be: got 'video_last'; expected video_last:5"),
        ("video_blocks:1-x", "as it should be: got 'video_blocks:1-x'; expected video_blocks:3-4"),
        ("bridges:2", "as it should be: got 'bridges:2'; expected bridges"),
        ("video_last:9", "a trainable part does not fit the tower: got video_last:9"),
        ("video_blocks:3", "blocks of a tower that has 3, numbered from 0"),
        ("video_codec", "a trainable part is not in this task: got 'video_codec'; expected bridges, bridges_lora:16, "),
    ],
)
def test_a_part_that_is_not_there_is_refused(small_run, parts: str, sentence: str) -> None:
    with pytest.raises(InputError) as error:
        prepared(small_run("pocket_bridges", f"trainable={parts}"))
    assert sentence in str(error.value)


def test_the_loss_is_the_papers_objective(small_run) -> None:
    bench, batches = prepared(small_run())
    wake_zero_layers(bench)
    tensors = batches.at(0, 3).tensors
    names = ("video_latents", "audio_latents", "video_text", "audio_text", "duration")
    noisy = add_noise(
        TrainingBatch(*(tensors[name] for name in names)),
        t=tensors["t"],
        video_noise=tensors["video_noise"],
        audio_noise=tensors["audio_noise"],
    )
    wanted = joint_loss(bench.step.joint, noisy)
    losses = bench.step(tensors)
    assert torch.equal(losses["total"], wanted.total)
    assert torch.equal(losses["video"] + losses["audio"], wanted.total)
    bf16 = bench.step
    bf16.precision = "bf16"
    rounded = bf16(tensors)["total"]
    assert rounded != wanted.total
    assert rounded.item() == pytest.approx(wanted.total.item(), rel=0.02)


def test_official_precision_is_bfloat16_throughout(small_run) -> None:
    bench, batches = prepared(small_run("pocket_bridges", "precision=pure-bf16", "objective.timestep=official"))
    assert {p.dtype for p in bench.step.parameters()} == {torch.bfloat16}
    assert torch.isfinite(bench.step(batches.at(0, 2).tensors)["total"])


def test_text_is_dropped_at_the_asked_rate_and_each_modality_alone(small_run) -> None:
    _, batches = prepared(small_run("pocket_bridges", "objective.video_text_dropout=0.3"))
    empty = {side: cache.read("") for side, cache in batches.samples.texts.items()}
    rows = [batches.at(position, 1).tensors for position in range(400)]
    dropped = torch.tensor([[torch.equal(row[f"{s}_text"][0], empty[s]) for s in ("video", "audio")] for row in rows])
    video, audio = dropped.float().mean(0).tolist()
    assert video == pytest.approx(0.3, abs=0.075)
    assert audio == pytest.approx(0.1, abs=0.05)
    both = float((dropped[:, 0] & dropped[:, 1]).float().mean())
    assert both == pytest.approx(0.03, abs=0.03)


def test_times_are_uniform_or_the_official_sobol() -> None:
    uniform = torch.tensor([draw_time("uniform", 0, i) for i in range(1000)])
    assert uniform.min() >= 0 and uniform.max() < 1
    assert float(uniform.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(uniform.var()) == pytest.approx(1 / 12, abs=0.01)
    sobol = [draw_time("sobol-bf16", 0, i) for i in range(64)]
    engine = torch.quasirandom.SobolEngine(1, scramble=True, seed=0)
    assert sobol == engine.draw(64)[:, 0].bfloat16().float().tolist()


def test_lockstep_times_are_drawn_together_and_each_modality_gets_its_own(small_run) -> None:
    config = small_run("pocket_bridges", "objective.times=lockstep")
    bench, batches = prepared(config)
    tensors = batches.at(0, 2).tensors
    drawn = torch.tensor([draw_time("uniform", 0, i) for i in range(2)])
    video, audio = lockstep_times(drawn, config.objective.flow_shift)
    assert torch.equal(tensors["t"], video) and torch.equal(tensors["audio_t"], audio)
    apart = bench.step(tensors)
    for name, time in (("video", video), ("audio", audio)):
        # A new bridge is the identity, so each loss is that of its tower at its own time.
        alone = bench.step({**tensors, "t": time, "audio_t": time})
        assert float(apart[name].detach()) == float(alone[name].detach())
    _, ahead = prepared(small_run("pocket_bridges", "objective.times=lockstep", "objective.flow_shift=0.5"))
    assert (ahead.at(0, 2).tensors["t"] < video).all() and torch.equal(ahead.at(0, 2).tensors["audio_t"], audio)
    _, shared = prepared(small_run("pocket_bridges", "objective.times=shared"))
    assert "audio_t" not in shared.at(0, 2).tensors


def test_an_epoch_gives_every_clip_once() -> None:
    assert sorted(shuffled(10, 0, 0)) == list(range(10))
    assert shuffled(10, 0, 0) != shuffled(10, 0, 1)


def test_moving_average_follows_its_formula() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2))
    average = MovingAverage({"w": parameter}, 0.5)
    wanted = 0.0
    for step in range(1, 30):
        parameter.data.fill_(float(step))
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        wanted = decay * wanted + (1 - decay) * step
    torch.testing.assert_close(average.tensors["w"], torch.full((2,), wanted))
