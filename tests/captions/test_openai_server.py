"""The server backend against a real HTTP server that misbehaves on command."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
import traceback

import pytest
from sounding_video.captions.anchors import anchors_schema
from sounding_video.captions.backends import BACKENDS, _http, make_backend
from sounding_video.captions.backends.base import BackendOptions, ChatBackend
from sounding_video.core.errors import Cancelled, CaptionError, InputError

ASK = [{"role": "user", "content": "hello"}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 5}}, "required": ["a"]}


@pytest.fixture
def backend(server):
    made = make_backend("openai_server", BackendOptions(server=server.url, model="tiny"))
    made.backoff_seconds = 0.02
    return made


def test_a_plain_answer(server, backend):
    server.answers("hi")
    assert isinstance(backend, ChatBackend)
    assert backend.complete(ASK, max_tokens=7, temperature=0.5) == "hi"
    assert server.requests == [{"model": "tiny", "messages": ASK, "max_tokens": 7, "temperature": 0.5}]
    assert "Authorization" not in server.headers[0]


def test_the_schema_is_asked_for_and_given_up_step_by_step(server, backend):
    refusal = {"status": 400, "error": "response_format is not supported"}
    server.answers(refusal, refusal, "free text", "more text")
    assert backend.complete(ASK, schema=SCHEMA) == "free text"
    forms = [request.get("response_format") for request in server.requests]
    assert [form and form["type"] for form in forms] == ["json_schema", "json_object", None]
    asked = forms[0]["json_schema"]
    assert asked["strict"] is True
    assert asked["schema"]["properties"] == {"a": {"type": "string"}}, "OpenAI's strict mode has no maxLength"
    backend.complete(ASK, schema=SCHEMA)
    assert "response_format" not in server.requests[-1], "what the server cannot do is remembered"


NO_MAX_TOKENS = (
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
)
NO_TEMPERATURE = "Unsupported value: 'temperature' does not support 0.1 with this model. Only the default (1) is."


def test_fields_that_newer_models_refuse_are_renamed_or_left_out(server, backend):
    """And the answer's form stays as strict as it was."""
    server.refused = {"max_tokens": NO_MAX_TOKENS, "temperature": NO_TEMPERATURE}
    server.answers("first", "second")
    assert backend.complete(ASK, schema=SCHEMA, max_tokens=7) == "first"
    last = server.requests[-1]
    assert len(server.requests) == 3
    assert last["max_completion_tokens"] == 7 and not {"max_tokens", "temperature"} & set(last)
    assert {request["response_format"]["type"] for request in server.requests} == {"json_schema"}
    assert backend.complete(ASK) == "second"
    assert len(server.requests) == 4, "what the server refuses is remembered"


def test_a_refused_field_may_be_named_apart_from_the_sentence(server, backend):
    apart = {"error": {"message": "Unsupported value.", "param": "temperature", "code": "unsupported_value"}}
    server.answers({"status": 400, "raw": json.dumps(apart)}, "hi")
    assert backend.complete(ASK) == "hi"
    assert "temperature" not in server.requests[-1] and "max_tokens" in server.requests[-1]


def test_a_refusal_that_repeats_the_request_names_no_field(server, backend):
    """As FastAPI does: the fault is where ``loc`` says, and ``input`` is all that was sent."""
    echo = {"loc": ["body", "response_format"], "msg": "not known", "input": {"max_tokens": 7, "temperature": 0.1}}
    server.answers({"status": 422, "raw": json.dumps({"detail": [echo]})}, "hi")
    assert backend.complete(ASK, schema=SCHEMA) == "hi"
    assert {"max_tokens", "temperature"} <= set(server.requests[-1])
    assert server.requests[-1]["response_format"]["type"] == "json_object"


def test_a_field_that_is_refused_for_good_ends_in_a_sentence(server, backend):
    server.answers(*[{"status": 400, "error": "max_tokens is too large for this model's context"}] * 2)
    with pytest.raises(CaptionError, match=r"refused: got status 400: .*too large"):
        backend.complete(ASK)
    assert len(server.requests) == 2


def test_a_refusal_for_another_reason_is_told(server, backend):
    server.answers(*[{"status": 400, "error": "no such model 'tiny'"}] * 3)
    with pytest.raises(CaptionError, match=r"refused: got status 400: .*no such model 'tiny'"):
        backend.complete(ASK, schema=SCHEMA)


def test_a_busy_server_is_asked_again(server, backend):
    server.answers({"status": 500}, {"status": 503}, {"close": True}, "at last")
    assert backend.complete(ASK) == "at last"
    assert len(server.requests) == 4


def test_retry_after_is_kept(server, backend):
    server.answers({"status": 429, "headers": {"Retry-After": "0.6"}}, "ok")
    started = time.monotonic()
    assert backend.complete(ASK) == "ok"
    assert 0.6 <= time.monotonic() - started < 3


def test_a_far_retry_after_is_not_waited_for(server, backend):
    server.answers({"status": 429, "headers": {"Retry-After": "Fri, 31 Dec 2100 23:59:59 GMT"}})
    with pytest.raises(CaptionError, match=r"asks to come back later: got in [0-9]+ s"):
        backend.complete(ASK)


