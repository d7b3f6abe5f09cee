"""``queue`` against real ComfyUI servers: a shared batch, a cut connection, an interrupt, and what is refused."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import pty
import re
import select
import signal
import threading
import time
import urllib.request
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from comfyui_server import serving
from sounding_video.core.errors import Cancelled, ServerError
from sounding_video.core.progress import Progress
from sounding_video.headless.batch import Job, run_batch
from sounding_video.headless.client import queue_workflow
from sounding_video.headless.descriptions import ServerDescriptions
from sounding_video.headless.graph import read_workflow
from sounding_video.headless.table import checked_rows
from sounding_video.headless.workflow_file import read_any, to_prompt, understood
from sounding_video.media.probe import probe

SMALL = {
    "1": {"video_model": "wan"},
    "2": {"audio_model": "stable_audio"},
    "3": {"bridge_file": "bridge.safetensors"},
    "5": {"width": 32, "height": 32, "num_frames": 5},
    "7": {"steps": 2},
}


@pytest.fixture(scope="module")
def silent_comfyui(comfyui_path, root, small_models_dir, tmp_path_factory):
    """A second server, which writes nothing about its workflows into files."""
    base = tmp_path_factory.mktemp("comfyui")
    with serving(comfyui_path, root, base, small_models_dir, ("--disable-metadata",)) as server:
        yield server


@pytest.fixture
def small(root):
    graph = read_workflow(root / "workflows" / "api" / "text_to_sounding_video_pocket.json")
    for node_id, values in SMALL.items():
        graph[node_id]["inputs"].update(values)
    return graph


def get_json(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)


def test_two_servers_share_a_batch_and_write_metadata_as_each_was_told(comfyui, silent_comfyui, small, tmp_path):
    rows = [{"seed": str(seed), "prompt": "a dog barks on a beach"} for seed in range(6)]
    jobs = [Job(f"row {number}", graph) for number, graph in enumerate(checked_rows(small, rows))]
    results = run_batch(jobs, [comfyui.url, silent_comfyui.url], output_dir=tmp_path)
    assert [str(result.error) for result in results] == ["None"] * 6
    assert {result.server for result in results} == {comfyui.url, silent_comfyui.url}
    paths = [result.report.files[0] for result in results]
    assert len({path.read_bytes() for path in paths}) == 6
    for result, path in zip(results, paths, strict=True):
        tags = probe(path).tags
        if result.server == silent_comfyui.url:
            assert not {"prompt", "workflow"} & set(tags)
        else:
            assert json.loads(tags["prompt"])["7"]["inputs"]["seed"] == int(result.job.name.split()[1])
            assert len(json.loads(tags["workflow"])["nodes"]) == len(small)


@contextmanager
def proxy(target: str):
    """A TCP relay in front of a server; calling what it gives cuts every connection."""
    host, port = urlsplit(target).hostname, urlsplit(target).port
    loop, writers = asyncio.new_event_loop(), []

    async def relay(reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def connect(reader, writer):
        upstream_reader, upstream_writer = await asyncio.open_connection(host, port)
        writers.extend((writer, upstream_writer))
        both = (relay(reader, upstream_writer), relay(upstream_reader, writer))
        await asyncio.gather(*both, return_exceptions=True)

    def cut():
        for writer in writers:
            writer.transport.abort()
        writers.clear()

    async def end_relays():
        relays = asyncio.all_tasks() - {asyncio.current_task()}
        for task in relays:
            task.cancel()
        await asyncio.gather(*relays, return_exceptions=True)

    server = loop.run_until_complete(asyncio.start_server(connect, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", lambda: loop.call_soon_threadsafe(cut)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        server.close()
        cut()
        loop.run_until_complete(end_relays())
        loop.close()


def test_a_cut_connection_does_not_lose_the_run(comfyui, small, tmp_path):
    small["7"]["inputs"].update(steps=60, seed=1001)
    steps, cuts = [], [5, 25]
    with proxy(comfyui.url) as (url, cut):

        def report(stage, done, total, preview=None):
            if stage == "T2SVJointSampler" and total == 60:  # the node's bar moves for the preview's fit too
                steps.append(done)
                if cuts and done >= cuts[0]:
                    cuts.pop(0)
                    cut()

        report_of_run = queue_workflow(url, small, output_dir=tmp_path, progress=Progress(report))
    assert len(report_of_run.files) == 1
    # A page hears nothing while it is cut off, also not the end of a quick run; but it goes on behind the last cut.
    assert not cuts and steps == sorted(steps) and steps[-1] > 25
    runs = [entry for entry in get_json(f"{comfyui.url}/history").values() if entry["prompt"][2] == small]
    assert len(runs) == 1, "the workflow must not be queued a second time"


def test_ctrl_c_interrupts_the_prompt_while_its_steps_run(comfyui, small, python_with_package, tmp_path):
    """The command on a terminal of its own, on which its bar shows that the sampler is at work."""
    small["7"]["inputs"].update(steps=1000, seed=1003)
    file, shown = tmp_path / "long.json", b""
    file.write_text(json.dumps(small))
    screen, terminal = pty.openpty()
    process = python_with_package(
        "import sounding_video.cli as cli\nsys.exit(cli.main(sys.argv[1:]))",
        ["queue", str(file), "--server", comfyui.url, "--output-dir", str(tmp_path / "out")],
        cwd=tmp_path,
        stderr=terminal,
    )
    os.close(terminal)
    deadline, at_work = time.monotonic() + 120, False
    while process.poll() is None and time.monotonic() < deadline:
        if select.select([screen], [], [], 0.1)[0]:
            try:
                shown += os.read(screen, 65536)
            except OSError:  # the terminal is closed with its last process
                break
        if not at_work and re.search(rb"\b[1-9]\d*/1000\b", shown):
            at_work = True
            process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    os.close(screen)
    words = shown.decode()
    assert at_work, words
    assert process.returncode == 130, words
    assert "stopped by the user" in words and "Traceback" not in words
    deadline = time.monotonic() + 60
    while get_json(f"{comfyui.url}/queue")["queue_running"]:
        assert time.monotonic() < deadline, "the server still runs what was cancelled"
        time.sleep(0.2)
    (run,) = [entry for entry in get_json(f"{comfyui.url}/history").values() if entry["prompt"][2] == small]
    assert "execution_interrupted" in [message[0] for message in run["status"]["messages"]]
    assert not (tmp_path / "out").exists()


def test_an_interrupt_from_elsewhere_ends_the_run_and_leaves_the_queue_usable(comfyui, small, tmp_path):
    long = copy.deepcopy(small)
    long["7"]["inputs"].update(steps=1000, seed=1002)
    asked = []

    def report(stage, done, total, preview=None):
        if stage == "T2SVJointSampler" and done >= 3 and total == 1000 and not asked:
            asked.append(done)
            request = urllib.request.Request(f"{comfyui.url}/interrupt", b"{}", {"Content-Type": "application/json"})
            urllib.request.urlopen(request, timeout=30).close()

    with pytest.raises(Cancelled, match="interrupted on the server"):
        queue_workflow(comfyui.url, long, output_dir=tmp_path, progress=Progress(report))
    assert get_json(f"{comfyui.url}/queue") == {"queue_running": [], "queue_pending": []}
    assert len(queue_workflow(comfyui.url, small, output_dir=tmp_path).files) == 1


def without(graph, node_id, name):
    del graph[node_id]["inputs"][name]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda g: g["7"]["inputs"].update(steps="many"), ("node 7 (T2SVJointSampler), input steps", "many")),
        (lambda g: without(g, "7", "model"), ("node 7 (T2SVJointSampler), input model", "Required input is missing")),
        (
            lambda g: g["7"]["inputs"].update(model=["99", 0]),
            ("refused the workflow", "node 7 (T2SVJointSampler), input model: linked to node 99, which is not there"),
        ),
        (lambda g: g.pop("2"), ("node 4 (T2SVJoinTowers), input audio_tower and", "put the node back")),
        (lambda g: g["7"]["inputs"].update(model=["4", 9]), ("refused the workflow", "node 7 (T2SVJointSampler)")),
        (
            lambda g: g["9"]["inputs"].update(filename_prefix="a" * 245),
            ("node 9 (T2SVMux): the file cannot be written (File name too long)", "Choose another folder or name"),
        ),
        (lambda g: g.pop("9"), ("refused the workflow", "Prompt has no outputs")),
        (lambda g: g["7"]["inputs"].update(seed=-1), ("input seed", "smaller than min of 0")),
        (
            lambda g: g.update({"30": {"class_type": "T2SVMux", "inputs": {**g["9"]["inputs"], "fps": 1e9}}}),
            ("refused a part of the workflow", "node 30 (T2SVMux), input fps", "bigger than max of 120"),
        ),
    ],
    ids=[
        "text for a number",
        "missing",
        "no such node",
        "a tower gone",
        "no such output",
        "too long a name",
        "no output node",
        "too small",
        "one of two",
    ],
)
def test_what_the_server_refuses_comes_back_as_a_sentence(comfyui, small, tmp_path, change, words):
    change(small)
    with pytest.raises(ServerError) as caught:
        queue_workflow(comfyui.url, small, output_dir=tmp_path)
    assert [word for word in words if word not in str(caught.value)] == []
    assert list(tmp_path.iterdir()) == []
    deadline = time.monotonic() + 60  # what was queued in part is interrupted, and that takes effect at the next step
    while get_json(f"{comfyui.url}/queue") != {"queue_running": [], "queue_pending": []}:
        assert time.monotonic() < deadline, "the server still runs what was refused"
        time.sleep(0.2)


@pytest.mark.parametrize("name", ["text_to_sounding_video_native", "compare_bridges_pocket"])
def test_a_page_s_workflow_is_converted_with_the_server_s_descriptions(comfyui, root, name):
    servers = ServerDescriptions([comfyui.url])
    page = understood(read_workflow(root / "workflows" / f"{name}.json"))
    twin = read_workflow(root / "workflows" / "api" / f"{name}.json")
    made = to_prompt(page, servers, servers.refuse).graph
    assert {key: (node["class_type"], node["inputs"]) for key, node in made.items()} == {
        key: (node["class_type"], node["inputs"]) for key, node in twin.items()
    }


def test_a_result_is_queued_again_as_a_file(comfyui, small, tmp_path):
    (first,) = queue_workflow(comfyui.url, small, output_dir=tmp_path).files
    found = read_any(first)
    assert found.prompt == small
    found.prompt["7"]["inputs"]["seed"] = "77"
    extra = {"extra_pnginfo": found.told(changed=False)}
    (again,) = queue_workflow(comfyui.url, found.prompt, extra_data=extra, output_dir=tmp_path).files
    assert again != first and json.loads(probe(again).tags["workflow"]) == found.page


def test_the_descriptions_of_native_nodes_are_the_server_s(comfyui, root):
    """What the native template is checked with, see ``tests/headless/native_nodes.py``; newer servers may know more."""
    import importlib.util

    path = root / "tests" / "headless" / "native_nodes.py"
    spec = importlib.util.spec_from_file_location("native_nodes", path)
    native_nodes = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(native_nodes)
    for name, ours in native_nodes.described().items():
        theirs = native_nodes.reduced(get_json(f"{comfyui.url}/object_info/{name}")[name])
        assert (theirs["output"], theirs["output_name"]) == (ours["output"], ours["output_name"])
        for kind, ports in ours["input"].items():
            assert list(theirs["input"][kind])[: len(ports)] == list(ports)


def test_the_nodes_that_stand_in_for_native_ones_have_their_ports(comfyui):
    """Those through which files come into a workflow without a server; newer servers may know more."""
    from sounding_video.headless.native_nodes import NATIVE_NODES

    for node in NATIVE_NODES:
        schema = node.GET_SCHEMA()
        theirs = get_json(f"{comfyui.url}/object_info/{schema.node_id}")[schema.node_id]
        assert [port.id for port in schema.inputs] == list(theirs["input"]["required"])
        assert theirs["output"][: len(schema.outputs)] == [output.io_type for output in schema.outputs]
        assert theirs["display_name"] == schema.display_name


def test_native_pictures_and_sound_enter_our_nodes(comfyui, tmp_path):
    graph = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 48, "batch_size": 5, "color": 255}},
        "2": {"class_type": "EmptyAudio", "inputs": {"duration": 2.0, "sample_rate": 44100, "channels": 2}},
        "3": {
            "class_type": "T2SVMux",
            "inputs": {
                "images": ["1", 0], "audio": ["2", 0], "fps": 10.0, "filename_prefix": "native/in", "format": "mkv",
                "writer": "pyav",
            },
        },
    }  # fmt: skip
    (path,) = queue_workflow(comfyui.url, graph, output_dir=tmp_path, workflow={"nodes": []}).files
    info = probe(path)
    assert (info.width, info.height, info.num_frames, info.num_samples) == (64, 48, 5, 22_050)
    assert json.loads(info.tags["workflow"]) == {"nodes": []}


def test_our_pictures_and_sound_enter_native_nodes(comfyui, small, tmp_path):
    small["20"] = {"class_type": "CreateVideo", "inputs": {"images": ["8", 0], "audio": ["8", 1], "fps": 15.0}}
    small["21"] = {
        "class_type": "SaveVideo",
        "inputs": {"video": ["20", 0], "filename_prefix": "native/out", "format": "mp4", "codec": "h264"},
    }
    small["22"] = {"class_type": "SaveAudio", "inputs": {"audio": ["8", 1], "filename_prefix": "native/sound"}}
    small["23"] = {
        "class_type": "ImageScaleBy",
        "inputs": {"image": ["8", 0], "upscale_method": "area", "scale_by": 2.0},
    }
    small["24"] = {"class_type": "SaveImage", "inputs": {"images": ["23", 0], "filename_prefix": "native/frame"}}
    report = queue_workflow(comfyui.url, small, output_dir=tmp_path)
    kinds = sorted(path.suffix for path in report.files)
    assert kinds == [".flac", ".mp4", ".mp4", *[".png"] * 5]
    ours, native = (
        probe(next(path for path in report.files if folder in path.parts and path.suffix == ".mp4"))
        for folder in ("sounding_video", "native")
    )
    assert (native.num_frames, native.audio_codec) == (ours.num_frames, "aac")
