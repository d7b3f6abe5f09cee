"""The queue client against small real HTTP servers; ``tests/integration`` runs it against ComfyUI itself."""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import json
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest
from aiohttp import web
from sounding_video.core.errors import Cancelled, ServerError, WorkflowError
from sounding_video.core.progress import Progress
from sounding_video.headless import client
from sounding_video.headless.client import ServerGoneError, queue_workflow

_spec = importlib.util.spec_from_file_location("servers", Path(__file__).with_name("servers.py"))
servers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(servers)
running = servers.running

GRAPH = {"1": {"class_type": "Foreign", "inputs": {}}}
RUN = "run-1"
DONE = ("executing", {"node": None})
END_UNSEEN, FORGET = "the run ends while nobody listens", "the server restarts"


class Server:
    """Speaks what ComfyUI 0.3.64 was seen to say; ``script`` is what goes over the websocket after the queueing."""

    def __init__(self, script=(), outputs=None, refusal=None, view=b"content", messages=(), faults=()):
        # How the next questions about the run go wrong. 0 is no answer at all, of which aiohttp itself forgives one.
        self.faults = iter(faults)
        self.script, self.outputs, self.refusal, self.view = script, outputs or {}, refusal, view
        self.messages, self.queued, self.stopped, self.names = messages, [], [], []
        self.finished = self.forgotten = False
        self._socket, self._connected = None, asyncio.Event()

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_get("/ws", self._ws)
        application.router.add_post("/prompt", self._prompt)
        application.router.add_get(f"/history/{RUN}", self._history)
        application.router.add_get("/view", self._view)
        application.router.add_post("/interrupt", self._stop)
        application.router.add_post("/queue", self._stop)
        application.router.add_get("/queue", self._queue)
        return application

    async def _ws(self, request):
        self._socket = web.WebSocketResponse()
        await self._socket.prepare(request)
        self.names.append(request.query["clientId"])
        self._connected.set()
        async for _ in self._socket:
            pass
        return self._socket

    async def _prompt(self, request):
        self.queued.append(await request.json())
        if self.refusal is not None:
            return web.json_response(self.refusal, status=400)
        asyncio.get_running_loop().create_task(self._play())
        return web.json_response({"prompt_id": RUN, "number": 1, "node_errors": {}})

    async def _play(self):
        await asyncio.sleep(0.05)
        for message in self.script:
            if message is None:
                self._connected.clear()
                await self._socket.close()
                await self._connected.wait()
            elif message == END_UNSEEN:
                self.finished = True
            elif message == FORGET:
                self.forgotten = True
            elif isinstance(message, bytes):
                await self._socket.send_bytes(message)
            else:
                kind, data = message
                self.finished = self.finished or message == DONE
                await self._socket.send_str(json.dumps({"type": kind, "data": {"prompt_id": RUN, **data}}))

    async def _fault(self, request):
        status = next(self.faults, None)
        if status == 0:
            request.transport.abort()
        return None if status is None else web.Response(status=status, text="<html>")

    async def _history(self, request):
        if (fault := await self._fault(request)) is not None:  # older aiohttp: an answer without notes is false
            return fault
        entry = {"outputs": self.outputs, "status": {"messages": self.messages}}
        return web.json_response({RUN: entry} if self.finished else {})

    async def _queue(self, request):
        if (fault := await self._fault(request)) is not None:  # older aiohttp: an answer without notes is false
            return fault
        running = [] if self.finished or self.forgotten else [[0, RUN, {}, {}, []]]
        return web.json_response({"queue_running": running, "queue_pending": []})

    async def _view(self, request):
        return web.Response(body=self.view) if self.view is not None else web.Response(status=404)

    async def _stop(self, request):
        self.stopped.append((request.path, await request.json()))
        return web.Response()


def saved(filename, subfolder="", kind="output"):
    return {"9": {"images": [{"filename": filename, "subfolder": subfolder, "type": kind}], "animated": [True]}}


