"""The caption nodes, run as ComfyUI would run them."""

from __future__ import annotations

import json

import pytest
from sounding_video.captions.anchors import from_json
from sounding_video.captions.backends import BACKENDS
from sounding_video.core.errors import InputError
from sounding_video.nodes.captions import CaptionVideo, EditAnchors, ExpandPrompt

WRITER = {"backend": "lexicon", "profile": "short", "server": "", "model": ""}


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_a_prompt_is_expanded_and_shown():
    output = ExpandPrompt.execute(prompt="a dog barks", mode="full", **WRITER)
    video, audio, anchors, report = output.result
    assert from_json(anchors).entities[0].name == "dog"
    assert "bark" in audio and "bark" not in video
    assert json.loads(report)["backend"] == "lexicon"
    (shown,) = output.ui["text"]
    assert video in shown and audio in shown and anchors in shown


def test_edited_anchors_change_the_captions():
    _, _, anchors, _ = ExpandPrompt.execute(prompt="a dog barks", mode="full", **WRITER).result
    edited = anchors.replace('"ambient_sound": "', '"ambient_sound": "a distant church bell, ')
    _, audio, report = EditAnchors.execute(anchors=edited, **WRITER).result
    assert "church bell" in audio and "bark" in audio
    assert json.loads(report)["mode"] == "edited"
    with pytest.raises(InputError, match="the semantic anchors cannot be read"):
        EditAnchors.execute(anchors="{}", **WRITER)


def test_off_gives_the_prompt_to_both():
    video, audio, anchors, _ = ExpandPrompt.execute(prompt=" a dog ", mode="off", **WRITER).result
    assert (video, audio, anchors) == ("a dog", "a dog", "")


def test_options_of_another_backend_are_refused():
    with pytest.raises(InputError, match="'lexicon' has no such option: got server"):
        ExpandPrompt.execute(prompt="a dog", mode="full", **{**WRITER, "server": "http://127.0.0.1:1/v1"})


def test_every_backend_can_be_chosen():
    lists = {node: node.GET_SCHEMA().input("backend").options["options"] for node in (ExpandPrompt, CaptionVideo)}
    assert lists[ExpandPrompt] == BACKENDS.names()
    assert lists[CaptionVideo] == [name for name in BACKENDS.names() if name != "lexicon"]


def test_a_workflows_server_gets_no_key(monkeypatch):
    """The address in a node may have come with somebody's file."""
    from sounding_video.nodes.captions import _backend

    monkeypatch.delenv("SOUNDING_VIDEO_LLM_SERVER", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("SOUNDING_VIDEO_LLM_KEY", "sk-secret")
    with _backend("openai_server", " https://collector.example/v1 ", "") as backend:
        assert backend._key == ""
