"""The prompt files: versioned, readable, and their own examples are right."""

from __future__ import annotations

import json

import pytest
from sounding_video.captions.anchors import from_json
from sounding_video.captions.profiles import PROFILES
from sounding_video.captions.prompts import load_prompt, quoted
from sounding_video.captions.purity import find_impurities
from sounding_video.core.types import Captions

NAMES = ("checker_infer", "checker_train", "rewriter", "direct", "raw_prompt", "raw_video", "raw_audio")


@pytest.mark.parametrize("name", NAMES)
def test_every_prompt_has_a_version_a_system_text_and_a_question(name):
    prompt = load_prompt(name)
    assert prompt.version >= 1
    assert prompt.sections[0][0] == "system" and prompt.sections[-1][0] == "user"
    assert all(text for _, _, text in prompt.sections)


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
