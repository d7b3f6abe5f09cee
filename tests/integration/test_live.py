"""What a connected client sees while a prompt runs on the real server: bar, words, previews. Needs COMFYUI_PATH."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import struct
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import aiohttp
import pytest
from PIL import Image
from sounding_video.headless.graph import read_workflow

TEXT, IMAGE, IMAGE_WITH_METADATA = 3, 1, 4
SAMPLER = "7"


@dataclass
class Seen:
    """Everything one client got, in order."""

    messages: list[dict] = field(default_factory=list)
    images: list[tuple[dict | None, bytes]] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    order: list[str] = field(default_factory=list)

    def of(self, kind: str) -> list[dict]:
        return [message["data"] for message in self.messages if message["type"] == kind]


def post(url: str, values: object) -> dict:
    body = values.encode() if isinstance(values, str) else json.dumps(values).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


async def follow(
    url: str, graph: dict, *, with_metadata: bool = True, stop_at: Callable[[dict], bool] = lambda event: False
) -> Seen:
    """Run a prompt and keep what comes over the websocket until it ends; interrupt it at an event."""
    seen, client, prompt_id, asked = Seen(), uuid.uuid4().hex, None, False
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{url}/ws?clientId={client}", max_msg_size=0) as socket,
    ):
        if with_metadata:
            await socket.send_json({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
        async with session.post(f"{url}/prompt", json={"prompt": graph, "client_id": client}) as answer:
            prompt_id = (await answer.json())["prompt_id"]
        async for message in socket:
            if message.type is aiohttp.WSMsgType.BINARY:
                _keep_binary(seen, message.data)
                continue
            event = json.loads(message.data)
            seen.messages.append(event)
            seen.order.append(event["type"])
            data = event["data"]
            if stop_at(event) and not asked:
                asked = True
                await (await session.post(f"{url}/interrupt", json={"prompt_id": prompt_id})).release()
            if event["type"] == "executing" and data["node"] is None and data.get("prompt_id") == prompt_id:
                return seen
    raise AssertionError("the server closed the socket")


def _keep_binary(seen: Seen, data: bytes) -> None:
    (kind,) = struct.unpack(">I", data[:4])
    seen.order.append(f"binary {kind}")
    if kind == TEXT:
        (length,) = struct.unpack(">I", data[4:8])
        seen.texts.append((data[8 : 8 + length].decode(), data[8 + length :].decode()))
    elif kind == IMAGE_WITH_METADATA:
        (length,) = struct.unpack(">I", data[4:8])
        seen.images.append((json.loads(data[8 : 8 + length]), data[8 + length :]))
    elif kind == IMAGE:
        seen.images.append((None, data[8:]))


def at_step(node: str, step: int) -> Callable[[dict], bool]:
    """The moment at which a node's bar reaches a step."""

    def reached(event: dict) -> bool:
        data = event["data"]
        return event["type"] == "progress" and data["node"] == node and data["value"] >= step

    return reached


@pytest.fixture
def pocket(root):
    graph = read_workflow(root / "workflows" / "api" / "text_to_sounding_video_pocket.json")
    graph[SAMPLER]["inputs"] |= {"steps": 12, "seed": time.time_ns() % 2**32}  # never cached
    return graph


@pytest.fixture
def small(pocket):
    for node_id, values in {
        "1": {"video_model": "wan"},
        "2": {"audio_model": "stable_audio"},
        "3": {"bridge_file": "bridge.safetensors"},
        "5": {"width": 32, "height": 32, "num_frames": 9},
    }.items():
        pocket[node_id]["inputs"] |= values
    return pocket


