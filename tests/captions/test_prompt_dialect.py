"""Prompts as people write them elsewhere: weights, time codes, several lines, tags. None of it counts things."""

from __future__ import annotations

import pytest
from sounding_video.captions.anchors import SemanticAnchors
from sounding_video.captions.backends.lexicon import LexiconBackend
from sounding_video.captions.crr import Expansion, expand, understood
from sounding_video.captions.lexicon.times import without_times
from sounding_video.captions.lines import as_sentences
from sounding_video.core.errors import InputError

BACKEND = LexiconBackend()


def made(prompt: str) -> Expansion:
    return expand(prompt, backend=BACKEND, profile="short")


def anchors_of(prompt: str) -> SemanticAnchors:
    return made(prompt).anchors


def names(prompt: str) -> list[str]:
    return [entity.name for entity in anchors_of(prompt).entities]


@pytest.mark.parametrize(
    ("prompt", "entities"),
    [
        ("(red:1.2) ball bouncing", ["ball"]),
        ("((red)) ball bouncing", ["ball"]),
        ("（red：1.2） ball bouncing", ["ball"]),
        ("(red:1.2 ball bouncing", ["ball"]),
        (r"a \(red\) ball bouncing", ["ball"]),
        ("<lora:dogs:0.8> a dog barks", ["dog"]),
        ("a {dog|cat} barks", ["dog"]),
        ("0:02 a dog barks", ["dog"]),
        ("00:00:03 a dog barks", ["dog"]),
        ("[0-2s] a dog barks", ["dog"]),
        ("[00:03]a dog barks", ["dog"]),
        ("(0:02) a dog barks", ["dog"]),
        ("0:02: a dog barks", ["dog"]),
        ("at 1.5s a dog barks", ["dog"]),
        ("at 1.5 s dogs bark", ["dogs"]),
        ("t=2s a dog barks", ["dog"]),
        ("from 1 to 3 seconds a dog barks", ["dog"]),
        ("00:00:01,000 --> 00:00:03,500 a dog barks", ["dog"]),
        ("after two seconds a dog barks", ["dog"]),
        ("a 5 second clip of a dog barking", ["dog"]),
        ("24 fps, 16:9, 1920x1080, a dog barks", ["dog"]),
        ("1) a dog barks 2) a cat meows", ["dog", "cat"]),
        ("(1) a dog barks (2) a cat meows", ["dog", "cat"]),
        ("1. a dog barks\n2. a cat meows", ["dog", "cat"]),
        ("- a dog barks\n- a cat meows", ["dog", "cat"]),
        ("Scene 1: a dog barks. Scene 2: a cat meows", ["dog", "cat"]),
        ("Shot 1 - a dog barks\nShot 2 - a cat meows", ["dog", "cat"]),
        ("a (dog:1.2)(cat:1.1) play", ["cat"]),
    ],
)
def test_marks_and_times_count_nothing(prompt, entities):
    assert names(prompt) == entities


@pytest.mark.parametrize(
    ("prompt", "entity"),
    [
        ("three dog bark", "three dogs"),
        ("5 man shout", "five men"),
        ("two mouse squeak", "two mice"),
        ("2 puppy bark", "two puppies"),
        ("three fire engine pass", "three fire engines"),
        ("four leaf rustle", "four leaves"),
        ("three sheep bleat", "three sheep"),
        ("three dogs bark", "three dogs"),
        ("two small (brown:1.3) dog bark", "two dogs"),
        ("two (2) dogs bark", "two dogs"),
        ("in the park 3 dogs bark", "three dogs"),
    ],
)
def test_after_a_number_there_are_several(prompt, entity):
    assert names(prompt) == [entity]


@pytest.mark.parametrize(
    ("prompt", "entity"),
    [
        ("a 2-year-old child laughs", "child"),
        ("a two-year-old child laughs", "child"),
        ("a 3-legged dog barks", "dog"),
        ("a six-string guitar plays", "guitar"),
        ("24/7 rain falls", "rain"),
        ("4/4 drum beats", "drum"),
        ("room 101 door slams", "door"),
        ("route 66 car passes", "car"),
        ("a 911 car passes", "car"),
    ],
)
def test_a_number_that_counts_something_else(prompt, entity):
    assert names(prompt) == [entity]


@pytest.mark.parametrize(
    "prompt",
    [
        "• a dog barks • a door slams",
        "a dog barks -> a door slams",
        "a dog barks → the door slams",
        "a dog barks / a door slams",
        "a dog barks | a door slams",
        "a dog barks\ta door slams",
        r"a dog barks\na door slams",
        "a dog barks\na door slams",
        "a dog barks\r\n\r\na door slams",
        "[0-2s] a dog barks [2-4s] a door slams",
        "0:00 a dog barks 0:02 a door slams",
        "at 0:01 a dog barks and at 0:03 a door slams",
        "a dog barks at 0:01 and a door slams at 0:03",
        "a dog barks BREAK a door slams",
    ],
)
def test_lines_and_times_order_what_happens(prompt):
    assert [(event.order, event.entity) for event in anchors_of(prompt).events] == [(1, "dog"), (2, "door")]


@pytest.mark.parametrize(
    ("text", "joined"),
    [
        ("a dog barks in\nthe park", "a dog barks in the park"),
        ("a dog barks\nwhile a cat meows", "a dog barks while a cat meows"),
        ("a dog,\na cat", "a dog, a cat"),
        ("a dog barks.\nA cat meows.", "a dog barks. A cat meows."),
        ("犬が吠える。\n猫が鳴く", "犬が吠える。 猫が鳴く"),
        ("one line", "one line"),
        ("2 dogs\n", "2 dogs\n"),
    ],
)
def test_a_line_that_goes_on_is_no_sentence_of_its_own(text, joined):
    assert as_sentences(text) == joined


@pytest.mark.parametrize(
    "text", ["three dogs", "a dog barks three times", "two cats, 5 dogs and 12 birds", "the 1990s", "5 men sing"]
)
def test_what_is_no_time_stays(text):
    assert without_times(text) == (text, [])


def test_what_was_not_read_is_told():
    notes = made("(red:1.2) ball bounces at 0:02 <lora:x:1>").report.notes
    assert "Weights do not count in a prompt that is expanded: “red”." in notes
    assert any(note.startswith("<lora:x:1> loads nothing") for note in notes)
    assert "Times and measures are not read (at 0:02): what happens keeps its order." in notes


def test_a_plain_prompt_is_told_nothing_and_stays():
    assert understood("a dog barks, twice") == ("a dog barks, twice", ())
    assert made("a dog barks").report.notes == ()


def test_a_prompt_of_tags_alone_is_empty():
    with pytest.raises(InputError, match="the prompt is empty"):
        made("<lora:x:1> embedding:y")


def test_with_mode_off_the_prompt_keeps_its_weights_for_the_encoders():
    assert expand("(red:1.2) ball", backend=None, mode="off").captions.video == "(red:1.2) ball"
