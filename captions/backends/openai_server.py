"""Any server that speaks the OpenAI chat protocol: vLLM, Ollama, LM Studio, llama.cpp, a cloud.

The key comes from the environment only and goes only to a server that it is meant for. It is in no workflow, log,
error, report or cache key.
"""

from __future__ import annotations

import email.utils
import ipaddress
import json
import logging
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import SplitResult, urlsplit

from ...core.errors import CaptionError, InputError, TextError
from ...core.json_text import parse_json
from ...core.secrets import KEY_VARIABLE, OPENAI_KEY_VARIABLE, redacted
from . import BACKENDS
from ._http import POLL_SECONDS, Response, TooLongError, send
from .base import BackendOptions, Message, never_cancel

LOGGER = logging.getLogger(__name__)
SERVER_VARIABLE = "SOUNDING_VIDEO_LLM_SERVER"
OPENAI_HOST = "api.openai.com"
# How an answer's form is asked for, from strict to free; a server that refuses one is asked with the next.
FORMATS = ("json_schema", "json_object", "none")
# Fields that newer models refuse: what stands in for each, or nothing.
SUBSTITUTES = {"max_tokens": "max_completion_tokens", "temperature": None}
TIMEOUT_SECONDS = 120.0
RETRIED = (429, 500, 502, 503, 504)
MAX_TRIES = 4
BACKOFF_SECONDS = 0.5  # doubled with each try
LONGEST_WAIT_SECONDS = 60.0
_SHOWN, _LOOKED_AT = 300, 20_000  # characters of an answer in a message, and bytes that they may come from
LIST_SECONDS = 30.0  # patience with the list of models where nobody can cancel


