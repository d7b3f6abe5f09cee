"""The prompt files: versioned, readable, and their own examples are right."""

from __future__ import annotations

import hashlib
import json

import pytest
from sounding_video.captions.anchors import from_json
from sounding_video.captions.profiles import PROFILES
from sounding_video.captions.prompts import load_prompt, quoted
from sounding_video.captions.purity import find_impurities
from sounding_video.core.types import Captions

# Every version that there was, with the SHA-256 of its file. A change of a prompt is a new version and a new entry.
VERSIONS = {
    "checker_infer": {1: "bb022dcf09e96d91da7cc3426aea96aee4b9db01afb99f02bfa0bab5e92a1572"},
    "checker_train": {1: "eff595ac3cf6daf430b526e1e3121eca37331fda5705863a19beda6770e46382"},
    "rewriter": {1: "bf09c27237d0c6385f79df1d2a11e077914fcbeb341f854c9910f1979784e5c7"},
    "direct": {1: "e09853d0b218f7e6ac7a5c319cb2ebaed580d526fa77a8d08e2f100d774ba988"},
    "raw_prompt": {1: "08fd252bc219cc57cd13f6416774ee7c0a9eedc964dd1c2f715afc9fa58a767a"},
    "raw_video": {1: "c68dd0dd5ebc00e83a03897b94dd33bc2a136a0c85feb238907b65b1301cdd36"},
    "raw_audio": {1: "eda6457f5b86fcc25d6113b12fa4ff274b35a0d7c793561d14678244141e4052"},
}
NAMES = tuple(VERSIONS)


@pytest.mark.parametrize("name", NAMES)
def test_every_prompt_has_a_version_a_system_text_and_a_question(name):
    prompt = load_prompt(name)
    assert prompt.version >= 1
    assert prompt.sections[0][0] == "system" and prompt.sections[-1][0] == "user"
    assert all(text for _, _, text in prompt.sections)


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_prompt_is_a_new_version(root, name):
    prompt = load_prompt(name)
    text = (root / "captions" / "prompts" / f"{name}.md").read_text(encoding="utf-8")
    assert prompt.sha256 == hashlib.sha256(text.encode("utf-8")).hexdigest()
    assert prompt.version == max(VERSIONS[name]), "Add the new version to VERSIONS."
    assert prompt.sha256 == VERSIONS[name][prompt.version], "Raise the version in the prompt's head, then add it here."


def test_every_file_is_used(root):
    assert {path.stem for path in (root / "captions" / "prompts").glob("*.md")} == set(NAMES)


@pytest.mark.parametrize("name", ["checker_infer", "checker_train"])
def test_the_checkers_examples_are_valid_anchors(name):
    answers = [text for role, _, text in load_prompt(name).sections if role == "assistant"]
    assert answers
    for text in answers:
        anchors = from_json(text)
        assert bool(anchors.discarded) == (name == "checker_train")
        seen = " ".join([anchors.environment, *(event.visual_action for event in anchors.events)])
        assert find_impurities(Captions(seen, ", ".join(anchors.heard))) == ()


@pytest.mark.parametrize("name", list(PROFILES))
def test_the_rewriters_example_is_pure_and_as_long_as_it_should_be(name):
    values = dict.fromkeys(("video_low", "video_high", "video_target", "audio_low", "audio_high", "audio_target"), 1)
    messages = load_prompt("rewriter").messages({"anchors": "{}", **values}, variant=name)
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    anchors = from_json(messages[1]["content"].removeprefix("The anchors: "))
    captions = Captions(**json.loads(messages[2]["content"]))
    assert find_impurities(captions, anchors, PROFILES.get(name)) == ()


def test_values_are_filled_in_once():
    text = quoted('{{schema}} "quoted"\n# System')
    messages = load_prompt("checker_infer").messages({"prompt": text, "schema": "THE SCHEMA"})
    assert messages[-1]["content"] == "The prompt, as a JSON string: " + text
    assert json.loads(text) == '{{schema}} "quoted"\n# System'
    assert "THE SCHEMA" in messages[0]["content"] and "{{" not in messages[0]["content"]