def test_progress_and_files_come_here(tmp_path):
    script = [
        b"\0\0\0\1preview",
        ("progress", {"node": "1", "value": 1, "max": 2}),
        ("execution_cached", {"nodes": ["7"]}),
        DONE,
    ]
    server = Server(script, saved("clip.mp4", "a"))
    seen = []
    progress = Progress(lambda stage, done, total, preview=None: seen.append((stage, done, total)))
    with running(server.application()) as url:
        first = queue_workflow(url, GRAPH, output_dir=tmp_path, progress=progress, workflow={"nodes": [1]})
        second = queue_workflow(url + "/", GRAPH, output_dir=tmp_path)
    assert seen == [("Foreign", 1, 2)]
    assert first.cached == ("7",)
    assert [path.relative_to(tmp_path).as_posix() for path in first.files + second.files] == [
        "a/clip.mp4",
        "a/clip1.mp4",
    ]
    assert first.files[0].read_bytes() == b"content"
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["clip.mp4", "clip1.mp4"]
    assert server.queued[0]["prompt"] == GRAPH
    assert server.queued[0]["extra_data"] == {"extra_pnginfo": {"workflow": {"nodes": [1]}}}


def test_a_graph_of_our_nodes_travels_with_a_page_layout(graph, tmp_path):
    server = Server([DONE])
    with running(server.application()) as url:
        queue_workflow(url, graph, output_dir=tmp_path)
        graph["7"]["inputs"]["steps"] = 0
        queue_workflow(url, graph, output_dir=tmp_path)
    page = server.queued[0]["extra_data"]["extra_pnginfo"]["workflow"]
    assert len(page["nodes"]) == len(graph)
    assert "extra_data" not in server.queued[1], "a graph the server will refuse has no layout"


def test_previews_are_no_results(tmp_path):
    with running(Server([DONE], saved("p.png", kind="temp")).application()) as url:
        assert queue_workflow(url, GRAPH, output_dir=tmp_path).files == []


@pytest.mark.parametrize("item", [("../x", ""), ("x", "../.."), ("x", "/etc"), ("..\\x", ""), ("x", "..\\..")])
def test_a_server_cannot_write_outside_the_output_folder(tmp_path, item):
    with (
        running(Server([DONE], saved(*item)).application()) as url,
        pytest.raises(ServerError, match="outside the output folder"),
    ):
        queue_workflow(url, GRAPH, output_dir=tmp_path / "in")
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize(
    ("item", "wanted"),
    [
        (("take 1: dog_00001_.mp4", "a: b"), "a_ b/take 1_ dog_00001_.mp4"),
        (("C:x", ""), "C_x"),
        (("x", "C:\\evil"), "C_/evil/x"),
        (("what?.png", "con"), "con_/what_.png"),
    ],
)
def test_a_name_that_another_system_forbids_is_fetched_under_a_plain_one(tmp_path, item, wanted):
    with running(Server([DONE], saved(*item)).application()) as url:
        (path,) = queue_workflow(url, GRAPH, output_dir=tmp_path / "in").files
    assert path == tmp_path / "in" / wanted and path.read_bytes() == b"content"


@pytest.mark.parametrize(
    ("script", "error", "words"),
    [
        (
            [("execution_error", {"node_id": "1", "node_type": "Foreign", "exception_message": "no room\n", "exception_type": "OOM"}), DONE],  # noqa: E501
            ServerError,
            r"node 1 \(Foreign\) failed on the server: got no room \[OOM\]",
        ),
        ([("execution_interrupted", {"node_id": "1"}), DONE], Cancelled, "interrupted on the server"),
    ],
)  # fmt: skip
def test_what_ends_a_run_badly_is_said(tmp_path, script, error, words):
    with running(Server(script).application()) as url, pytest.raises(error, match=words):
        queue_workflow(url, GRAPH, output_dir=tmp_path)


def test_a_dropped_connection_is_opened_again_under_the_same_name(tmp_path):
    script = [
        ("progress", {"node": "1", "value": 1, "max": 2}),
        None,
        ("progress", {"node": "1", "value": 2, "max": 2}),
    ]
    server = Server([*script, None, DONE], saved("clip.mp4"))
    seen = []
    progress = Progress(lambda stage, done, total, preview=None: seen.append(done))
    with running(server.application()) as url:
        report = queue_workflow(url, GRAPH, output_dir=tmp_path, progress=progress)
    assert seen == [1, 2]
    assert (len(server.names), len(set(server.names)), len(server.queued)) == (3, 1, 1)
    assert [path.name for path in report.files] == ["clip.mp4"]


