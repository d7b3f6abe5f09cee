"""A place where a result cannot be written is found before anything is loaded, and by the node that writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from sounding_video.core.errors import OutputError, WorkflowError
from sounding_video.core.progress import Progress
from sounding_video.headless.runner import run_workflow
from sounding_video.headless.ui_format import ui_workflow
from sounding_video.nodes import Mux, SyncReport
from sounding_video.nodes.host import standalone
from sounding_video.nodes.host.places import require_place

ROOM = 255 - len("_00001_.mp4")
needs_proc = pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a file system that refuses even root")


def test_the_longest_name_passes_and_one_more_byte_does_not(tmp_path):
    require_place(tmp_path, "a" * ROOM, ".mp4")
    require_place(tmp_path, "ü" * (ROOM // 2), ".mp4")
    require_place(tmp_path, "new/" + "b" * 255 + "/clip", ".mp4")
    for prefix in ("a" * (ROOM + 1), "ü" * (ROOM // 2 + 1), "new/" + "b" * 256 + "/clip", "/".join(["c" * 200] * 30)):
        with pytest.raises(OutputError, match=r"cannot be written.*File name too long.* Choose another folder or name"):
            require_place(tmp_path, prefix, ".mp4")
    assert list(tmp_path.iterdir()) == [], "asking leaves nothing behind"


def test_a_long_name_made_of_placeholders_is_cut_and_passes(tmp_path):
    require_place(tmp_path, "%date:yyyy%" * 100, ".mp4")
    require_place(tmp_path, "%width%" * 100, ".webm")


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "file").write_text("x")
    for output, prefix in ((tmp_path / "file", "clip"), (tmp_path, "file/clip"), (tmp_path / "file", "a/b/clip")):
        with pytest.raises(OutputError, match="a part of the path is a file, not a folder"):
            require_place(output, prefix, ".mp4")


def test_a_link_that_leads_nowhere(tmp_path):
    (tmp_path / "gone").symlink_to(tmp_path / "nothing")
    with pytest.raises(OutputError, match="cannot be written"):
        require_place(tmp_path / "gone", "clip", ".mp4")


@needs_proc
def test_a_folder_that_takes_no_files():
    with pytest.raises(OutputError, match=r"/proc/self/clip_00001_\.mp4"):
        require_place(Path("/proc/self"), "clip", ".mp4")


def verdict(node, output, **values):
    with standalone.session(standalone.Session(output_dir=output)):
        return node.validate_inputs(**values)


@pytest.mark.parametrize("node", [Mux, SyncReport])
def test_both_savers_ask(tmp_path, node):
    (tmp_path / "file").write_text("x")
    assert verdict(node, tmp_path, filename_prefix="new/clip") is True
    assert "not a folder" in verdict(node, tmp_path / "file", filename_prefix="clip")
    assert "too long" in verdict(node, tmp_path, filename_prefix="a" * 250)
    assert "does not name a file inside" in verdict(node, tmp_path, filename_prefix="../clip")


def test_a_preview_needs_no_output_folder(tmp_path):
    (tmp_path / "file").write_text("x")
    given = {"filename_prefix": "clip", "format": "mp4", "writer": "pyav"}
    assert verdict(Mux, tmp_path / "file", save="preview only", **given) is True
    assert "not a folder" in verdict(Mux, tmp_path / "file", save="output", **given)
    assert "unknown way to save: got 'maybe'" in verdict(Mux, tmp_path, save="maybe", **given)


@pytest.mark.parametrize(("output", "prefix"), [("file", "clip"), (".", "a" * 250), (".", "file/clip")])
def test_run_says_it_before_a_model_is_loaded(graph, small_models_dir, tmp_path, output, prefix):
    (tmp_path / "file").write_text("x")
    graph["9"]["inputs"]["filename_prefix"] = prefix
    seen = []
    with pytest.raises(WorkflowError, match=r"^node 9 \(T2SVMux\): "):
        run_workflow(
            graph,
            models_dir=small_models_dir,
            output_dir=tmp_path / output,
            device="cpu",
            progress=Progress(lambda *given, **named: seen.append(given)),
        )
    assert seen == []


def test_a_layout_asks_no_disk(graph, monkeypatch, tmp_path):
    """``generate -o`` and ``queue`` lay graphs out for another place or machine than the folder they stand in."""
    (tmp_path / "output").write_text("x")
    monkeypatch.chdir(tmp_path)
    graph["9"]["inputs"]["filename_prefix"] = "a" * 250
    assert ui_workflow(graph)["nodes"]


def test_a_name_of_full_length_is_written(graph, small_models_dir, tmp_path):
    graph["9"]["inputs"]["filename_prefix"] = "a" * ROOM
    (path,) = run_workflow(graph, models_dir=small_models_dir, output_dir=tmp_path, device="cpu").files
    assert len(path.name) == 255 and path.is_file()
