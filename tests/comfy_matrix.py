"""Runs the tests against many releases of ComfyUI and prints version × test.

    python tests/comfy_matrix.py --mirror ~/ComfyUI/.git --work ~/comfy-matrix [--browser | --only browser] [--write]

``--mirror`` is any clone of ComfyUI with its history. Taken are the oldest release that the pack supports, the last
0.12, the last release of each quarter since, and the newest commit; ``--versions`` names others. Checkouts and
environments are made in the ``--work`` folder, never in this repository. An environment holds what a release pins, and
takes torch and the rest from the interpreter that runs this. Results are kept there by our commit and page, so that a
run that was stopped goes on. What ``--write`` has no new numbers for stays in the table as it is.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import threading
import venv
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSION_FILE = "comfyui_version.py"
FIRST_THAT_BROKE = "0.12"
SHARED_PACKAGES = re.compile(r"(torch|torchvision|torchaudio)\b(?!-)", re.IGNORECASE)
# 0.3.64 imports requests and names it nowhere.
FORGOTTEN = ("requests",)
PAGES = {
    "own page": "the page it pins",
    "own page, Vue nodes": "the page it pins, Vue nodes",
    "other page": "the newest page",
    "other page, Vue nodes": "the newest page, Vue nodes",
}
# The newest page runs on the newest release; older ones have it by a switch only.
OWN_PAGES, OTHER_PAGES = tuple(PAGES)[:2], tuple(PAGES)[2:]
TABLE = ROOT / "benchmarks" / "comfy_matrix.md"


@dataclass(frozen=True)
class Release:
    """One ComfyUI.

    Args:
        version: As it calls itself.
        commit: Of the mirror.
        day: When it was made.
        newest: Whether it is the mirror's head and not a release.
    """

    version: str
    commit: str
    day: datetime.date
    newest: bool = False

    @property
    def label(self) -> str:
        """Name of its folder and its column."""
        return f"{self.version}+" if self.newest else self.version

    @property
    def quarter(self) -> tuple[int, int]:
        """Year and quarter."""
        return self.day.year, (self.day.month - 1) // 3


def git(mirror: Path, *arguments: str) -> str:
    """What a git command prints."""
    return subprocess.run(["git", "-C", str(mirror), *arguments], check=True, capture_output=True, text=True).stdout


def releases(mirror: Path) -> list[Release]:
    """Every release in the mirror's history and its head, the oldest first."""
    branch = next(name for name in ("master", "origin/master", "HEAD") if _knows(mirror, name))
    found = {}
    for line in git(mirror, "log", branch, "--format=%H %cs", "--", VERSION_FILE).splitlines():
        commit, day = line.split()
        version = _version_at(mirror, commit)
        if version:
            found.setdefault(version, Release(version, commit, datetime.date.fromisoformat(day)))
    head, day = git(mirror, "log", "-1", "--format=%H %cs", branch).split()
    newest = Release(_version_at(mirror, head) or "newest", head, datetime.date.fromisoformat(day), newest=True)
    return [*sorted(found.values(), key=lambda release: release.day), newest]


def _knows(mirror: Path, name: str) -> bool:
    command = ["git", "-C", str(mirror), "rev-parse", "--verify", "--quiet", name]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _version_at(mirror: Path, commit: str) -> str | None:
    command = ["git", "-C", str(mirror), "show", f"{commit}:{VERSION_FILE}"]
    text = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    match = re.search(r'__version__ = "(.+)"', text)
    return match and match[1]


def chosen(known: list[Release], wanted: list[str]) -> list[Release]:
    """Those named, or the oldest supported, the last 0.12, the last of each quarter since, and the newest."""
    if wanted:
        return [next(release for release in known if release.label == name) for name in wanted]
    oldest = re.search(r'requires-comfyui = ">=(.+)"', (ROOT / "pyproject.toml").read_text())[1]
    first = next(release for release in known if release.version == oldest)
    last_of = {release.quarter: release for release in known if release.day >= first.day and not release.newest}
    broke = [release for release in known if release.version.startswith(f"{FIRST_THAT_BROKE}.")][-1]
    picked = {first, broke, *last_of.values()}
    newest = known[-1]
    rest = [release for release in picked if release.version != newest.version]
    return [*sorted(rest, key=lambda release: release.day), newest]