def test_a_server_that_always_fails_ends_in_a_sentence(server, backend):
    server.answers(*[{"status": 500, "error": "out of memory"}] * 4)
    with pytest.raises(CaptionError, match=r"failed 4 times: got status 500: .*out of memory"):
        backend.complete(ASK)
    assert len(server.requests) == 4


def test_a_server_that_always_hangs_up_ends_in_a_sentence(server, backend):
    server.answers(*[{"close": True}] * 4)
    with pytest.raises(CaptionError, match=r"failed 4 times: got .*(Reset|Disconnected|reset)"):
        backend.complete(ASK)


def test_nobody_listens(server):
    made = make_backend("openai_server", BackendOptions(server="http://127.0.0.1:9/v1", model="x"))
    made.backoff_seconds = 0.01
    with pytest.raises(CaptionError, match="failed 4 times: got ConnectionRefusedError"):
        made.complete(ASK)


def test_a_slow_answer_within_the_time_is_taken(server, backend):
    server.answers({"slow": 0.4, "content": "slow"})
    assert backend.complete(ASK, timeout_seconds=5) == "slow"


def test_a_hanging_server_ends_at_the_timeout(server, backend):
    server.answers({"hang": True})
    started = time.monotonic()
    with pytest.raises(CaptionError, match=r"did not answer in time: got no answer within 0\.4 s"):
        backend.complete(ASK, timeout_seconds=0.4)
    assert time.monotonic() - started < 1.5
    assert len(server.requests) == 1


def test_the_users_patience_is_the_one_that_counts(server):
    made = make_backend("openai_server", BackendOptions(server=server.url, model="tiny", timeout_seconds=0.3))
    server.answers({"hang": True})
    started = time.monotonic()
    with pytest.raises(CaptionError, match=r"did not answer in time: got no answer within 0\.3 s"):
        made.complete(ASK)
    assert time.monotonic() - started < 1.5


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_patience_that_is_none_is_refused(seconds):
    with pytest.raises(InputError, match=r"the timeout cannot be used: got .*; expected a number from 0.001 to"):
        BackendOptions(timeout_seconds=seconds)


def test_a_cancel_ends_the_wait_at_once(server, backend, stop_after):
    server.answers({"hang": True})
    started = time.monotonic()
    with pytest.raises(Cancelled):
        backend.complete(ASK, check_cancelled=stop_after(0.2))
    assert time.monotonic() - started < 1.0


def test_a_cancel_ends_a_backoff_at_once(server, backend, stop_after):
    server.answers({"status": 429, "headers": {"Retry-After": "30"}})
    started = time.monotonic()
    with pytest.raises(Cancelled):
        backend.complete(ASK, check_cancelled=stop_after(0.2))
    assert time.monotonic() - started < 1.0


@pytest.mark.parametrize(
    ("step", "sentence"),
    [
        ({"raw": "<html>Welcome</html>"}, "is not JSON: got <html>Welcome</html>"),
        ({"raw": '{"choices": [{"mess'}, "is not JSON"),
        ({"raw": '{"object": "list"}'}, "is not a chat completion"),
        ({"raw": "[]"}, "is not a chat completion"),
        ({"raw": "", "status": 404}, "refused: got status 404: an empty answer"),
    ],
)
def test_answers_that_are_none(server, backend, step, sentence):
    server.answers(step)
    with pytest.raises(CaptionError, match=sentence):
        backend.complete(ASK)


def test_a_model_that_refuses_gives_no_text(server, backend):
    server.answers({"content": None})
    assert backend.complete(ASK) == ""


def test_the_only_model_is_found(server):
    made = make_backend("openai_server", BackendOptions(server=server.url + "/"))
    assert made.identity == f"openai_server {server.url} tiny"
    server.answers("hi")
    assert made.complete(ASK) == "hi"
    assert server.requests[0]["model"] == "tiny"


