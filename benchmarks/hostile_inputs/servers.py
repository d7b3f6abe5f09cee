"""Kind 9: language models, a hub and a ComfyUI that mean no good; each is a stand-in on this machine."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import random
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from urllib.parse import unquote

from . import hubs
from .case import KEY, SMALL, Case, Place
from .stand_in import Behave, answer, says, serve, without_end
from .texts import WORKFLOW

CODES = (0, 1, 2, 3)
OK = "HTTP/1.1 200 OK\r\n"


def chat(content: object, **more: object) -> bytes:
    """An answer of a language model."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content} | more, "finish_reason": "stop"}
    return json.dumps({"id": "1", "object": "chat.completion", "model": "x", "choices": [choice]}).encode()


def bodied(body: bytes, headers: str = "") -> Behave:
    """A whole answer with some headers more."""
    return says(answer(body, headers=f"Content-Type: application/json\r\n{headers}"))


GOOD = chat('{"scene": "rain", "entities": []}')
# Heads and ends of answers; the body is mostly good.
TALK: dict[str, Behave] = {
    "a head without end": without_end(OK.encode(), b"X-A: " + b"a" * 4000 + b"\r\n"),
    "a header of 10 MB": says(f"{OK}X-A: {'a' * 10_000_000}\r\n\r\n".encode()),
    "100 and 100 and 100": without_end(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "103 without end": without_end(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
    "a million headers": says(OK.encode() + b"A: b\r\n" * 1_000_000 + b"\r\n"),
    "a length below zero": says(f"{OK}Content-Length: -1\r\n\r\n".encode() + GOOD),
    "a length of a word": says(f"{OK}Content-Length: many\r\n\r\n".encode() + GOOD),
    "a length of 2**64": says(f"{OK}Content-Length: {2**64}\r\n\r\n".encode() + GOOD),
    "two lengths": says(f"{OK}Content-Length: 5\r\nContent-Length: {len(GOOD)}\r\n\r\n".encode() + GOOD),
    "a length that is too long": says(f"{OK}Content-Length: {len(GOOD) + 9}\r\n\r\n".encode() + GOOD),
    "a length that is too short": says(f"{OK}Content-Length: {len(GOOD) - 9}\r\n\r\n".encode() + GOOD),
    "length and chunks": says(f"{OK}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".encode()),
    "a chunk of 2**64": says(f"{OK}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n".encode() + GOOD),
    "a chunk below zero": says(f"{OK}Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n".encode()),
    "chunks without end": without_end(
        f"{OK}Transfer-Encoding: chunked\r\n\r\n".encode(), b"1000\r\n" + b" " * 4096 + b"\r\n"
    ),
    "chunks that trickle": without_end(f"{OK}Transfer-Encoding: chunked\r\n\r\n".encode(), b"1\r\n \r\n", 0.3),
    "a chunk's endless note": without_end(f"{OK}Transfer-Encoding: chunked\r\n\r\n1;".encode(), b"a" * 5000),
    "a body without end": without_end(f"{OK}Content-Type: application/json\r\n\r\n".encode(), b'{"a": [' * 500),
    "a status that is a word": says(b"HTTP/1.1 fine OK\r\n\r\n"),
    "a status of 99999": says(b"HTTP/1.1 99999 OK\r\n\r\n"),
    "a status of none": says(b"HTTP/1.1\r\n\r\n"),
    "version 9": says(b"HTTP/9.9 200 OK\r\n\r\n" + GOOD),
    "no head": says(GOOD),
    "another protocol": says(b"SSH-2.0-OpenSSH_9.0\r\n"),
    "a secured one": says(b"\x15\x03\x01\x00\x02\x02\x28"),
    "HTTP/2": says(b"\0\0\x12\4\0\0\0\0\0" + b"\0" * 18),
    "zeros": says(b"\0" * 100_000),
    "nothing, at once": says(b""),
    "half a head": says(b"HTTP/1.1 200 OK\r\nContent-Ty"),
    "nothing, and waits": lambda connection, request: connection.recv(1),
    "no content": says(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "not changed": says(b"HTTP/1.1 304 Not Modified\r\n\r\n"),
    "other letters in a header": says(b"HTTP/1.1 200 OK\r\nX-\xff: \xfe\r\n\r\n" + GOOD),
    "a bomb": bodied(gzip.compress(b"0" * 50_000_000), "Content-Encoding: gzip\r\n"),
    "a bomb in a bomb": bodied(gzip.compress(gzip.compress(b"0" * 50_000_000)), "Content-Encoding: gzip, gzip\r\n"),
    "deflated": bodied(zlib.compress(b"[" * 9_000_000), "Content-Encoding: deflate\r\n"),
    "packed as nobody does": bodied(GOOD, "Content-Encoding: br, zstd, rot13\r\n"),
    "packed for the way": says(f"{OK}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n".encode()),
    "letters of 2000 kinds": bodied(GOOD, "Content-Type: text/html; charset=utf-1999\r\n"),
    "events": bodied(b"data: {}\n\ndata: [DONE]\n\n", "Content-Type: text/event-stream\r\n"),
}
BODIES: dict[str, bytes] = {
    "a mark before": b"\xef\xbb\xbf" + GOOD, "UTF-16": GOOD.decode().encode("utf-16"), "no choices": b'{"choices": []}',
    "choices null": b'{"choices": null}', "choices of numbers": b'{"choices": [1, 2]}',
    "choices by name": b'{"choices": {"0": {}}}',
    "a message null": b'{"choices": [{"message": null}]}', "content null": chat(None), "a number": chat(7),
    "a list": chat(["a"]),
    "parts": chat([{"type": "text", "text": {"a": 1}}]), "a part that is null": chat([None]),
    "deep content": chat("[" * 100_000),
    "deep": b'{"choices": ' + b"[" * 50_000, "a refusal": chat(None, refusal="no"),
    "a tool": chat(None, tool_calls=[{"function": {}}]),
    "a content of 5 MB": chat("rain " * 1_000_000), "letters that steer": chat("\x1b[2J\x07rain\x00\u202e"),
    "half a pair": chat("\ud800 rain"),
    "a million choices": b'{"choices": [' + b"{}," * 999_999 + b"{}]}",
    "an error in 200": b'{"error": {"message": ["a"], "code": {}}}',
    "NaN": b'{"choices": [{"message": {"content": NaN}}]}', "keys twice": b'{"choices": [], "choices": [{}]}',
    "anchors of numbers": chat('{"scene": 5, "entities": [7, null, {"name": []}]}'),
    "anchors without end": chat('{"scene": "' + "a" * 900_000),
    "fences": chat("```json\n" * 5000), "thinking without end": chat("<think>" * 50_000),
    "only blanks": chat(" \n\t" * 1000),
}  # fmt: skip
# The key comes back in another place each time; {key} is what was sent.
ECHOES: dict[str, str] = {
    "the status line": "HTTP/1.1 401 no {key} here\r\nContent-Length: 0\r\n\r\n",
    "a cookie": "HTTP/1.1 200 OK\r\nSet-Cookie: k={key}\r\nContent-Length: 2\r\n\r\n{{",
    "the name of a header": "HTTP/1.1 500 no\r\n{key}: 1\r\nContent-Length: 0\r\n\r\n",
    "the way to be known": 'HTTP/1.1 401 no\r\nWWW-Authenticate: Bearer realm="{key}"\r\nContent-Length: 0\r\n\r\n',
    "the kind of content": "HTTP/1.1 200 OK\r\nContent-Type: text/{key}\r\nContent-Length: 2\r\n\r\n[]",
    "the packing": "HTTP/1.1 200 OK\r\nContent-Encoding: {key}\r\nContent-Length: 2\r\n\r\n[]",
    "the length": "HTTP/1.1 200 OK\r\nContent-Length: {key}\r\n\r\n[]",
    "the version": "HTTP/{key} 200 OK\r\n\r\n",
    "where to go": "HTTP/1.1 302 go\r\nLocation: /{key}\r\nContent-Length: 0\r\n\r\n",
    "when to come back": "HTTP/1.1 429 no\r\nRetry-After: {key}\r\nContent-Length: 0\r\n\r\n",
    "a code of an error": 'HTTP/1.1 400 no\r\nContent-Length: 75\r\n\r\n{{"error": {{"code": "{key}"}}}}',
    "a name of a key": 'HTTP/1.1 400 no\r\nContent-Length: 50\r\n\r\n{{"{key}": 1}}',
    "a chunk": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{key}\r\n",
    "no head at all": "{key}\r\n\r\n",
}
REDIRECTS = ("file:///etc/passwd", "{other}/x", "//{host}/x", "\\\\{host}", "http:{host}", "{other}@127.0.0.1/",
    "/v1/chat/completions",
    "data:application/json,{{}}", "javascript:1", "http://[::1", "http://127.0.0.1:99999/", "\x1b[31m",
    "gopher://{host}")  # fmt: skip
ADDRESSES = ("file:///etc/passwd", "ftp://127.0.0.1/", "gopher://x", "unix:///var/run/docker.sock", "http://",
    "http:///v1", "http://[::1",
    "http://[::1]]/", "http://127.0.0.1:99999", "http://127.0.0.1:-1", "http://127.0.0.1:x", "http://a b/",
    "http://x/\r\nX-A: b", "javascript:1",
    "http://\u2460.\u2461", "http://\u0430pple", "http://" + "a" * 70 + ".b", "http://" + "a." * 200 + "b",
    "http://u:p@127.0.0.1:9/v1", "//127.0.0.1",
    "http://127.0.0.1:9/../../v1?a#b", "http://0x7f.1:9/v1", "ws://127.0.0.1:9", "http://%00",
    "http://127.0.0.1:9/%0d%0aX: y", "HTTP", "http://.",
    "http://" + "9" * 5000)  # fmt: skip


def _expand(behave: Behave, *more: str, model: bool = True) -> Callable[[Place], list[str]]:
    def line(place: Place) -> list[str]:
        address = serve(behave)
        named = ["--model", "x"] if model else []
        return ["expand", "rain on a roof", "--backend", "openai_server", "--no-cache", "--timeout", "3", *named,
            "--server", f"{address}/v1", *more]  # fmt: skip

    return line


def _patient(place: Place) -> None:
    from sounding_video.captions.backends import openai_server

    openai_server.BACKOFF_SECONDS = 0.01


def cases(chance: random.Random) -> Iterator[Case]:
    """All of the kind."""
    for what, behave in TALK.items():
        more = ("--json",) if chance.random() < 0.3 else ()
        yield Case(9, f"a chat: {what}", _expand(behave, *more, model=chance.random() < 0.7), CODES, before=_patient)
    for what, body in BODIES.items():
        mode = chance.choice(("full", "direct", "raw"))
        yield Case(9, f"a chat in the body: {what}", _expand(bodied(body), "--mode", mode), CODES, before=_patient)
    for what, head in ECHOES.items():

        def echo(connection: socket.socket, request: bytes, head: str = head) -> None:
            sent = next(
                (one for one in request.decode("latin-1").split("\r\n") if one.lower().startswith("authorization")), ""
            )
            connection.sendall(head.format(key=sent.rpartition(" ")[2] or KEY).encode("latin-1"))

        more = chance.choice(((), ("--json",), ("--verbose",)))
        yield Case(
            9,
            f"the key comes back in {what}",
            _expand(echo, *more, model=chance.random() < 0.7),
            CODES,
            before=_patient,
        )
    for target in REDIRECTS:

        def line(
            place: Place, target: str = target, status: int = chance.choice((301, 302, 303, 307, 308))
        ) -> list[str]:
            other = serve(bodied(GOOD), log=place.elsewhere)
            where = target.format(other=other, host=other.removeprefix("http://"))
            return _expand(
                says(answer(b"", status=f"{status} go", headers=f"Location: {where}\r\nRefresh: 0; url={other}\r\n"))
            )(place)

        yield Case(9, f"a chat that is elsewhere: {target!r}", line, CODES, before=_patient)
    for address in ADDRESSES:
        command = chance.choice(
            (
                ["expand", "rain", "--backend", "openai_server", "--model", "x", "--timeout", "3"],
                ["queue", str(WORKFLOW)],
            )
        )
        yield Case(
            9, f"{command[0]} --server {address!r:.40}", [*command, f"--server={address}"], (1, 2, 3), before=_patient
        )
    for what, key in {
        "a line": "sk-a\r\nX-Evil: 1",
        "other letters": "sk-\u20ac\u00e9",
        "no text": "sk-\udcff",
        "blanks": "  ",
        "10**6": "k" * 10**6,
    }.items():
        yield Case(
            9, f"a key with {what}", _expand(bodied(GOOD)), CODES, {"SOUNDING_VIDEO_LLM_KEY": key}, before=_patient
        )
    yield Case(9, "captions for a clip", _captions_for_a_clip, CODES, before=_patient)
    yield Case(9, "captions for generate", _captions_for_generate, CODES, before=_patient)
    yield from _comfyui(chance)
    yield from hubs.cases(chance)


def _captions_for_a_clip(place: Place) -> list[str]:
    address = serve(without_end(OK.encode() + b"\r\n", b"x", 0.2))
    asking = ["--looking", "server", "--looking-model", "x", "--mode", "raw", "--timeout", "3"]
    return ["caption", str(place.shared / "clip.mp4"), "-o", "new/l.jsonl", *asking, "--server", f"{address}/v1"]


def _captions_for_generate(place: Place) -> list[str]:
    asking = ["--backend", "openai_server", "--caption-model", "x", "--server", f"{serve(bodied(chat(chr(0))))}/v1"]
    return ["generate", "x", "-o", "new/c.mp4", *SMALL[:-1], *asking]


def frame(text: bytes, kind: int = 1) -> bytes:
    """A frame of a web socket, as servers send it."""
    size = len(text)
    head = (
        bytes([size])
        if size < 126
        else b"\x7e" + struct.pack(">H", size)
        if size < 65_536
        else b"\x7f" + struct.pack(">Q", size)
    )
    return bytes([0x80 | kind]) + head + text


DONE = json.dumps({"type": "executing", "data": {"prompt_id": "run-1", "node": None}}).encode()
OUTPUT = {"filename": "a.mp4", "subfolder": "", "type": "output"}
LIES: dict[str, dict[str, object]] = {
    "names above": {"file": OUTPUT | {"filename": "../../../canary"}},
    "absolute names": {"file": OUTPUT | {"filename": "{canary}"}},
    "a folder above": {"file": OUTPUT | {"subfolder": "../../.."}},
    "a name of zeros": {"file": OUTPUT | {"filename": "a\0.mp4"}},
    "another system's name": {"file": OUTPUT | {"filename": "..\\..\\canary"}},
    "a name of dots": {"file": OUTPUT | {"filename": ".."}},
    "a name of nothing": {"file": OUTPUT | {"filename": ""}},
    "a name that is a number": {"file": OUTPUT | {"filename": 7}},
    "a name that steers": {"file": OUTPUT | {"filename": "\x1b[2J.mp4"}},
    "a name of 5000": {"file": OUTPUT | {"filename": "x" * 5000}},
    "a hidden name": {"file": OUTPUT | {"filename": ".bashrc"}}, "a file that is a list": {"file": [1]},
    "files null": {"files": None},
    "outputs of numbers": {"outputs": {"9": 5}}, "outputs that are deep": {"outputs": {"9": {"images": [[[[[]]]]]}}},
    "a history that is a list": {"history": b"[]"}, "a history of half": {"history": b'{"run-1": '},
    "a history of 401": {"history": None},
    "messages of nothing": {"frames": [frame(b"")]}, "messages of NaN": {"frames": [frame(b'{"type": NaN}')]},
    "deep messages": {"frames": [frame(b"[" * 100_000)]}, "messages of bytes": {"frames": [frame(b"\xff\xfe\0", 2),
    frame(DONE)]},
    "messages that are no text": {"frames": [frame(b"\xff\xfe")]},
    "a message of 2**62": {"frames": [b"\x81\x7f" + struct.pack(">Q", 2**62)]},
    "reserved bits": {"frames": [b"\xf1\x01a"]}, "a kind that is not": {"frames": [frame(b"a", 11)]},
    "a ping of 10 kB": {"frames": [frame(b"a" * 10_000, 9)]},
    "an error of lists": {"frames": [frame(json.dumps({"type": "execution_error",
        "data": {"prompt_id": "run-1", "exception_message": [1],
        "traceback": 5, "node_id": {}}}).encode())]},
    "progress backwards": {"frames": [frame(json.dumps({"type": "progress",
        "data": {"prompt_id": "run-1", "value": -5, "max": 0}}).encode()), frame(DONE)]},
    "a prompt without a number": {"prompt": b'{"prompt_id": 5}'}, "a prompt that is a list": {"prompt": b"[]"},
    "a prompt above": {"prompt": b'{"prompt_id": "../../view"}'},
    "errors of numbers": {"prompt": b'{"error": 5, "node_errors": [1]}'}, "a socket that is none": {"accept": b"wrong"},
    "a file without end": {"view": without_end(OK.encode() + b"\r\n", b"0" * 1_000_000)},
    "a file that is cut": {"view": says(f"{OK}Content-Length: 900\r\n\r\nabc".encode())},
    "a file elsewhere": {"view": None},
}  # fmt: skip


def _comfyui(chance: random.Random) -> Iterator[Case]:
    for what, lies in LIES.items():

        def line(place: Place, lies: dict = lies) -> list[str]:
            other = serve(bodied(GOOD), log=place.root / "asked elsewhere")

            def behave(connection: socket.socket, request: bytes) -> None:
                _comfy(connection, request, lies, other, str(place.canary))

            return ["queue", str(WORKFLOW), "--server", serve(behave), "--output-dir", "new", "--timeout", "15"]

        yield Case(9, f"a ComfyUI: {what}", line, CODES, before=_patient, check=hubs.no_key_elsewhere)


def _comfy(connection: socket.socket, request: bytes, lies: dict, other: str, canary: str) -> None:
    path = unquote(request.split(b" ")[1].decode("latin-1")) if request.count(b" ") > 1 else ""
    if path.startswith("/ws"):
        key = next(
            line for line in request.decode("latin-1").split("\r\n") if line.lower().startswith("sec-websocket-key")
        )
        mark = base64.b64encode(
            hashlib.sha1((key.partition(":")[2].strip() + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        )
        head = b"HTTP/1.1 101 go\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        connection.sendall(head + lies.get("accept", mark) + b"\r\n\r\n")
        import time

        time.sleep(0.3)
        for one in lies.get("frames", [frame(DONE)]):
            connection.sendall(one)
        connection.recv(1 << 16)
        time.sleep(5)
    elif path.startswith("/prompt"):
        connection.sendall(answer(lies.get("prompt", b'{"prompt_id": "run-1", "number": 1, "node_errors": {}}')))
    elif path.startswith("/history"):
        file = lies.get("file", OUTPUT)
        if isinstance(file, dict) and isinstance(file["filename"], str):
            file = file | {"filename": file["filename"].replace("{canary}", canary)}
        outputs = lies.get("outputs", {"9": {"images": lies.get("files", [file])}})
        found = lies.get("history", json.dumps({"run-1": {"outputs": outputs, "status": {"messages": []}}}).encode())
        connection.sendall(answer(found) if found is not None else answer(b"{}", status="401 no"))
    elif path.startswith("/view"):
        view = lies.get("view", says(answer(b"a file")))
        moved = says(answer(b"", status="302 go", headers=f"Location: {other}/x\r\n"))
        (view or moved)(connection, request)
    else:
        connection.sendall(answer(b"{}"))
