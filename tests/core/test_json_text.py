"""The one reader of JSON: whatever a file holds, its value or one sentence of ours, at once."""

from __future__ import annotations

import codecs
import os
import time
from pathlib import Path

import pytest
from sounding_video.core.errors import CorruptWeightsError, InputError, TextError, WorkflowError
from sounding_video.core.json_text import (
    MOST_DEPTH,
    MOST_DIGITS,
    first_object,
    parse_json,
    plain,
    read_bytes,
    read_json,
    read_json_lines,
    read_text,
)

BAD = {
    "empty": ("", "column 1"),
    "binary": (b"\x93NUMPY\x01\x00v\x00\xff\xfe\x80", "not text"),
    "picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "not text"),
    "latin": (b'{"a": "\xe9"}', "byte 7"),
    "half utf-16": (codecs.BOM_UTF16_LE + "{}".encode("utf-16-le")[:-1], "not text"),
    "cut off": ('{"a": [1, 2', "column 12"),
    "cut off later": ('{\n"a": [1, 2', "line 2, column 11"),
    "two values": ("{} {}", "Extra data"),
    "deep lists": ("[" * 100_000, "nested deeper"),
    "deep and closed": ("[" * 100_000 + "]" * 100_000, "nested deeper"),
    "deep objects": ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested deeper"),
    "a little too deep": ("[" * (MOST_DEPTH + 1) + "]" * (MOST_DEPTH + 1), "nested deeper"),
    "long whole number": ("9" * 5_000, "5000 digits"),
    "long negative number": ("[-" + "9" * 5_000 + "]", "digits"),
    "very long number": ("1" * 10_000_000, "digits"),
    "long fraction": ("0." + "3" * 1_000_000, "digits"),
    "too large": ('{"a": 1e999}', "too large"),
    "not a number": ("[NaN]", "NaN"),
    "infinite": ("-Infinity", "-Infinity"),
    "key twice": ('{"a": {"b": 1, "c": 2, "b": 3}}', "'b' stands twice"),
    "half a pair": ('["\\ud83d"]', "half of a character pair"),
    "half a pair as key": ('{"\\uDE00": 1}', "half of a character pair"),
    "many values": ("[" + "[]," * 5_000_000 + "[]]", "more than"),
    "many commas": ("," * 5_000_000, "more than"),
    "control character": ('"a\nb"', "control character"),
    "single quotes": ("{'a': 1}", "property name"),
    "only a mark": (codecs.BOM_UTF8, "column 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_good_json_is_one_sentence_at_once(name: str) -> None:
    content, reason = BAD[name]
    started = time.monotonic()
    with pytest.raises(WorkflowError) as caught:
        parse_json(content, what="the workflow", where="here.json", error=WorkflowError)
    assert time.monotonic() - started < 2
    assert reason in str(caught.value)
    assert "the workflow is not JSON: got here.json" in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_every_unicode_encoding_is_understood(encoding: str) -> None:
    assert parse_json('{"größe": ["😀", 1.5, null]}'.encode(encoding)) == {"größe": ["😀", 1.5, None]}


def test_good_values_come_out_unchanged() -> None:
    assert parse_json("[" * MOST_DEPTH + "]" * MOST_DEPTH)
    assert parse_json("9" * MOST_DIGITS) == int("9" * MOST_DIGITS)
    assert parse_json('"\\ud83d\\ude00 and \\\\ud83d"') == "😀 and \\ud83d"
    assert parse_json("\ufeff[1e-999, -0.0, true]") == [0.0, 0.0, True]
    assert parse_json('{"is_changed": [NaN, Infinity]}', nan_is_null=True) == {"is_changed": [None, None]}
    assert plain({1: (2, 3)}) == {"1": [2, 3]}


def test_a_text_over_the_bound_is_refused() -> None:
    with pytest.raises(TextError, match="longer than 1 MiB"):
        parse_json('"' + "a" * (1 << 20) + '"', most_bytes=1 << 20)


def test_files_are_read_within_their_bounds(tmp_path: Path) -> None:
    good, large = tmp_path / "good.json", tmp_path / "large.json"
    good.write_bytes(codecs.BOM_UTF8 + b'{"a": 1}')
    assert read_json(good) == {"a": 1}
    large.write_bytes(b" " * ((1 << 20) + 1))
    with pytest.raises(CorruptWeightsError, match=r"the index is too long.*at most 1 MiB"):
        read_json(large, what="the index", error=CorruptWeightsError, most_bytes=1 << 20)


def test_pipes_devices_folders_and_nothing_are_told_and_not_opened(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    for path, told in (
        (pipe, "a pipe"),
        ("/dev/zero", "a device"),
        (tmp_path, "a folder"),
        (tmp_path / "no", "nothing"),
    ):
        for reader in (read_json, read_text, read_bytes, lambda path: list(read_json_lines(path))):
            with pytest.raises(TextError, match=f"cannot be read: got {path} .{told}"):
                reader(path)


def test_lines_are_read_with_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(codecs.BOM_UTF8 + '{"a": "x\u2028y\x0b"}\r\n\n  \n{"a": 2}'.replace("\x0b", "\u0085").encode())
    assert list(read_json_lines(path)) == [(1, {"a": "x\u2028y\u0085"}), (4, {"a": 2})]


@pytest.mark.parametrize("line", [b"[1]", b"7", b'"a"', b"null", b'{"a": 1', b"\x80", b"[" * 100_000, b"9" * 5_000])
def test_a_bad_line_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b"\n" + b'{"a": 3}\n')
    with pytest.raises(InputError, match=r"a line of the manifest is n.*rows.jsonl, line 2"):
        list(read_json_lines(path, what="the manifest"))


def test_half_a_last_line_is_left_out_where_a_run_may_have_stopped(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a": ')
    assert list(read_json_lines(path, half_last=True)) == [(1, {"a": 1})]
    with pytest.raises(TextError, match="line 2"):
        list(read_json_lines(path))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_lines_in_another_encoding_are_told(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes('{"a": 1}\n{"a": 2}\n'.encode(encoding))
    with pytest.raises(TextError, match="the manifest is not text in UTF-8"):
        list(read_json_lines(path, what="the manifest"))


def test_plain_text_is_text(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(codecs.BOM_UTF8 + "größe".encode())
    assert read_text(path) == "größe"
    for content in (b"a\0b", b"\xff\xfea\0", "é".encode("latin-1")):
        path.write_bytes(content)
        with pytest.raises(TextError, match="the table is not text"):
            read_text(path, what="the table")


def test_an_object_in_a_text_ends_where_it_ends() -> None:
    assert first_object('say {"a": {"b": 1}} and more', 4) == {"a": {"b": 1}}
    for text in ('{"a": ' * 100_000, '{"a": 1', '{"a": NaN}', '{"a": 1, "a": 2}', '{"a": ' + "9" * 5_000 + "}"):
        with pytest.raises(TextError):
            first_object(text, 0)
