"""A language-model server that means no good: keys that come back, lists of nothing, answers without end."""

from __future__ import annotations

import base64
import gzip
import json
import logging
import time
import traceback
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest
from chat_server import ChatServer, chat_server
from sounding_video.captions.backends import _http, make_backend
from sounding_video.captions.backends.base import BackendOptions
from sounding_video.core.errors import CaptionError, InputError, SoundingVideoError
from sounding_video.core.secrets import redacted

KEY = "sk-Q7/x+verysecret_1234567890abcd"
ASK = [{"role": "user", "content": "hello"}]
RUN = 6

# How a server may write what it was sent.
ECHOES: dict[str, Callable[[str], str]] = {
    "whole": lambda key: key,
    "in capitals": str.upper,
    "its beginning": lambda key: key[:10],
    "its end": lambda key: key[-12:],
    "its middle": lambda key: key[9:17],
    "just a run": lambda key: key[4 : 4 + RUN],
    "two pieces": lambda key: f"{key[:15]} {key[15:]}",
    "twice": lambda key: key + key,
    "with its scheme": lambda key: f"Authorization: Bearer {key}",
    "as JSON": lambda key: "".join(f"\\u{ord(char):04x}" for char in key),
    "half as JSON": lambda key: "".join(f"\\u{ord(c):04X}" if i % 3 else c for i, c in enumerate(key)),
    "slashes as JSON": lambda key: key.replace("/", "\\u002f"),
    "for a program": lambda key: "".join(f"\\x{ord(char):02x}" for char in key),
    "for a URL": lambda key: quote(key, safe=""),
    "every letter for a URL": lambda key: "".join(f"%{ord(char):02X}" for char in key),
    "twice for a URL": lambda key: quote("".join(f"%{ord(char):02x}" for char in key)),
    "for HTML": lambda key: "".join(f"&#{ord(char)};" for char in key),
    "for HTML in hex": lambda key: "".join(f"&#x{ord(char):x};" for char in key),
    "base64": lambda key: base64.b64encode(key.encode()).decode(),
    "base64 of the header": lambda key: base64.b64encode(f"Bearer {key}".encode()).decode(),
    "base64 of a pair": lambda key: base64.urlsafe_b64encode(f"u:{key}".encode()).decode(),
    "hexadecimal": lambda key: key.encode().hex(),
    "hexadecimal in capitals": lambda key: key.encode().hex().upper(),
}


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOUNDING_VIDEO_LLM_KEY", KEY)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server() as running:
        yield running


def backend(server: ChatServer, model: str | None = "x") -> object:
    made = make_backend("openai_server", BackendOptions(server=server.url, model=model, timeout_seconds=20))
    made.backoff_seconds = 0.001
    return made


def holds_the_key(text: str) -> bool:
    """Whether a run of the key's characters is there, as it is or as anybody can undo it."""
    lower = text.lower()
    runs = [KEY[start : start + RUN].lower() for start in range(len(KEY) - RUN + 1)]
    encoded = [run.encode().hex() for run in runs]
    encoded += ["".join(f"\\u{ord(char):04x}" for char in run) for run in runs]
    encoded += ["".join(f"%{ord(char):02x}" for char in run) for run in runs]
    encoded += [base64.b64encode(KEY.encode()[i : i + 9]).decode().lower() for i in range(len(KEY) - 9)]
    return any(run in lower for run in (*runs, *encoded))


def placed(echo: str, shift: int) -> str:
    """The echo somewhere in a text, also where we cut texts."""
    return "x" * shift + " " + echo + " and more " * 5


@pytest.mark.parametrize("name", ECHOES)
def test_a_key_that_comes_back_is_shown_nowhere(server, caplog, name) -> None:
    echo = ECHOES[name](KEY)
    steps = [[{"status": 401, "raw": json.dumps({"error": {"message": placed(echo, 3)}})}]]
    steps += [[{"status": 403, "raw": placed(echo, shift)}] for shift in range(255, 300, 7)]
    steps += [
        [{"raw": f"<html>{placed(echo, 5)}</html>"}],
        [{"raw": json.dumps({"oh": placed(echo, 5)})}],
        [{"raw": f'{{"oh": "{placed(echo, 5)}"}}'}],
        [{"status": 500, "raw": placed(echo, 280)}] * 4,
        [{"status": 307, "raw": placed(echo, 280), "headers": {"Location": f"http://127.0.0.1:9/{echo[:60]}"}}],
    ]
    for step in steps:
        server.answers(*step)
        with caplog.at_level(logging.DEBUG), pytest.raises(CaptionError) as caught:
            backend(server).complete(ASK)
        shown = "".join(traceback.format_exception(caught.value)) + caplog.text + repr(vars(caught.value))
        assert server.headers[-1]["Authorization"] == f"Bearer {KEY}"
        assert not holds_the_key(shown), shown


@pytest.mark.parametrize("name", ECHOES)
def test_a_key_in_an_answer_gets_into_no_caption(server, name) -> None:
    server.answers({"content": placed(ECHOES[name](KEY), 280)}, {"content": f"a dog barks {ECHOES[name](KEY)}"})
    for _ in range(2):
        content = backend(server).complete(ASK)
        assert not holds_the_key(content) and "***" in content


@pytest.mark.parametrize("name", ECHOES)
def test_a_key_in_the_name_of_a_model_is_shown_nowhere(server, name) -> None:
    for names in ((ECHOES[name](KEY),), ("a", ECHOES[name](KEY)), ("a" * 290 + KEY, "b"), ("b", placed(KEY, 295))):
        server.models = names
        with pytest.raises(SoundingVideoError) as caught:
            backend(server, model=None).complete(ASK)
        assert not holds_the_key(str(caught.value)), str(caught.value)
        assert not server.requests


