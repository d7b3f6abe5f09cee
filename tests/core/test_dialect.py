"""The prompt dialect: which pieces weigh what, what is taken out, and that a plain text stays the text it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sounding_video.core.dialect import WeightedText, caption_notes, escaped, plain_of, read


def parts(text: str) -> list[tuple[str, float]]:
    return [(piece, round(weight, 6)) for piece, weight in read(text).text.parts]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(red:1.2) ball", [("red", 1.2), (" ball", 1.0)]),
        ("a (red) ball", [("a ", 1.0), ("red", 1.1), (" ball", 1.0)]),
        ("((red)) ball", [("red", 1.21), (" ball", 1.0)]),
        ("(a (big:1.5) dog)", [("a ", 1.1), ("big", 1.5), (" dog", 1.1)]),
        ("(fog:0)", [("fog", 0.0)]),
        ("(fog:-.5) here", [("fog", -0.5), (" here", 1.0)]),
        ("(red : 1,3)", [("red ", 1.3)]),
        (r"(a \(small\) dog:1.3)", [("a (small) dog", 1.3)]),
        ("(a note: loud)", [("a note: loud", 1.1)]),
        ("(the year:1920)", [("the year:1920", 1.1)]),
        ("（red：1.2） ball", [("red", 1.2), (" ball", 1.0)]),
        ("(red：1.2) ball", [("red", 1.2), (" ball", 1.0)]),
        ("(16:9:1.2)", [("16:9", 1.2)]),
        ("a ) b (c:1.2) ( d", [("a ) b ", 1.0), ("c", 1.2), (" ( d", 1.0)]),
    ],
)
def test_parentheses_weigh_as_in_comfyui(text, expected):
    assert parts(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "A dog barks, twice; loud & clear: 1.2 m tall.",
        "a man at 10:30",
        "",
        "  two  spaces\n",
        "()",
        "[] {}",
        "(0:02) a dog",
        "(at 0:02) a dog",
        "(16:9) a dog",
        "（小さい）犬",
        "[0-2s] a dog",
        "[00:00:03.5] a dog",
        "(1) a dog",
        "THE WAVES BREAK ON THE SHORE",
        "a < b",
    ],
)
def test_what_is_no_dialect_stays_the_very_text(text):
    assert read(text).text == text


@pytest.mark.parametrize(
    ("text", "plain", "named"),
    [
        ("a {dog|cat} barks", "a dog barks", "{dog|cat}"),
        ("a {big {dog|wolf}|cat} barks", "a big dog barks", "is a choice"),
        ("{2$$dog|cat} barks", "dog barks", "is a choice"),
        ("{0.3::dog|0.7::cat} barks", "dog barks", "is a choice"),
        ("a {red} ball", "a red ball", "without its braces"),
        ("a [dog:cat:0.5] runs", "a cat runs", "[dog:cat:0.5] would change while sampling"),
        ("a [dog:10] runs", "a dog runs", "[dog:10]"),
        ("a [dog::0.5] runs", "a dog runs", "[dog::0.5]"),
        ("a [dog|cat] runs", "a dog runs", "its first text"),
        ("a [red] ball", "a red ball", "only parentheses weigh"),
        ("<lora:dogs_v2:0.8> a dog", "a dog", "<lora:dogs_v2:0.8> loads nothing"),
        ("a dog <lyco:x:1>", "a dog", "<lyco:x:1>"),
        ("embedding:bad-hands-5, a dog", "a dog", "embedding:bad-hands-5 loads nothing"),
        ("a dog (embedding:fur.pt:1.2)", "a dog", "embedding:fur.pt"),
        ("a dog barks BREAK a cat meows", "a dog barks. a cat meows", "BREAK"),
        ("a, <lora:x:1>, b", "a, b", "<lora:x:1>"),
        ("a (<lora:x:1>) dog", "a dog", "<lora:x:1>"),
        ("a dog <embedding:fur>", "a dog", "<embedding:fur>"),
        ("a dog, embedding:fur:1.2, b", "a dog, b", "embedding:fur:1.2"),
        ("(embedding:fur) a dog", "a dog", "embedding:fur"),
        ("a dog BREAK BREAK a cat", "a dog. a cat", "BREAK"),
        ("a [dog|cat:0.5] runs", "a dog runs", "[dog|cat:0.5]"),
        ("a __animal__ runs", "a runs", "__animal__ names a file"),
        ("a (red:1.2 ball", "a (red:1.2 ball", "has no partner"),
    ],
)
def test_what_cannot_be_meant_here_is_taken_out_and_told(text, plain, named):
    reading = read(text)
    assert reading.plain == plain
    assert any(named in note for note in reading.notes)


@pytest.mark.parametrize("text", [r"a \(small\) dog", r"\[red\] \{ball\}", r"10\(5\)", r"\（red：1.2\）"])
def test_an_escaped_bracket_is_a_bracket(text):
    assert read(text).text == text.replace("\\", "")
    assert read(text).notes == ()


@given(st.text(alphabet="ab (){}[]<>:|.12\\_BREAK", max_size=40))
def test_any_text_can_be_escaped_and_reads_as_itself(text):
    plain = text.replace("\\", "").replace("_", "").replace("BREAK", "")
    assert read(escaped(plain)).text == plain


@given(st.text(alphabet="ab (){}[]<>:|.12\\,", max_size=60))
def test_any_text_can_be_read(text):
    reading = read(text)
    assert isinstance(reading.plain, str)
    if isinstance(reading.text, WeightedText):
        assert all(abs(weight) <= 100 for _, weight in reading.text.parts)


@pytest.mark.parametrize("text", ["(" * 20_000 + "x" + ")" * 20_000, "(" * 40_000, "[" * 3_000 + "x" + "]" * 3_000])
def test_deep_nesting_is_read(text):
    assert "x" in read(text).plain or text == "(" * 40_000


def test_weights_are_told_with_their_numbers():
    notes = caption_notes("video caption", "(red:1.2) and ((blue)) (ball:1.0) <lora:x:1>")
    assert notes[0] == "video caption: weights applied as ComfyUI does: “red” × 1.2, “blue” × 1.21."
    assert notes[1].startswith("video caption: <lora:x:1> loads nothing")
    assert caption_notes("video caption", "a plain caption") == ()
    (many,) = caption_notes("x", " ".join(f"(w{number}:1.5)" for number in range(9)))
    assert "“w5” × 1.5, 3 more." in many


def test_plain_of_both_kinds():
    assert plain_of("a dog") == "a dog"
    assert plain_of(WeightedText((("a ", 1.0), ("dog", 1.4)))) == "a dog"


def test_words_that_only_parentheses_part_stay_apart():
    assert read("(dog:1.2)(cat:1.1) play").plain == "dog cat play"
