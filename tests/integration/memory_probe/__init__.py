"""A custom node pack for the memory tests: says what ComfyUI has loaded and how large its process is."""

import gc

import comfy.model_management as model_management
import psutil
from aiohttp import web
from server import PromptServer

NODE_CLASS_MAPPINGS = {}


@PromptServer.instance.routes.get("/t2sv_probe/memory")
async def memory(request: web.Request) -> web.Response:
    gc.collect()
    loaded = [entry for entry in model_management.current_loaded_models if entry.model is not None]
    return web.json_response(
        {
            "rss": psutil.Process().memory_info().rss,
            "models": {type(entry.model.model).__name__: entry.model_loaded_memory() for entry in loaded},
            "count": len(loaded),
        }
    )
