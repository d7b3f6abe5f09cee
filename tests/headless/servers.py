"""Small real HTTP servers in a thread, for what talks to ComfyUI over the network."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from aiohttp import web


@contextmanager
def running(application: web.Application) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(application, shutdown_timeout=0.1)

    async def start():
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()

    loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


class Farm:
    """A ComfyUI that runs any number of prompts, one after the other; a prompt's node 1 says how it goes.

    ``{"text": "a"}`` writes ``a.txt``; ``{"text": "fail"}`` fails; ``{"text": "interrupt"}`` is interrupted there;
    ``{"text": "kill"}`` takes the whole server down. It knows the nodes Foreign and Sink.
    """

    NODES: ClassVar = {
        "Foreign": {
            "input": {"required": {"text": ["STRING", {}], "seed": ["INT", {}], "size": ["INT", {"default": 8}]}}
        },
        "Sink": {"input": {"required": {"text": ["STRING", {"forceInput": True}]}}},
    }

    def __init__(self, seconds: float = 0.02, dies_at: int | None = None) -> None:
        self.dies_at = dies_at  # number of the prompt that takes the server down, whatever it is
        self.seconds, self.seen, self.stopped, self.dead = seconds, [], [], False
        self.bodies, self.asked = [], []
        self._sockets, self._history = {}, {}

    def application(self) -> web.Application:
        application = web.Application(middlewares=[self._mortal])
        application.router.add_get("/ws", self._ws)
        application.router.add_post("/prompt", self._prompt)
        application.router.add_get("/history/{id}", self._tell)
        application.router.add_get("/view", self._view)
        application.router.add_get("/object_info/{name}", self._describe)
        application.router.add_get("/queue", self._queue)
        application.router.add_post("/interrupt", self._stop)
        application.router.add_post("/queue", self._stop)
        return application

    @web.middleware
    async def _mortal(self, request, handler):
        if self.dead:
            request.transport.abort()
        return await handler(request)

    async def _ws(self, request):
        name = request.query["clientId"]
        self._sockets[name] = answer = web.WebSocketResponse()
        await answer.prepare(request)
        async for _ in answer:
            pass
        return answer

    async def _describe(self, request):
        self.asked.append(request.match_info["name"])
        return web.json_response({name: self.NODES[name] for name in self.asked[-1:] if name in self.NODES})

    async def _prompt(self, request):
        body = await request.json()
        self.bodies.append(body)
        self.seen.append(body["prompt"]["1"]["inputs"]["text"])
        run = f"run-{len(self.seen)}"
        asyncio.get_running_loop().create_task(self._play(run, self.seen[-1], body["client_id"]))
        return web.json_response({"prompt_id": run, "number": 1, "node_errors": {}})

    async def _play(self, run, text, client):
        await asyncio.sleep(self.seconds)
        channel = self._sockets[client]
        if text == "kill" or len(self.seen) == self.dies_at:
            self.dead = True
            for each in self._sockets.values():
                await each.close()
            return
        kinds = {
            "fail": ("execution_error", {"node_id": "1", "exception_message": "no", "exception_type": "Bad"}),
            "interrupt": ("execution_interrupted", {"node_id": "1"}),
        }
        if text in kinds:
            kind, data = kinds[text]
            await channel.send_json({"type": kind, "data": {"prompt_id": run, **data}})
        file = {"filename": f"{text}.txt", "subfolder": "", "type": "output"}
        self._history[run] = {"outputs": {"9": {"files": [file]}}, "status": {"messages": []}}
        await channel.send_json({"type": "executing", "data": {"prompt_id": run, "node": None}})

    async def _tell(self, request):
        run = request.match_info["id"]
        return web.json_response({run: self._history[run]} if run in self._history else {})

    async def _view(self, request):
        return web.Response(body=request.query["filename"].encode())

    async def _queue(self, request):
        return web.json_response({"queue_running": [], "queue_pending": []})

    async def _stop(self, request):
        self.stopped.append(await request.json())
        return web.Response()
