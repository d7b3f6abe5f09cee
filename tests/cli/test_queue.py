"""``queue`` as a batch, and stopped with Ctrl-C, against small real HTTP servers."""

from __future__ import annotations

import importlib.util
import json
import signal
import time
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("servers", Path(__file__).parents[1] / "headless" / "servers.py")
servers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(servers)


@pytest.fixture
def server():
    farm = servers.Farm()
    with servers.running(farm.application()) as url:
        farm.url = url
        yield farm


@pytest.fixture
def foreign(tmp_path):
    """Workflow files of one node that only a server knows."""

    def write(*texts):
        paths = []
        for text in texts:
            path = tmp_path / f"{text}.json"
            path.write_text(json.dumps({"1": {"class_type": "Foreign", "inputs": {"text": text, "seed": 1}}}))
            paths.append(path)
        return paths

    return write


def test_several_files_are_a_batch(command, foreign, server, tmp_path):
    outcome = command("queue", *foreign("one", "fail", "two"), "--server", server.url, "--output-dir", tmp_path / "out")
    assert outcome.code == 1
    head, *rows, end = outcome.out.splitlines()
    assert head.split() == ["run", "server", "seconds", "result"]
    assert [row.split()[:2] for row in rows] == [[name, server.url] for name in ("one", "fail", "two")]
    assert "one.txt" in rows[0] and "error: node 1 (None) failed on the server: got no [Bad]" in rows[1]
    assert end == "2 of 3 runs done, 1 failed"
    assert len({row.index(server.url) for row in rows}) == 1
    assert f"fail on {server.url}" in outcome.err


def test_a_result_that_is_no_clip_is_kept_and_told(command, foreign, server, tmp_path, monkeypatch):
    """A server may send anything under the name of a clip."""
    monkeypatch.setattr("sounding_video.cli.run._is_media", lambda path: True)
    outcome = command("queue", *foreign("one"), "--server", server.url, "--output-dir", tmp_path / "out")
    assert (outcome.code, outcome.err.count("error: ")) == (0, 0), outcome.err
    assert f"warning: this is not a media file that can be read, or it is damaged: got {tmp_path}" in outcome.err
    assert str(tmp_path / "out" / "one.txt") in outcome.out and (tmp_path / "out" / "one.txt").exists()


def test_json_of_a_batch_is_one_object(command, foreign, server, tmp_path):
    arguments = ["queue", *foreign("one", "two"), "--server", server.url, "--output-dir", tmp_path / "out", "--json"]
    outcome = command(*arguments)
    assert (outcome.code, outcome.json["failed"], outcome.err) == (0, 0, "")
    assert [job["name"] for job in outcome.json["jobs"]] == ["one", "two"]
    assert outcome.json["jobs"][0]["files"] == [str(tmp_path / "out" / "one.txt")]
    server.dead = True
    outcome = command(*arguments)
    assert (outcome.code, outcome.json["failed"]) == (1, 2)
    assert outcome.json["jobs"][0]["error"]["type"] == "RunLostError"


def test_a_table_runs_a_workflow_once_a_row(command, foreign, server, tmp_path):
    (path,) = foreign("base")
    table = tmp_path / "prompts.csv"
    table.write_text("name,text,1.seed\nfirst,red,3\n,green,4\n")
    outcome = command("queue", path, "--server", server.url, "--csv", table, "--output-dir", tmp_path / "out", "--json")
    assert [(job["name"], Path(job["files"][0]).name) for job in outcome.json["jobs"]] == [
        ("first", "red.txt"),
        ("base row 2", "green.txt"),
    ]
    assert server.seen == ["red", "green"]
    table.write_text("text,sed\nred,3\n")
    outcome = command("queue", path, "--server", server.url, "--csv", table)
    assert outcome.code == 2 and "row 1 of the table: no node has an unlinked input 'sed'" in outcome.err
    assert len(server.seen) == 2, "nothing is queued when a row is wrong"


def test_a_folder_that_takes_no_downloads_is_told_before_anything_is_queued(command, foreign, server, tmp_path):
    (tmp_path / "file").write_text("x")
    outcome = command("queue", *foreign("one"), "--server", server.url, "--output-dir", tmp_path / "file")
    assert outcome.code == 2 and "the output folder is none: got" in outcome.err
    outcome = command(
        "queue", *foreign("one", "two"), "--server", server.url, "--output-dir", tmp_path / "file" / "deep"
    )
    assert outcome.code == 2 and "a part of the path is a file, not a folder" in outcome.err
    assert server.seen == []


