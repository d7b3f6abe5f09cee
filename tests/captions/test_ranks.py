"""What one process of several takes: its share of the clips, its card."""

from __future__ import annotations

import pytest
import torch
from sounding_video.captions.ranks import own_device, share_of


def test_a_process_alone_takes_all(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert share_of("abcde") == list("abcde")
    assert own_device("auto") == "auto"


@pytest.mark.parametrize(("rank", "share"), [("0", "ad"), ("1", "be"), ("2", "c")])
def test_several_take_turns(monkeypatch, rank, share):
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", rank)
    assert share_of("abcde") == list(share)


@pytest.mark.parametrize(
    ("cards", "rank", "asked", "device"),
    [
        (4, "0", "auto", "cuda:0"),
        (4, "3", "auto", "cuda:3"),
        (1, "3", "auto", "cuda:0"),  # a launcher that shows each process one card
        (4, "3", "cuda:1", "cuda:1"),
        (4, "3", "cpu", "cpu"),
        (0, "3", "auto", "auto"),
    ],
)
def test_each_process_has_its_own_card(monkeypatch, cards, rank, asked, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cards > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    monkeypatch.setenv("LOCAL_RANK", rank)
    assert own_device(asked) == device