@pytest.mark.parametrize("with_metadata", [True, False])
def test_picture_and_sound_appear_while_they_are_sampled(comfyui, pocket, with_metadata):
    seen = asyncio.run(follow(comfyui.url, pocket, with_metadata=with_metadata))
    layouts = seen.of("sounding_video.preview")
    assert len(layouts) == len(seen.images) >= 2
    for layout, (metadata, data) in zip(layouts, seen.images, strict=True):
        # 33 frames are 9 latent frames; 64 pixels are 8 latent ones, shown twelve times as large.
        # 47 tokens of 2048 samples, rounded down, for the 2.2 s of picture.
        assert layout == {
            "node": SAMPLER, "count": 9, "columns": 3, "tile": [96, 96], "strip": 56, "seconds": 47 * 2048 / 44_100,
        }  # fmt: skip
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
            assert (picture.format, picture.size) == ("JPEG", (288, 288 + 56))
        assert (metadata or {"node_id": SAMPLER})["node_id"] == SAMPLER
    assert (seen.images[0][0] is not None) is with_metadata
    assert seen.images[0][1] != seen.images[-1][1]
    # The layout is there before the picture that it describes.
    kind = f"binary {IMAGE_WITH_METADATA if with_metadata else IMAGE}"
    shown = [name for name in seen.order if name in ("sounding_video.preview", kind)]
    assert shown == ["sounding_video.preview", kind] * len(layouts)
    bar = [(data["value"], data["max"]) for data in seen.of("progress") if data["node"] == SAMPLER]
    # Before it, the fit of the preview moves the bar. Newer versions leave out what comes too soon after the last.
    steps = [value for value, end in bar if end == 12]
    assert steps == sorted(set(steps)) and len(steps) >= 2 and steps[-1] == 12, bar
    assert any(node == SAMPLER and text.startswith("sampling") for node, text in seen.texts)


def native_graph(steps: int, *, only: tuple[str, ...] = ("video", "audio"), audio_vae: bool = True) -> dict:
    """The native sampler on small models of ComfyUI's own; its node is the same as of the other graphs."""
    graph = {
        "1": {"class_type": "TinyWan", "inputs": {}},
        "2": {"class_type": "TinyStableAudio", "inputs": {}},
        "3": {"class_type": "TinyBridge", "inputs": {}},
        "5": {
            "class_type": "T2SVEmptyAVLatent",
            "inputs": {"width": 64, "height": 48, "num_frames": 9, "fps": 15.0, "batch_size": 1},
        },
        SAMPLER: {
            "class_type": "T2SVNativeSampler",
            "inputs": {
                "bridge": ["3", 0], "seed": time.time_ns() % 2**32, "steps": steps, "video_guidance_scale": 4.0,
                "audio_guidance_scale": 3.0, "schedule": "lockstep", "flow_sigmas": "diffusers-0.36",
                "flow_shift": 3.0, "text": "official", "seconds": ["5", 3], "preview": True,
            },
        },
    }  # fmt: skip
    wanted = graph[SAMPLER]["inputs"]
    for slot, (name, model) in enumerate((("video", "wan_model"), ("audio", "stable_audio_model"))):
        if name not in only:
            continue
        wanted |= {model: [str(slot + 1), 0], f"{name}_latent": ["5", slot]}
        for part in ("positive", "negative"):
            graph[f"{name} {part}"] = {"class_type": "TinyText", "inputs": {"name": f"{name}_{part}"}}
            wanted[f"{name}_{part}"] = [f"{name} {part}", 0]
        inputs = {"samples": [SAMPLER, slot], "filename_prefix": f"native/{name}"}
        graph[f"{name} kept"] = {"class_type": "SaveLatent", "inputs": inputs}
    if audio_vae:
        wanted["audio_vae"] = ["2", 1]
        graph["sound"] = {"class_type": "VAEDecodeAudio", "inputs": {"samples": [SAMPLER, 1], "vae": ["2", 1]}}
        graph["heard"] = {"class_type": "PreviewAudio", "inputs": {"audio": ["sound", 0]}}
    return graph


def saved_latents(seen: Seen) -> list[str]:
    return [item["filename"] for data in seen.of("executed") for item in data["output"].get("latents", ())]