@BACKENDS.register("openai_server")
class OpenAIServer:
    """A chat model behind an OpenAI-compatible server.

    Args:
        options: ``server``, ``model``, ``timeout_seconds`` and ``trust_server`` are used.

    Raises:
        InputError: no server is named, or its address cannot be used.
    """

    OPTIONS: ClassVar[frozenset[str]] = frozenset({"server", "model", "timeout_seconds"})
    SUMMARY: ClassVar[str] = "any server with the OpenAI protocol"
    name = "openai_server"

    def __init__(self, options: BackendOptions) -> None:
        self._url = _base_url(options.server or os.environ.get(SERVER_VARIABLE, ""))
        self._model = options.model
        self._key = _key_for(self._url, trusted=options.trust_server)
        self._timeout_seconds = options.timeout_seconds or TIMEOUT_SECONDS
        self._format = 0  # index into FORMATS; only ever rises
        self._refused: frozenset[str] = frozenset()  # of SUBSTITUTES; only ever grows
        self.backoff_seconds = BACKOFF_SECONDS

    @property
    def identity(self) -> str:
        """Server and model; asks the server for its model when none is named."""
        return f"{self.name} {self._url.geturl()} {self._model or self._only_model()}"

    def complete(
        self,
        messages: Sequence[Message],
        *,
        schema: Mapping[str, Any] | None = None,
        max_tokens: int = 1536,
        temperature: float = 0.1,
        check_cancelled: Callable[[], None] = never_cancel,
        timeout_seconds: float | None = None,
    ) -> str:
        """See :class:`~.base.ChatBackend`.

        Raises:
            CaptionError: no connection, no answer in time, or the server refused.
        """
        patience = timeout_seconds or self._timeout_seconds
        waiting = {"check_cancelled": check_cancelled, "timeout_seconds": patience}
        body = {
            "model": self._model or self._only_model(**waiting),
            "messages": [dict(message) for message in messages],
            "max_tokens": max_tokens,
            "temperature": temperature,
        }
        refused = self._refused
        while True:
            asked = {**body, **(_response_format(FORMATS[self._format], schema) if schema else {})}
            response = self._request("POST", "/chat/completions", _substituted(asked, refused), **waiting)
            if response.status in (400, 422):
                fields = _fields_named(response) - refused
                if fields:
                    LOGGER.info("the server refused %s; asking without", ", ".join(sorted(fields)))
                    refused |= fields
                    continue
                if schema and self._format + 1 < len(FORMATS):
                    LOGGER.info("the server refused response_format %s; asking without", FORMATS[self._format])
                    self._format += 1
                    continue
            if response.status == 200:
                self._refused = refused
            return self._content(response)

    def close(self) -> None:
        """Nothing is held between requests."""

    def _only_model(
        self, *, check_cancelled: Callable[[], None] = never_cancel, timeout_seconds: float | None = None
    ) -> str:
        patience = timeout_seconds or min(self._timeout_seconds, LIST_SECONDS)
        response = self._request("GET", "/models", None, check_cancelled=check_cancelled, timeout_seconds=patience)
        try:
            names = [entry["id"] for entry in self._json(response)["data"]]
        except (KeyError, TypeError) as error:
            raise self._failure("the server does not list its models", _excerpt(response)) from error
        if not all(isinstance(name, str) and name.strip() for name in names):
            raise self._failure("the server's list of models has entries without a name", _excerpt(response))
        if len(names) != 1:
            raise InputError(
                "the language model is not named",
                got=f"a server with {len(names)} models",
                expected=f"one of {', '.join(_brief(redacted(name)) for name in names[:20]) or 'its models'}",
                remedy="Name one with --model or in the node's field 'model'.",
            )
        if redacted(names[0]) != names[0]:
            raise self._failure("the server's model has the key for a name", _brief(redacted(names[0])))
        self._model = names[0]
        return self._model

    def _request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        *,
        check_cancelled: Callable[[], None],
        timeout_seconds: float,
    ) -> Response:
        """One request, tried again while the server is busy or drops the connection."""
        url = self._url._replace(path=self._url.path + path)
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Host": self._url.netloc}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        content = None if body is None else json.dumps(body).encode("ascii")
        for number in range(1, MAX_TRIES + 1):
            check_cancelled()
            reason, asked_wait = "", None
            try:
                response = send(
                    url,
                    method,
                    headers=headers,
                    body=content,
                    timeout_seconds=timeout_seconds,
                    check_cancelled=check_cancelled,
                )
            except TooLongError as error:
                raise self._failure("the server's answer is too long", str(error)) from None
            except TimeoutError as error:
                raise self._failure("the language model did not answer in time", str(error)) from None
            except OSError as error:
                reason = f"{type(error).__name__}: {error}"
            else:
                if response.status not in RETRIED:
                    return response
                reason, asked_wait = f"status {response.status}: {_excerpt(response)}", _retry_after(response)
            if number == MAX_TRIES:
                break
            self._wait(number, asked_wait, check_cancelled)
        raise self._failure(f"the language model server failed {MAX_TRIES} times", reason)

    def _wait(self, number: int, asked: float | None, check_cancelled: Callable[[], None]) -> None:
        seconds = self.backoff_seconds * 2 ** (number - 1) if asked is None else asked
        if seconds > LONGEST_WAIT_SECONDS:
            raise self._failure("the language model server asks to come back later", f"in {min(seconds, 1e9):.0f} s")
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            check_cancelled()
            time.sleep(min(POLL_SECONDS, left))

    def _content(self, response: Response) -> str:
        if response.status != 200:
            remedy = ""
            if response.status in (401, 403):
                remedy = (
                    f"Set the key in {KEY_VARIABLE} or {OPENAI_KEY_VARIABLE}, and name the server in {SERVER_VARIABLE} "
                    "or on the command line: the key is sent to no other."
                )
            if 300 <= response.status < 400:
                remedy = "Its answer is to ask elsewhere, where a key does not follow: name that address with --server."
            raise self._failure(
                "the language model server refused", f"status {response.status}: {_excerpt(response)}", remedy=remedy
            )
        try:
            content = self._json(response)["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError) as error:
            raise self._failure("the server's answer is not a chat completion", _excerpt(response)) from error
        return redacted(content) if isinstance(content, str) else ""

    def _json(self, response: Response) -> Any:
        try:
            return parse_json(response.body)
        except TextError as error:
            raise self._failure("the server's answer is not JSON", f"{_excerpt(response)} ({error.got})") from None

    def _failure(self, what: str, got: str, *, remedy: str = "") -> CaptionError:
        """An error that cannot hold the key, even where the server sent it back."""
        return CaptionError(what, got=redacted(f"{got} from {self._url.geturl()}"), remedy=remedy)


def _base_url(text: str) -> SplitResult:
    """A checked base URL without a trailing slash; text with a password in it is not repeated in the error."""
    if not text.strip():
        raise InputError(
            "no language model server is named",
            expected="its base URL, for example http://127.0.0.1:11434/v1",
            remedy=f"Give --server, fill the node's field 'server', or set {SERVER_VARIABLE}.",
        )
    try:
        url = urlsplit(text.strip().rstrip("/"))
        usable = url.scheme in ("http", "https") and bool(url.hostname) and (url.port or 1) > 0
    except ValueError:
        usable = False
    if usable and (url.username or url.password or url.query or url.fragment):
        raise InputError(
            "the server's address holds more than an address",
            expected="scheme, host, port and path only",
            remedy=f"A key belongs into the environment variable {KEY_VARIABLE}.",
        )
    if not usable:
        raise InputError(
            "the server's address cannot be used",
            got=repr(redacted(text)[:200]),
            expected="for example http://127.0.0.1:11434/v1",
        )
    return url


def _key_for(url: SplitResult, *, trusted: bool) -> str:
    """The key that is meant for this server, else nothing.

    A workflow file may name any server. So a key goes to the server named in the environment, to one that the user
    typed, OpenAI's own key to OpenAI, and ours to this machine.
    """
    ours, openai = _key(KEY_VARIABLE), _key(OPENAI_KEY_VARIABLE)
    named = os.environ.get(SERVER_VARIABLE, "").strip()
    if trusted or (named and _origin(_base_url(named)) == _origin(url)):
        return ours or openai
    if url.scheme == "https" and url.hostname == OPENAI_HOST:
        return openai
    return ours if _is_loopback(url.hostname) else ""


def _key(variable: str) -> str:
    """A key from the environment; one that no header can carry is refused without being shown."""
    key = os.environ.get(variable, "").strip()
    if not all("!" <= char <= "~" for char in key):
        raise InputError(
            f"the key in {variable} cannot be sent", got="spaces or special characters in it", expected="a plain key"
        )
    return key


def _origin(url: SplitResult) -> tuple[str, str | None, int]:
    return url.scheme, url.hostname, url.port or (443 if url.scheme == "https" else 80)


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _substituted(body: Mapping[str, Any], refused: frozenset[str]) -> dict[str, Any]:
    """The request without the fields that the server refused, or with what stands in for them."""
    names = {name: SUBSTITUTES[name] if name in refused else name for name in body}
    return {names[name]: value for name, value in body.items() if names[name]}


def _fields_named(response: Response) -> frozenset[str]:
    """Which of :data:`SUBSTITUTES` a refusal is about."""
    try:
        said = _said(parse_json(response.body))
    except TextError:
        said = response.body.decode("utf-8", errors="replace")
    return frozenset(name for name in SUBSTITUTES if re.search(rf"\b{name}\b", said))


def _said(value: Any) -> str:
    """The words of an error wherever servers put them, without what some repeat of the request."""
    if isinstance(value, list):
        return " ".join(map(_said, value))
    if isinstance(value, dict):
        places = ("error", "param", "message", "detail", "loc", "msg", "metadata", "raw")
        return " ".join(_said(value[place]) for place in places if place in value)
    return str(value)


def _response_format(form: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    if form == "none":
        return {}
    if form == "json_object":
        return {"response_format": {"type": "json_object"}}
    wrapped = {"name": "answer", "strict": True, "schema": _without_text_lengths(schema)}
    return {"response_format": {"type": "json_schema", "json_schema": wrapped}}


def _without_text_lengths(schema: Any) -> Any:
    """The schema without limits on texts, which OpenAI's strict mode does not have; they are checked afterwards."""
    if isinstance(schema, Mapping):
        dropped = ("minLength", "maxLength")
        return {name: _without_text_lengths(value) for name, value in schema.items() if name not in dropped}
    return [_without_text_lengths(value) for value in schema] if isinstance(schema, list) else schema


def _retry_after(response: Response) -> float | None:
    """Seconds that the server asks to wait: a number or a date (RFC 9110, 10.2.3); None when it says nothing."""
    text = response.headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?", text):
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _excerpt(response: Response) -> str:
    """The beginning of an answer; keys go first, since half of one would not be found any more."""
    return _brief(redacted(response.body[:_LOOKED_AT].decode("utf-8", errors="replace"))) or "an empty answer"


def _brief(text: str) -> str:
    """The beginning of a server's words on one line, without what steers a terminal."""
    words = " ".join(text[: 4 * _SHOWN].split())
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in words)[:_SHOWN]
