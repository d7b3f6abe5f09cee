"""A server of raw bytes in a process of its own, which ends with the command that it was started for."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

Behave = Callable[[socket.socket, bytes], None]
LASTING_SECONDS = 100.0


def serve(behave: Behave, *, log: Path | None = None) -> str:
    """Start a server; gives its address.

    Args:
        behave: Gets each connection with the request that came through it.
        log: Requests are appended to it.
    """
    listening = socket.create_server(("127.0.0.1", 0))
    parent = os.getpid()
    if not os.fork():
        with contextlib.suppress(BaseException):
            _run(listening, behave, log, parent)
        os._exit(0)
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    listening.close()
    return address


def _run(listening: socket.socket, behave: Behave, log: Path | None, parent: int) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    listening.settimeout(0.2)
    ending = time.monotonic() + LASTING_SECONDS
    while os.getppid() == parent and time.monotonic() < ending:
        with contextlib.suppress(TimeoutError):
            connection, _ = listening.accept()
            threading.Thread(target=_answer, args=(connection, behave, log), daemon=True).start()


def _answer(connection: socket.socket, behave: Behave, log: Path | None) -> None:
    with contextlib.suppress(OSError, ValueError), connection:
        connection.settimeout(LASTING_SECONDS)
        request = _request(connection)
        if log is not None and request:
            with log.open("ab") as file:
                file.write(request)
        behave(connection, request)


def _request(connection: socket.socket) -> bytes:
    """Head and body, as far as the head says."""
    found = b""
    while b"\r\n\r\n" not in found and (more := connection.recv(65_536)):
        found += more
    head, _, body = found.partition(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
    )
    while len(body) < length and (more := connection.recv(65_536)):
        body += more
    return head + b"\r\n\r\n" + body


def answer(body: bytes, *, status: str = "200 OK", headers: str = "Content-Type: application/json\r\n") -> bytes:
    """A whole answer of HTTP."""
    return f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


def says(content: bytes) -> Behave:
    """The same bytes to everybody."""
    return lambda connection, request: connection.sendall(content)


def without_end(head: bytes, piece: bytes, pause: float = 0.0) -> Behave:
    """A beginning, and then the same for as long as somebody listens."""

    def behave(connection: socket.socket, request: bytes) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(piece)
            time.sleep(pause)

    return behave
