"""Bridges that a run goes on from, and the positions of their tokens."""

from __future__ import annotations

import logging

import pytest
import torch
from sounding_video.core.errors import InputError
from sounding_video.models.weights.bridges import load_bridges
from sounding_video.training.assembly import exported
from sounding_video.training.trainer import train


@pytest.fixture
def aligned(small_run, tmp_path):
    """A bridge file whose positions are ``time_aligned``."""
    train(small_run("pocket_bridges", "num_steps=1"), tmp_path / "first")
    return exported(tmp_path / "first") / "bridge.safetensors"


def test_weights_go_on_at_other_positions(small_run, aligned, tmp_path) -> None:
    words = (f"bridges.start={aligned}", "bridges.start_rope=clock", "num_steps=1")
    train(small_run("pocket_bridges", *words), tmp_path / "second")
    before, after = (
        load_bridges(aligned).stack,
        load_bridges(exported(tmp_path / "second") / "bridge.safetensors").stack,
    )
    assert (before.config.rope, after.config.rope) == ("time_aligned", "clock")
    assert (before.kind, before.points) == (after.kind, after.points)
    for name, tensor in before.state_dict().items():
        assert torch.allclose(tensor, after.state_dict()[name], atol=0.02), name


def test_positions_of_the_file_stay_and_that_is_told(small_run, aligned, tmp_path, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        train(small_run("pocket_bridges_clock", f"bridges.start={aligned}", "num_steps=1"), tmp_path / "second")
    assert load_bridges(exported(tmp_path / "second") / "bridge.safetensors").stack.config.rope == "time_aligned"
    (told,) = [record.message for record in caplog.records if "positions of tokens" in record.message]
    assert "stay those of the file, time_aligned" in told and "bridges.start_rope=clock changes them" in told


def test_nothing_is_told_where_file_and_run_agree(small_run, aligned, tmp_path, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        train(small_run("pocket_bridges", f"bridges.start={aligned}", "num_steps=1"), tmp_path / "second")
    assert not [record for record in caplog.records if "positions of tokens" in record.message]


@pytest.mark.parametrize(
    ("words", "told"),
    [(("bridges.start_rope=clock",), "bridges.rope=clock"), (("bridges.start_rope=spiral", "with a file"), "spiral")],
)
def test_positions_that_cannot_be(small_run, aligned, tmp_path, words, told) -> None:
    given = [f"bridges.start={aligned}" if word == "with a file" else word for word in words]
    with pytest.raises(InputError, match=told):
        train(small_run("pocket_bridges", *given, "num_steps=1"), tmp_path / "second")
