"""Finding the one JSON object in what a model says."""

from __future__ import annotations

import pytest
from sounding_video.captions.dialogue import json_object
from sounding_video.core.errors import InputError


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1}',
        'Here is {the} JSON: {"a": 1}',
        'f{x} = {y}; { z }, {\n[1]}: {\n  "a": 1\n} {done}',
        '{{"a": 1}}',
        '<think>{"a": 2}</think> {"a": 1}',
    ],
)
def test_braces_in_prose_are_passed_over(text):
    assert json_object(text) == {"a": 1}


@pytest.mark.parametrize(
    "text", ['{"a": {"b": 1}', '{"a" {"b": 1}}', 'so {x}: {"a": [{"b": 1}, {"c"', "{", 'a {"a": {"b": 1}, }']
)
def test_a_begun_object_is_never_read_as_one_of_its_parts(text):
    with pytest.raises(InputError, match="broken or cut off"):
        json_object(text)


@pytest.mark.parametrize("text", ["", "no braces", "only {prose} in {braces}"])
def test_no_object_is_said(text):
    with pytest.raises(InputError, match="there is no JSON object"):
        json_object(text)
