"""``expand``, and what ``caption`` needs."""

from __future__ import annotations

import json

import pytest
from sounding_video.captions.anchors import from_json


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def test_json_holds_captions_anchors_and_report(command):
    outcome = command("expand", "a dog barks at a cat", "--json")
    assert outcome.code == 0 and outcome.err == ""
    assert list(outcome.json) == ["video", "audio", "anchors", "report"]
    assert from_json(json.dumps(outcome.json["anchors"])).entities
    assert 120 <= len(outcome.json["video"].split()) <= 260
    assert len(outcome.json["audio"].split()) <= 39


def test_the_schema_of_the_anchors_is_printed(command):
    from sounding_video.captions.anchors import anchors_schema

    for arguments in (["--schema"], ["--schema", "--json"]):
        outcome = command("expand", *arguments)
        assert (outcome.code, outcome.err) == (0, "")
        assert outcome.json == anchors_schema()


@pytest.mark.parametrize("command_name", ["expand", "generate", "caption"])
def test_the_help_names_models_and_choices(command, capsys, command_name):
    from sounding_video.captions.backends.transformers_local import DEFAULT_MODEL, LARGE_MODEL, QUANTIZATIONS

    with pytest.raises(SystemExit):
        command(command_name, "--help")
    text = "".join(capsys.readouterr().out.split())
    for name in (DEFAULT_MODEL, LARGE_MODEL, *QUANTIZATIONS, "--timeoutSECONDS"):
        assert name in text


def test_the_timeout_reaches_the_server(command, chat_server):
    chat_server.answers({"hang": True})
    options = ["--backend", "openai_server", "--server", chat_server.url, "--model", "tiny", "--timeout", 0.3]
    outcome = command("expand", "a dog", *options)
    assert outcome.code == 1 and "no answer within 0.3 s" in outcome.err


def test_text_shows_both_captions(command):
    outcome = command("expand", "rain on a tin roof", "--profile", "short")
    assert outcome.out.startswith("picture: ") and "\n\nsound: " in outcome.out


def test_anchors_can_be_edited_in_a_file(command, tmp_path):
    anchors = command("expand", "a dog barks", "--json").json["anchors"]
    path = tmp_path / "anchors.json"
    path.write_text(json.dumps({**anchors, "ambient_sound": "a distant church bell"}))
    outcome = command("expand", "--anchors", path, "--profile", "short", "--json")
    assert "church bell" in outcome.json["audio"] and outcome.json["report"]["mode"] == "edited"


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ([""], 2, "the prompt is empty"),
        (["ein Hund bellt im Garten"], 2, "English"),
        (["a dog", "--mode", "all"], 2, "unknown expansion mode: got 'all'"),
        (["a dog", "--profile", "long"], 2, "unknown length profile: got 'long'"),
        (
            ["a dog", "--backend", "gpt"],
            2,
            "unknown caption backend: got 'gpt'; expected one of lexicon, openai_server",
        ),
        (["a dog", "--server", "http://127.0.0.1:9/v1"], 2, "'lexicon' has no such option: got server"),
        (["a dog", "--backend", "openai_server"], 2, "no language model server is named"),
        (["a dog", "--backend", "transformers_local", "--model", "no/such"], 3, "cannot be loaded: got no/such"),
        (["a dog", "--mode", "raw"], 2, "'lexicon' has no raw captions"),
        (["a dog", "--timeout", "nan"], 2, "the timeout cannot be used: got nan; expected a number from 0.001"),
        (["a dog", "--timeout", "3"], 2, "'lexicon' has no such option: got timeout_seconds"),
        (["a dog", "--device", "cpu"], 2, "'lexicon' has no such option: got device"),
        (["a dog", "--schema"], 2, "the schema is printed alone"),
        (["--anchors", "x", "--schema"], 2, "the schema is printed alone"),
        (["--anchors", "no-such-file"], 2, "the anchors' file cannot be read"),
        (["a dog", "--anchors", "x"], 2, "anchors are written out as they are"),
    ],
)
def test_bad_input_is_one_sentence(command, monkeypatch, arguments, code, sentence):
    monkeypatch.delenv("SOUNDING_VIDEO_LLM_SERVER", raising=False)
    outcome = command("expand", *arguments)
    assert (outcome.code, outcome.out) == (code, "")
    assert sentence in outcome.err and outcome.err.splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "there is nothing to caption"),
        (["a.mp4"], "captions of clips need a language model"),
        (["a.mp4", "--backend", "lexicon"], "captions of clips need a language model"),
        (["--input", "absent.jsonl"], "the list of clips cannot be read"),
    ],
)
def test_caption_says_what_is_missing(command, tmp_path, arguments, sentence):
    outcome = command("caption", *arguments, "-o", tmp_path / "out.jsonl")
    assert outcome.code == 2 and sentence in outcome.err
    assert not (tmp_path / "out.jsonl").exists()
