"""One HTTP request that can be stopped: sent from a thread, with the connection closed when the caller gives up."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import SplitResult

POLL_SECONDS = 0.1
MAX_BYTES = 16_000_000


@dataclass(frozen=True)
class Response:
    """What came back. ``headers`` has lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass
class _Exchange:
    connection: http.client.HTTPConnection
    done: threading.Event = field(default_factory=threading.Event)
    response: Response | None = None
    error: OSError | http.client.HTTPException | None = None


def send(
    url: SplitResult,
    method: str,
    *,
    headers: Mapping[str, str],
    body: bytes | None,
    timeout_seconds: float,
    check_cancelled: Callable[[], None],
) -> Response:
    """Send one request and wait for the whole answer.

    Args:
        url: ``http`` or ``https``.
        method: ``GET`` or ``POST``.
        headers: Sent as given.
        body: Bytes to send, or None.
        timeout_seconds: Longest wait for the whole answer.
        check_cancelled: Called every 0.1 s; raises to stop.

    Raises:
        TimeoutError: the answer was not there in time.
        OSError, http.client.HTTPException: the connection failed.
    """
    # The socket's own patience is only there so that no thread is left behind; it ends after ours.
    exchange = _Exchange(_connection(url, timeout_seconds + 1))
    target = url.path + (f"?{url.query}" if url.query else "")
    worker = threading.Thread(target=_work, args=(exchange, method, target, body, dict(headers)), daemon=True)
    deadline = time.monotonic() + timeout_seconds
    worker.start()
    try:
        while not exchange.done.wait(POLL_SECONDS):
            check_cancelled()
            if time.monotonic() > deadline:
                raise TimeoutError(f"no answer within {timeout_seconds:g} s")
    finally:
        _close(exchange.connection)
    if exchange.error is not None:
        raise exchange.error
    return exchange.response


def _connection(url: SplitResult, timeout_seconds: float) -> http.client.HTTPConnection:
    if url.scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(url.hostname, url.port, timeout=timeout_seconds, context=context)
    return http.client.HTTPConnection(url.hostname, url.port, timeout=timeout_seconds)


def _work(exchange: _Exchange, method: str, target: str, body: bytes | None, headers: dict[str, str]) -> None:
    try:
        exchange.connection.request(method, target, body=body, headers=headers)
        answer = exchange.connection.getresponse()
        content = answer.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise http.client.HTTPException(f"the answer is longer than {MAX_BYTES} bytes")
        names = {name.lower(): value for name, value in answer.getheaders()}
        exchange.response = Response(answer.status, names, content)
    except (OSError, http.client.HTTPException) as error:
        exchange.error = error
    except (AttributeError, ValueError) as error:
        # The caller closed the connection under us; http.client then trips over its own closed file.
        exchange.error = http.client.HTTPException(str(error))
    finally:
        exchange.done.set()


def _close(connection: http.client.HTTPConnection) -> None:
    """Shut the socket down first: closing alone does not wake a thread that is reading from it."""
    if connection.sock is not None:
        with suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()