def test_the_native_sampler_on_the_server(native_comfyui):
    seen = asyncio.run(follow(native_comfyui.url, native_graph(8)))
    assert seen.of("execution_success"), seen.of("execution_error")
    assert len(saved_latents(seen)) == 2
    layouts = seen.of("sounding_video.preview")
    assert len(layouts) == len(seen.images) >= 1
    # 9 frames are 3 latent frames of 6×8 latent pixels, each shown sixteen times as large; 12 tokens of sound.
    assert layouts[0] == {
        "node": SAMPLER, "count": 3, "columns": 2, "tile": [128, 96], "strip": 56, "seconds": 12 * 2048 / 44_100,
    }  # fmt: skip
    for _, data in seen.images:
        with Image.open(io.BytesIO(data)) as picture:
            assert (picture.format, picture.size) == ("JPEG", (256, 192 + 56))

    long = native_graph(1000)
    seen = asyncio.run(
        follow(
            native_comfyui.url, long, stop_at=lambda event: at_step(SAMPLER, 3)(event) and event["data"]["max"] == 1000
        )
    )
    assert [data["node_id"] for data in seen.of("execution_interrupted")] == [SAMPLER]
    assert [data["value"] for data in seen.of("progress") if data["node"] == SAMPLER][-1] < 200
    seen = asyncio.run(follow(native_comfyui.url, native_graph(2)))
    assert seen.of("execution_success"), seen.of("execution_error")


@pytest.mark.parametrize("audio_vae", [False, True])
def test_sound_alone_is_sampled_by_the_native_sampler(native_comfyui, audio_vae):
    """Without its VAE there is nothing to show, and the server must live: an empty picture ends ComfyUI's sender."""
    for _ in range(2):
        graph = native_graph(4, only=("audio",), audio_vae=audio_vae)
        seen = asyncio.run(follow(native_comfyui.url, graph))
        assert seen.of("execution_success"), seen.of("execution_error")
        assert len(saved_latents(seen)) == 1
        layouts = seen.of("sounding_video.preview")
        assert len(layouts) == len(seen.images)
        assert bool(layouts) is audio_vae
        assert all((layout["count"], layout["strip"]) == (0, 56) for layout in layouts)


def test_every_long_node_moves_a_bar(comfyui, small):
    seen = asyncio.run(follow(comfyui.url, small, with_metadata=True))
    bars = {node: [step["value"] for step in seen.of("progress") if step["node"] == node] for node in "6789"}
    # How many of its moves a bar shows is the version's affair; each begins before its end.
    assert all(len(values) > 1 and values[0] < values[-1] for values in bars.values()), bars


def test_without_the_preview_input_nothing_is_sent(comfyui, small):
    small[SAMPLER]["inputs"]["preview"] = False
    seen = asyncio.run(follow(comfyui.url, small, with_metadata=True))
    assert (seen.images, seen.of("sounding_video.preview")) == ([], [])


def test_an_interrupt_ends_within_a_step_and_the_queue_goes_on(comfyui, small):
    small[SAMPLER]["inputs"]["steps"] = 1000
    seen = asyncio.run(follow(comfyui.url, small, stop_at=at_step(SAMPLER, 3)))
    assert seen.of("execution_interrupted")[0]["node_id"] == SAMPLER
    last = [data["value"] for data in seen.of("progress") if data["node"] == SAMPLER][-1]
    assert last < 200  # steps here take milliseconds, the request some more
    small[SAMPLER]["inputs"]["steps"] = 2
    again = asyncio.run(follow(comfyui.url, small, with_metadata=True))
    assert again.of("execution_success")


def assert_stopped_in(url: str, graph: dict, node: str, when: Callable[[dict], bool], small: dict) -> None:
    """The node is interrupted before its bar is full, and the queue takes the next prompt."""
    seen = asyncio.run(follow(url, graph, stop_at=when))
    assert [data["node_id"] for data in seen.of("execution_interrupted")] == [node]
    bars = [(data["value"], data["max"]) for data in seen.of("progress") if data["node"] == node]
    assert not bars or bars[-1][0] < bars[-1][1], bars
    small[SAMPLER]["inputs"]["steps"] = 2
    assert asyncio.run(follow(url, small)).of("execution_success")


def deep_text_encoder(models: Path, target: Path) -> None:
    """The small Wan folder with a text encoder of so many layers that there is time to interrupt it."""
    from transformers import UMT5Config, UMT5EncoderModel

    shutil.copytree(models, target)
    config = UMT5Config.from_pretrained(target / "text_encoder", num_layers=120, d_ff=8192)
    shutil.rmtree(target / "text_encoder")
    UMT5EncoderModel(config).save_pretrained(target / "text_encoder")


