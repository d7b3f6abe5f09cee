"""Lists of clips, one JSON object a line: several processes append to one, and a stopped one may leave half a line."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ..core.errors import InputError, OutputError, TextError
from ..core.json_text import parse_json, read_json_lines
from ..core.locks import lock_file
from ..core.new_files import made_folder

_BLOCK_BYTES = 65_536


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSONL file, each with a ``file``.

    Raises:
        InputError: the file cannot be read, or a line is not such a row; a half line at the end is left out, it is
            where an earlier run was stopped.
    """
    rows = []
    for number, row in read_json_lines(path, what="the list of clips", half_last=True):
        if not isinstance(row.get("file"), str):
            raise InputError("a line names no file", got=f"{path}, line {number}", expected='an object with "file"')
        rows.append(row)
    return rows


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Add one line while no other process adds one; half a line that a stopped run left is cut off first.

    Args:
        path: Made with its folder when it is not there.
        row: Plain values.

    Raises:
        OutputError: the file cannot be written.
    """
    line = json.dumps(row, ensure_ascii=True).encode("ascii") + b"\n"
    try:
        with made_folder(path.parent), path.open("a+b") as file:
            lock_file(file)
            _end_last_line(file)
            file.write(line)
            file.flush()
    except OSError as error:
        raise OutputError("the captions cannot be written", got=path, remedy=str(error)) from error


def _end_last_line(file: BinaryIO) -> None:
    """Leave the file with whole lines only: a half one goes, a whole one without its end is kept."""
    start = size = file.seek(0, os.SEEK_END)
    while start:
        block = max(0, start - _BLOCK_BYTES)
        file.seek(block)
        end = file.read(start - block).rfind(b"\n")
        if end >= 0:
            start = block + end + 1
            break
        start = block
    if start == size:
        return
    file.seek(start)
    try:
        parse_json(file.read())
    except TextError:
        file.truncate(start)
    else:
        file.write(b"\n")
