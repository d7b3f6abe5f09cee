"""The caption nodes, run as ComfyUI would run them."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from sounding_video.captions import qwen_describer
from sounding_video.captions.anchors import from_json
from sounding_video.captions.backends import BACKENDS
from sounding_video.captions.backends.base import BackendOptions
from sounding_video.captions.backends.lexicon import LexiconBackend
from sounding_video.captions.backends.transformers_local import (
    DEFAULT_MODEL,
    LARGE_MODEL,
    QUANTIZATIONS,
    TransformersLocal,
)
from sounding_video.captions.crr import expand
from sounding_video.core.errors import InputError
from sounding_video.core.types import AudioClip, AVClip, VideoClip
from sounding_video.headless.report import RunReport
from sounding_video.media.mux import write_clip
from sounding_video.nodes.captions import CaptionVideo, EditAnchors, ExpandPrompt
from sounding_video.nodes.host import standalone

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


def test_a_run_without_a_page_is_told_the_same():
    shown = {"1": ExpandPrompt.execute(prompt="(red:1.2) ball bounces", mode="full", **WRITER).ui}
    report = RunReport({**shown, "2": {"sounding_video_report": ["one", "one"]}}, [], 1.0)
    assert report.sentences == ("Weights do not count in a prompt that is expanded: “red”.", "one")


def test_parentheses_in_written_captions_weigh_nothing(chat_server):
    chat_server.answers("A red dog (small).", "A bark (short).")
    writer = {**WRITER, "backend": "openai_server", "server": chat_server.url}
    video, audio, *_ = ExpandPrompt.execute(prompt="a dog barks", mode="raw", **writer).result
    assert (video, audio) == (r"A red dog \(small\).", r"A bark \(short\).")
    assert ExpandPrompt.execute(prompt="a (red:1.2) ball", mode="off", **WRITER).result[0] == "a (red:1.2) ball"


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
    with _backend("openai_server", BackendOptions(server="https://collector.example/v1")) as backend:
        assert backend._key == ""


@pytest.fixture
def clip(tmp_path):
    """A VIDEO value: a file with picture and sound."""
    path = tmp_path / "clip.mkv"
    sound = AudioClip(torch.linspace(-1, 1, 8000).expand(2, 8000), 8000)
    write_clip(AVClip(VideoClip(torch.rand(12, 32, 48, 3), Fraction(12)), sound), path)
    return standalone.video_value(path)


@dataclass(frozen=True)
class InMemory:
    """A VIDEO value that was never saved, as ComfyUI hands it over."""

    content: bytes

    def get_stream_source(self) -> io.BytesIO:
        return io.BytesIO(self.content)


def flawless(*discarded: str) -> tuple[str, str]:
    made = expand("a dog barks at a gate", backend=LexiconBackend(), profile="short")
    captions = {"video": made.captions.video, "audio": made.captions.audio}
    return replace(made.anchors, discarded=discarded).to_json(), json.dumps(captions)


def test_a_clip_is_captioned_by_a_server(clip, chat_server):
    answers = flawless("stones knocking")
    chat_server.answers("A dog at a gate.", "Barks, and stones knocking.", *answers)
    writer = {"backend": "openai_server", "profile": "short", "server": f" {chat_server.url} ", "model": "tiny"}
    output = CaptionVideo.execute(video=clip, looking="server", **writer)
    video, audio, anchors, report = output.result
    assert {"video": video, "audio": audio} == json.loads(answers[1])
    assert json.loads(anchors)["discarded"] == ["stones knocking"]
    assert json.loads(report)["mode"] == "training" and json.loads(report)["backend"].endswith(" tiny")
    seen, heard, checked, written = (json.dumps(request["messages"]) for request in chat_server.requests)
    assert seen.count("data:image/jpeg") == 12 and '"format": "wav"' in heard
    assert "stones knocking" in checked and "stones knocking" not in written
    (shown,) = output.ui["text"]
    assert video in shown and audio in shown and "stones knocking" in shown
    assert output.ui["sounding_video_captions"] == [
        {"video": video, "audio": audio, "anchors": anchors, "report": report}
    ]


def test_a_clip_in_memory_is_captioned_like_one_on_disk(clip, chat_server):
    asked = []
    writer = {"backend": "openai_server", "profile": "short", "server": chat_server.url, "model": "tiny"}
    for video in (clip, InMemory(Path(clip.get_stream_source()).read_bytes())):
        chat_server.answers("A dog at a gate.", "Barks.", *flawless())
        assert len(CaptionVideo.execute(video=video, looking="server", **writer).result) == 4
        asked.append(chat_server.requests[:])
        chat_server.requests.clear()
    assert asked[0] == asked[1]


def test_a_clip_without_sound_is_refused(clip, chat_server, tmp_path):
    write_clip(AVClip(VideoClip(torch.rand(4, 32, 48, 3), Fraction(12)), None), tmp_path / "mute.mkv")
    with pytest.raises(InputError, match="the clip has no sound"):
        CaptionVideo.execute(
            video=standalone.video_value(tmp_path / "mute.mkv"),
            looking="server",
            **{**WRITER, "backend": "openai_server", "server": chat_server.url},
        )


@pytest.fixture
def local(monkeypatch):
    """A writer on this machine that answers as a flawless model, and keeps what it was made with."""
    made, answers = [], []

    def complete(self, messages, **settings):
        made.append(self._options)
        answers.extend([] if answers else flawless())
        return answers.pop(0)

    monkeypatch.setattr(TransformersLocal, "complete", complete)
    return made


@pytest.mark.parametrize(("looking_model", "asked"), [("", "tiny"), ("eyes", "eyes")])
def test_a_server_looks_and_this_machine_writes(clip, chat_server, local, looking_model, asked):
    chat_server.answers("A dog at a gate.", "Barks.")
    CaptionVideo.execute(
        video=clip,
        looking="server",
        looking_model=looking_model,
        timeout_seconds=9.0,
        quantization="bitsandbytes-4bit",
        **{**WRITER, "backend": "transformers_local", "server": chat_server.url, "model": "writer"},
    )
    assert {request["model"] for request in chat_server.requests} == {asked}
    options = {(made.model, made.server, made.quantization, made.timeout_seconds) for made in local}
    assert options == {("writer", None, "bitsandbytes-4bit", 9.0)}


def test_models_on_this_machine_look_and_a_server_writes(clip, chat_server, monkeypatch):
    """The download is for those who look; the server's backend is not told of it."""
    made, closed = [], []

    class Describer:
        def __init__(self, **options: object) -> None:
            made.append(options)

        def see(self, clip, *, progress) -> str:
            return "A dog at a gate."

        def hear(self, clip, *, progress) -> str:
            return "Barks."

        def close(self) -> None:
            closed.append(len(chat_server.requests))

    monkeypatch.setattr(qwen_describer, "QwenDescriber", Describer)
    chat_server.answers(*flawless())
    writer = {**WRITER, "backend": "openai_server", "server": chat_server.url}
    CaptionVideo.execute(video=clip, looking="transformers", allow_download=True, **writer)
    assert made == [{"allow_download": True, "timeout_seconds": None}]
    assert closed == [0], "before the writer is asked"


def test_options_of_a_local_model_reach_it(local):
    ExpandPrompt.execute(
        prompt="a dog",
        mode="full",
        quantization="torchao-int8",
        allow_download=True,
        **{**WRITER, "backend": "transformers_local"},
    )
    EditAnchors.execute(anchors=flawless()[0], timeout_seconds=3.0, **{**WRITER, "backend": "transformers_local"})
    seen = [(made.quantization, made.allow_download, made.timeout_seconds) for made in local]
    assert list(dict.fromkeys(seen)) == [("torchao-int8", True, None), ("none", False, 3.0)]
    with pytest.raises(InputError, match="'lexicon' has no such option: got quantization"):
        ExpandPrompt.execute(prompt="a dog", mode="full", quantization="torchao-int8", **WRITER)


@pytest.mark.parametrize("node", [ExpandPrompt, EditAnchors, CaptionVideo])
def test_the_nodes_name_models_and_ways_to_load_them(node):
    schema = node.GET_SCHEMA()
    tooltip = schema.input("model").options["tooltip"]
    assert DEFAULT_MODEL.split("/")[1] in tooltip and LARGE_MODEL in tooltip
    assert schema.input("quantization").options["options"] == list(QUANTIZATIONS)
