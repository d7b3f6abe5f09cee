"""One HTTP request that can be stopped: aiohttp on a thread of its own, cancelled there when the caller gives up.

The caller may stand in a running event loop, as ComfyUI's nodes do; so the request has its own.
"""

from __future__ import annotations

import asyncio
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import SplitResult

POLL_SECONDS = 0.1
MAX_BYTES = 16_000_000
_CHUNK_BYTES = 1 << 16
_ANY_ZLIB = 32 + zlib.MAX_WBITS  # gzip or zlib, whichever the head says
THREAD = "sounding-video request"


class TooLongError(OSError):
    """An answer without end, or one that unpacks to more than anybody says."""


@dataclass(frozen=True)
class Response:
    """What came back. ``headers`` has lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def _not_started() -> None:
    """Nothing to stop yet."""


@dataclass
class _Exchange:
    done: threading.Event = field(default_factory=threading.Event)
    response: Response | None = None
    error: Exception | None = None
    stop: Callable[[], object] = _not_started


def send(
    url: SplitResult,
    method: str,
    *,
    headers: Mapping[str, str],
    body: bytes | None,
    timeout_seconds: float,
    check_cancelled: Callable[[], None],
) -> Response:
    """Send one request and wait for the whole answer. Redirects are not followed: headers may hold a key.

    Args:
        url: ``http`` or ``https``.
        method: ``GET`` or ``POST``.
        headers: Sent as given.
        body: Bytes to send, or None.
        timeout_seconds: Longest wait for the whole answer.
        check_cancelled: Called every 0.1 s; raises to stop.

    Raises:
        TimeoutError: the answer was not there in time.
        TooLongError: the answer is too long, packed or unpacked.
        OSError: the connection failed, or the answer is no HTTP.
    """
    exchange = _Exchange()
    # The request's own patience is only there so that no thread is left behind; it ends after ours.
    request = {"headers": dict(headers), "data": body}
    work = (exchange, url.geturl(), method, request, timeout_seconds + 1)
    deadline = time.monotonic() + timeout_seconds
    threading.Thread(target=_work, args=work, daemon=True, name=THREAD).start()
    try:
        while not exchange.done.wait(POLL_SECONDS):
            check_cancelled()
            if time.monotonic() > deadline:
                raise TimeoutError(f"no answer within {timeout_seconds:g} s")
    finally:
        with suppress(RuntimeError):  # the loop is closed already
            exchange.stop()
    if exchange.error is not None or exchange.response is None:
        raise exchange.error or ConnectionError("the request ended without an answer")
    return exchange.response


def _work(exchange: _Exchange, url: str, method: str, request: Mapping[str, object], timeout_seconds: float) -> None:
    import aiohttp  # not at load: ComfyUI's start imports this file

    try:
        exchange.response = asyncio.run(_ask(exchange, url, method, request, timeout_seconds))
    except aiohttp.ClientConnectorError as error:
        exchange.error = error.os_error
    except (aiohttp.ClientError, asyncio.TimeoutError, ValueError) as error:
        exchange.error = ConnectionError(f"{type(error).__name__}: {error}")
    except OSError as error:
        exchange.error = error
    except asyncio.CancelledError:
        pass  # nobody waits any more
    finally:
        exchange.done.set()


def _unpacked(content: bytes, encoding: str) -> bytes:
    """The content as it was before it was packed, which nobody asked for; within the same bound."""
    if encoding.strip().lower() in ("", "identity"):
        return content
    try:
        unpacker = zlib.decompressobj(_ANY_ZLIB)
        plain = unpacker.decompress(content, MAX_BYTES + 1)
    except zlib.error as error:
        raise ConnectionError(f"an answer packed as {encoding[:40]!r} ({error})") from None
    if len(plain) > MAX_BYTES:
        raise TooLongError(f"more than {MAX_BYTES} bytes when unpacked")
    return plain


async def _ask(
    exchange: _Exchange, url: str, method: str, request: Mapping[str, object], timeout_seconds: float
) -> Response:
    import aiohttp

    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    exchange.stop = lambda: loop.call_soon_threadsafe(task.cancel)
    timeout = aiohttp.ClientTimeout(total=timeout_seconds)
    async with (
        aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as http,
        http.request(method, url, allow_redirects=False, **request) as answer,
    ):
        content = bytearray()
        async for chunk in answer.content.iter_chunked(_CHUNK_BYTES):
            content += chunk
            if len(content) > MAX_BYTES:
                raise TooLongError(f"more than {MAX_BYTES} bytes")
        names = {name.lower(): value for name, value in answer.headers.items()}
        return Response(answer.status, names, _unpacked(bytes(content), names.get("content-encoding", "")))
