"""Every option of every command that takes a number refuses what is none, at once; new ones are found by themselves."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import pytest
from sounding_video.cli import build_parser
from sounding_video.cli.loras import parse_lora
from sounding_video.cli.options import Checked
from sounding_video.core.errors import InputError, SoundingVideoError

# What a metavar says of the text that an option takes. A new one has to be put into one of the two.
NUMBERS = {"N", "X", "S", "SECONDS", "RATE", "WxH", "W", "H", "SIZE", "V,A", "V,V/A,A"}
TEXTS = {
    *("CKPT", "CLIP", "DIR", "FILE", "FILE [FILE …] [TEXT]", "HOW", "KEY=VALUE", "KIND", "MODE", "MODEL", "NAME"),
    "NAME,NAME",  # cards
    *("NODE.INPUT=VALUE", "PATH", "PICTURE", "PNG", "PROMPT", "RECIPE", "TEXT", "URL", "VIDEO", "WORKFLOW"),
    "FILE[:STRENGTH]",  # its strength is tried below
}
# Whole numbers, fractions, pairs: whatever the option, nothing of this is a value for it.
SENSELESS = (
    *(
        "",
        " ",
        "1/2/3",
        "nan",
        "inf",
        "-inf",
        "Infinity",
        "1_0",
        "0x10",
        "１２",
        "٣",
        "1e999",
        "1e-999999999",
        "1e999999999",
    ),
    *(
        "9" * 41,
        "-" + "9" * 41,
        "9" * 5_000,
        "1" * 1_000_000,
        str(10**40),
        "1 0",
        "1,,0",
        "1e",
        "--1",
        "+-1",
        "½",
        "1j",
    ),
    *("9" * 30 + "x" + "9" * 30, "1/9e9", "0/0/0", "\0", "1\n2", "\ud800", "999999999999GB", "9" * 50 + "GB"),
    *("640000x640000", "0x0", "-1x-1", "16x", "x16", "16x16x16", "1_6x16", "１６x16", "5,5,5,1000", "-1,-1", "1e1,1"),
)
NEGATIVE = {"--crf", "--given-time"}  # -1 stands for the usual one


def options() -> Iterator[tuple[str, argparse.Action]]:
    """Every option of every command."""
    (commands,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    for name, parser in commands.choices.items():
        for action in parser._actions:
            if action.nargs != 0:  # flags take nothing
                yield f"{name} {(action.option_strings or [action.dest])[-1]}", action


OPTIONS = dict(options())
NUMERIC = [name for name, action in OPTIONS.items() if isinstance(action.type, Checked)]


def test_every_option_says_whether_it_is_a_number() -> None:
    unsorted = {n: a.metavar for n, a in OPTIONS.items() if a.metavar not in NUMBERS | TEXTS and a.choices is None}
    assert not unsorted, "put the metavar among the numbers or the texts above"
    loose = [n for n, a in OPTIONS.items() if a.metavar in NUMBERS and not isinstance(a.type, Checked)]
    assert not loose, "a number without bounds: read it with cli.options.Checked"
    assert not [n for n, a in OPTIONS.items() if a.type in (int, float, complex, eval)]
    assert len(NUMERIC) > 50


@pytest.mark.parametrize("name", NUMERIC)
def test_what_is_no_number_is_one_sentence(name: str) -> None:
    read = OPTIONS[name].type
    for text in SENSELESS if name.split()[-1] in NEGATIVE else (*SENSELESS, "-1", "-1e9"):
        started = time.monotonic()
        with pytest.raises(argparse.ArgumentTypeError) as caught:
            print(name, repr(text[:40]), read(text))  # shown where it was taken
        assert time.monotonic() - started < 0.5
        assert len(str(caught.value)) < 300


def test_a_refusal_is_one_of_our_errors_and_shows_the_option() -> None:
    with pytest.raises(
        InputError, match=r"argument --fps: the frame rate is not a number: got '1e999999999'; expected f"
    ):
        build_parser().parse_args(["synth", "-n", "1", "-o", "there", "--fps", "1e999999999"])
    with pytest.raises(
        InputError, match=r"--seed: the seed cannot be used: got 9{40}; expected a whole number from 0 to"
    ):
        build_parser().parse_args(["generate", "a", "-o", "a.mp4", "--seed", "9" * 40])
    with pytest.raises(
        InputError, match=r"--timeout: the timeout cannot be used: got 1e300; expected a number from 0.001"
    ):
        build_parser().parse_args(["queue", "w.json", "--server", "http://a", "--timeout", "1e300"])


@pytest.mark.parametrize("strength", [text for text in SENSELESS if text and ":" not in text])
def test_the_strength_of_a_lora_is_a_number_or_part_of_its_name(strength: str) -> None:
    try:
        assert abs(parse_lora(f"style:{strength}", "video").strength) <= 1000
    except SoundingVideoError as error:
        assert len(str(error)) < 300