def page_of_foreign_nodes(text):
    return {
        "nodes": [
            {
                "id": 1, "type": "Foreign", "mode": 0, "inputs": [], "widgets_values": [text, 5, "randomize"],
                "outputs": [{"name": "text", "type": "STRING", "links": [1]}],
            },
            {
                "id": 2, "type": "Sink", "mode": 0, "inputs": [{"name": "text", "type": "STRING", "link": 1}],
                "outputs": [],
            },
            {"id": 3, "type": "Note", "mode": 0, "inputs": [], "outputs": [], "widgets_values": ["read me"]},
        ],
        "links": [[1, 1, 0, 2, 0, "STRING"]],
        "version": 0.4,
    }  # fmt: skip


def test_a_page_s_workflow_is_converted_with_what_the_server_says(command, server, tmp_path):
    page, path = page_of_foreign_nodes("one"), tmp_path / "saved.json"
    path.write_text(json.dumps(page), encoding="utf-8-sig")
    arguments = ["queue", path, "--server", server.url, "--output-dir", tmp_path / "out"]
    assert command(*arguments).code == 0
    assert server.asked == ["Foreign", "Sink"]
    sent = {node_id: (node["class_type"], node["inputs"]) for node_id, node in server.bodies[0]["prompt"].items()}
    assert sent == {"1": ("Foreign", {"text": "one", "seed": 5, "size": 8}), "2": ("Sink", {"text": ["1", 0]})}
    assert server.bodies[0]["extra_data"] == {"extra_pnginfo": {"workflow": page}}
    assert command(*arguments, "--set", "Foreign.size=9").code == 0
    assert server.bodies[1]["prompt"]["1"]["inputs"]["size"] == 9
    assert "extra_data" not in server.bodies[1], "the page's workflow says 8"


def test_what_no_server_knows_is_refused_by_name(command, server, tmp_path):
    page, path = page_of_foreign_nodes("one"), tmp_path / "saved.json"
    page["nodes"][1]["type"] = "Other Node/2"
    path.write_text(json.dumps(page))
    outcome = command("queue", path, "--server", server.url)
    assert outcome.code == 2 and not server.seen
    assert "nodes that the server does not know: got 2 (Other Node/2)" in outcome.err
    outcome = command("queue", path, "--server", "http://127.0.0.1:9")
    assert outcome.code == 1 and "no ComfyUI server answers" in outcome.err


def test_a_page_s_workflow_is_read_with_the_server_that_answers(command, server, tmp_path):
    path = tmp_path / "saved.json"
    path.write_text(json.dumps(page_of_foreign_nodes("one")))
    outcome = command("queue", path, "--server", "http://127.0.0.1:9", "--server", server.url, "--output-dir", tmp_path)
    assert (outcome.code, server.seen) == (0, ["one"])


def test_a_queue_request_is_sent_on_with_what_it_carries(command, server, tmp_path):
    prompt = {"1": {"class_type": "Foreign", "inputs": {"text": "one", "seed": 1}}}
    extra = {"extra_pnginfo": {"workflow": {"nodes": []}, "mine": 1}, "note": "n"}
    path = tmp_path / "request.json"
    path.write_text(json.dumps({"prompt": prompt, "client_id": "x", "extra_data": extra}))
    assert command("queue", path, "--server", server.url, "--output-dir", tmp_path / "out").code == 0
    assert (server.bodies[0]["prompt"], server.bodies[0]["extra_data"]) == (prompt, extra)
    assert server.bodies[0]["client_id"] != "x"


def test_a_result_is_queued_again(command, server, tmp_path):
    import torch
    from sounding_video.core.types import AVClip, VideoClip
    from sounding_video.media.mux import write_clip

    page = page_of_foreign_nodes("one")
    prompt = {"1": {"class_type": "Foreign", "inputs": {"text": "one", "seed": 1}}}
    clip = AVClip(VideoClip(torch.zeros(2, 16, 16, 3), 10), None)
    write_clip(clip, tmp_path / "clip.mp4", metadata={"prompt": prompt, "workflow": page})
    arguments = ("queue", tmp_path / "clip.mp4", "--server", server.url, "--output-dir", tmp_path / "out")
    assert command(*arguments).code == 0
    assert (server.bodies[0]["prompt"], server.asked) == (prompt, [])
    assert server.bodies[0]["extra_data"]["extra_pnginfo"]["workflow"] == page


@pytest.mark.parametrize("count", [1, 2])
def test_ctrl_c_interrupts_the_prompt_on_the_server(python_with_package, foreign, server, tmp_path, count):
    server.seconds = 60
    code = "import sounding_video.cli as cli\nsys.exit(cli.main(sys.argv[1:]))"
    paths = [str(path) for path in foreign(*"abc"[:count])]
    process = python_with_package(
        code, ["queue", *paths, "--server", server.url, "--output-dir", str(tmp_path / "out")], cwd=tmp_path
    )
    deadline = time.monotonic() + 60
    while not server.seen:
        assert time.monotonic() < deadline and process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "stopped by the user" in err and "Traceback" not in err
    assert server.stopped == [{"delete": ["run-1"]}, {"prompt_id": "run-1"}]
    assert server.seen == ["a"]