def check_out(mirror: Path, release: Release, folder: Path) -> None:
    """Write a release's files, those that the mirror lacks left out and named."""
    if (folder / "main.py").is_file():
        return
    lines = git(mirror, "ls-tree", "-r", "-z", "--full-tree", release.commit).split("\0")
    rows = [(meta.split()[2], path) for meta, path in (line.split("\t") for line in lines if line)]
    command = ["git", "-C", str(mirror), "cat-file", "--batch"]
    reader = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask() -> None:
        with reader.stdin as stream:
            for name, _ in rows:
                stream.write(f"{name}\n".encode())

    asking = threading.Thread(target=ask)
    asking.start()
    for _, path in rows:
        head = reader.stdout.readline().split()
        if head[1] == b"missing":
            print(f"  {release.label}: the mirror lacks {path}")
            continue
        content = reader.stdout.read(int(head[2]) + 1)[:-1]
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    asking.join()
    reader.wait()


def environment(checkout: Path, folder: Path) -> Path:
    """An interpreter with what the release pins, torch taken from this one's."""
    python = folder / "bin" / "python"
    done = folder / "complete"
    if done.is_file():
        return python
    venv.create(folder, with_pip=True, clear=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "zz_shared.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    lines = [line.strip() for line in (checkout / "requirements.txt").read_text().splitlines()]
    pinned = [line for line in lines if line and not line.startswith("#") and not SHARED_PACKAGES.match(line)]
    own = ["-r", str(ROOT / "requirements.txt")]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *pinned, *FORGOTTEN, *own], check=True)
    done.touch()
    return python


def newest_page(folder: Path) -> Path:
    """The newest page that the package index has."""
    page = folder / "comfyui_frontend_package" / "static"
    if not page.is_dir():
        options = ["--quiet", "--no-deps", "--target", str(folder)]
        subprocess.run([sys.executable, "-m", "pip", "install", *options, "comfyui-frontend-package"], check=True)
    return page


def run_tests(name: str, arguments: list[str], work: Path, variables: dict[str, str]) -> dict[str, list[int]]:
    """Run some tests once and keep what came of them.

    Returns:
        By test file, and page where it is one of the browser's: how many passed, failed, were skipped.
    """
    commit = git(ROOT, "describe", "--always", "--dirty").strip()
    kept = work / "results" / commit / f"{name}.json"
    if kept.is_file() and not commit.endswith("-dirty"):
        return json.loads(kept.read_text())
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, kept.with_suffix(".log").open("w") as log:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "--tb=short", f"--junitxml={report}", *arguments]
        code = subprocess.run(command, cwd=ROOT, env={**os.environ, **variables}, stdout=log, stderr=log, check=False)
        if code.returncode not in (0, 1):
            raise SystemExit(f"pytest ended with {code.returncode}; see {log.name}")
        counts: dict[str, list[int]] = {}
        for file, outcome in _outcomes(report):
            counts.setdefault(file, [0, 0, 0])[outcome] += 1
    kept.write_text(json.dumps(counts))
    return counts


def _outcomes(report: Path) -> Iterator[tuple[str, int]]:
    """File and outcome of each test: 0 passed, 1 failed, 2 skipped."""
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        file = case.get("classname", "").removeprefix("tests.").replace(".", "/")
        page = re.search(r"\b(own|other) page(, Vue nodes)?", case.get("name", ""))
        file += f" on {PAGES[page[0]]}" if page else ""
        kinds = {child.tag for child in case}
        yield file, 1 if kinds & {"failure", "error"} else 2 if "skipped" in kinds else 0


@dataclass(frozen=True)
class Part:
    """Tests that are run and kept together.

    Args:
        name: Of what is kept.
        arguments: For pytest.
        variables: For its environment.
    """

    name: str
    arguments: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)


def parts(suite: str, release: Release, page: Path | None, wanted: Sequence[str] = tuple(PAGES)) -> list[Part]:
    """The server's tests are one run, the browser's one a page, so that little is lost where a run is stopped."""
    if suite == "server":
        return [Part(suite, ("tests/integration", "-m", "not slow", "--numprocesses", "2", "--dist", "loadfile"))]
    pages = (*OWN_PAGES, *OTHER_PAGES) if release.newest else OWN_PAGES
    other = {"COMFYUI_FRONTEND": str(page)} if release.newest else {}
    return [
        Part(
            f"{suite} {name}".replace(", ", " ").replace(" ", "_"), ("tests/browser",), {**other, "COMFYUI_PAGE": name}
        )
        for name in pages
        if name in wanted
    ]


Cells = dict[str, dict[str, str]]
NOT_RUN = "–"


def cells(columns: list[Release], counts: dict[tuple[str, str], dict[str, list[int]]], names: list[str]) -> Cells:
    """By column and row, how many tests of a file passed on a release."""
    return {
        f"{column.label}<br>{column.day}": {
            f"{name}: `{file}`": _cell(count)
            for name in names
            for file, count in sorted(counts[column.label, name].items())
        }
        for column in columns
    }


