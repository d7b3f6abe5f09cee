"""SAVA's second stage with ``alignment.inject=frames``: who learns, where it begins, and what its file says."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from small_models import write_alignment
from sounding_video.core.errors import InputError
from sounding_video.core.pair import MODALITIES, OTHER
from sounding_video.models.weights.alignment import factors_of, load_alignment
from sounding_video.training.assembly import build_workbench, exported
from sounding_video.training.exports import ALIGNMENT_FILE
from sounding_video.training.log import read_log
from sounding_video.training.recipes import recipe
from sounding_video.training.step import JointStep
from sounding_video.training.trainer import train
from training_runs import bench_of

STAGE_2 = pytest.mark.parametrize("made", MODALITIES)


def words(made: str, *more: str) -> tuple[str, ...]:
    return ("alignment.inject=frames", f"trainable={made}_frames,{made}_lora:2::attn1+attn2", *more)


@STAGE_2
def test_law_11_a_new_reader_is_the_tower_as_it_is_to_the_bit(small_run, made: str) -> None:
    """Tokens of zeros are not, since the attention looks at them."""
    bench, batch = bench_of(small_run(f"pocket_sava_{made}", *words(made)))
    given = OTHER[made]
    own = {name: t for name, t in batch.tensors.items() if not name.startswith(f"{given}_") or name == "audio_t"}
    with torch.no_grad():
        assert torch.equal(bench.step(batch.tensors)["total"], JointStep.forward(bench.step, own)["total"])
        bench.step.alignment.reader_for(made).latent.weight.normal_()
        batch.tensors["condition_dropped"] = torch.zeros(2)
        assert not torch.equal(bench.step(batch.tensors)["total"], JointStep.forward(bench.step, own)["total"])
        batch.tensors["condition_dropped"] = torch.ones(2)
        assert torch.equal(bench.step(batch.tensors)["total"], JointStep.forward(bench.step, own)["total"])


@STAGE_2
def test_law_12_what_is_added_and_the_lora_learn_and_nothing_else(small_run, made: str) -> None:
    bench, batch = bench_of(small_run(f"pocket_sava_{made}", *words(made)))
    before = {name: tensor.clone() for name, tensor in bench.step.state_dict().items() if name not in bench.parameters}
    with torch.no_grad():
        for parameter in bench.parameters.values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    batch.tensors["condition_dropped"] = torch.tensor([1.0, 0.0])
    bench.step(batch.tensors)["total"].backward()
    learned = {name for name, parameter in bench.step.named_parameters() if parameter.grad is not None}
    assert learned == set(bench.parameters)
    assert all(parameter.grad.any() for parameter in bench.parameters.values())
    assert {name.split(".")[1] for name in learned if name.startswith("alignment.")} == {f"{made}_frames"}
    state = bench.step.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in before.items())


@STAGE_2
def test_each_step_of_the_tower_is_told_its_own_moment(small_run, made: str) -> None:
    """A change in one moment of the given side moves that moment's steps only, before any block."""
    bench, batch = bench_of(small_run(f"pocket_sava_{made}", *words(made, "alignment.condition_noise=0")))
    given, seen, plain = OTHER[made], [], JointStep.forward
    with torch.no_grad():
        bench.step.alignment.reader_for(made).latent.weight.normal_()
    batch.tensors["condition_dropped"] = torch.zeros(2)
    changed = {**batch.tensors, f"{given}_latents": batch.tensors[f"{given}_latents"].clone()}
    changed[f"{given}_latents"][:, :, -1] += 1

    def forward(self, given_batch):
        seen.append(given_batch[f"{made}_frames"].detach())
        return plain(self, given_batch)

    try:
        JointStep.forward = forward
        for each in (batch.tensors, changed):
            bench.step(each)
    finally:
        JointStep.forward = plain
    steps = batch.tensors[f"{made}_latents"].shape[2]
    assert seen[0].shape[1] == steps
    moved = (seen[0] != seen[1]).any(2).all(0)
    last = bench.step.alignment.edges(made, 3)[-2]
    assert moved.tolist() == [(step + 0.5) / steps >= last for step in range(steps)]


@STAGE_2
def test_law_14_the_file_says_the_way_and_keeps_the_other_towers_own(small_run, tmp_path, made: str) -> None:
    """What this tower had learned by tokens is replaced; that of the other one is passed on."""
    start = write_alignment(tmp_path / "start.safetensors", reads=MODALITIES, seed=3)
    more = (f"alignment.start={start}", "num_steps=3", "saving.every=1", "saving.keep=4", "optimizer.ema_decay=0")
    config = small_run(f"pocket_sava_{made}", *words(made, *more))
    train(config, tmp_path / "run")
    whole, file = read_log(tmp_path / "run" / "loss.jsonl"), (exported(tmp_path / "run") / ALIGNMENT_FILE).read_bytes()
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-0000003")
    train(config, tmp_path / "run", resume=True)
    assert [row["total"] for row in read_log(tmp_path / "run" / "loss.jsonl")] == [row["total"] for row in whole]
    assert (exported(tmp_path / "run") / ALIGNMENT_FILE).read_bytes() == file
    before, after = load_alignment(start), load_alignment(exported(tmp_path / "run") / ALIGNMENT_FILE)
    other = OTHER[made]
    assert (after.alignment.way(made), after.alignment.way(other)) == ("frames", "tokens")
    assert (after.notes[f"inject_{made}"], after.notes[f"inject_{other}"]) == ("frames", "tokens")
    assert set(after.loras) == set(MODALITIES)
    assert all(".attn1." in name or ".attn2." in name for name in factors_of(after)[made][1])
    kept = {name for name in before.alignment.state_dict() if not name.startswith(f"{made}_tokens.")}
    assert kept == {name for name in after.alignment.state_dict() if not name.startswith(f"{made}_frames.")}
    state = after.alignment.state_dict()
    assert all(torch.equal(state[name], before.alignment.state_dict()[name]) for name in kept)
    assert bool(after.alignment.reader_for(made).latent.weight.any())
    back = small_run(f"pocket_sava_{made}", f"alignment.start={exported(tmp_path / 'run') / ALIGNMENT_FILE}")
    assert build_workbench(back, Path(back.models.root)).step.alignment.way(made) == "tokens"


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("alignment.inject=film", "unknown alignment.inject: got 'film'; expected one of tokens, frames"),
        ("trainable=video_tokens", "a trainable part is not in this task: got 'video_tokens'; expected video_frames"),
    ],
)
def test_what_makes_no_sense_is_refused(small_run, override: str, sentence: str) -> None:
    with pytest.raises(InputError) as error:
        config = small_run("pocket_sava_video_frames", override)
        build_workbench(config, Path(config.models.root))
    assert sentence in str(error.value)


def test_runs_by_tokens_are_what_they_were() -> None:
    plain = recipe("pocket_sava_video")
    assert plain.hash == plain.override(["alignment.inject=tokens"]).hash != recipe("pocket_sava_video_frames").hash
    for side in ("audio", "video"):
        assert recipe(f"sava_{side}_frames").trainable == (f"{side}_frames", f"{side}_lora:16::attn1+attn2")
