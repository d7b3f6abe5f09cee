"""The exception tree and its messages."""

from __future__ import annotations

import inspect
import re

import pytest
from sounding_video.core import errors

CLASSES = [value for value in vars(errors).values() if inspect.isclass(value) and value.__module__ == errors.__name__]
EXIT_CODES = {
    "SoundingVideoError": 1,
    "ServerError": 1,
    "CaptionError": 1,
    "MissingModelError": 3,
    "MissingPackageError": 3,
    "Cancelled": 130,
}


def _tree() -> dict[str, str | None]:
    """Class and parent as the module's docstring draws them."""
    parents: dict[str, str | None] = {}
    branch: list[tuple[int, str]] = []
    for line in errors.__doc__.splitlines():
        match = re.match(r"    (?P<lead>[│├└─ ]*)(?P<name>[A-Z]\w+)", line)
        if match:
            depth = len(match["lead"])
            branch = [item for item in branch if item[0] < depth]
            parents[match["name"]] = branch[-1][1] if branch else None
            branch.append((depth, match["name"]))
    return parents


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_every_class_stands_in_the_tree_under_its_parent(error):
    tree = _tree()
    assert error.__name__ in tree
    parent = tree[error.__name__]
    assert (parent is None) == (error is errors.SoundingVideoError)
    assert parent is None or error.__bases__[0].__name__ == parent


def test_the_tree_draws_nothing_that_does_not_exist():
    assert set(_tree()) == {error.__name__ for error in CLASSES}


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_exit_codes(error):
    assert error.exit_code == EXIT_CODES.get(error.__name__, 2)
    assert issubclass(error, errors.SoundingVideoError)


def test_a_message_says_what_got_expected_and_remedy():
    error = errors.InputError("the size is odd", got=3, expected="an even number", remedy="Use 4.")
    assert error.what == "the size is odd"
    assert (error.got, error.expected, error.remedy) == (3, "an even number", "Use 4.")
    text = str(error)
    assert [text.index(part) for part in ("the size is odd", "3", "an even number", "Use 4.")] == sorted(
        text.index(part) for part in ("the size is odd", "3", "an even number", "Use 4.")
    )
    assert str(errors.InputError("the size is odd")) == "the size is odd."


def test_a_falsy_value_is_still_shown():
    assert "got 0" in str(errors.InputError("the number of steps cannot be used", got=0))


def test_errors_can_be_caught_as_the_usual_kind():
    assert issubclass(errors.InputError, ValueError)
    assert issubclass(errors.MissingPackageError, ImportError)
    assert str(errors.Cancelled()) == "stopped by the user."
