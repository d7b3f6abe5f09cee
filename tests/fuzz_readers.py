"""Every reader of something that others wrote, with odd input for it. A new reader is one entry here."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fuzz_cases import ODD, Case, odd_json, odd_lines, odd_text, odd_value

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Reader:
    """One reader.

    Args:
        case: Makes a case from a generator.
        read: Reads it; the folder is its own.
    """

    case: Case
    read: Callable[[Any, Path], object]


READERS: dict[str, Reader] = {}


def reader(name: str, case: Case) -> Callable[[Callable[[Any, Path], object]], Callable[[Any, Path], object]]:
    """Register a function of a case and a folder."""

    def register(read: Callable[[Any, Path], object]) -> Callable[[Any, Path], object]:
        READERS[name] = Reader(case, read)
        return read

    return register


def written(content: bytes, folder: Path, name: str) -> Path:
    """The case as a file."""
    path = folder / name
    path.write_bytes(content)
    return path


# Manifests, rows and notes.
TRUTH = {"file": "a.mp4", "scene": "ball", "events": [0.1, 0.5], "num_events": 2}
MANIFEST = {
    **TRUTH, "split": "train", "seed": 3, "frames": 33, "fps": "15", "width": 128, "height": 128, "version": "0.1.0",
    "video_caption": "a ball", "audio_caption": "a thud", "prompt": "a ball", "parameters": {"held_out": [], "x": 1.5},
}  # fmt: skip
CAPTIONED = {**MANIFEST, "video_raw_caption": "a", "audio_raw_caption": "b", "report": {"mode": "full"}}


@reader("manifest of evaluate", odd_lines([TRUTH, MANIFEST]))
def _evaluate(case: bytes, folder: Path) -> None:
    from sounding_video.evaluation.sample import read_manifest

    read_manifest(written(case, folder, "m.jsonl"))


@reader("manifest of train", odd_lines([MANIFEST, {**MANIFEST, "file": "m.jsonl"}]))
def _train(case: bytes, folder: Path) -> None:
    from sounding_video.training.config import DataConfig
    from sounding_video.training.data import find_sources

    find_sources(DataConfig(source=str(written(case, folder, "m.jsonl"))))


@reader("manifest of synth", odd_lines([MANIFEST]))
def _synth(case: bytes, folder: Path) -> None:
    from sounding_video.cli.synth import _is_there, _read_rows

    rows = _read_rows(written(case, folder, "m.jsonl"))
    _is_there(folder, {name: MANIFEST[name] for name in ("file", "scene", "seed")}, rows)


@reader("rows of caption", odd_lines([CAPTIONED, {"file": "a.mp4"}]))
def _rows(case: bytes, folder: Path) -> None:
    from sounding_video.captions.jsonl import append_row, read_rows
    from sounding_video.captions.media_captioner import _given, own_clips

    path = written(case, folder, "rows.jsonl")
    for row in own_clips(read_rows(path)).values():
        _given(row)
    append_row(path, {"file": "b.mp4"})


@reader("loss curve", odd_lines([{"step": 1, "loss": 0.5, "lr": 1e-4, "seconds": 0.1}]))
def _loss(case: bytes, folder: Path) -> None:
    from sounding_video.training.log import cut_log

    cut_log(written(case, folder, "loss.jsonl"), 5)


@reader("note of a checkpoint", odd_json([{"step": 0, "config": {"recipe": "a"}, "data": {"epoch": 0}}]))
def _checkpoint(case: bytes, folder: Path) -> None:
    import torch
    from sounding_video.models.weights.files import write_safetensors
    from sounding_video.training.checkpoint import load_checkpoint

    written(case, folder, "state.json")
    if not (folder / "weights.safetensors").is_file():
        write_safetensors(folder / "weights.safetensors", {"a": torch.zeros(1)}, {})
    load_checkpoint(folder)


@cache
def _config() -> Any:
    from sounding_video.training.recipes import recipe

    return recipe("pocket_bridges", [])


def _odd_config(rng: random.Random) -> Any:
    return odd_value(rng, [_config().as_dict()])


@reader("TrainConfig.from_dict", _odd_config)
def _from_dict(case: Any, folder: Path) -> None:
    from sounding_video.training.config import TrainConfig

    _ = TrainConfig.from_dict(case).hash


SETTINGS = (
    *(
        "optimizer.lr=",
        "data.num_clips=",
        "trainable=",
        "optimizer.betas=",
        "seed=",
        "batch_size=",
        "objective.",
        "data.",
    ),
    *(
        "saving.every=",
        "bridges.settings=",
        "num_steps=",
        "device=",
        "data.fps=",
        "data.width=",
        "=",
        "models",
        "bridges,",
    ),
)


@reader("TrainConfig.override", odd_text(*SETTINGS))
def _override(case: str, folder: Path) -> None:
    _ = _config().override([case]).hash


@reader("curves of a step cache", odd_json([{"video": [[1.0, 2.0], [3.0, 4.0]], "audio": [[0, 1], [1, 2.5]]}]))
def _curves(case: bytes, folder: Path) -> None:
    from sounding_video.captions.cache import CaptionCache
    from sounding_video.sampling.cache._curve import read_curves

    written(case, folder, "k.json")
    read_curves(CaptionCache(folder).load("k"))


@reader("captions in the cache", odd_json([json.loads("""{"video": "a", "audio": "b", "anchors": null, "report": {
    "mode": "full", "profile": "short", "backend": "x", "problems": [], "repaired": [], "notes": [], "unknown": [],
    "remaining": [], "attempts": {"checker": 1}, "cached": false}}""")]))  # fmt: skip
def _cached(case: bytes, folder: Path) -> None:
    from sounding_video.captions.cache import CaptionCache
    from sounding_video.captions.crr import _from_cache

    written(case, folder, "k.json")
    _from_cache(CaptionCache(folder).load("k"))


@cache
def _pocket() -> dict[str, Any]:
    return json.loads((ROOT / "models/pocket/pocket.json").read_text(encoding="utf-8"))


@reader("pocket.json", lambda rng: odd_json([_pocket()])(rng))
def _own(case: bytes, folder: Path) -> None:
    from sounding_video.models.own import own_settings

    written(case, folder, "pocket.json")
    own_settings(folder / "wan")


# Captions.
ANCHORS = {
    "entities": [{"id": "n1", "visual": "a dog", "attributes": ["brown"]}],
    "events": [
        {"id": "e1", "entity": "n1", "action": "barks", "order": 1, "start": 0.1, "end": 0.4,
         "sound": {"heard": "a bark", "source": "n1"}}
    ],
    "ambient_sound": "wind", "setting": "a yard", "camera": "still", "discarded": [],
}  # fmt: skip


@cache
def _anchors() -> list[Any]:
    from sounding_video.captions.backends import open_backend
    from sounding_video.captions.crr import expand

    with open_backend("lexicon") as backend:
        made = [expand(prompt, backend=backend) for prompt in ("a dog barks twice", "rain on a tin roof, then thunder")]
    return [ANCHORS, *(each.anchors.as_json() for each in made)]


@reader("anchors", lambda rng: odd_json(_anchors())(rng))
def _read_anchors(case: bytes, folder: Path) -> None:
    from sounding_video.captions.anchors import from_json, from_values
    from sounding_video.core.json_text import read_json

    from_values(read_json(written(case, folder, "a.json"))).to_json()
    from_json(case.decode("utf-8", "replace")).for_rewriter()


def _odd_answer(rng: random.Random) -> str:
    inside = odd_json([*_anchors(), {"video_caption": "a", "audio_caption": "b"}])(rng).decode("utf-8", "replace")
    around = odd_text("```json\n", "```", "<think>", "</think>", "Here: ", "{")
    return around(rng) + inside + around(rng)


@reader("answers of a language model", _odd_answer)
def _answer(case: str, folder: Path) -> None:
    from sounding_video.captions.checker import _parse
    from sounding_video.captions.dialogue import json_object

    json_object(case)
    _parse(case)


CHAT = {
    "choices": [{"message": {"role": "assistant", "content": "hi"}}],
    "error": {"message": "max_tokens", "loc": ["a"]},
}
MODELS = {"object": "list", "data": [{"id": "a", "object": "model"}]}


@dataclass(frozen=True)
class Said:
    """What a server answers."""

    status: int
    headers: dict[str, str]
    body: bytes


def _odd_response(rng: random.Random) -> Said:
    body = odd_json([CHAT, MODELS])(rng)
    after = rng.choice((odd_text(), lambda rng: str(rng.choice(ODD)), lambda rng: "Fri, 31 Dec 1999 23:59:59 GMT"))(rng)
    return Said(rng.choice((200, 200, 400, 422, 401, 302, 500, 999)), {"retry-after": after}, body)


@reader("answers of a language-model server", _odd_response)
def _server(case: Said, folder: Path) -> None:
    from sounding_video.captions.backends import openai_server
    from sounding_video.captions.backends.base import BackendOptions
    from sounding_video.core.errors import SoundingVideoError

    made = openai_server.OpenAIServer(BackendOptions(server="http://127.0.0.1:9/v1"))
    made._request = lambda *_, **__: case
    openai_server._fields_named(case)
    openai_server._retry_after(case)
    for ask in (made._only_model, lambda: made._content(case)):
        try:
            ask()
        except SoundingVideoError as error:
            assert len(str(error)) < 5000


@reader("address of a language-model server", odd_text("http://", "https://", "a", "/v1", ":80"))
def _address(case: str, folder: Path) -> None:
    from sounding_video.captions.backends.openai_server import _base_url, _origin

    _origin(_base_url(case))


@reader("prompt", odd_text("a dog barks", " then ", "rain", "(", ":1.2)", "[a:b:0.5]", "{a|b}"))
def _prompt(case: str, folder: Path) -> None:
    from sounding_video.core.dialect import caption_notes, escaped, read

    assert read(escaped(case)) is not None
    caption_notes("video caption", case)
    _ = read(case).text


@reader("captions that change with time", odd_text("[0] rain", "[1:05]", " a drum ", "[2.5 s]", "[", "]", "[0]", "\n"))
def _script(case: str, folder: Path) -> None:
    from sounding_video.core.script import parts_of, together, written

    assert parts_of(written(parts_of(case))) == parts_of(case)
    together(case, "rain")


@reader("prompt by rules", odd_text("a dog barks", " then ", "rain", " at 2 s", " twice", "ein Hund", "\n"))
def _rules(case: str, folder: Path) -> None:
    from sounding_video.captions.backends import open_backend
    from sounding_video.captions.crr import expand

    with open_backend("lexicon") as backend:
        expand(case, backend=backend)
