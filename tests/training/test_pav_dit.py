"""Training of PAV-DiT: law 15 of its reference, what is learned, what is stored, and a new model from nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_models import PAV_AUTOENCODER, PAV_TRANSFORMER, PAV_WORLD, write_pav_dit_folder
from sounding_video.cli import main
from sounding_video.core.errors import InputError, MissingModelError
from sounding_video.models.families.pav_dit import load_autoencoder
from sounding_video.models.loading import load_models
from sounding_video.models.pav_dit import new
from sounding_video.models.pav_dit.mdsa import PavDitAutoencoder
from sounding_video.training.adversarial import Critics, PatchCritic, critics_loss, feature_loss
from sounding_video.training.assembly import assemble, build_workbench, exported
from sounding_video.training.checkpoint import latest_checkpoint, load_checkpoint
from sounding_video.training.config import TrainConfig
from sounding_video.training.log import read_log
from sounding_video.training.recipes import recipe
from sounding_video.training.statistics import plane_statistics
from sounding_video.training.tasks.base import LOADING
from sounding_video.training.tasks.pav_dit import PlanesStep
from sounding_video.training.trainer import train
from training_runs import SMALL, bench_of, command_line

MDSA, PLANES = "pocket_pav_dit_mdsa", "pocket_pav_dit"
JUDGED = ("trainable=av_codec,critic", "objective.critic_channels=4", "objective.kl_weight=1e-3", "saving.every=1")


def weights_at(run: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / f"step-{step:07d}" / "weights.safetensors")


def moved(run: Path, before: int) -> set[str]:
    """The parts that a step changed."""
    old, new = weights_at(run, before), weights_at(run, before + 1)
    return {name.partition(".")[0] for name in old if not torch.equal(old[name], new[name])}


@pytest.fixture(scope="module")
def judged(tmp_path_factory, small_planes_dir, shared_cache) -> tuple[TrainConfig, Path]:
    """A run of six steps with critics from the second one on, and weight decay."""
    config = recipe(MDSA, [
        f"models.root={small_planes_dir}", f"data.cache={shared_cache}", *SMALL, *JUDGED, "num_steps=6",
        "saving.keep=6", "objective.critic_start=1", "optimizer.weight_decay=0.1", "optimizer.warmup_steps=0",
    ])  # fmt: skip
    train(config, run := tmp_path_factory.mktemp("judged"))
    return config, run


def test_law_15_a_critics_step_changes_no_tensor_of_the_autoencoder_and_the_other_way_round(judged) -> None:
    _, run = judged
    # The first step is nobody's but the autoencoder's; then it has the even turns.
    assert [moved(run, step) for step in range(1, 6)] == [
        {"autoencoder"}, {"critic"}, {"autoencoder"}, {"critic"}, {"autoencoder"},
    ]  # fmt: skip
    rows = read_log(run / "loss.jsonl")
    seen = [{name.partition("_")[2] for name in row if name.startswith("video_")} for row in rows]
    plain = {"difference", "edges", "kl"}
    both = plain | {"deceiving", "features"}
    assert seen == [plain, both, {"critic"}, both, {"critic"}, both]


@pytest.mark.parametrize("last", [2, 3])
def test_law_15_a_run_resumes_exactly_in_the_middle_of_an_alternation(judged, tmp_path, last) -> None:
    config, run = judged
    again = shutil.copytree(run, tmp_path / "run")
    for folder in (again / "checkpoints").iterdir():
        if int(folder.name[-1]) > last:
            shutil.rmtree(folder)
    train(config, again, resume=True)
    ends = [load_checkpoint(latest_checkpoint(folder)) for folder in (run, again)]
    for part in ("weights", "average", "optimizer"):
        whole, continued = (getattr(end, part) for end in ends)
        assert set(whole) == set(continued) and all(torch.equal(whole[name], continued[name]) for name in whole)
    logs = [read_log(folder / "loss.jsonl") for folder in (run, again)]
    assert [{**row, "seconds": 0} for row in logs[0]] == [{**row, "seconds": 0} for row in logs[1]]


def test_critics_alone_can_learn_on(small_run, tmp_path) -> None:
    train(small_run(MDSA, *JUDGED, "trainable=critic", "num_steps=2", "optimizer.warmup_steps=0"), tmp_path)
    assert moved(tmp_path, 1) == {"critic"}
    assert set(read_log(tmp_path / "loss.jsonl")[0]) >= {"total", "video_critic", "audio_critic"}
    with pytest.raises(InputError, match="a trainable part is not written as it should be: got 'critic:2'"):
        train(small_run(MDSA, "trainable=critic:2"), tmp_path / "no")


def test_critics_tell_true_from_made_at_every_size() -> None:
    torch.manual_seed(0)
    critics = Critics({"video": 3, "audio": 2}, 6)
    for side, shape in (("video", (2, 3, 9, 32, 32)), ("audio", (2, 2, 1, 8, 8))):
        true, made, image = torch.rand(shape), -torch.rand(shape), torch.zeros(2, dtype=torch.int64)
        optimizer = torch.optim.Adam(critics.parameters(), 0.01)
        losses = []
        for _ in range(20):
            loss = critics_loss(critics(side, true, image), critics(side, made, image))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss))
        assert losses[-1] < 0.5 * losses[0]
        assert float(feature_loss(critics(side, true, image), critics(side, true, image))) == 0
    assert len(PatchCritic(3, 8, 2)(torch.rand(1, 3, 8, 8))) == 4


def test_a_critic_of_images_looks_at_the_image_that_was_drawn() -> None:
    torch.manual_seed(0)
    critics, media = Critics({"video": 3}, 4), torch.rand(2, 3, 5, 16, 16)
    image = torch.tensor([1, 4])
    wanted = critics("video", media, image)[0][-1]
    media[0, :, [0, 2, 3, 4]] = 0
    media[1, :, :4] = 0
    assert torch.equal(critics("video", media, image)[0][-1], wanted)
    media[1, :, 4] = 0
    assert not torch.equal(critics("video", media, image)[0][-1], wanted)


def test_the_autoencoder_learns(small_run, tmp_path) -> None:
    config = small_run(MDSA, "num_steps=40", "saving.every=40", "optimizer.warmup_steps=0", "batch_size=4")
    train(config, tmp_path)
    rows = read_log(tmp_path / "loss.jsonl")
    for name in ("video_difference", "audio_difference"):
        first, last = (sum(row[name] for row in part) / 5 for part in (rows[:5], rows[-5:]))
        assert last < 0.8 * first, name
    assert not any("kl" in name for name in rows[0]), "stage 1 has none"


def test_statistics_are_those_of_the_latents_and_are_stored_with_the_model(small_run, tmp_path) -> None:
    config = small_run(MDSA, "num_steps=1", "data.posterior=mode", "optimizer.ema_decay=0")
    train(config, tmp_path / "run")
    export = exported(tmp_path / "run")
    whole = load_autoencoder(export, LOADING)
    _, batch = bench_of(config)
    clips = [{key: row[None] for key, row in zip(("video", "audio"), pair, strict=True)}
             for pair in zip(batch.tensors["video"], batch.tensors["audio"], strict=True)]  # fmt: skip
    means, deviations = plane_statistics(whole.model, clips, drawn=False)
    grid = whole.model.grid
    raw = [torch.cat([whole.model.latents(getattr(whole.model.encode(**clip), side)) for clip in clips])
           for side in ("video", "audio")]  # fmt: skip
    for side, latents in enumerate(raw):
        for plane, part in enumerate(latents.split(grid.places, dim=2)):
            assert torch.allclose(part.mean((0, 2)), means[side, plane], atol=1e-5)
            assert torch.allclose(part.std((0, 2), correction=0), deviations[side, plane], atol=1e-5)
    drawn = plane_statistics(whole.model, clips, drawn=True)[1]
    assert (drawn > deviations).all() and whole.model.latent_deviations.std() > 0
    assert json.loads((export / "model.json").read_text())["trained"] is False


def test_the_transformer_learns_from_latents_that_are_encoded_once(small_run, tmp_path, monkeypatch) -> None:
    cache = f"data.cache={tmp_path / 'cache'}"
    config = small_run(PLANES, "num_steps=40", "saving.every=40", "batch_size=4", "optimizer.warmup_steps=0", cache)
    train(config, tmp_path / "run")
    rows = read_log(tmp_path / "run" / "loss.jsonl")
    assert sum(row["total"] for row in rows[-8:]) < 0.9 * sum(row["total"] for row in rows[:8])
    assert len(list((tmp_path / "cache" / "latents").iterdir())) == 2 * config.data.num_clips, "of both sides"

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr(PavDitAutoencoder, "encode", refuse)
    train(config.override(["seed=1", "num_steps=1"]), tmp_path / "other")


def test_faces_of_one_autoencoder_do_not_read_each_others_latents(small_run) -> None:
    _, batches = bench_of(small_run(PLANES, "objective.modality_dropout=0"))
    video, audio = batches.tensors["video_latents"], batches.tensors["audio_latents"]
    assert video.flatten(2).shape == audio.shape and not torch.equal(video.flatten(2), audio)


def test_a_clip_lacks_a_side_by_its_place_and_then_that_side_does_not_count(small_run) -> None:
    bench, _ = bench_of(config := small_run(PLANES, "objective.modality_dropout=0.5"))
    moments = [bench.task.moment(position) for position in range(400)]
    absent = [sum(float(moment[f"{side}_weight"]) == 0 for moment in moments) for side in ("video", "audio")]
    assert all(60 < count < 140 for count in absent) and absent != [0, 0]
    assert all(float(moment["video_weight"] + moment["audio_weight"]) >= 1 for moment in moments)
    _, batch = bench_of(config)
    batch.tensors["video_weight"], batch.tensors["audio_weight"] = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0])
    losses = bench.step(batch.tensors)
    other = dict(batch.tensors)
    for name in ("video_latents", "video_noise", "video_text"):
        other[name] = batch.tensors[name].clone()
        other[name][1] += 1
    assert all(torch.allclose(value, bench.step(other)[name], atol=1e-6) for name, value in losses.items())
    other["video_weight"] = torch.ones(2)
    assert not torch.allclose(losses["audio"], bench.step(other)["audio"], atol=1e-5)


def test_law_5_the_loss_of_a_side_does_not_depend_on_what_is_padded(small_planes_dir) -> None:
    """The same loss with a patch that needs more padding: places that are not there do not count."""
    model = load_models(small_planes_dir, placement=LOADING)
    transformer, generator = model.transformer, torch.Generator().manual_seed(0)
    length, channels = transformer.grid.length, transformer.config.latent_channels
    shapes = {"video": (2, channels, 1, 1, length), "audio": (2, channels, length)}
    batch = {f"{side}_{what}": torch.randn(shape, generator=generator)
             for side, shape in shapes.items() for what in ("latents", "noise")}  # fmt: skip
    batch |= {f"{side}_text": torch.randn(2, 5, 16, generator=generator) for side in shapes}
    batch |= {"t": torch.tensor([0.2, 0.7]), "video_weight": torch.ones(2), "audio_weight": torch.ones(2)}
    with torch.no_grad():
        for parameter in transformer.leave.parameters():
            parameter.zero_()
        losses = PlanesStep(transformer, "float32")(batch)
    for side in shapes:  # a prediction of zero loses the mean square of its target over the places that are there
        wanted = (batch[f"{side}_noise"] - batch[f"{side}_latents"]).square().mean()
        assert float(losses[side]) == pytest.approx(float(wanted), rel=1e-5)


def test_what_is_exported_is_a_model_and_runs_by_command(small_run, tmp_path, capsys) -> None:
    train(small_run(MDSA, "num_steps=1"), tmp_path / "mdsa")
    config = small_run(PLANES, f"models.overlays={tmp_path / 'mdsa'}", "num_steps=2", "saving.every=1")
    assert main([*command_line(config), "--output", str(tmp_path / "run"), "--json"]) == 0
    capsys.readouterr()
    export = exported(tmp_path / "run")
    model = load_models(export, placement=LOADING)
    assert model.trained and model.own.num_frames == 9 and json.loads((export / "model.json").read_text())["trained"]
    stored = load_file(exported(tmp_path / "mdsa") / "autoencoder" / "diffusion_pytorch_model.safetensors")
    assert torch.equal(model.whole.model.latent_deviations, stored["latent_deviations"])
    ask = ("generate", "a ball", "--no-expand", "-o", tmp_path / "clip.mp4", "--models", export, "--steps", 2, "--json")
    assert main([str(word) for word in ask]) == 0
    assert "UNTRAINED" not in json.loads(capsys.readouterr().out)["model"]


def test_a_new_model_is_begun_with_the_text_encoder_that_is_there(small_models_dir, tmp_path, monkeypatch) -> None:
    """Where ``root`` holds towers and no PAV-DiT: written once, the same for the same seed, resumed as it was."""
    grid = {"grid": PAV_WORLD["grid"]}
    monkeypatch.setitem(new.FORMS, "pocket", ({**PAV_AUTOENCODER, **PAV_WORLD}, {**PAV_TRANSFORMER, **grid}))
    config = recipe(MDSA, [f"models.root={small_models_dir}", f"data.cache={tmp_path / 'c'}", *SMALL, "num_steps=2",
                           "saving.every=1"])  # fmt: skip
    for name in ("one", "two"):
        train(config, tmp_path / name)
    made = [load_file(exported(tmp_path / name) / "autoencoder" / "diffusion_pytorch_model.safetensors")
            for name in ("one", "two")]  # fmt: skip
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])
    begun = load_models(tmp_path / "one" / "models", placement=LOADING)
    assert not begun.trained and begun.text.max_length == 16 and begun.own.num_steps == 30
    train(replace(config, num_steps=2), tmp_path / "one", resume=True)
    planes = recipe(PLANES, [f"models.root={small_models_dir}", f"models.overlays={tmp_path / 'one'}", *SMALL,
                             f"data.cache={tmp_path / 'c'}", "num_steps=1"])  # fmt: skip
    train(planes, tmp_path / "planes")
    assert load_models(exported(tmp_path / "planes"), placement=LOADING).trained
    assert assemble(exported(tmp_path / "planes"), (tmp_path / "one",), tmp_path / "laid").is_dir()


def test_what_holds_neither_a_model_nor_a_text_encoder_is_refused(small_run, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    config = small_run(MDSA, f"models.root={tmp_path / 'empty'}")
    with pytest.raises(MissingModelError, match="neither a PAV-DiT model nor a text encoder for a new one"):
        train(config, tmp_path / "run")
    with pytest.raises(MissingModelError, match="there is no PAV-DiT model: got"):
        build_workbench(config, tmp_path / "empty")
    with pytest.raises(InputError, match=r"unknown models\.form: got 'huge'; expected one of pocket, published"):
        small_run(MDSA, "models.form=huge")


@pytest.mark.parametrize("name", [MDSA, PLANES])
def test_checkpointing_changes_no_loss(small_run, name: str, tmp_path) -> None:
    curves = []
    for kept in ("true", "false"):
        train(small_run(name, f"models.gradient_checkpointing={kept}", "num_steps=2"), tmp_path / kept)
        curves.append([row["total"] for row in read_log(tmp_path / kept / "loss.jsonl")])
    assert curves[0] == pytest.approx(curves[1], rel=1e-5)


@pytest.mark.parametrize("fusion", [{"over_scales": False}, {"across": False}, {"in_blocks": False}, {"at": "encoder"}])
def test_what_an_autoencoder_leaves_out_is_not_trained(small_run: Callable, tmp_path, fusion) -> None:
    """The ladder's rows: everything else still gets a gradient."""
    extent = {**PAV_WORLD, "fusion": {**PAV_AUTOENCODER["fusion"], **fusion}}
    folder = write_pav_dit_folder(tmp_path / "planes", extent=extent)
    config = small_run(MDSA, f"models.root={folder}", "num_steps=1")
    learning = build_workbench(config, folder).parameters
    train(config, tmp_path / "run")
    unused = {"over_scales": ".still.", "across": "planes.video.across", "in_blocks": "autoencoder.blocks"}
    assert not any(unused.get(next(iter(fusion)), "nothing") in name for name in learning)
