"""A real misbehaving server, a real tiny language model, and anchors to write from."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from sounding_video.captions.anchors import Entity, Event, SemanticAnchors, Sound

KEYS = ("OPENAI_API_KEY", "SOUNDING_VIDEO_LLM_KEY", "SOUNDING_VIDEO_LLM_SERVER")


@pytest.fixture(autouse=True)
def _no_keys_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def anchors() -> SemanticAnchors:
    return SemanticAnchors(
        entities=(
            Entity("dog", ("brown", "wet fur"), "a brown dog with wet fur"),
            Entity("gate", ("iron",), "a tall iron gate"),
        ),
        environment="a paved yard under a grey sky",
        events=(
            Event("e1", 1, 0.0, 0.4, "dog", "runs up to the gate", Sound("claws tapping on stone", "claws on paving")),
            Event("e2", 2, 0.4, 1.0, "dog", "throws its head up and opens its mouth", Sound("two hoarse barks", "dog")),
        ),
        ambient_sound="light wind",
        camera="low tracking shot",
        style="photorealistic",
        mood="alert",
    )


SHORT_VIDEO = (
    "In a paved yard under a grey sky a brown dog with wet fur runs up to a tall iron gate, throws its head up and "
    "opens its mouth wide, in a low tracking shot, photorealistic, the mood alert."
)
SHORT_AUDIO = "Claws tap on stone, then two hoarse barks of a dog over light wind."


@pytest.fixture
def good_captions() -> dict[str, str]:
    """Pure captions for ``anchors`` in the lengths of the profile ``short``."""
    return {"video": SHORT_VIDEO, "audio": SHORT_AUDIO}


@dataclass
class ChatServer:
    """What the server should do, one step a request, and what it was asked."""

    url: str = ""
    script: list[Any] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    models: tuple[str, ...] = ("tiny",)
    closing: threading.Event = field(default_factory=threading.Event)

    def answers(self, *steps: Any) -> None:
        """Text: answered as the model's content. A dict: see ``_Handler._behave``."""
        self.script = list(steps)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        """Keep the test output clean."""

    def do_GET(self) -> None:
        self.state.headers.append(dict(self.headers))
        self._reply(200, {"data": [{"id": name} for name in self.state.models]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.state.requests.append(body)
        self.state.headers.append(dict(self.headers))
        step = self.state.script.pop(0)
        step = step(body) if callable(step) else step
        if isinstance(step, str):
            step = {"content": step}
        self._behave(step)

    @property
    def state(self) -> ChatServer:
        return self.server.state

    def _behave(self, step: dict[str, Any]) -> None:
        self.state.closing.wait(step.get("slow", 0))
        if step.get("hang"):
            self.state.closing.wait(30)
            return
        if step.get("close"):
            # A reset and not a polite end.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
            return
        if "raw" in step:
            self._send(step.get("status", 200), step["raw"].encode(), {})
            return
        status = step.get("status", 200)
        good = {"choices": [{"message": {"role": "assistant", "content": step.get("content")}}]}
        self._reply(
            status, good if status == 200 else {"error": {"message": step.get("error", "no")}}, step.get("headers")
        )

    def _reply(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(value).encode(), headers or {})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    http.daemon_threads = True
    http.handle_error = lambda *arguments: None  # the client hangs up on purpose
    http.state = ChatServer(f"http://127.0.0.1:{http.server_address[1]}/v1")
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield http.state
    http.state.closing.set()
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture
def stop_after() -> Callable[[float], Callable[[], None]]:
    """A cancel check that begins to raise after some seconds."""
    from sounding_video.core.errors import Cancelled

    def make(seconds: float) -> Callable[[], None]:
        started = time.monotonic()

        def check() -> None:
            if time.monotonic() - started > seconds:
                raise Cancelled

        return check

    return make


TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="session")
def tiny_language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers with random weights and a small trained tokenizer, as a folder on disk."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-llm")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([json.dumps({"name": "a dog", "heard": "a bark", "visual": "x"})] * 4, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", chat_template=TEMPLATE
    ).save_pretrained(folder)
    size = tokenizer.get_vocab_size()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=size,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=8192,
            bos_token_id=None,
            eos_token_id=1,
            pad_token_id=0,
        )
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_qwens(tiny_language_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of a tiny random Qwen2.5-VL and a tiny random Qwen2-Audio, with real processors."""
    import transformers as tf

    folder = tmp_path_factory.mktemp("qwens")
    names = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>", "<|AUDIO|>", "<|audio_bos|>"]
    tokenizer = tf.AutoTokenizer.from_pretrained(tiny_language_model)
    tokenizer.add_special_tokens({"additional_special_tokens": [*names, "<|audio_eos|>"]})
    ids = dict(zip(names, tokenizer.convert_tokens_to_ids(names), strict=True))
    template = (
        "{% for m in messages %}<|{{ m['role'] }}|>{% if m['content'] is string %}{{ m['content'] }}{% else %}"
        "{% for p in m['content'] %}{% if p['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
        "{% elif p['type'] == 'audio' %}<|audio_bos|><|AUDIO|><|audio_eos|>{% else %}{{ p['text'] }}{% endif %}"
        "{% endfor %}{% endif %}\n{% endfor %}<|assistant|>"
    )
    text = {"vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 4096}
    text |= {"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        looks = tf.Qwen2_5_VLForConditionalGeneration(
            tf.Qwen2_5_VLConfig(
                text_config={
                    **text,
                    "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4},
                },
                vision_config={
                    "depth": 1,
                    "hidden_size": 16,
                    "intermediate_size": 16,
                    "num_heads": 2,
                    "out_hidden_size": 16,
                    "fullatt_block_indexes": [0],
                },
                image_token_id=ids["<|image_pad|>"],
                video_token_id=ids["<|video_pad|>"],
                vision_start_token_id=ids["<|vision_start|>"],
                vision_end_token_id=ids["<|vision_end|>"],
            )
        )
        listens = tf.Qwen2AudioForConditionalGeneration(
            tf.Qwen2AudioConfig(
                text_config=tf.Qwen2Config(**text),
                audio_config={
                    "model_type": "qwen2_audio_encoder",
                    "d_model": 16,
                    "encoder_layers": 1,
                    "encoder_attention_heads": 2,
                    "encoder_ffn_dim": 16,
                    "num_mel_bins": 16,
                },
                audio_token_index=ids["<|AUDIO|>"],
            )
        )
    looks.save_pretrained(folder / "vl")
    tf.Qwen2_5_VLProcessor(
        tf.Qwen2VLImageProcessor(), tokenizer, tf.Qwen2VLVideoProcessor(), chat_template=template
    ).save_pretrained(folder / "vl")
    listens.save_pretrained(folder / "audio")
    tf.Qwen2AudioProcessor(
        tf.WhisperFeatureExtractor(feature_size=16), tokenizer, chat_template=template
    ).save_pretrained(folder / "audio")
    return folder / "vl", folder / "audio"
