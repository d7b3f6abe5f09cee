"""Queues a workflow on a ComfyUI server, follows it over the websocket and brings its files here.

The messages are those of ComfyUI 0.3.64: the run is over when ``executing`` names no node any more; by then its history
is written.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from ...core.errors import Cancelled, OutputError, ServerError, WorkflowError
from ...core.progress import SILENT, Progress
from .graph import check_format, node_classes
from .report import RunReport
from .ui_format import ui_workflow

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.25  # how often a waiting client looks whether the user wants out
_CONNECT_SECONDS = 10.0
_CHUNK_BYTES = 1 << 20
_START = "Start ComfyUI there, or name the right address with --server."


def queue_workflow(
    server_url: str,
    graph: Mapping[str, Any],
    *,
    workflow: Mapping[str, Any] | None = None,
    output_dir: str | Path = "output",
    progress: Progress = SILENT,
    timeout_seconds: float | None = None,
) -> RunReport:
    """Run a workflow on a server and download what it wrote to its output folder.

    Args:
        server_url: For example ``http://127.0.0.1:8188``.
        graph: API-format workflow; any nodes the server knows.
        workflow: The same in the page's format, which the server writes into result files; None lays out a graph of
            our own nodes, and leaves others to the page, which can read the API format too.
        output_dir: Where downloads go; existing files are kept, a new name is taken.
        progress: Told each node's progress under the node's class; asked four times a second whether to stop.
        timeout_seconds: Longest wait for the whole run; None waits for ever.

    Raises:
        WorkflowError: not an API-format workflow.
        ServerError: no answer, a refused workflow, a failed node, a lost connection, or the time is up.
        Cancelled: the user stopped it here (the server is told) or there.
        OutputError: a download cannot be written.
    """
    check_format(graph)
    address = urlsplit(server_url)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise ServerError(
            "this is not the address of a server", got=server_url, expected="for example http://127.0.0.1:8188"
        )
    run = _Run(server_url.rstrip("/"), dict(graph), workflow or _own_layout(graph), Path(output_dir), progress)
    return asyncio.run(run.whole(timeout_seconds))


@dataclass
class _Run:
    """One workflow on one server.

    Args:
        url: Server address without a slash at its end.
        graph: API-format workflow.
        workflow: Page-format twin or None.
        output_dir: Folder for downloads.
        progress: The caller's.
        client_id: Our name on the server's websocket.
        cached: Nodes the server did not have to run.
    """

    url: str
    graph: dict[str, Any]
    workflow: Mapping[str, Any] | None
    output_dir: Path
    progress: Progress
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
            raise ServerError(
                "no ComfyUI server answers", got=f"{self.url} ({error.os_error})", remedy=_START
            ) from error
        except aiohttp.ClientError as error:
            raise _not_comfyui(self.url, error) from error
        except asyncio.TimeoutError as error:
            raise ServerError(
                "the run took too long, it was stopped", expected=f"at most {timeout_seconds} s"
            ) from error
        return RunReport(outputs, files, time.monotonic() - started, self.cached)

    async def _queue_and_fetch(self, http: aiohttp.ClientSession) -> tuple[dict[str, Any], list[Path]]:
        async with http.ws_connect(f"{self.url}/ws", params={"clientId": self.client_id}, max_msg_size=0) as socket:
            prompt_id = await self._post(http)
            try:
                await self._follow(socket, prompt_id)
            except (Cancelled, asyncio.CancelledError):
                await self._stop(http, prompt_id)
                raise
        history = await self._json(http, "GET", f"/history/{prompt_id}")
        outputs = history.get(prompt_id, {}).get("outputs", {})
        return outputs, [await self._download(http, item) for item in _saved(outputs)]

    async def _post(self, http: aiohttp.ClientSession) -> str:
        body: dict[str, Any] = {"prompt": self.graph, "client_id": self.client_id}
        if self.workflow is not None:
            body["extra_data"] = {"extra_pnginfo": {"workflow": self.workflow}}
        answer = await self._json(http, "POST", "/prompt", body)
        if "prompt_id" not in answer:
            raise ServerError("the server refused the workflow", got=_refusal(answer, self.graph))
        if answer.get("node_errors"):
            # One of several results is invalid; ComfyUI would run the others and say nothing.
            await self._stop(http, answer["prompt_id"])
            raise ServerError("the server refused a part of the workflow", got=_refusal(answer, self.graph))
        return answer["prompt_id"]

    async def _follow(self, socket: aiohttp.ClientWebSocketResponse, prompt_id: str) -> None:
        """Read messages until our run is over."""
        failure: Exception | None = None
        async for kind, data in self._messages(socket):
            if data.get("prompt_id") != prompt_id:
                continue
            if kind == "execution_cached":
                self.cached = tuple(data.get("nodes", ()))
            elif kind == "progress":
                self.progress.report(self._label(data.get("node")), int(data["value"]), int(data["max"]))
            elif kind == "execution_error":
                text = f"{data.get('exception_message', '').strip()} [{data.get('exception_type')}]"
                failure = ServerError(
                    f"node {data.get('node_id')} ({data.get('node_type')}) failed on the server", got=text
                )
            elif kind == "execution_interrupted":
                failure = Cancelled("the run was interrupted on the server")
            elif kind == "executing" and data.get("node") is None:
                break
        else:
            raise ServerError(
                "the connection to the server was lost",
                got=self.url,
                remedy=f"The run {prompt_id} may still go on there.",
            )
        if failure is not None:
            raise failure

    async def _messages(self, socket: aiohttp.ClientWebSocketResponse) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Text messages of the socket until it closes; between them the user may stop. Previews are binary: skipped."""
        while True:
            self.progress.check_cancelled()
            try:
                message = await socket.receive(timeout=_POLL_SECONDS)
            except asyncio.TimeoutError:
                continue
            if message.type in (
                aiohttp.WSMsgType.CLOSE,
                aiohttp.WSMsgType.CLOSING,
                aiohttp.WSMsgType.CLOSED,
                aiohttp.WSMsgType.ERROR,
            ):
                return
            if message.type is aiohttp.WSMsgType.TEXT:
                content = json.loads(message.data)
                yield content.get("type", ""), content.get("data") or {}

    async def _stop(self, http: aiohttp.ClientSession, prompt_id: str) -> None:
        """Take our run out of the queue, and stop it if it is the one that runs."""
        await http.post(f"{self.url}/queue", json={"delete": [prompt_id]})
        await http.post(f"{self.url}/interrupt", json={"prompt_id": prompt_id})

    async def _json(self, http: aiohttp.ClientSession, method: str, path: str, body: Any = None) -> dict[str, Any]:
        async with http.request(method, f"{self.url}{path}", json=body) as answer:
            text = await answer.text()
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise _not_comfyui(f"{self.url}{path}", f"{answer.status} {text[:200]!r}") from error
        if not isinstance(content, dict):
            raise _not_comfyui(f"{self.url}{path}", f"{answer.status} {text[:200]!r}")
        return content

    async def _download(self, http: aiohttp.ClientSession, item: Mapping[str, str]) -> Path:
        """Fetch one result; it appears under its name only when it is whole."""
        target = _free_path(self.output_dir, item)
        part = target.with_name(f".{uuid.uuid4().hex}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            async with http.get(f"{self.url}/view", params=dict(item)) as answer:
                if answer.status != 200:
                    raise ServerError(
                        "the server does not give out its result", got=f"{item['filename']}: {answer.status}"
                    )
                with part.open("wb") as file:
                    async for chunk in answer.content.iter_chunked(_CHUNK_BYTES):
                        self.progress.check_cancelled()
                        file.write(chunk)
            part.replace(target)
        except OSError as error:
            if isinstance(error, aiohttp.ClientError):
                raise
            raise OutputError(
                "the result cannot be written", got=target, expected="a folder that can be written", remedy=str(error)
            ) from error
        finally:
            part.unlink(missing_ok=True)
        return target

    def _label(self, node_id: Any) -> str:
        return self.graph.get(str(node_id), {}).get("class_type", "server")


def _not_comfyui(where: str, answer: object) -> ServerError:
    return ServerError("the server does not answer like ComfyUI", got=f"{where}: {answer}", remedy=_START)


def _own_layout(graph: Mapping[str, Any]) -> dict[str, Any] | None:
    """A page-format twin, for graphs of our own nodes only; a graph that the server is going to refuse has none."""
    if any(node["class_type"] not in node_classes() for node in graph.values()):
        return None
    try:
        return ui_workflow(graph)
    except WorkflowError as error:
        log.info("queued without a page layout: %s", error)
        return None


def _saved(outputs: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """Files in the server's output folder; previews in its temporary folder are not results."""
    items = [item for ui in outputs.values() for values in ui.values() if isinstance(values, list) for item in values]
    files = [item for item in items if isinstance(item, dict) and item.get("type") == "output" and item.get("filename")]
    return [{key: str(item.get(key, "")) for key in ("filename", "subfolder", "type")} for item in files]


def _free_path(folder: Path, item: Mapping[str, str]) -> Path:
    """A new path for a file a server names; the name must not lead out of the folder."""
    relative = PurePosixPath(item["subfolder"].replace("\\", "/")) / item["filename"]
    if relative.is_absolute() or ".." in relative.parts or "\\" in item["filename"] or ":" in str(relative):
        raise ServerError(
            "the server names a file outside the output folder", got=str(relative), expected="a relative name"
        )
    target = folder / relative
    counter = 1
    while target.exists():
        target = (folder / relative).with_name(f"{relative.stem}{counter}{relative.suffix}")
        counter += 1
    return target


def _refusal(answer: Mapping[str, Any], graph: Mapping[str, Any]) -> str:
    """ComfyUI's error object as one line: what, then every node with its inputs' faults."""
    error = answer.get("error") or {}
    lines = [
        f"{error.get('message', '')} {error.get('details', '')}".strip() if isinstance(error, dict) else str(error)
    ]
    for node_id, node in (answer.get("node_errors") or {}).items():
        name = f"node {node_id} ({node.get('class_type') or graph.get(node_id, {}).get('class_type')})"
        lines += [_fault(name, fault) for fault in node.get("errors", ())]
    return "; ".join(dict.fromkeys(line for line in lines if line))


def _fault(node: str, fault: Mapping[str, Any]) -> str:
    """One entry of ``node_errors``."""
    port, details = (fault.get("extra_info") or {}).get("input_name"), fault.get("details") or ""
    if fault.get("type") == "custom_validation_failed":
        # A node's own verdict comes once for every input it looked at, as "input - verdict".
        return f"{node}: {details.partition(' - ')[2].rstrip('.')}"
    return f"{node}, input {port}: {fault.get('message')}" + (f" ({details})" if details not in ("", port) else "")
