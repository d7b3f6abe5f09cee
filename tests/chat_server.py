"""A real local server that speaks the OpenAI chat protocol and misbehaves on command."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class ChatServer:
    """What the server should do, one step a request, and what it was asked.

    ``refused`` holds fields that a request must not have, each with the sentence that it is refused with; such a
    request takes no step. ``model_list`` is sent in place of ``models`` as it is.
    """

    url: str = ""
    script: list[Any] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    models: tuple[str, ...] = ("tiny",)
    model_list: bytes = b""
    refused: dict[str, str] = field(default_factory=dict)
    closing: threading.Event = field(default_factory=threading.Event)

    def answers(self, *steps: Any) -> None:
        """Text: answered as the model's content. A dict: see ``_Handler._behave``."""
        self.script = list(steps)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        """Keep the test output clean."""

    def do_GET(self) -> None:
        self.state.headers.append(dict(self.headers))
        listed = {"data": [{"id": name} for name in self.state.models]}
        self._send(200, self.state.model_list or json.dumps(listed).encode(), {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.state.requests.append(body)
        self.state.headers.append(dict(self.headers))
        for name, sentence in self.state.refused.items():
            if name in body:
                self._reply(400, {"error": {"message": sentence, "type": "invalid_request_error"}})
                return
        step = self.state.script.pop(0) if self.state.script else {"status": 418, "error": "nothing left to say"}
        step = step(body) if callable(step) else step
        if isinstance(step, str):
            step = {"content": step}
        self._behave(step)

    @property
    def state(self) -> ChatServer:
        return self.server.state

    def _behave(self, step: dict[str, Any]) -> None:
        self.state.closing.wait(step.get("slow", 0))
        if step.get("hang"):
            self.state.closing.wait(30)
            return
        if step.get("trickle"):
            self.send_response(200)
            self.end_headers()
            while not self.state.closing.wait(step["trickle"]):
                self.wfile.write(b" ")
            return
        if step.get("close"):
            # A reset and not a polite end.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
            return
        if "raw" in step:
            raw = step["raw"] if isinstance(step["raw"], bytes) else step["raw"].encode()
            self._send(step.get("status", 200), raw, step.get("headers", {}))
            return
        status = step.get("status", 200)
        good = {"choices": [{"message": {"role": "assistant", "content": step.get("content")}}]}
        self._reply(
            status, good if status == 200 else {"error": {"message": step.get("error", "no")}}, step.get("headers")
        )

    def _reply(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(value).encode(), headers or {})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def chat_server() -> Iterator[ChatServer]:
    """A server on a free port of this machine."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    http.daemon_threads = True
    http.handle_error = lambda *arguments: None  # the client hangs up on purpose
    http.state = ChatServer(f"http://127.0.0.1:{http.server_address[1]}/v1")
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield http.state
    http.state.closing.set()
    http.shutdown()
    http.server_close()
    thread.join()
