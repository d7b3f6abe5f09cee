"""Queues a workflow on a ComfyUI server, follows it over the websocket and brings its files here.

The messages are those of ComfyUI 0.3.64: the run is over when ``executing`` names no node any more; by then its history
is written. A dropped websocket is opened again under the same name, and what was missed is read from the history.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from ..core.errors import Cancelled, OutputError, ServerError, TextError
from ..core.json_text import MOST_BYTES, parse_json
from ..core.new_files import made_folder, remove, remove_abandoned, scratch_path
from ..core.options import Bounds, shown
from ..core.progress import SILENT, Progress
from ..nodes.host.places import require_place
from .answers import START, free_path, listed, not_comfyui, require_address, saved_files, text_message
from .graph import check_format
from .refusal import refusal
from .report import RunReport
from .workflow_file import with_twin

T = TypeVar("T")
log = logging.getLogger(__name__)

_POLL_SECONDS = 0.25  # how often a waiting client looks whether the user wants out
_CONNECT_SECONDS = 10.0
_CHUNK_BYTES = 1 << 20
_STOP_SECONDS = 15.0  # a busy server answers late; for telling a server that may be gone to stop
_HEARTBEAT_SECONDS = 30.0  # finds a connection that is dead without having been closed
_SILENCE_SECONDS = 10.0  # after which the history is asked, in case the last message was missed
RECONNECT_SECONDS = 20.0
_CLOSED = (
    aiohttp.WSMsgType.CLOSE,
    aiohttp.WSMsgType.CLOSING,
    aiohttp.WSMsgType.CLOSED,
    aiohttp.WSMsgType.ERROR,
)
# What a gateway says while the server behind it does not answer.
_GATEWAY_TROUBLES = (502, 503, 504)
_STEPS = Bounds("number of steps", 0, 10**9, whole=False)
# Two downloads at the same time must not take the same name.
_NAMING = threading.Lock()


class ServerGoneError(ServerError):
    """No server there, or not any more; the workflow itself may be fine."""


class RunLostError(ServerGoneError):
    """The server went away with our run on it; perhaps because of it."""


def queue_workflow(
    server_url: str,
    graph: Mapping[str, Any],
    *,
    workflow: Mapping[str, Any] | None = None,
    extra_data: Mapping[str, Any] | None = None,
    output_dir: str | Path = "output",
    progress: Progress = SILENT,
    timeout_seconds: float | None = None,
    reconnect_seconds: float = RECONNECT_SECONDS,
) -> RunReport:
    """Run a workflow on a server and download what it wrote to its output folder.

    Args:
        server_url: For example ``http://127.0.0.1:8188``.
        graph: API-format workflow; any nodes the server knows.
        workflow: The same in the page's format, which the server writes into result files; None lays out a graph of
            our own nodes, and leaves others to the page, which can read the API format too.
        extra_data: What the request carries beside that; the server hands its ``extra_pnginfo`` to the nodes.
        output_dir: Where downloads go; existing files are kept, a new name is taken.
        progress: Told each node's progress under the node's class; asked four times a second whether to stop.
        timeout_seconds: Longest wait for the whole run; None waits for ever.
        reconnect_seconds: How long a lost connection is tried to be opened again.

    Raises:
        WorkflowError: not an API-format workflow.
        ServerGoneError: no answer; RunLostError: a connection that was lost and could not be opened again.
        ServerError: a refused workflow, a failed node, or the time is up.
        Cancelled: the user stopped it here (the server is told) or there.
        OutputError: a download cannot be written; of the folder it is known before anything is queued.
    """
    check_format(graph)
    require_address(server_url)
    require_place(Path(output_dir), "result", "")  # before a server works for minutes for what cannot be kept
    run = _Run(
        server_url.rstrip("/"),
        dict(graph),
        with_twin(graph, workflow, extra_data or {}),
        Path(output_dir),
        progress,
        reconnect_seconds,
    )
    return asyncio.run(run.whole(timeout_seconds))


@dataclass
class _Run:
    """One workflow on one server.

    Args:
        url: Server address without a slash at its end.
        graph: API-format workflow.
        extra_data: What the request carries beside the prompt.
        output_dir: Folder for downloads.
        progress: The caller's.
        reconnect_seconds: How long a lost connection is tried to be opened again.
        client_id: Our name on the server's websocket.
        cached: Nodes the server did not have to run.
    """

    url: str
    graph: dict[str, Any]
    extra_data: Mapping[str, Any]
    output_dir: Path
    progress: Progress
    reconnect_seconds: float = RECONNECT_SECONDS
    client_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    cached: tuple[str, ...] = ()

    async def whole(self, timeout_seconds: float | None) -> RunReport:
        """Queue, follow, download."""
        started = time.monotonic()
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS)
        try:
            async with aiohttp.ClientSession(timeout=timeout) as http:
                outputs, files = await asyncio.wait_for(self._queue_and_fetch(http), timeout_seconds)
        except aiohttp.ClientConnectorError as error:
            raise ServerGoneError(
                "no ComfyUI server answers", got=f"{self.url} ({error.os_error})", remedy=START
            ) from error
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientPayloadError) as error:
            raise self._lost() from error
        except aiohttp.ClientError as error:
            raise not_comfyui(self.url, error) from error
        except asyncio.TimeoutError as error:
            raise ServerError(
                "the run took too long, it was stopped", expected=f"at most {timeout_seconds} s"
            ) from error
        return RunReport(outputs, files, time.monotonic() - started, self.cached)

    async def _queue_and_fetch(self, http: aiohttp.ClientSession) -> tuple[dict[str, Any], list[Path]]:
        socket = await self._connect(http)
        try:
            prompt_id = await self._post(http)
        except BaseException:
            await socket.close()
            raise
        try:
            await self._follow(http, socket, prompt_id)
        # Ctrl-C is raised wherever the program is: in the loop, which then cancels us, or here, while a bar is drawn.
        except (Cancelled, asyncio.CancelledError, KeyboardInterrupt):
            await self._stop(http, prompt_id)
            raise
        outputs, saved = await self._results(http, prompt_id)
        return outputs, [await self._download(http, item) for item in saved]

    async def _results(
        self, http: aiohttp.ClientSession, prompt_id: str
    ) -> tuple[dict[str, Any], list[dict[str, str]]]:
        """What the output nodes show, and the files among it."""
        entry = await self._until_answered(partial(self._entry, http, prompt_id), prompt_id) or {}
        outputs = entry.get("outputs") or {}
        if not isinstance(outputs, dict) or not all(isinstance(values, dict) for values in outputs.values()):
            raise not_comfyui(f"{self.url}/history/{prompt_id}", f"outputs {shown(outputs)}")
        return outputs, saved_files(outputs)

    async def _entry(self, http: aiohttp.ClientSession, prompt_id: str) -> dict[str, Any] | None:
        """The history's entry of our run; None while there is none."""
        entry = (await self._json(http, "GET", f"/history/{prompt_id}")).get(prompt_id)
        if entry is not None and not isinstance(entry, dict):
            raise not_comfyui(f"{self.url}/history/{prompt_id}", shown(entry))
        return entry

    async def _connect(self, http: aiohttp.ClientSession) -> aiohttp.ClientWebSocketResponse:
        return await http.ws_connect(
            f"{self.url}/ws", params={"clientId": self.client_id}, max_msg_size=0, heartbeat=_HEARTBEAT_SECONDS
        )

    async def _post(self, http: aiohttp.ClientSession) -> str:
        body: dict[str, Any] = {"prompt": self.graph, "client_id": self.client_id}
        if self.extra_data:
            body["extra_data"] = self.extra_data
        answer = await self._json(http, "POST", "/prompt", body)
        if not isinstance(answer.get("prompt_id"), str):
            raise ServerError("the server refused the workflow", got=refusal(answer, self.graph))
        if answer.get("node_errors"):
            # One of several results is invalid; ComfyUI would run the others and say nothing.
            await self._stop(http, answer["prompt_id"])
            raise ServerError("the server refused a part of the workflow", got=refusal(answer, self.graph))
        return answer["prompt_id"]

    async def _follow(
        self, http: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse, prompt_id: str
    ) -> None:
        """Stay with our run until it is over, through as many connections as it takes."""
        over = False
        while not over:
            try:
                over = await self._listen(http, socket, prompt_id)
            finally:
                await socket.close()
            if not over:
                log.warning("the connection to %s was lost, opening it again", self.url)
                socket, over = await self._reconnect(http, prompt_id)
        await socket.close()

    async def _listen(
        self, http: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse, prompt_id: str
    ) -> bool:
        """Read one connection's messages: True when our run is over, False when the connection is."""
        failure: Exception | None = None
        heard = time.monotonic()
        while True:
            self.progress.check_cancelled()
            try:
                message = await socket.receive(timeout=_POLL_SECONDS)
            except asyncio.TimeoutError:
                if time.monotonic() - heard > _SILENCE_SECONDS:
                    heard = time.monotonic()
                    try:
                        if await self._ended(http, prompt_id):
                            return True
                    except aiohttp.ClientError:
                        return False
                continue
            heard = time.monotonic()
            if message.type in _CLOSED:
                return False
            kind, data = text_message(message)  # previews are binary: skipped
            if data.get("prompt_id") != prompt_id:
                continue
            if kind == "executing" and data.get("node") is None:
                if failure is not None:
                    raise failure
                return True
            failure = failure or self._note(kind, data)

    def _note(self, kind: str, data: Mapping[str, Any]) -> Exception | None:
        """Take note of one message; what it says of a failure."""
        if not isinstance(data, Mapping):
            return None
        if kind == "execution_cached":
            self.cached = tuple(map(str, listed(data.get("nodes"))))
        elif kind == "progress":
            value, most = data.get("value"), data.get("max")
            if _STEPS.holds(value) and _STEPS.holds(most):
                self.progress.report(self._label(data.get("node")), int(value), int(most))
        elif kind == "execution_error":
            text = f"{str(data.get('exception_message', '')).strip()} [{data.get('exception_type')}]"
            return ServerError(f"node {data.get('node_id')} ({data.get('node_type')}) failed on the server", got=text)
        elif kind == "execution_interrupted":
            return Cancelled("the run was interrupted on the server")
        return None

    async def _reconnect(
        self, http: aiohttp.ClientSession, prompt_id: str
    ) -> tuple[aiohttp.ClientWebSocketResponse, bool]:
        """Open the websocket again under our name, and ask whether our run is over by now."""

        async def opened() -> tuple[aiohttp.ClientWebSocketResponse, bool]:
            socket = await self._connect(http)
            try:
                return socket, await self._ended_or_known(http, prompt_id)
            except BaseException:
                await socket.close()
                raise

        return await self._until_answered(opened, prompt_id)

    async def _until_answered(self, ask: Callable[[], Awaitable[T]], prompt_id: str) -> T:
        """What a question brings, which is asked again until ``reconnect_seconds`` are over."""
        deadline = time.monotonic() + self.reconnect_seconds
        while True:
            self.progress.check_cancelled()
            try:
                return await ask()
            except aiohttp.ClientError as error:
                if time.monotonic() > deadline:
                    raise self._lost(f"The run {prompt_id} may still go on there.") from error
            await asyncio.sleep(_POLL_SECONDS)

    async def _ended(self, http: aiohttp.ClientSession, prompt_id: str) -> bool:
        """Whether the history says that our run is over.

        Raises:
            ServerError: it failed. Cancelled: it was interrupted there.
        """
        entry = await self._entry(http, prompt_id)
        status = (entry or {}).get("status")
        messages = status.get("messages") if isinstance(status, dict) else None
        for message in messages if isinstance(messages, list) else ():
            if not isinstance(message, list) or len(message) != 2:
                continue
            kind, data = message
            failure = self._note(kind, data)
            if failure is not None:
                raise failure
        return entry is not None

    async def _ended_or_known(self, http: aiohttp.ClientSession, prompt_id: str) -> bool:
        """Whether our run is over; one that a restarted server has forgotten is not waited for."""
        queue = await self._json(http, "GET", "/queue")
        entries = [entry for part in ("queue_running", "queue_pending") for entry in listed(queue.get(part))]
        known = [entry[1] for entry in entries if isinstance(entry, list) and len(entry) > 1]
        ended = await self._ended(http, prompt_id)
        if not ended and prompt_id not in known:
            raise RunLostError(
                "the server no longer knows the run",
                got=f"{prompt_id} on {self.url}",
                remedy="It was probably restarted; queue the workflow again.",
            )
        return ended

    def _lost(self, remedy: str = "") -> RunLostError:
        return RunLostError("the connection to the server was lost", got=self.url, remedy=remedy)

    async def _stop(self, http: aiohttp.ClientSession, prompt_id: str) -> None:
        """Take our run out of the queue, and stop it if it is the one that runs."""
        limit = aiohttp.ClientTimeout(total=_STOP_SECONDS)
        for path, body in (("queue", {"delete": [prompt_id]}), ("interrupt", {"prompt_id": prompt_id})):
            # A server that is gone has nothing to stop and must not hold the user up. A server that answers the first
            # request too late still gets the second.
            with contextlib.suppress(aiohttp.ClientError, asyncio.TimeoutError):
                await http.post(f"{self.url}/{path}", json=body, timeout=limit, allow_redirects=False)

    async def _json(self, http: aiohttp.ClientSession, method: str, path: str, body: Any = None) -> dict[str, Any]:
        status, text = await self._text(http, method, path, body)
        told = f"{status} {text[:200].decode('utf-8', 'replace')!r}"
        try:
            content = parse_json(text, nan_is_null=True)
        except TextError as error:
            raise not_comfyui(f"{self.url}{path}", told) from error
        if not isinstance(content, dict):
            raise not_comfyui(f"{self.url}{path}", told)
        return content

    async def _text(self, http: aiohttp.ClientSession, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """Status and content of an answer, which has an end; what is sent goes to this server and to no other."""
        asks = {"json": body, "allow_redirects": method == "GET"}
        async with http.request(method, f"{self.url}{path}", **asks) as answer:
            if answer.status in _GATEWAY_TROUBLES:
                answer.raise_for_status()
            content = bytearray()
            async for chunk in answer.content.iter_chunked(_CHUNK_BYTES):
                content += chunk
                if len(content) > MOST_BYTES:
                    raise not_comfyui(f"{self.url}{path}", f"more than {MOST_BYTES >> 20} MiB")
            return answer.status, bytes(content)

    async def _download(self, http: aiohttp.ClientSession, item: Mapping[str, str]) -> Path:
        """Fetch one result; it appears under its name only when it is whole."""
        target = free_path(self.output_dir, item)
        try:
            with made_folder(target.parent):
                remove_abandoned(target.parent)
                part = scratch_path(target)
                try:
                    await self._fetch(http, item, part)
                    with _NAMING:
                        target = free_path(self.output_dir, item)
                        part.replace(target)
                finally:
                    remove(part)
        except OSError as error:
            if isinstance(error, aiohttp.ClientError):
                raise
            raise OutputError(
                "the result cannot be written", got=target, expected="a folder that can be written", remedy=str(error)
            ) from error
        return target

    async def _fetch(self, http: aiohttp.ClientSession, item: Mapping[str, str], part: Path) -> None:
        """The bytes of one result."""
        async with http.get(f"{self.url}/view", params=dict(item)) as answer:
            if answer.status != 200:
                raise ServerError("the server does not give out its result", got=f"{item['filename']}: {answer.status}")
            with part.open("wb") as file:
                async for chunk in answer.content.iter_chunked(_CHUNK_BYTES):
                    self.progress.check_cancelled()
                    file.write(chunk)

    def _label(self, node_id: Any) -> str:
        return self.graph.get(str(node_id), {}).get("class_type", "server")