def test_of_several_models_one_must_be_named(server):
    server.models = ("small", "large")
    with pytest.raises(InputError, match=r"is not named: got a server with 2 models; expected one of small, large"):
        make_backend("openai_server", BackendOptions(server=server.url)).complete(ASK)


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("", "no language model server is named; expected its base URL"),
        ("localhost:8000", "cannot be used: got 'localhost:8000'"),
        ("ftp://host/v1", "cannot be used"),
        ("http://host:99999/v1", "cannot be used"),
        ("http://user:hunter2@host/v1", "holds more than an address"),
        ("http://host/v1?key=hunter2", "holds more than an address"),
    ],
)
def test_addresses_that_cannot_be_used(address, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        make_backend("openai_server", BackendOptions(server=address or None))
    assert "hunter2" not in str(caught.value)


SECRET = "sk-verysecret-1234567890"


def test_the_key_goes_to_this_machine_and_to_a_server_that_is_named(server, monkeypatch):
    monkeypatch.setenv("SOUNDING_VIDEO_LLM_KEY", SECRET)
    server.answers("hi")
    make_backend("openai_server", BackendOptions(server=server.url, model="x")).complete(ASK)
    assert server.headers[-1]["Authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize(
    ("server_url", "variables", "trusted", "key"),
    [
        ("http://elsewhere.example/v1", {"SOUNDING_VIDEO_LLM_KEY": "a", "OPENAI_API_KEY": "b"}, False, ""),
        ("http://elsewhere.example/v1", {"SOUNDING_VIDEO_LLM_KEY": "a", "OPENAI_API_KEY": "b"}, True, "a"),
        ("https://elsewhere.example/v1", {"OPENAI_API_KEY": "b"}, True, "b"),
        ("https://api.openai.com/v1", {"OPENAI_API_KEY": "b"}, False, "b"),
        ("http://api.openai.com/v1", {"OPENAI_API_KEY": "b"}, False, ""),
        ("https://api.openai.com.evil.example/v1", {"OPENAI_API_KEY": "b"}, False, ""),
        ("http://127.0.0.1:8000/v1", {"OPENAI_API_KEY": "b"}, False, ""),
        (
            "https://named.example/v1",
            {"SOUNDING_VIDEO_LLM_SERVER": "https://named.example/other", "OPENAI_API_KEY": "b"},
            False,
            "b",
        ),
    ],
)
def test_a_server_from_a_workflow_gets_no_key(monkeypatch, server_url, variables, trusted, key):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    options = BackendOptions(server=server_url, model="x", trust_server=trusted)
    assert make_backend("openai_server", options)._key == key


def test_a_key_that_no_header_can_carry_is_not_shown(monkeypatch, server):
    monkeypatch.setenv("SOUNDING_VIDEO_LLM_KEY", SECRET + "\nX-Injected: 1")
    with pytest.raises(InputError, match="the key in SOUNDING_VIDEO_LLM_KEY cannot be sent") as caught:
        make_backend("openai_server", BackendOptions(server=server.url, model="x"))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "steps",
    [
        [{"status": 401, "error": f"Incorrect API key provided: {SECRET}"}],
        [{"status": 500, "error": f"your headers: Bearer {SECRET}"}] * 4,
        [{"raw": f"not json {SECRET}"}],
        [{"close": True}] * 4,
    ],
)
def test_the_key_never_leaks(server, monkeypatch, caplog, steps):
    """Even where the server sends it back: not in errors, their causes, or the log."""
    monkeypatch.setenv("SOUNDING_VIDEO_LLM_KEY", SECRET)
    made = make_backend("openai_server", BackendOptions(server=server.url, model="x"))
    made.backoff_seconds = 0.01
    server.answers(*steps)
    with caplog.at_level(logging.DEBUG), pytest.raises(CaptionError) as caught:
        made.complete(ASK, schema=SCHEMA)
    assert server.headers[-1]["Authorization"] == f"Bearer {SECRET}"
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text + made.identity + repr(vars(caught.value))
    assert SECRET not in shown


def test_options_of_another_backend_are_refused():
    with pytest.raises(
        InputError,
        match="'openai_server' has no such option: got quantization; expected model, server, timeout_seconds",
    ):
        make_backend("openai_server", BackendOptions(server="http://a/v1", quantization="torchao-int8"))
    assert {"openai_server", "transformers_local"} <= set(BACKENDS.names())


def test_the_answer_format_for_the_anchors_is_strict_everywhere(server, backend):
    server.answers("{}")
    backend.complete(ASK, schema=anchors_schema())
    schema = server.requests[0]["response_format"]["json_schema"]["schema"]
    for part in (schema, *schema["$defs"].values()):
        assert part["additionalProperties"] is False
        assert part["required"] == list(part["properties"])
    assert "maxLength" not in str(schema) and "discarded" not in schema["properties"]


def test_a_redirect_is_not_followed(server, backend):
    """The request carries a key: it goes to the server that it is meant for and to no other."""
    server.answers(
        {"status": 302, "error": "elsewhere", "headers": {"Location": f"{server.url}/chat/completions"}}, "b"
    )
    with pytest.raises(CaptionError, match="status 302"):
        backend.complete(ASK)
    assert len(server.requests) == 1


def test_an_endless_answer_is_an_error(server, backend, monkeypatch):
    monkeypatch.setattr(_http, "MAX_BYTES", 20_000)
    server.answers(*[{"raw": "x" * 30_000}] * 4)
    with pytest.raises(CaptionError, match="answer is too long: got more than 20000 bytes"):
        backend.complete(ASK)


def test_a_caller_may_stand_in_an_event_loop(server, backend):
    """As ComfyUI's nodes do."""
    server.answers("a")

    async def node() -> str:
        return backend.complete(ASK)

    assert asyncio.run(node()) == "a"


def test_a_cancelled_request_leaves_no_thread(server, backend, stop_after):
    server.answers({"slow": 20})
    with pytest.raises(Cancelled):
        backend.complete(ASK, check_cancelled=stop_after(0.2))
    left = [thread for thread in threading.enumerate() if thread.name == _http.THREAD]
    for thread in left:
        thread.join(3)
    assert not [thread for thread in left if thread.is_alive()]
