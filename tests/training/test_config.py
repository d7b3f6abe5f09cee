"""Configurations: frozen, typed, unknown keys refused; recipes say what the paper and the released code say."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch
from sounding_video.core.errors import InputError
from sounding_video.training.config import OptimizerConfig, TrainConfig
from sounding_video.training.recipes import RECIPES, recipe
from sounding_video.training.schedule import learning_rate


@pytest.mark.parametrize("name", RECIPES.names())
def test_every_recipe_survives_json(name: str) -> None:
    config = recipe(name)
    again = TrainConfig.from_dict(json.loads(json.dumps(config.as_dict())))
    assert again == config
    assert again.hash == config.hash
    assert config.recipe == name
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.seed = 1


def test_overrides_are_typed() -> None:
    config = recipe(
        "pocket_bridges",
        ["optimizer.lr=1e-3", "bridges.video_points=0,2", "data.mono=true", "trainable=bridges,video_last:2", "seed=7"],
    )
    assert config.optimizer.lr == 1e-3
    assert config.bridges.video_points == (0, 2)
    assert config.data.mono is True
    assert config.trainable == ("bridges", "video_last:2")
    assert config.seed == 7
    assert recipe("pocket_bridges", ["models.overlays="]).models.overlays == ()
    assert recipe("pocket_bridges", ["data.fps=30000/1001"]).data.fps == "30000/1001"


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("optimizer.learning_rate=1", "unknown key in a training configuration: got optimizer.learning_rate; expected"),
        ("nonsense=1", "got nonsense; expected one of recipe, task"),
        ("seed.deep=1", "got seed.deep; expected one of nothing below seed"),
        ("optimizer=1", "optimizer is a section: got optimizer=1; expected one of optimizer.lr"),
        ("optimizer.lr", "an override has no value: got 'optimizer.lr'; expected key=value"),
        ("seed=1.5", "seed has the wrong type: got '1.5'; expected int"),
        ("data.mono=yes", "data.mono has the wrong type: got 'yes'; expected bool"),
        ("bridges.video_points=1,a", "bridges.video_points has the wrong type: got 'a'; expected int"),
        ("optimizer.betas=0.9", "optimizer.betas is not a pair"),
        ("precision=fp16", "unknown precision: got 'fp16'; expected one of float32, bf16, pure-bf16"),
        ("objective.timestep=mine", "unknown objective.timestep: got 'mine'; expected one of paper, official"),
        ("objective.video_text_dropout=1.5", "objective.video_text_dropout is out of range: got 1.5; expected 0 to 1"),
        ("objective.flow_shift=0", "objective.flow_shift is out of range: got 0.0; expected 0.1 to 100"),
        ("optimizer.lr=nan", "optimizer.lr has the wrong type: got 'nan'; expected float"),
        ("optimizer.lr=1e999", "optimizer.lr has the wrong type"),
        ("optimizer.min_lr=inf", "optimizer.min_lr has the wrong type"),
        (f"num_steps={10**40}", "num_steps has the wrong type"),
        ("num_steps=9999999999", "num_steps is out of range: got 9999999999; expected at most 1000000000"),
        ("data.width=1_024", "data.width has the wrong type: got '1_024'; expected int"),
        ("data.width=640000", "data.width is out of range: got 640000; expected 1 to 8192"),
        ("data.num_frames=100002", "data.num_frames is out of range"),
        ("data.fps=1e999999999", "the frame rate is not a number: got '1e999999999'"),
        ("data.fps=0", "the frame rate is out of range"),
        (f"seed={'9' * 5000}", "seed has the wrong type"),
        ("batch_size=0", "batch_size is out of range: got 0; expected at least 1"),
        ("trainable=", "nothing is to be trained"),
    ],
)
def test_a_wrong_override_is_refused_by_name(override: str, sentence: str) -> None:
    with pytest.raises(InputError) as error:
        recipe("pocket_bridges", [override])
    assert sentence in str(error.value)


def test_unknown_recipe_lists_the_choices() -> None:
    with pytest.raises(InputError, match=r"unknown recipe: got 'mine'; expected one of .*bridgedit, bridgedit_first5"):
        recipe("mine")
    values = recipe("pocket_video").as_dict()
    values["optimizer"]["momentum"] = 0.5
    with pytest.raises(InputError, match=r"got optimizer\.momentum"):
        TrainConfig.from_dict(values)


def test_the_hash_covers_what_decides_the_numbers() -> None:
    base = recipe("pocket_bridges")
    assert base.override(["optimizer.lr=2e-3"]).hash != base.hash
    assert base.override(["saving.every=7", "data.cache=elsewhere", "data.workers=3"]).hash == base.hash
    assert base.differences(base.override(["seed=3"])) == ["seed: 0, 3"]


def test_the_paper_recipe_is_the_papers() -> None:
    """BridgeDiT section 4.1, as BRIDGEDIT.md section 8 lists it."""
    config = recipe("bridgedit")
    assert (config.optimizer.lr, config.optimizer.weight_decay, config.optimizer.betas) == (5e-5, 1e-3, (0.9, 0.95))
    assert (config.optimizer.warmup_steps, config.optimizer.min_lr, config.num_steps) == (1000, 1e-6, 15_000)
    assert (config.objective.video_text_dropout, config.objective.audio_text_dropout) == (0.1, 0.1)
    assert (config.objective.timestep, config.precision, config.models.gradient_checkpointing) == (
        "paper",
        "bf16",
        True,
    )
    assert config.trainable == ("bridges", "video_last:5", "audio_last:5")
    assert recipe("bridgedit_first5").trainable == ("bridges", "video_first:5", "audio_first:5")
    official = recipe("bridgedit_official")
    assert (official.optimizer.lr, official.optimizer.weight_decay, official.optimizer.decay) == (1e-4, 0, "constant")
    assert official.trainable == ("bridges", "video_blocks:4", "audio_blocks:3-4")
    assert (official.objective.video_text_dropout, official.objective.timestep) == (0, "official")


def test_learning_rate_follows_its_formulas() -> None:
    paper, num_steps = OptimizerConfig(), 15_000
    for step in (0, 1, 500, 999):
        assert learning_rate(paper, step, num_steps) == pytest.approx(5e-5 * step / 1000)
    for step in (1000, 4321, 8000, 14_999):
        wanted = 1e-6 + (5e-5 - 1e-6) * 0.5 * (1 + math.cos(math.pi * (step - 1000) / 13_999))
        assert learning_rate(paper, step, num_steps) == pytest.approx(wanted, rel=1e-12)
    assert learning_rate(paper, 1000, num_steps) == pytest.approx(5e-5)
    assert learning_rate(paper, 14_999, num_steps) == pytest.approx(1e-6)
    official = OptimizerConfig(lr=1e-4, decay="constant")
    # the released checkpoint shows 2e-7 after two steps
    assert learning_rate(official, 2, num_steps) == pytest.approx(2e-7)
    assert learning_rate(official, 9000, num_steps) == 1e-4


def test_the_cosine_is_transformers() -> None:
    """The same curve as a scheduler of theirs, which rounds otherwise and keeps a state."""
    transformers = pytest.importorskip("transformers", minversion="4.52", reason="the oldest have no such scheduler")
    config, num_steps = OptimizerConfig(lr=5e-5, min_lr=1e-6, warmup_steps=7, decay="cosine"), 60
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=config.lr)
    theirs = transformers.get_cosine_with_min_lr_schedule_with_warmup(
        optimizer, config.warmup_steps, num_steps - 1, min_lr=config.min_lr
    )
    for step in range(num_steps):
        assert learning_rate(config, step, num_steps) == pytest.approx(theirs.get_last_lr()[0], rel=1e-12)
        optimizer.step()
        theirs.step()
