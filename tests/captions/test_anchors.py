"""The anchors: strict, and the same after a round trip."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sounding_video.captions.anchors import (
    MAX_CHARS,
    Entity,
    Event,
    SemanticAnchors,
    Sound,
    anchors_schema,
    from_json,
)
from sounding_video.core.errors import InputError

TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=30).filter(str.strip)
TIMES = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted)


@st.composite
def random_anchors(draw) -> SemanticAnchors:
    entities = draw(
        st.lists(st.builds(Entity, TEXT, st.lists(TEXT, max_size=3).map(tuple), TEXT), min_size=1, max_size=4)
    )
    names = st.sampled_from([entity.name for entity in entities])
    ids = draw(st.lists(TEXT, max_size=4, unique=True))
    events = tuple(
        Event(
            name,
            draw(st.integers(1, 24)),
            *draw(st.one_of(TIMES, st.just((None, None)))),
            entity=draw(names),
            visual_action=draw(TEXT),
            sound=draw(st.one_of(st.none(), st.builds(Sound, TEXT, TEXT))),
        )
        for name in ids
    )
    texts = [draw(TEXT) for _ in range(4)]
    return SemanticAnchors(tuple(entities), texts[0], events, draw(TEXT), *texts[1:], draw(st.lists(TEXT).map(tuple)))


@settings(deadline=None)
@given(random_anchors())
def test_a_round_trip_gives_the_same(anchors):
    assert from_json(anchors.to_json()) == anchors
    assert from_json(anchors.to_json(indent=None)) == anchors
    shown = anchors.for_rewriter()
    assert "discarded" not in shown.as_json() and replace(anchors, discarded=()) == shown


def test_anchors_are_frozen(anchors):
    with pytest.raises(FrozenInstanceError):
        anchors.mood = "other"


def test_order_and_sounds(anchors):
    turned = replace(anchors, events=anchors.events[::-1])
    assert [event.id for event in turned.in_order] == ["e1", "e2"]
    assert turned.heard == ("claws tapping on stone", "two hoarse barks", "light wind")


def _changed(anchors: SemanticAnchors, path: str, value: object) -> str:
    whole = part = anchors.as_json()
    *steps, last = path.split(".")
    for step in steps:
        part = part[int(step) if step.isdigit() else step]
    part[last] = value
    return json.dumps(whole)


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("surplus", 1, "surplus: there is no such field"),
        ("events.0.sound.loudness", 3, "events.0.sound.loudness: there is no such field"),
        ("mood", None, "mood: Input should be a valid string"),
        ("mood", "  ", "the field 'mood' is not usable: got 2 characters"),
        (
            "style",
            "x" * (MAX_CHARS + 1),
            f"got {MAX_CHARS + 1} characters; expected a text of 1 to at most {MAX_CHARS}",
        ),
        ("entities", [], "the number of entities does not fit: got 0; expected 1 to 16"),
        ("entities.0.name", 7, "entities.0.name: Input should be a valid string"),
        ("events.0.order", "1", "events.0.order: Input should be a valid integer"),
        ("events.0.order", 0, "the order of event 'e1' is out of range: got 0"),
        ("events.0.start", 0.9, "the timing of event 'e1' is out of range: got 0.9 to 0.4"),
        ("events.0.end", 7.5, "got 0.0 to 7.5; expected fractions of the clip"),
        ("events.0.entity", "cat", "an event belongs to no entity: got 'cat'; expected one of 'dog', 'gate'"),
        ("events.1.id", "e1", "two events share an id: got 'e1'"),
        ("events.0.sound", "barks", "events.0.sound"),
    ],
)
def test_each_fault_is_named_with_its_place(anchors, path, value, sentence):
    with pytest.raises(InputError) as caught:
        from_json(_changed(anchors, path, value))
    assert sentence in str(caught.value)


def test_something_must_be_heard(anchors):
    silent = tuple(replace(event, sound=None) for event in anchors.events)
    assert replace(anchors, events=silent).heard == ("light wind",)
    with pytest.raises(InputError, match="nothing is heard; expected an event with a sound, or an ambient sound"):
        replace(anchors, events=silent, ambient_sound="")


@pytest.mark.parametrize("text", ["", "nope", "[]", "{", '{"entities": ', "null", "\x00", "NaN", '{"a":1}' * 2])
def test_what_is_no_json_object_is_refused(text):
    with pytest.raises(InputError, match="the semantic anchors cannot be read"):
        from_json(text)


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text):
    with pytest.raises(InputError):
        from_json(text)


def test_the_schema_is_strict_and_names_every_field(anchors):
    schema = anchors_schema(discarded=True)
    assert set(schema["properties"]) == set(replace(anchors, discarded=("x",)).as_json())
    assert "discarded" not in anchors_schema()["properties"]
    assert schema["$defs"]["Event"]["properties"]["order"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 24,
        "description": "Place in time, from 1; events at the same time share a number.",
    }
    for part in (schema, *schema["$defs"].values()):
        assert part["additionalProperties"] is False and part["required"] == list(part["properties"])
        assert all(value.get("description") or "$ref" in str(value) for value in part["properties"].values())