def _cell(count: list[int]) -> str:
    passed, failed, skipped = count
    text = f"{passed} of {passed + failed}" + (f", {skipped} skipped" if skipped else "")
    return f"**{text}**" if failed else text


def read_table(text: str) -> Cells:
    """The cells of a table that was written."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    if not rows:
        return {}
    (_, *columns), _, *rest = rows
    return {
        column: {row[0]: row[number] for row in rest if row[number] != NOT_RUN}
        for number, column in enumerate(columns, start=1)
    }


def merged(old: Cells, new: Cells) -> Cells:
    """What was run anew instead of what stood there, by suite and page; all else stays. The oldest release is first."""
    result = {column: dict(rows) for column, rows in old.items()}
    for column, rows in new.items():
        ran = {_part_of(row) for row in rows}
        kept = {row: text for row, text in result.get(column, {}).items() if _part_of(row) not in ran}
        result[column] = kept | rows
    return dict(sorted(result.items(), key=lambda item: item[0].partition("<br>")[2]))


def _part_of(row: str) -> tuple[str, str]:
    """Suite, and page where it is one of the browser's."""
    return row.partition(":")[0], row.partition(" on ")[2]


def table(found: Cells) -> str:
    """Markdown: a row a test file, the server's first, and a column a release."""
    lines = ["| tests | " + " | ".join(found) + " |", "|---|" + "---:|" * len(found)]
    rows = {row for column in found.values() for row in column}
    for row in sorted(rows, key=lambda row: (not row.startswith("server"), row)):
        lines.append(f"| {row} | " + " | ".join(column.get(row, NOT_RUN) for column in found.values()) + " |")
    return "\n".join(lines)


def write(found: Cells) -> None:
    """Put cells into the table that is kept."""
    before = TABLE.read_text() if TABLE.is_file() else "# ComfyUI's releases × our tests\n"
    head, bar, old = before.partition("\n| tests |")
    text = table(merged(read_table(bar + old), found))
    TABLE.write_text(f"{head.rstrip()}\n\n{text}\n")


def main() -> int:
    """Run what is asked for; 1 when a test failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mirror", type=Path, required=True, help="a clone of ComfyUI with its history")
    parser.add_argument(
        "--work", type=Path, default=ROOT.parent / "comfy-matrix", help="for checkouts and environments"
    )
    parser.add_argument("--versions", nargs="*", default=[], help="as 0.12.3; a + behind the newest commit's")
    parser.add_argument("--browser", action="store_true", help="also the tests in a browser, on two pages")
    parser.add_argument("--only", choices=("server", "browser"), help="these tests and no others")
    parser.add_argument("--pages", nargs="+", choices=PAGES, default=tuple(PAGES), help="in a browser, these alone")
    parser.add_argument("--list", action="store_true", help="say which would be taken, and end")
    parser.add_argument("--prepare", action="store_true", help="make checkouts and environments, and end")
    parser.add_argument("--write", action="store_true", help=f"write the table to {TABLE.relative_to(ROOT)}")
    given = parser.parse_args()
    if given.work.resolve().is_relative_to(ROOT):
        parser.error(f"--work {given.work} lies in this repository; name a folder outside it")
    columns = chosen(releases(given.mirror), given.versions)
    print("taken: " + ", ".join(f"{release.label} ({release.day})" for release in columns), flush=True)
    if given.list:
        return 0
    pythons = {}
    for release in columns:
        check_out(given.mirror, release, given.work / release.label)
        pythons[release] = environment(given.work / release.label, given.work / f"env-{release.label}")
    if given.prepare:
        return 0
    names = [given.only] if given.only else ["server", "browser"] if given.browser else ["server"]
    page = newest_page(given.work / "newest-page") if "browser" in names else None
    counts = {}
    for release in columns:
        own = {"COMFYUI_PATH": str(given.work / release.label), "COMFYUI_PYTHON": str(pythons[release])}
        for name in names:
            counts[release.label, name] = {}
            for part in parts(name, release, page, given.pages):
                variables = {**own, **part.variables}
                found = run_tests(f"{release.label}_{part.name}", [*part.arguments], given.work, variables)
                counts[release.label, name] |= found
                failed = sum(count[1] for count in found.values())
                print(f"{release.label} {part.name}: {f'{failed} FAILED' if failed else 'all passed'}", flush=True)
        if given.write:
            write(cells([release], counts, names))
    print(f"\n{table(cells(columns, counts, names))}")
    return 1 if any(count[1] for part in counts.values() for count in part.values()) else 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
