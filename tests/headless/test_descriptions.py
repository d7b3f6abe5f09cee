"""Asking servers for their nodes: which server answers, and what happens where none does or it is another program."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from aiohttp import web
from sounding_video.core.errors import ServerError
from sounding_video.headless.client import ServerGoneError
from sounding_video.headless.descriptions import ServerDescriptions

_spec = importlib.util.spec_from_file_location("servers", Path(__file__).with_name("servers.py"))
servers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(servers)

NOBODY = "http://127.0.0.1:1"


def comfyui(answer) -> tuple[web.Application, list[str]]:
    """A server of which ``answer`` says what it replies for a node's name, and the names that it was asked for."""
    asked = []

    async def info(request: web.Request) -> web.Response:
        asked.append(request.raw_path)
        return answer(request.match_info["name"])

    application = web.Application()
    application.router.add_get("/object_info/{name:.*}", info)
    return application, asked


def test_the_first_server_that_answers_is_asked_once_a_node():
    application, asked = comfyui(
        lambda name: web.json_response({} if name == "Gone" else {name: {"name": name, "input": {}}})
    )
    with servers.running(application) as url:
        describe = ServerDescriptions([NOBODY, url + "/"])
        names = ["KSampler", "Reroute (rgthree)", "a/b%2F c?d", "Größe", "Gone"]
        assert describe(names) == {name: {"name": name, "input": {}} for name in names[:-1]}
        assert describe(["KSampler", "Gone"]) == {"KSampler": {"name": "KSampler", "input": {}}}
    assert len(asked) == len(names)
    assert "/object_info/a%2Fb%252F%20c%3Fd" in asked  # one name, not a path and a query


def test_no_server_is_a_sentence_every_time():
    describe = ServerDescriptions([NOBODY])
    for _ in range(2):
        with pytest.raises(ServerGoneError, match="no ComfyUI server answers"):
            describe(["KSampler"])


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda _: web.Response(status=404), "404"),
        (lambda _: web.Response(status=500, text="{}"), "500"),
        (lambda _: web.Response(text="<html>a router</html>", content_type="text/html"), "Expecting value"),
        (lambda _: web.json_response([1]), "list"),
        (lambda _: web.Response(body=b"\xff\xfe\x00", content_type="application/json"), "object_info/KSampler"),
    ],
)
def test_another_program_behind_the_address(answer, told):
    application, _ = comfyui(answer)
    with (
        servers.running(application) as url,
        pytest.raises(ServerError, match="does not answer like ComfyUI") as caught,
    ):
        ServerDescriptions([url])(["KSampler"])
    assert told in str(caught.value) and not isinstance(caught.value, ServerGoneError)
