"""``sounding-video caption``: from files on disk, over real servers, to a manifest."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from sounding_video.captions.backends.lexicon import LexiconBackend
from sounding_video.captions.crr import expand
from sounding_video.captions.jsonl import read_rows
from sounding_video.core.types import AudioClip, AVClip, VideoClip
from sounding_video.media.mux import write_clip

MADE = expand("a dog barks at a gate", backend=LexiconBackend(), profile="short")
FLAWLESS = (MADE.anchors.to_json(), json.dumps({"video": MADE.captions.video, "audio": MADE.captions.audio}))


@pytest.fixture
def clips(tmp_path):
    """A folder with two clips and a file that is none."""
    clip = AVClip(VideoClip(torch.rand(6, 32, 48, 3), Fraction(12)), AudioClip(torch.zeros(2, 4000), 8000))
    (tmp_path / "clips").mkdir()
    for name in ("one.mkv", "three.mkv"):
        write_clip(clip, tmp_path / "clips" / name)
    (tmp_path / "clips" / "two.mp4").write_bytes(b"no video")
    return tmp_path / "clips"


@pytest.fixture
def caption(command, clips, tmp_path):
    """``caption`` over the folder, with the short profile."""

    def run(*arguments: object):
        return command("caption", clips, "-o", tmp_path / "list.jsonl", "--profile", "short", "--json", *arguments)

    return run


def over(server, *more: object) -> list[object]:
    return ["--looking", "server", "--backend", "openai_server", "--server", server.url, "--model", "tiny", *more]


def test_real_files_become_a_manifest(caption, chat_server, tmp_path):
    """It names the files relative to itself, and the second run has nothing to do."""
    chat_server.answers("seen", "seen", "heard", "heard", *FLAWLESS * 2)
    outcome = caption(*over(chat_server))
    assert outcome.code == 0, outcome.err
    assert outcome.json["captioned"] == 2 and list(outcome.json["left_out"]) == ["clips/two.mp4"]
    assert "clips/two.mp4: " in outcome.err
    rows = read_rows(tmp_path / "list.jsonl")
    assert [row["file"] for row in rows] == ["clips/one.mkv", "clips/three.mkv"]
    assert rows[0]["audio_caption"] == MADE.captions.audio
    assert caption(*over(chat_server)).json["already_there"] == 2


def test_a_process_counts_its_own_share_alone(caption, chat_server, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    chat_server.answers("seen", "heard", *FLAWLESS)
    first = caption(*over(chat_server)).json
    assert (first["captioned"], len(first["left_out"]), first["already_there"]) == (1, 1, 0)
    monkeypatch.setenv("RANK", "1")
    chat_server.answers("seen", "heard", *FLAWLESS)
    second = caption(*over(chat_server)).json
    assert (second["captioned"], len(second["left_out"]), second["already_there"]) == (1, 0, 0)


def test_a_list_that_a_stopped_run_left_is_read_as_input(command, chat_server, clips, tmp_path):
    given = tmp_path / "given.jsonl"
    raw = {"video_raw_caption": "seen", "audio_raw_caption": "heard"}
    given.write_text(json.dumps({"file": "clips/one.mkv", **raw}) + '\n{"file": "clips/three.mkv", "vid')
    chat_server.answers(*FLAWLESS)
    options = ["--input", given, "-o", tmp_path / "list.jsonl", "--profile", "short", "--json", *over(chat_server)]
    assert command("caption", *options).json["captioned"] == 1
    assert len(chat_server.requests) == 2, "what is given is not asked for"


@pytest.fixture
def local(monkeypatch):
    """A writer on this machine that answers as a flawless model, and keeps what it was made with."""
    from sounding_video.captions.backends.transformers_local import TransformersLocal

    made, answers = [], []

    def complete(self, messages, **settings):
        made.append(self._options)
        answers.extend([] if answers else FLAWLESS)
        return answers.pop(0)

    monkeypatch.setattr(TransformersLocal, "complete", complete)
    return made


def test_a_server_looks_and_this_machine_writes(caption, chat_server, local):
    """The server and its model are for who looks; the writer has a model of its own."""
    chat_server.answers("seen", "seen", "heard", "heard")
    options = ["--looking", "server", "--server", chat_server.url, "--looking-model", "eyes and ears"]
    outcome = caption(*options, "--backend", "transformers_local", "--model", "writer", "--timeout", 7)
    assert outcome.code == 0 and outcome.json["captioned"] == 2, outcome.err
    assert {request["model"] for request in chat_server.requests} == {"eyes and ears"}
    assert {(made.model, made.server, made.timeout_seconds) for made in local} == {("writer", None, 7.0)}


def test_the_writer_s_model_is_not_asked_of_the_server_that_looks(caption, chat_server, local):
    chat_server.answers("seen", "seen", "heard", "heard")
    options = ["--looking", "server", "--server", chat_server.url, "--backend", "transformers_local"]
    assert caption(*options, "--model", "writer").json["captioned"] == 2
    assert {request["model"] for request in chat_server.requests} == {"tiny"}, "the only one that it has"


def test_who_looks_and_who_listens_may_differ(caption, chat_server):
    chat_server.answers("seen", "seen", "heard", "heard", *FLAWLESS * 2)
    assert caption(*over(chat_server, "--looking-model", "eyes", "--audio-model", "ears")).code == 0
    assert [request["model"] for request in chat_server.requests] == ["eyes"] * 2 + ["ears"] * 2 + ["tiny"] * 4


def test_looking_here_and_writing_on_a_server_share_what_both_know(caption, chat_server, monkeypatch):
    """``--allow-download`` and ``--device`` are for the models that look; they are closed whatever happens."""
    from sounding_video.captions import qwen_describer

    made, closed = [], []

    class Describer:
        def __init__(self, video_model: str, audio_model: str, **options: object) -> None:
            made.append((video_model, audio_model, options))

        def see(self, clip, *, progress) -> str:
            raise KeyboardInterrupt

        def close(self) -> None:
            closed.append(True)

    monkeypatch.setattr(qwen_describer, "QwenDescriber", Describer)
    options = ["--backend", "openai_server", "--server", chat_server.url, "--allow-download", "--device", "cpu"]
    assert caption(*options, "--video-model", "eyes").code == 130
    ((eyes, ears, settings),) = made
    assert (eyes, ears) == ("eyes", qwen_describer.AUDIO_MODEL)
    assert settings == {"device": "cpu", "allow_download": True, "timeout_seconds": None}
    assert closed


def test_raw_captions_need_no_writer(caption, chat_server, tmp_path):
    chat_server.answers("A loud red dog.", "seen", "A red bark.", "heard")
    outcome = caption("--mode", "raw", "--looking", "server", "--server", chat_server.url)
    assert outcome.json["captioned"] == 2
    row = read_rows(tmp_path / "list.jsonl")[0]
    assert (row["video_caption"], row["audio_caption"]) == ("A loud red dog.", "A red bark.")


def test_direct_captions_come_in_one_step(caption, chat_server, tmp_path):
    chat_server.answers("seen", "seen", "heard", "heard", *[FLAWLESS[1]] * 2)
    assert caption(*over(chat_server, "--mode", "direct")).json["captioned"] == 2
    assert read_rows(tmp_path / "list.jsonl")[0]["report"]["mode"] == "direct"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--mode", "off"], "unknown way of writing: got 'off'; expected one of raw, direct, full"),
        (["--mode", "raw", "--backend", "openai_server"], "raw captions need none"),
        (["--looking", "twice", "--backend", "openai_server"], "unknown way of looking: got 'twice'"),
        (
            ["--looking-model", "x", "--backend", "openai_server", "--server", "http://127.0.0.1:9/v1"],
            "one model that looks and listens is a server's",
        ),
        (["--backend", "transformers_local", "--server", "http://127.0.0.1:9/v1"], "has no such option: got server"),
        (["--backend", "openai_server", "--timeout", "0"], "the timeout cannot be used: got 0;"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_done(caption, tmp_path, arguments, sentence):
    outcome = caption(*arguments)
    assert outcome.code == 2 and sentence in outcome.json["error"]["message"]
    assert not (tmp_path / "list.jsonl").exists()


def test_clips_elsewhere_are_named_as_the_user_named_them(command, chat_server, clips, tmp_path, monkeypatch):
    """By a path from the list, not by one of the machine; and a clip that is there is known by any of its names."""
    monkeypatch.chdir(clips)
    output, clip = Path("..", "lists", "list.jsonl"), Path("one.mkv")
    arguments = ["-o", output, "--json", *over(chat_server)[:2], "--server", chat_server.url, "--looking-model", "tiny"]
    chat_server.answers("seen", "heard", "seen", "heard")
    assert command("caption", clip, *arguments, "--mode", "raw").json["captioned"] == 1
    assert command("caption", clip.absolute(), *arguments, "--mode", "raw").json["already_there"] == 1
    assert command("caption", Path("three.mkv").absolute(), *arguments, "--mode", "raw").json["captioned"] == 1
    names = [row["file"] for row in read_rows(tmp_path / "lists" / "list.jsonl")]
    assert names == ["../clips/one.mkv", str(clips / "three.mkv")]
