"""``sounding-video evaluate`` from the command line to files."""

from __future__ import annotations

import json

import pytest
from evaluation_clips import make_av
from sounding_video.cli import main

TIMES = [0.43, 0.9, 1.5]


@pytest.fixture
def command(capsys):
    def run(*arguments):
        capsys.readouterr()
        code = main(["evaluate", *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def folder(written):
    written("a.mp4", make_av(TIMES, TIMES))
    return written("b.mp4", make_av(TIMES, TIMES)).parent


def test_a_table_for_people(command, folder):
    code, out, err = command(folder, "--metrics", "event_f1", "av_align")
    assert code == 0, err
    assert "f1_2_frames" in out and "av_align" in out and "2 clips, 0 broken, 0 in the manifest" in out
    assert "evaluate: 2/2" in err


def test_json_pictures_and_files(command, folder, tmp_path):
    (folder / "c.mp4").write_bytes(b"broken")
    (tmp_path / "truth.jsonl").write_text(json.dumps({"file": "a.mp4", "events": TIMES}) + "\n")
    out_folder, png = tmp_path / "out", tmp_path / "png"
    code, out, err = command(
        folder, "--json", "--metrics", "event_f1", "--manifest", tmp_path / "truth.jsonl", "-o", out_folder,
        "--pictures", png,
    )  # fmt: skip
    assert code == 0, err
    values = json.loads(out)
    assert values["metrics"]["event_f1"]["picture_f1_2_frames"] == 1
    assert (values["num_clips"], values["num_broken"], values["num_in_manifest"]) == (3, 1, 1)
    assert "c.mp4: " in err and "c.mp4" in values["broken"]
    assert values["written"] == [str(out_folder / name) for name in ("clips.jsonl", "summary.json")]
    assert len((out_folder / "clips.jsonl").read_text().splitlines()) == 3
    assert sorted(path.name for path in png.iterdir()) == ["a.mp4.png", "b.mp4.png"]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--metrics", "loudness"], 2, "unknown metric: got 'loudness'; expected one of av_align"),
        (["--manifest", "missing.jsonl"], 2, "there is no such manifest"),
    ],
)
def test_exit_codes(command, folder, arguments, code, sentence):
    got, _, err = command(folder, *arguments)
    assert got == code and sentence in err


def test_a_missing_package_is_exit_code_3(command, folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    code, _, err = command(folder, "--metrics", "av_align")
    assert code == 3 and "Install it with: pip install opencv-python-headless" in err
