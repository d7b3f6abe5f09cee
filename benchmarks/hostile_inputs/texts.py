"""Kind 3: text and JSON that is not what it seems, for everything that reads a file of words."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from .case import EITHER, SMALL, Case, Place

POCKET = Path(__file__).parents[2] / "models" / "pocket"
WORKFLOW = Path(__file__).parents[2] / "workflows" / "api" / "text_to_sounding_video_pocket.json"
ROW = {"file": "clip.mp4", "prompt": "rain", "events": [], "scene": "rain"}
PLAIN = json.dumps(ROW)


def _nested(levels: int, opening: str = '{"a":', closing: str = "}") -> bytes:
    return (opening * levels + "1" + closing * levels).encode()


CONTENTS: dict[str, bytes] = {
    "UTF-16 with a mark": PLAIN.encode("utf-16"),
    "UTF-16, little, without a mark": PLAIN.encode("utf-16-le"),
    "UTF-16, big": b"\xfe\xff" + PLAIN.encode("utf-16-be"),
    "UTF-32": PLAIN.encode("utf-32"),
    "UTF-7": b"+ADw-script+AD4-",
    "Latin-1": '{"prompt": "Käse"}'.encode("latin-1"),
    "two marks": b"\xef\xbb\xbf\xef\xbb\xbf" + PLAIN.encode(),
    "only a mark": b"\xef\xbb\xbf",
    "carriage returns alone": PLAIN.encode() + b"\r" + PLAIN.encode(),
    "CRLF": PLAIN.encode() + b"\r\n\r\n",
    "separators of lines": '{"prompt": "a\u2028b"}\u2028{"prompt": "c"}'.encode(),
    "a zero byte inside": b'{"prompt": "a\0b"}',
    "a zero as escape": b'{"prompt": "a\\u0000b", "file": "\\u0000"}',
    "half a pair": b'{"prompt": "\\udc80", "file": "\\ud83d"}',
    "overlong slashes": b'{"file": "..\xc0\xaf..\xc0\xafetc"}',
    "keys twice": b'{"prompt": "a", "file": "x", "prompt": "b"}',
    "NaN": b'{"seed": NaN, "events": [-Infinity]}',
    "a number below all": b'{"seed": -1e-400, "frames": -0, "fps": -0.0}',
    "a number above all": b'{"seed": 1e400}',
    "400 digits": b'{"seed": ' + b"7" * 400 + b"}",
    "an exponent without end": b'{"seed": 1e99999999999999999999}',
    "digits behind the point": b'{"seed": 0.' + b"1" * 100_000 + b"}",
    "101 levels": _nested(101),
    "3000 levels of lists": _nested(3000, "[", "]"),
    "a million openings": b"[" * 1_000_000,
    "a million quotes": b'"' * 1_000_001,
    "a million backslashes": b'{"a": "' + b"\\" * 1_000_000 + b'"}',
    "a line of 40 MB": b'{"prompt": "' + b"a" * 40_000_000 + b'"}',
    "two million values": b"[" + b"0," * 2_000_000 + b"0]",
    "a key of a megabyte": b'{"' + b"k" * 1_000_000 + b'": 1}',
    "a comma at the end": b'{"prompt": "a",}',
    "comments": b'{/* a */ "prompt": "a" // b\n}',
    "single quotes": b"{'prompt': 'a'}",
    "Python": b"{'prompt': __import__('os').system('touch canary')}",
    "YAML": b"!!python/object/apply:os.system ['touch canary']",
    "two values": b"{}{}",
    "a text": b'"prompt"',
    "truth": b"true",
    "minus": b"-",
    "a prototype": b'{"__proto__": {"a": 1}, "constructor": {"prototype": null}, "__class__": "x"}',
    "packed": gzip.compress(PLAIN.encode()),
    "a PDF": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
    "a program": b"\x7fELF\x02\x01\x01" + b"\0" * 60,
    "a script": b"#!/bin/sh\ntouch canary\n",
    "HTML": b"<!DOCTYPE html><script>alert(1)</script>",
    "XML that grows": b'<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><a>&c;</a>',
    "XML that reads": b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
    "a table": b'prompt,file\n"rain,never closed\n',
    "lists in place of words": b'{"prompt": ["a"], "file": {"b": 1}, "events": "c", "scene": 7}',
    "numbers in place of words": b'{"prompt": 1, "file": 2.5, "scene": true, "events": {}}',
    "a path above": b'{"prompt": "a", "file": "../../../../etc/passwd", "events": []}',
    "an absolute path": b'{"prompt": "a", "file": "/etc/passwd", "events": []}',
    "a name of 5000 letters": b'{"prompt": "a", "file": "' + b"x" * 5000 + b'"}',
    "letters that steer": b'{"prompt": "\\u001b[2J\\u0007", "file": "\\u001b]0;x\\u0007.mp4", "\\u001b[31m": 1}',
}


def _file(name: str, line: list[str]) -> Callable[[Place, bytes], list[str]]:
    def lay(place: Place, content: bytes) -> list[str]:
        path = place.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return [part.format(shared=place.shared, workflow=WORKFLOW) for part in line]

    return lay


def models_with(place: Place, name: str, content: bytes | None) -> Path:
    """The bundled model as a folder of links, with one file of another content, or without it."""
    folder = place.work / "m"
    for path in POCKET.rglob("*"):
        to = folder / path.relative_to(POCKET)
        if path.is_dir():
            to.mkdir(parents=True)
        else:
            to.parent.mkdir(parents=True, exist_ok=True)
            to.symlink_to(path)
    (folder / name).unlink(missing_ok=True)
    if content is not None:
        (folder / name).write_bytes(content)
    return folder


def _model(name: str) -> Callable[[Place, bytes], list[str]]:
    def lay(place: Place, content: bytes) -> list[str]:
        models_with(place, name, content)
        return ["generate", "x", "-o", "new/c.mp4", "--models", "m", "--size", "64x64", *SMALL[2:]]

    return lay


def _cached(folder: str, line: list[str]) -> Callable[[Place, bytes], list[str]]:
    """Something in place of what an earlier run has kept: the run before is made, and all it kept is overwritten."""

    def lay(place: Place, content: bytes) -> list[str]:
        from sounding_video.cli import main

        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        main(line)
        for path in (place.home / ".cache" / "sounding_video" / folder).rglob("*.json"):
            path.write_bytes(content)
        shutil.rmtree(place.work / "new", ignore_errors=True)
        return line

    return lay


WHERE: dict[str, Callable[[Place, bytes], list[str]]] = {
    "expand --anchors": _file("f", ["expand", "--anchors", "f"]),
    "evaluate --manifest": _file("f", ["evaluate", "{shared}/world", "--manifest", "f"]),
    "caption --input": _file("f", ["caption", "--input", "f", "-o", "new/l.jsonl", "--looking", "server",
        "--server", "http://127.0.0.1:9/v1", "--looking-model", "x"]),
    "caption -o": _file("l.jsonl", ["caption", "{shared}/clip.mp4", "-o", "l.jsonl", "--looking", "server",
        "--server", "http://127.0.0.1:9/v1", "--looking-model", "x"]),
    "caption's raw captions": _file("l.jsonl.raw.jsonl", ["caption", "{shared}/clip.mp4", "-o", "l.jsonl",
        "--looking", "server", "--server", "http://127.0.0.1:9/v1", "--looking-model", "x"]),
    "run": _file("w.json", ["run", "w.json", "--output-dir", "new"]),
    "queue": _file("w.json", ["queue", "w.json", "--server", "http://127.0.0.1:9", "--output-dir", "new"]),
    "queue --csv": _file("t.csv", ["queue", "{workflow}", "--csv", "t.csv", "--server", "http://127.0.0.1:9",
        "--output-dir", "new"]),
    "synth's manifest": _file("d/manifest.jsonl", ["synth", "-n", "1", "-o", "d", "--size", "32x32", "--frames", "5"]),
    "a state of training": _file("run/checkpoints/step-0000001/state.json", ["train", "pocket_audio", "--output",
        "run", "--resume", "device=cpu", "data.num_clips=2", "data.num_frames=9"]),
    "train's manifest": _file("d/manifest.jsonl", ["train", "pocket_audio", "--output", "run", "device=cpu",
        "data.source=folder", "data.root=d"]),
    "pocket.json": _model("pocket.json"),
    "model_index.json": _model("wan/model_index.json"),
    "a tower's config.json": _model("wan/transformer/config.json"),
    "a text encoder's config.json": _model("stable_audio/text_encoder/config.json"),
    "scheduler_config.json": _model("stable_audio/scheduler/scheduler_config.json"),
    "tokenizer_config.json": _model("wan/tokenizer/tokenizer_config.json"),
    "tokenizer.json": _model("stable_audio/tokenizer/tokenizer.json"),
    "a list of shards": _model("wan/transformer/diffusion_pytorch_model.safetensors.index.json"),
}  # fmt: skip
# What may be read rightly, or is left aside because it is no part of what was asked for.
CODES = {"queue": (0, 1, 2, 3), "queue --csv": (1, 2, 3), "caption --input": (1, 2, 3), "caption -o": (1, 2, 3),
    "caption's raw captions": (1, 2, 3)}  # fmt: skip


def cases(chance: random.Random) -> Iterator[Case]:
    """Each content for three readers, and what an earlier run has kept."""
    for what, content in CONTENTS.items():
        for where in chance.sample(list(WHERE), 3):

            def line(place: Place, where: str = where, content: bytes = content) -> list[str]:
                return WHERE[where](place, content)

            leaves = ("d/manifest.jsonl", "run/.lock", "l.jsonl", "l.jsonl.raw.jsonl")
            yield Case(3, f"{where}: {what}", line, CODES.get(where, EITHER), leaves=leaves)
    caches = {"captions": ["expand", "rain on a roof"],
        "magnitudes": ["generate", "x", "-o", "new/c.mp4", *SMALL, "--step-cache", "magnitude"]}  # fmt: skip
    for folder, words in caches.items():
        for what in chance.sample(list(CONTENTS), 5):

            def line(place: Place, folder: str = folder, words: list[str] = words, what: str = what) -> list[str]:
                return _cached(folder, words)(place, CONTENTS[what])

            yield Case(3, f"kept {folder}: {what}", line, (0,))
    yield Case(3, "anchors of a thousand objects", _many_anchors, EITHER)


def _many_anchors(place: Place) -> list[str]:
    one = {"name": "x" * 500, "actions": ["y"] * 50, "sounds": ["z"] * 50}
    (place.work / "f").write_text(json.dumps({"scene": "s", "entities": [one] * 1000}))
    return ["expand", "--anchors", "f"]