@pytest.mark.parametrize(
    ("messages", "error", "words"),
    [
        ([["execution_cached", {"nodes": ["1"]}]], None, ""),
        (
            [["execution_error", {"node_id": "1", "node_type": "Foreign", "exception_message": "no room\n", "exception_type": "OOM"}]],  # noqa: E501
            ServerError,
            r"node 1 \(Foreign\) failed on the server: got no room \[OOM\]",
        ),
        ([["execution_interrupted", {"node_id": "1"}]], Cancelled, "interrupted on the server"),
    ],
)  # fmt: skip
def test_what_happened_while_nobody_listened_is_read_from_the_history(tmp_path, messages, error, words):
    server = Server([END_UNSEEN, None], saved("clip.mp4"), messages=messages)
    with running(server.application()) as url:
        if error is None:
            report = queue_workflow(url, GRAPH, output_dir=tmp_path)
            assert (report.cached, len(report.files)) == (("1",), 1)
        else:
            with pytest.raises(error, match=words):
                queue_workflow(url, GRAPH, output_dir=tmp_path)


@pytest.mark.parametrize("faults", [(0, 0), (502,), (None, 0, 0), (None, 503, 0, 0, None, 504)])
def test_a_question_that_fails_after_the_reconnection_is_asked_again(tmp_path, faults):
    """A server behind a gateway, or one that has just come back: it takes the socket, and the next request fails."""
    server = Server([END_UNSEEN, None], saved("clip.mp4"), faults=faults)
    with running(server.application()) as url:
        report = queue_workflow(url, GRAPH, output_dir=tmp_path, reconnect_seconds=20)
    assert [path.name for path in report.files] == ["clip.mp4"]
    assert len(server.names) > 2
    assert list(server.faults) == []


@pytest.mark.parametrize("faults", [(0,), (502, 503, 0)])
def test_results_that_cannot_be_asked_for_at_once_are_asked_for_again(tmp_path, faults):
    """The end was heard; a server that is cut off before it told its results still has them."""
    server = Server([DONE], saved("clip.mp4"), faults=faults)
    with running(server.application()) as url:
        report = queue_workflow(url, GRAPH, output_dir=tmp_path, reconnect_seconds=20)
    assert [path.name for path in report.files] == ["clip.mp4"] and list(server.faults) == []


def test_a_question_that_fails_on_a_silent_connection_is_asked_again(tmp_path, monkeypatch):
    monkeypatch.setattr(client, "_SILENCE_SECONDS", 0.3)
    with running(Server([END_UNSEEN], saved("clip.mp4"), faults=(0, 0)).application()) as url:
        assert len(queue_workflow(url, GRAPH, output_dir=tmp_path).files) == 1


def test_a_server_that_never_answers_the_question_is_given_up(tmp_path):
    server = Server([END_UNSEEN, None], faults=itertools.repeat(502))
    with (
        running(server.application()) as url,
        pytest.raises(ServerGoneError, match=r"connection to the server was lost.*run-1 may still go on"),
    ):
        queue_workflow(url, GRAPH, output_dir=tmp_path, reconnect_seconds=0.6)


def test_an_end_that_was_missed_on_a_silent_connection_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(client, "_SILENCE_SECONDS", 0.3)
    with running(Server([END_UNSEEN], saved("clip.mp4")).application()) as url:
        assert len(queue_workflow(url, GRAPH, output_dir=tmp_path).files) == 1


def test_a_restarted_server_has_forgotten_the_run(tmp_path):
    with (
        running(Server([FORGET, None]).application()) as url,
        pytest.raises(ServerGoneError, match=r"no longer knows the run: got run-1 on .*queue the workflow again"),
    ):
        queue_workflow(url, GRAPH, output_dir=tmp_path)


def test_a_server_that_stays_away_is_given_up(tmp_path):
    server = Server([("progress", {"node": "1", "value": 1, "max": 9})])
    stack = ExitStack()
    url = stack.enter_context(running(server.application()))

    def report(*given, **named):
        stack.close()

    with stack, pytest.raises(ServerGoneError, match=r"connection to the server was lost.*run-1 may still go on"):
        queue_workflow(url, GRAPH, output_dir=tmp_path, progress=Progress(report), reconnect_seconds=0.5)


def test_cancelling_does_not_wait_for_a_server_that_is_gone(tmp_path):
    server = Server([("progress", {"node": "1", "value": 1, "max": 9})])
    stack = ExitStack()
    url = stack.enter_context(running(server.application()))
    gone = []

    def report(*given, **named):
        stack.close()
        gone.append(True)

    def check_cancelled():
        if gone:
            raise Cancelled

    with stack, pytest.raises(Cancelled):
        queue_workflow(url, GRAPH, output_dir=tmp_path, progress=Progress(report, check_cancelled))


