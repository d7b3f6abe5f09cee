"""Caption encoders that learn with their towers: what learns, what is written, and that nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sounding_video.core.errors import InputError
from sounding_video.core.progress import Progress
from sounding_video.models.plan.training import training_needs
from sounding_video.models.text._encoder import PromptEncoder
from sounding_video.models.text.t5 import T5TextEncoder
from sounding_video.models.text.umt5 import UMT5TextEncoder
from sounding_video.models.weights.find import find_models
from sounding_video.models.weights.load import load_stable_audio, load_wan
from sounding_video.training.assembly import assemble, build_workbench
from sounding_video.training.batches import Batches
from sounding_video.training.config import TrainConfig
from sounding_video.training.log import read_log
from sounding_video.training.tasks.base import LOADING
from sounding_video.training.texts import TaughtText
from sounding_video.training.trainer import train
from training_runs import Died, bench_of, dying_at

CAPTIONS = ["", "a red ball bounces on a wooden floor", "a ball"]
SIDES = pytest.mark.parametrize("side", ["video", "audio"])


def run_of(small_run: Callable[..., TrainConfig], side: str, *more: str) -> TrainConfig:
    return small_run(f"pocket_{side}", f"trainable={side}_tower,{side}_text", *more)


def encoders(models: Path) -> dict[str, PromptEncoder]:
    found = find_models(models)
    return {
        "video": load_wan(found.video, LOADING, text_length=16).text,
        "audio": load_stable_audio(found.audio, LOADING).text,
    }


@SIDES
def test_tokens_give_what_captions_are_encoded_to(small_models_dir: Path, side: str) -> None:
    encoder = encoders(small_models_dir)[side]
    taught = TaughtText(encoder).train().requires_grad_(True)
    embedded = taught(*encoder.tokenize(CAPTIONS))
    torch.testing.assert_close(embedded, encoder.encode(CAPTIONS), atol=1e-6, rtol=1e-5)
    assert embedded.requires_grad and torch.equal(embedded, taught(*encoder.tokenize(CAPTIONS)))  # no dropout
    (shortest,) = taught(*encoder.tokenize([""]))
    assert shortest.shape[0] == encoder.max_length and not shortest[1:].any()


@SIDES
def test_a_first_step_is_that_of_a_frozen_encoder(small_run, side: str) -> None:
    """The same clips, noise, times and dropped texts; only where gradients go is another."""
    losses = []
    for trainable in (f"{side}_tower", f"{side}_tower,{side}_text"):
        bench, batch = bench_of(small_run(f"pocket_{side}", f"trainable={trainable}"))
        assert (f"{side}_ids" in batch.tensors) == (f"{side}_text" not in batch.tensors) == ("_text" in trainable)
        losses.append(bench.step(batch.tensors)["total"])
    torch.testing.assert_close(*losses, atol=1e-6, rtol=1e-5)


@SIDES
def test_it_learns_and_is_laid_over_the_model(small_run, small_models_dir, tmp_path, side: str) -> None:
    config = run_of(small_run, side)
    train(config, tmp_path / "run")
    laid = assemble(config.models.root, (tmp_path / "run",), tmp_path / "models")
    before, after = encoders(small_models_dir)[side], encoders(laid)[side]
    assert not torch.allclose(before.encode(CAPTIONS[1:]), after.encode(CAPTIONS[1:]), atol=1e-3)
    other = {"video": "audio", "audio": "video"}[side]
    assert torch.equal(*(encoders(models)[other].encode(CAPTIONS) for models in (small_models_dir, laid)))
    if side == "audio":
        assert torch.equal(before.duration(0, 2.0), after.duration(0, 2.0))


def test_both_learn_beside_bridges(small_run) -> None:
    bench, batch = bench_of(small_run("pocket_bridges", "trainable=bridges,video_text,audio_text"))
    bench.step(batch.tensors)["total"].backward()
    names = {name.split(".")[0] for name in bench.parameters}
    assert names == {"joint", "texts"} and all(each.grad is not None for each in bench.parameters.values())
    kinds = {side: type(text.encoder) for side, text in bench.step.texts.items()}
    assert kinds == {"video": UMT5TextEncoder, "audio": T5TextEncoder}


def test_a_run_that_was_cut_off_goes_on_exactly(small_run, loaded_anew, tmp_path) -> None:
    config = run_of(small_run, "audio", "optimizer.ema_decay=0.9", "saving.every=2")

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(config, whole)
    with pytest.raises(Died):
        train(config, cut, progress=Progress(dying_at(3)))
    train(config, cut, resume=True)
    totals = [[row["total"] for row in read_log(run / "loss.jsonl")] for run in (whole, cut)]
    assert len(totals[0]) == 4 and totals[0] == pytest.approx(totals[1], abs=1e-6)


def test_an_encoder_that_is_not_named_is_not_part_of_the_step(small_run) -> None:
    """It may be as large as the tower; then it would lie on the card."""
    bench = build_workbench(config := small_run("pocket_video"), Path(config.models.root))
    assert not bench.step.texts and not any("text" in name.split(".")[0] for name, _ in bench.step.named_parameters())


def test_a_given_side_s_encoder_is_refused(small_run) -> None:
    with pytest.raises(InputError, match="a trainable part is not in this task: got 'video_text'"):
        config = small_run("pocket_avlink_v2a", "trainable=bridges,video_text")
        build_workbench(config, Path(config.models.root))


def test_a_step_s_memory_is_foretold(small_run) -> None:
    """An encoder that learns has gradients and moments, and the activations of its captions."""

    def peak(trainable: str) -> int:
        config = small_run("pocket_video", f"trainable={trainable}")
        bench = build_workbench(config, Path(config.models.root))
        row = Batches(config, bench, Path(config.data.cache)).samples.empty_row()
        card = torch.device("cuda")
        return training_needs(bench.step, row, batch_size=2, device=card, averaged=False).peak_bytes

    encoder = build_workbench(run_of(small_run, "video"), Path(small_run("pocket_video").models.root)).step.texts
    num_bytes = sum(parameter.nbytes for parameter in encoder.parameters())
    assert peak("video_tower,video_text") > peak("video_tower") + 3 * num_bytes