def test_encoding_captions_can_be_interrupted(comfyui, small, small_models_dir):
    deep_text_encoder(small_models_dir / "wan", comfyui.models / "deep")
    graph = json.loads(json.dumps(small))
    graph["1"]["inputs"]["video_model"] = "deep"
    assert_stopped_in(comfyui.url, graph, "6", at_step("6", 3), small)


def test_decoding_can_be_interrupted(comfyui, pocket, small):
    graph = json.loads(json.dumps(pocket))
    for node, values in {"1": {"video_model": "pocket"}, "2": {"audio_model": "pocket"}}.items():
        graph[node]["inputs"] |= values
    graph["3"]["inputs"]["bridge_file"] = "pocket"
    graph["5"]["inputs"] |= {"width": 64, "height": 64, "num_frames": 129}
    graph[SAMPLER]["inputs"] |= {"steps": 2, "preview": False}
    assert_stopped_in(comfyui.url, graph, "8", at_step("8", 2), small)


def test_writing_the_file_can_be_interrupted(comfyui, small):
    graph = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 512, "height": 512, "batch_size": 300, "color": 0}},
        "2": {
            "class_type": "T2SVMux",
            "inputs": {
                "images": ["1", 0], "fps": 15.0, "filename_prefix": "sounding_video/stopped", "format": "webm",
                "writer": "pyav",
            },
        },
    }  # fmt: skip
    assert_stopped_in(comfyui.url, graph, "2", at_step("2", 2), small)
    left = [path.name for path in (comfyui.base / "output").rglob("*")]
    assert [name for name in left if name.startswith("stopped") or "part" in name] == []


def test_waiting_for_a_language_model_can_be_interrupted(comfyui, small):
    asked, over = threading.Event(), threading.Event()

    class Mute(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def do_POST(self) -> None:
            asked.set()
            over.wait(60)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Mute) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        graph = {
            "1": {
                "class_type": "T2SVExpandPrompt",
                "inputs": {
                    "prompt": f"a dog barks {time.time_ns()} times", "backend": "openai_server", "profile": "short",
                    "server": f"http://127.0.0.1:{server.server_port}/v1", "model": "mute", "mode": "full",
                },
            },
            "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
        }  # fmt: skip

        def interrupt() -> None:
            asked.wait(60)
            urllib.request.urlopen(urllib.request.Request(f"{comfyui.url}/interrupt", b"{}"), timeout=30).close()

        threading.Thread(target=interrupt, daemon=True).start()
        began = time.monotonic()
        try:
            assert_stopped_in(comfyui.url, graph, "1", lambda event: False, small)
        finally:
            over.set()
            server.shutdown()
        assert asked.is_set()
        assert time.monotonic() - began < 45, "the node waited for the language model"


def test_the_save_node_tells_the_player_what_to_draw(comfyui, small):
    seen = asyncio.run(follow(comfyui.url, small, with_metadata=True))
    shown = next(data["output"] for data in seen.of("executed") if data["node"] == "9")
    assert set(shown) == {"images", "animated", "sounding_video_timeline", "sounding_video_report"}
    assert [text for text in shown["sounding_video_report"] if "level was lowered" not in text] == []
    (drawn,) = shown["sounding_video_timeline"]
    assert (drawn["seconds"], drawn["fps"]) == (0.6, 15.0)
    assert len(drawn["outline"]) == 480
    assert all(low <= high for low, high in drawn["outline"])


def test_the_page_may_ask_whether_anchors_can_be_read(comfyui):
    url = f"{comfyui.url}/sounding_video/anchors"
    assert "the semantic anchors cannot be read: got column 2" in post(url, "{")["problem"]
    assert "entities: Field required" in post(url, "{}")["problem"]
    from sounding_video.captions.backends import open_backend
    from sounding_video.captions.backends.base import BackendOptions
    from sounding_video.captions.crr import expand

    with open_backend("lexicon", BackendOptions()) as backend:
        made = expand("A dog barks on a beach", backend=backend, mode="full", profile="short")
    assert post(url, made.anchors.to_json()) == {"problem": None}
