"""The local path on a real, tiny, random causal model: whatever it says keeps the schema."""

from __future__ import annotations

import json
import shutil
import time

import pytest
import torch
from sounding_video.captions.anchors import anchors_schema
from sounding_video.captions.backends import make_backend
from sounding_video.captions.backends.base import BackendOptions, ChatBackend
from sounding_video.captions.backends.transformers_local import DEFAULT_MODEL, LARGE_MODEL
from sounding_video.core.errors import Cancelled, CaptionError, InputError, MissingModelError, PlacementError

pytest.importorskip("xgrammar")
ASK = [{"role": "system", "content": "You describe."}, {"role": "user", "content": "a dog"}]
SMALL = {
    "type": "object",
    "properties": {
        "video": {"type": "string", "minLength": 1, "maxLength": 12},
        "order": {"type": "integer", "minimum": 1, "maximum": 24},
        "sound": {"anyOf": [{"type": "string", "maxLength": 6}, {"type": "null"}]},
    },
    "required": ["video", "order", "sound"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def backend(tiny_language_model):
    made = make_backend("transformers_local", BackendOptions(model=str(tiny_language_model), device="cpu"))
    yield made
    made.close()


def shrink(schema: dict) -> dict:
    """The same schema with short texts and lists, so that random tokens come to an end soon."""
    if isinstance(schema, dict):
        small = {"maxLength": 4, "maxItems": 1}
        return {name: small.get(name) or shrink(value) for name, value in schema.items() if name != "description"}
    return [shrink(value) for value in schema] if isinstance(schema, list) else schema


def test_a_hundred_random_answers_of_a_hundred_parse(backend):
    for seed in range(100):
        torch.manual_seed(seed)
        value = json.loads(backend.complete(ASK, schema=SMALL, max_tokens=200, temperature=1.0))
        assert list(value) == ["video", "order", "sound"]
        assert value["video"] and 1 <= value["order"] <= 24


def _check_anchors(backend, seed: int, schema: dict) -> None:
    torch.manual_seed(seed)
    value = json.loads(backend.complete(ASK, schema=schema, max_tokens=6000, temperature=1.0))
    assert list(value) == list(schema["properties"])
    assert all(set(entity) == {"name", "attributes", "visual"} for entity in value["entities"])


def test_the_anchors_schema_is_kept(backend):
    for seed in range(4):
        _check_anchors(backend, seed, shrink(anchors_schema()))


@pytest.mark.slow
def test_the_whole_anchors_schema_is_kept_a_hundred_times(backend):
    for seed in range(100):
        _check_anchors(backend, seed, anchors_schema())


def test_without_a_schema_it_just_writes_and_greedy_is_repeatable(backend):
    assert isinstance(backend, ChatBackend)
    first = backend.complete(ASK, max_tokens=8, temperature=0)
    assert first == backend.complete(ASK, max_tokens=8, temperature=0)
    assert "dog" not in first, "the question is not part of the answer"


def test_a_cancel_stops_the_writing(backend, stop_after):
    started = time.monotonic()
    with pytest.raises(Cancelled):
        backend.complete(
            ASK, schema=anchors_schema(), max_tokens=4000, temperature=1.0, check_cancelled=stop_after(0.1)
        )
    assert time.monotonic() - started < 2


def test_the_end_of_patience_is_a_sentence(backend):
    with pytest.raises(CaptionError, match=r"did not finish in time: got more than 0\.05 s"):
        backend.complete(ASK, schema=anchors_schema(), max_tokens=4000, temperature=1.0, timeout_seconds=0.05)


def test_the_users_patience_is_the_one_that_counts(tiny_language_model):
    options = BackendOptions(model=str(tiny_language_model), device="cpu", timeout_seconds=0.05)
    made = make_backend("transformers_local", options)
    with pytest.raises(CaptionError, match=r"did not finish in time: got more than 0\.05 s"):
        made.complete(ASK, schema=anchors_schema(), max_tokens=4000, temperature=1.0)
    made.close()


def test_each_process_loads_onto_its_own_card(tiny_language_model, monkeypatch):
    from sounding_video.captions.backends import transformers_local

    asked = []
    monkeypatch.setattr(transformers_local, "resolve_device", lambda name: asked.append(name) or torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setenv("LOCAL_RANK", "1")
    made = make_backend("transformers_local", BackendOptions(model=str(tiny_language_model), dtype="float32"))
    made.complete(ASK, max_tokens=1)
    made.close()
    assert asked == ["cuda:1"]


def test_torchao_loads_whole_numbers(tiny_language_model):
    pytest.importorskip("torchao")
    made = make_backend(
        "transformers_local",
        BackendOptions(model=str(tiny_language_model), device="cpu", quantization="torchao-int8"),
    )
    value = json.loads(made.complete(ASK, schema=SMALL, max_tokens=200, temperature=1.0))
    assert list(value) == ["video", "order", "sound"]
    weight = made._model.model.layers[0].mlp.up_proj.weight
    assert type(weight) is not torch.nn.Parameter or weight.dtype is torch.int8, "the weights are as they were"
    made.close()


def test_closing_frees_the_model_and_it_loads_again(tiny_language_model):
    import gc
    import weakref

    made = make_backend("transformers_local", BackendOptions(model=str(tiny_language_model), device="cpu"))
    made.complete(ASK, max_tokens=2)
    model = weakref.ref(made._model)
    made.close()
    gc.collect()
    assert model() is None
    assert isinstance(made.complete(ASK, max_tokens=2), str)


def test_a_model_that_is_not_there(tmp_path):
    made = make_backend("transformers_local", BackendOptions(model=str(tmp_path / "absent"), device="cpu"))
    with pytest.raises(MissingModelError, match=r"cannot be loaded: got .*absent") as caught:
        made.complete(ASK)
    assert "with --allow-download or the node's input 'allow_download'" in str(caught.value)


def test_code_that_comes_with_a_model_is_never_run(tiny_language_model, tmp_path, monkeypatch):
    """Nor is anybody asked whether to."""
    folder, canary = shutil.copytree(tiny_language_model, tmp_path / "model"), tmp_path / "ran"
    code = {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "evil", "auto_map": code}))
    (folder / "evil.py").write_text(f"import pathlib\npathlib.Path({str(canary)!r}).touch()\n")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asked"))
    with pytest.raises(MissingModelError, match="cannot be loaded"):
        made = make_backend("transformers_local", BackendOptions(model=str(folder), device="cpu"))
        made.complete(ASK, schema=SMALL, max_tokens=5)
    assert not canary.exists()


def test_nothing_is_downloaded_unless_asked(monkeypatch):
    """The hub id of the default model, and no connection is tried."""
    import socket

    def refuse(*arguments: object) -> None:
        raise AssertionError(f"a connection was tried: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    made = make_backend("transformers_local", BackendOptions(device="cpu"))
    assert DEFAULT_MODEL in made.identity and LARGE_MODEL.endswith("72B-Instruct")
    with pytest.raises(MissingModelError, match=r"Qwen2\.5-7B-Instruct"):
        made.complete(ASK)


def test_options_are_checked():
    with pytest.raises(InputError, match="unknown quantization: got 'int3'; expected one of none, bitsandbytes-8bit"):
        make_backend("transformers_local", BackendOptions(quantization="int3"))
    made = make_backend("transformers_local", BackendOptions(quantization="bitsandbytes-4bit", device="cpu"))
    with pytest.raises(PlacementError, match="bitsandbytes cannot load here: got cpu"):
        made.complete(ASK)


def test_a_model_without_a_chat_template_is_refused(tiny_language_model, tmp_path):
    import shutil

    folder = shutil.copytree(tiny_language_model, tmp_path / "plain")
    (folder / "chat_template.jinja").unlink()
    made = make_backend("transformers_local", BackendOptions(model=str(folder), device="cpu"))
    with pytest.raises(InputError, match="has no chat template"):
        made.complete(ASK)