def test_the_command_line_shows_no_key_either(server, capsys) -> None:
    from sounding_video.cli import main

    asked = ["expand", "a dog", "--backend", "openai_server", "--no-cache", "--model", "x", "--server"]
    for address, code in ((server.url, 1), (KEY, 2)):
        for arguments in ([], ["--json"]):
            server.answers({"status": 401, "raw": placed(KEY, 285)})
            assert main([*asked, address, *arguments]) == code
            printed = capsys.readouterr()
            assert not holds_the_key(printed.out + printed.err)


def test_other_words_stay() -> None:
    text = "A dog barks at 3 s; 100 % sure, &amp; more: aGVsbG8gd29ybGQ= fedcba9876543210 ***"
    assert redacted(text) == text
    assert redacted(f"<{KEY}>") == "<***>"


def test_a_short_key_is_hidden_whole(monkeypatch) -> None:
    monkeypatch.setenv("SOUNDING_VIDEO_LLM_KEY", "abcd")
    assert redacted("my key is ABCD, yes") == "my key is ***, yes"


@pytest.mark.parametrize(
    "listed",
    [
        *(b"null", b"[]", b"7", b"{}", b'{"data": null}', b'{"data": 5}', b'{"data": [null]}', b'{"data": ["a"]}'),
        *(b'{"data": [{"id": 5}]}', b'{"data": [{"id": null}]}', b'{"data": [{"id": 1}, {"id": 2}]}'),
        *(b'{"data": [{"id": ""}]}', b'{"data": [{"id": ["a"]}, {"id": "b"}]}', b'{"data": {"id": "a"}}'),
        *(b'{"data": [{"name": "a"}]}', b'{"data": [{"id": "a"}, 7]}', b'{"data": "abc"}', b"<html></html>"),
        *(b"[" * 100_000, b'{"data":' * 50_000, b"\xff\xfe\x00", b'{"data": [{"id": "\\ud800"}]}', b" " * 1_000_000),
        *(b"9" * 5_000, b'{"data": [NaN]}', b'{"data": [{"id": "a"}], "data": []}', b"[" + b"{}," * 900_000 + b"{}]"),
    ],
    ids=lambda listed: repr(listed[:30]),
)
def test_lists_of_models_that_are_none(server, listed) -> None:
    server.model_list = listed
    started = time.monotonic()
    with pytest.raises(SoundingVideoError) as caught:
        backend(server, model=None).complete(ASK)
    assert time.monotonic() - started < 10 and len(str(caught.value)) < 1000


def test_two_hundred_thousand_models_are_told_shortly(server) -> None:
    server.models = tuple(f"model-{number}" for number in range(200_000))
    with pytest.raises(InputError, match=r"a server with 200000 models; expected one of model-0, model-1, ") as caught:
        backend(server, model=None).complete(ASK)
    assert len(str(caught.value)) < 600


def test_what_steers_a_terminal_is_not_shown(server) -> None:
    server.answers({"status": 400, "raw": "\x1b]0;owned\x07\x1b[31mred\u202etxt\x00 \x9b"})
    with pytest.raises(CaptionError) as caught:
        backend(server).complete(ASK)
    assert str(caught.value).isprintable() and "owned" in str(caught.value)


def test_packed_answers_are_unpacked_within_bounds(server) -> None:
    good = json.dumps({"choices": [{"message": {"content": "hi"}}]}).encode()
    packed = {"headers": {"Content-Encoding": "gzip"}}
    server.answers({"raw": gzip.compress(good), **packed})
    assert backend(server).complete(ASK) == "hi"
    server.answers({"raw": gzip.compress(bytes(3 * _http.MAX_BYTES)), **packed})
    with pytest.raises(CaptionError, match=r"answer is too long: got more than \d+ bytes when unpacked"):
        backend(server).complete(ASK)
    assert len(server.requests) == 2, "it is not asked for again"
    for raw in (b"no gzip", gzip.compress(good)[:20], b""):
        server.answers(*[{"raw": raw, **packed}] * 4)
        with pytest.raises(CaptionError):
            backend(server).complete(ASK)


def test_an_answer_that_trickles_ends_at_the_timeout(server) -> None:
    server.answers({"trickle": 0.02})
    started = time.monotonic()
    with pytest.raises(CaptionError, match="did not answer in time"):
        backend(server).complete(ASK, timeout_seconds=0.5)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_key_does_not_follow_elsewhere(server, status) -> None:
    told = rf"status {status}: moved .*ask elsewhere, where a key does not follow"
    with chat_server() as other:
        same = other.url.removeprefix("http:")
        for address in (f"{other.url}/chat/completions", same, other.url.replace("127.0.0.1", "localhost")):
            server.answers({"status": status, "raw": "moved", "headers": {"Location": address}})
            with pytest.raises(CaptionError, match=told):
                backend(server).complete(ASK)
        assert not other.headers


@pytest.mark.parametrize(
    "after",
    [
        *("nan", "inf", "-inf", "1e400", "9" * 4000, "1_0", "-5", "Mon, 99 Foo 99999 99:99:99"),
        *("Fri, 31 Dec 9999 23:59:59 -2359", "Sat, 01 Jan 0001 00:00:00 +2359", "\u0662", "1e9"),
    ],
)
def test_odd_times_to_come_back_are_survived(server, after) -> None:
    server.answers(*[{"status": 429, "raw": "busy", "headers": {"Retry-After": after}}] * 4)
    with pytest.raises(CaptionError, match=r"come back later|failed 4 times"):
        backend(server).complete(ASK)