def test_ctrl_c_while_the_bar_is_drawn_reaches_the_server_too(tmp_path):
    """The signal's exception comes wherever the program is, not only where it waits."""
    server = Server([("progress", {"node": "1", "value": 1, "max": 9})])

    def report(*given, **named):
        raise KeyboardInterrupt

    with running(server.application()) as url, pytest.raises(KeyboardInterrupt):
        queue_workflow(url, GRAPH, output_dir=tmp_path, progress=Progress(report))
    assert server.stopped == [("/queue", {"delete": [RUN]}), ("/interrupt", {"prompt_id": RUN})]


def test_a_refusal_is_one_line(tmp_path):
    def fault(kind, message, details, port):
        return {"type": kind, "message": message, "details": details, "extra_info": {"input_name": port}}

    verdicts = [
        fault("custom_validation_failed", "Custom validation failed for node", f"{port} - bad name.", port)
        for port in "ab"
    ]
    refusal = {
        "error": {"message": "Prompt outputs failed validation", "details": ""},
        "node_errors": {
            "1": {
                "class_type": "Foreign",
                "errors": [
                    fault("value_smaller_than_min", "Value 0 smaller than min of 1", "steps", "steps"),
                    fault(
                        "return_type_mismatch",
                        "Return type mismatch between linked nodes",
                        "model, A mismatch B",
                        "model",
                    ),
                    *verdicts,
                ],
            }
        },
    }
    with running(Server(refusal=refusal).application()) as url, pytest.raises(ServerError) as caught:
        queue_workflow(url, GRAPH, output_dir=tmp_path)
    assert str(caught.value) == (
        "the server refused the workflow: got Prompt outputs failed validation; "
        "node 1 (Foreign), input steps: Value 0 smaller than min of 1; "
        "node 1 (Foreign), input model: Return type mismatch between linked nodes (model, A mismatch B); "
        "node 1 (Foreign): bad name."
    )


def test_cancelling_tells_the_server(tmp_path):
    server = Server([("progress", {"node": "1", "value": 1, "max": 9})])
    seen = []

    def check_cancelled():
        if seen:
            raise Cancelled

    progress = Progress(lambda *given, **named: seen.append(given), check_cancelled)
    with running(server.application()) as url, pytest.raises(Cancelled):
        queue_workflow(url, GRAPH, output_dir=tmp_path, progress=progress)
    assert server.stopped == [("/queue", {"delete": [RUN]}), ("/interrupt", {"prompt_id": RUN})]


def test_a_run_that_takes_too_long_is_stopped_there_too(tmp_path):
    server = Server()
    with (
        running(server.application()) as url,
        pytest.raises(ServerError, match=r"took too long, it was stopped; expected at most 0\.5 s"),
    ):
        queue_workflow(url, GRAPH, output_dir=tmp_path, timeout_seconds=0.5)
    assert ("/interrupt", {"prompt_id": RUN}) in server.stopped


def test_a_result_the_server_lost_is_an_error_and_leaves_nothing(tmp_path):
    server = Server([DONE], saved("clip.mp4"), view=None)
    with (
        running(server.application()) as url,
        pytest.raises(ServerError, match=r"does not give out its result: got clip\.mp4: 404"),
    ):
        queue_workflow(url, GRAPH, output_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_server_answers():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(ServerError, match=rf"no ComfyUI server answers: got {url} \(.*\)\. Start ComfyUI there"):
        queue_workflow(url, GRAPH)


def test_another_kind_of_server_is_told_apart(tmp_path):
    with running(web.Application()) as url, pytest.raises(ServerError, match="does not answer like ComfyUI"):
        queue_workflow(url, GRAPH, output_dir=tmp_path)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_workflow_is_not_sent_on_to_another_server(tmp_path, status):
    """It may hold a key."""
    other, here = Server([DONE]), web.Application()

    with running(other.application()) as elsewhere:

        async def away(request):
            return web.Response(status=status, headers={"Location": f"{elsewhere}/prompt"})

        async def talk(request):
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            async for _ in socket:
                pass
            return socket

        here.router.add_post("/prompt", away)
        here.router.add_get("/ws", talk)
        with running(here) as address, pytest.raises(ServerError, match=str(status)):
            queue_workflow(address, GRAPH, output_dir=tmp_path, extra_data={"api_key_comfy_org": "secret"})
    assert other.queued == []


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:8188", "ftp://host", "http://", "", f"http://{'a' * 70}.b", "http://a..b", "http://" + "9" * 5000],
)
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ServerError, match="not the address of a server"):
        queue_workflow(url, GRAPH)


def test_the_page_format_is_not_queued():
    with pytest.raises(WorkflowError, match=r"page's \(UI\) format"):
        queue_workflow("http://127.0.0.1:1", {"nodes": [], "links": []})
