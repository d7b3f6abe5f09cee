"""The table of releases × tests: what was not run anew stays in it."""

from __future__ import annotations

import datetime
import importlib.util
import re
import sys
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("comfy_matrix", Path(__file__).with_name("comfy_matrix.py"))


@pytest.fixture
def matrix(tmp_path, monkeypatch):
    module = importlib.util.module_from_spec(_spec)
    monkeypatch.setitem(sys.modules, _spec.name, module)  # its dataclass asks for it
    _spec.loader.exec_module(module)
    monkeypatch.setattr(module, "TABLE", tmp_path / "table.md")
    return module


def test_a_run_in_the_browser_keeps_the_rows_of_the_server(matrix):
    old, new = (
        matrix.Release(version, "0" * 40, datetime.date(2026, month, 1))
        for version, month in (("0.12.3", 2), ("0.33.0", 8))
    )
    server = {(release.label, "server"): {"integration/test_live": [14, 0, 0]} for release in (old, new)}
    matrix.TABLE.write_text("# Ours\n\nSome words.\n")
    matrix.write(matrix.cells([old, new], server, ["server"]))
    matrix.write(matrix.cells([new], {("0.33.0", "browser"): {"browser/test_page": [9, 1, 2]}}, ["browser"]))
    assert matrix.TABLE.read_text().splitlines() == [
        "# Ours",
        "",
        "Some words.",
        "",
        "| tests | 0.12.3<br>2026-02-01 | 0.33.0<br>2026-08-01 |",
        "|---|---:|---:|",
        "| server: `integration/test_live` | 14 of 14 | 14 of 14 |",
        "| browser: `browser/test_page` | – | **9 of 10, 2 skipped** |",
    ]
    # The same tests again: a file that is gone goes from that release, and from no other.
    matrix.write(matrix.cells([old], {("0.12.3", "server"): {"integration/test_more": [1, 0, 0]}}, ["server"]))
    assert matrix.TABLE.read_text().splitlines()[6:] == [
        "| server: `integration/test_live` | – | 14 of 14 |",
        "| server: `integration/test_more` | 1 of 1 | – |",
        "| browser: `browser/test_page` | – | **9 of 10, 2 skipped** |",
    ]


def test_a_run_on_one_page_keeps_the_rows_of_the_other(matrix):
    release = matrix.Release("0.33.0", "0" * 40, datetime.date(2026, 8, 1))

    def write(page, *files):
        found = {f"browser/{file} on {matrix.PAGES[page]}": [3, 0, 0] for file in files}
        matrix.write(matrix.cells([release], {("0.33.0", "browser"): found}, ["browser"]))

    write("own page", "test_page", "test_gone")
    write("own page, Vue nodes", "test_page")
    write("own page", "test_page")
    assert sorted(line.split("`")[1] for line in matrix.TABLE.read_text().splitlines() if "`" in line) == [
        "browser/test_page on the page it pins",
        "browser/test_page on the page it pins, Vue nodes",
    ]


def test_every_flavour_of_the_browser_tests_has_a_name_in_the_table(matrix, root):
    flavours = re.findall(
        r'_PAGE(?:_VUE)?, \w+ = "([^"]+)", "([^"]+)"', (root / "tests/browser/conftest.py").read_text()
    )
    assert {flavour for pair in flavours for flavour in pair} == set(matrix.PAGES)


def test_the_table_is_read_as_it_is_written(matrix, root):
    text = (root / "benchmarks" / "comfy_matrix.md").read_text()
    bar = text[text.index("| tests |") :].strip()
    assert matrix.table(matrix.read_table(bar)) == bar


def test_a_run_is_kept_by_page_and_the_newest_page_runs_on_the_newest_release(matrix, tmp_path):
    old = matrix.Release("0.12.3", "0" * 40, datetime.date(2026, 2, 1))
    new = matrix.Release("0.33.0", "1" * 40, datetime.date(2026, 8, 1), newest=True)
    chosen = {release: matrix.parts("browser", release, tmp_path) for release in (old, new)}
    assert [part.variables for part in chosen[old]] == [{"COMFYUI_PAGE": page} for page in matrix.OWN_PAGES]
    assert [part.variables["COMFYUI_PAGE"] for part in chosen[new]] == list(matrix.PAGES)
    assert all(part.variables["COMFYUI_FRONTEND"] == str(tmp_path) for part in chosen[new])
    names = [part.name for part in chosen[new]]
    assert len(set(names)) == len(names) and not any(" " in name for name in names)
