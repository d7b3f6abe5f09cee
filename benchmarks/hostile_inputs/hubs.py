"""Kind 9: stand-ins for Hugging Face's hub, which ``download`` asks in a process of its own."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Iterator

from .case import Case, Place
from .stand_in import answer, says, serve, without_end

NAME = "split_files/diffusion_models/wan2.1_t2v_1.3B_fp16.safetensors"
OTHERS = ("split_files/vae/wan_2.1_vae.safetensors", "split_files/text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors")
COMMIT = "d" * 40
HEAD = f'X-Repo-Commit: {COMMIT}\r\nETag: "abc"\r\n'
LIES: dict[str, dict[str, object]] = {
    "names above": {"files": [NAME, *OTHERS, "../../canary", "/canary"]},
    "names that are numbers": {"files": [1, None, [NAME]]},
    "no files": {"files": []},
    "a list that is deep": {"list": b"[" * 100_000},
    "a list that is no JSON": {"list": b"<html>"},
    "a list without end": {"listing": without_end(b"HTTP/1.1 200 OK\r\n\r\n", b" " * 65_536)},
    "a commit above": {"headers": 'X-Repo-Commit: ../../../canary\r\nETag: "../../canary"\r\n'},
    "no mark": {"headers": ""},
    "files elsewhere": {"elsewhere": True},
    "files that are cut": {"file": says(f"HTTP/1.1 200 OK\r\n{HEAD}Content-Length: 9999\r\n\r\nabc".encode())},
    "files of another size": {"size": 5},
    "files of 2**60 bytes": {"size": 2**60},
    "the key in an error": {"file": None},
    "a hub that is asleep": {"listing": says(answer(b"", status="503 no"))},
}


def cases(chance: random.Random) -> Iterator[Case]:
    """A download from each."""
    for what, lies in LIES.items():

        def line(place: Place, lies: dict = lies) -> list[str]:
            import os

            other = serve(says(answer(b"0" * 4000, headers=HEAD)), log=place.root / "asked elsewhere")

            def behave(connection: socket.socket, request: bytes) -> None:
                _hub(connection, request, lies, other)

            os.environ |= {"HF_ENDPOINT": serve(behave), "HF_HUB_OFFLINE": "0", "HF_HUB_DOWNLOAD_TIMEOUT": "3",
            "HF_HUB_ETAG_TIMEOUT": "3",
                "HF_HUB_DISABLE_XET": "1"}  # fmt: skip
            return ["download", "wan-1.3b", "--models", "new"]

        yield Case(9, f"a hub: {what}", line, (0, 1, 2, 3), fresh=True, check=no_key_elsewhere, leaves_hidden=True)


def no_key_elsewhere(place: Place, code: int, out: str, err: str) -> str:
    """No server that nobody named has got the key."""
    asked = place.root / "asked elsewhere"
    return "a key was sent elsewhere" if asked.exists() and b"verysecret" in asked.read_bytes() else ""


def _hub(connection: socket.socket, request: bytes, lies: dict, other: str) -> None:
    method, path, *_ = request.decode("latin-1").split(" ")
    if "/api/models/" in path:
        if "listing" in lies:
            lies["listing"](connection, request)
            return
        files = [{"rfilename": name, "size": 4000} for name in lies.get("files", [NAME, *OTHERS])]
        body = json.dumps({"id": "a/b", "sha": COMMIT, "siblings": files}).encode()
        connection.sendall(answer(lies.get("list", body)))
        return
    headers = lies.get("headers", HEAD)
    if lies.get("elsewhere"):
        connection.sendall(
            answer(
                b"",
                status="302 go",
                headers=f'{headers}Location: {other}/x\r\nX-Linked-Size: 4000\r\nX-Linked-ETag: "abc"\r\n',
            )
        )
    elif method == "HEAD":
        connection.sendall(f"HTTP/1.1 200 OK\r\n{headers}Content-Length: {lies.get('size', 4000)}\r\n\r\n".encode())
    elif "file" in lies and lies["file"] is None:
        sent = next(
            (one for one in request.decode("latin-1").split("\r\n") if one.lower().startswith("authorization")), ""
        )
        connection.sendall(
            answer(sent.encode(), status="403 no", headers=f"X-Error-Message: {sent}\r\nX-Request-Id: {sent}\r\n")
        )
    elif "file" in lies:
        lies["file"](connection, request)
    else:
        connection.sendall(answer(b"0" * 4000, headers=headers))
