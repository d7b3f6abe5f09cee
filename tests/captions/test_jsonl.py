"""A list that several processes append to and that a stopped one may leave with half a line."""

from __future__ import annotations

import json

import pytest
from sounding_video.captions.jsonl import append_row, read_rows
from sounding_video.core.errors import InputError, OutputError


def names(path) -> list[str]:
    return [row["file"] for row in read_rows(path)]


@pytest.mark.parametrize("half", ["{", '{"file": "b.mp4", "x": "' + "long " * 40_000, '{"file": "b.mp4"', "{}, "])
def test_half_a_line_is_cut_off_before_the_next(tmp_path, half):
    path = tmp_path / "list.jsonl"
    append_row(path, {"file": "a.mp4"})
    for name in ("b.mp4", "c.mp4"):
        with path.open("a") as file:
            file.write(half)
        append_row(path, {"file": name})
    assert names(path) == ["a.mp4", "b.mp4", "c.mp4"]
    assert [json.loads(line)["file"] for line in path.read_text().splitlines()] == ["a.mp4", "b.mp4", "c.mp4"]


def test_half_a_first_line_and_half_a_letter(tmp_path):
    path = tmp_path / "list.jsonl"
    path.write_bytes('{"file": "ü'.encode()[:-1])
    assert read_rows(path) == []
    append_row(path, {"file": "a.mp4"})
    assert names(path) == ["a.mp4"]


def test_a_whole_line_without_its_end_is_kept(tmp_path):
    """As editors leave it."""
    path = tmp_path / "list.jsonl"
    path.write_text('{"file": "a.mp4"}')
    append_row(path, {"file": "b.mp4"})
    assert names(path) == ["a.mp4", "b.mp4"]


def test_processes_append_at_once_and_every_line_is_whole(python_with_package, tmp_path):
    path = tmp_path / "list.jsonl"
    path.write_text('{"file": "half')
    code = (
        "from pathlib import Path\n"
        "from sounding_video.captions.jsonl import append_row\n"
        "for index in range(40):\n"
        "    append_row(Path(sys.argv[1]), {'file': f'{sys.argv[2]}-{index}', 'text': 'x' * 50_000})\n"
    )
    running = [python_with_package(code, [str(path), str(number)]) for number in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert sorted(names(path)) == sorted(f"{number}-{index}" for number in range(3) for index in range(40))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nonsense\n{}", "a line of the list of clips is not JSON"),
        ("[1]\n", "is no JSON object"),
        ('{"file": 3}\n', "names no file"),
    ],
)
def test_a_list_that_cannot_be_used(tmp_path, text, sentence):
    (tmp_path / "list.jsonl").write_text(text)
    with pytest.raises(InputError, match=sentence):
        read_rows(tmp_path / "list.jsonl")
    with pytest.raises(InputError, match="the list of clips cannot be read"):
        read_rows(tmp_path / "absent.jsonl")


def test_a_list_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="the captions cannot be written"):
        append_row(tmp_path / "file" / "list.jsonl", {"file": "a.mp4"})
