"""Readers of workflow files, of a ComfyUI server's answers, and of options, with odd input for them."""

from __future__ import annotations

import argparse
import asyncio
import csv
import io
import json
import random
from collections.abc import Callable
from fractions import Fraction
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from fuzz_cases import ODD, damaged, odd_json, odd_text, odd_value
from fuzz_readers import ROOT, reader, written


# Workflow files.
@cache
def _graphs() -> list[Any]:
    last = "text_to_sounding_video_pocket"
    files = sorted((ROOT / "workflows/api").glob("*.json"), key=lambda path: last in path.name)
    return [json.loads(path.read_text(encoding="utf-8")) for path in files]


@cache
def _pages() -> list[Any]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "workflows").glob("*.json"))]


def _odd_workflow(rng: random.Random) -> bytes:
    graph, page = rng.choice(_graphs()), rng.choice(_pages())
    wrapped = {"prompt": graph, "extra_data": {"extra_pnginfo": {"workflow": page}}}
    entry = {"x": {"prompt": [1, "x", graph, {"extra_pnginfo": {"workflow": page}}, ["9"]], "outputs": {}}}
    return odd_json([graph, graph, wrapped, entry, {"output": graph, "workflow": json.dumps(page)}])(rng)


@reader("workflow in API format", _odd_workflow)
def _workflow(case: bytes, folder: Path) -> None:
    _planned(written(case, folder, "w.json"))


@reader("workflow of the page", lambda rng: odd_json([rng.choice(_pages())])(rng))
def _page(case: bytes, folder: Path) -> None:
    _planned(written(case, folder, "w.json"))


def _planned(path: Path) -> None:
    from sounding_video.headless.graph import plan
    from sounding_video.headless.workflow_file import read_any, to_prompt, with_twin

    found = read_any(path)
    converted = to_prompt(found)
    with_twin(converted.graph, found.told(changed=False).get("workflow"), found.extra_data)
    plan(converted.graph, gaps=converted.gaps)


@cache
def _descriptions() -> dict[str, Any]:
    from sounding_video.headless.graph import node_classes

    return json.loads(json.dumps({name: kind.GET_NODE_INFO_V1() for name, kind in node_classes().items()}))


@reader("descriptions of a server's nodes", lambda rng: (rng.choice(_pages()), odd_value(rng, [_descriptions()])))
def _described(case: tuple[Any, Any], folder: Path) -> None:
    from sounding_video.headless import workflow_file
    from sounding_video.headless.graph import foreign_nodes
    from sounding_video.headless.workflow_file import understood

    page, info = case
    workflow_file.to_prompt(understood(page), lambda types: known_of(info, types), foreign_nodes)


def known_of(info: Any, types: list[str]) -> Any:
    from sounding_video.headless.descriptions import entries_of

    return entries_of(info, types)


TARGETS = (
    "7.steps=",
    "T2SVJointSampler.seed=",
    "T2SVMux.",
    "7.video_guidance_scale=",
    "1.",
    "5.width=",
    "=",
    "true",
    "0.5",
)


@reader("--set", odd_text(*TARGETS))
def _set(case: str, folder: Path) -> None:
    from sounding_video.cli.run import parse_overrides
    from sounding_video.headless.graph import apply_overrides, plan

    plan(apply_overrides(_graphs()[-1], parse_overrides([case])))


def _odd_table(rng: random.Random) -> bytes:
    file = io.StringIO()
    writer = csv.writer(file, delimiter=rng.choice(",,;\t"))
    heads = ["prompt", "seed", "name", "7.steps", "fps", "video_caption"]
    head = [rng.choice(heads) if rng.random() < 0.9 else odd_text()(rng) for _ in range(rng.randrange(1, 4))]
    writer.writerow(head)
    for _ in range(rng.randrange(4)):
        writer.writerow([odd_text("3", "a dog")(rng) for _ in range(len(head) + rng.choice((0, 0, 0, 1, -1)))])
    content = file.getvalue().encode("utf-8", "replace")
    return damaged(rng, content) if rng.random() < 0.3 else content


@reader("table of prompts", _odd_table)
def _table(case: bytes, folder: Path) -> None:
    from sounding_video.headless.table import checked_rows, read_table

    checked_rows(_graphs()[-1], read_table(written(case, folder, "t.csv")))


# A ComfyUI server.
HISTORY = {
    "id": {
        "prompt": [1, "id", {}, {}, ["9"]],
        "outputs": {"9": {"images": [{"filename": "a.mp4", "subfolder": "s", "type": "output"}], "animated": [True]}},
        "status": {"status_str": "success", "completed": True, "messages": [
            ["execution_start", {"prompt_id": "id"}], ["execution_cached", {"nodes": ["1"], "prompt_id": "id"}],
            ["progress", {"value": 1, "max": 2, "node": "7", "prompt_id": "id"}]]},
    },
    "queue_running": [[0, "id", {}]], "queue_pending": [],
}  # fmt: skip
REFUSED = {
    "error": {"type": "invalid_prompt", "message": "no", "details": "x", "extra_info": {}},
    "node_errors": {"7": {"class_type": "A", "dependent_outputs": ["9"], "errors": [
        {"type": "value_not_in_list", "message": "m", "details": "d", "extra_info": {"input_name": "steps"}},
        {"type": "custom_validation_failed", "message": "m", "details": "a - b", "extra_info": {"input_name": "a"}}]}},
    "prompt_id": "id",
}  # fmt: skip
MESSAGES = [
    {"type": "progress", "data": {"value": 1, "max": 2, "node": "7", "prompt_id": "id"}},
    {
        "type": "execution_error",
        "data": {"exception_message": "m", "exception_type": "E", "node_id": "7", "node_type": "A"},
    },
    {"type": "execution_cached", "data": {"nodes": ["1"], "prompt_id": "id"}},
    {"type": "executing", "data": {"node": None, "prompt_id": "id"}},
]


@lru_cache(maxsize=1)
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


@reader("answers of a ComfyUI server", odd_json([HISTORY, REFUSED]))
def _client(case: bytes, folder: Path) -> None:
    import aiohttp
    from sounding_video.core.errors import SoundingVideoError
    from sounding_video.core.progress import SILENT
    from sounding_video.headless import answers, client

    class Answered(client._Run):
        async def _text(self, http: Any, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
            return 200, case

        async def _stop(self, http: Any, prompt_id: str) -> None:
            pass

    run = Answered("http://x", _graphs()[-1], {}, folder / "out", SILENT)
    for ask in (run._post, run._ended, run._ended_or_known, run._results):
        try:
            found = _loop().run_until_complete(ask(None, *(["id"] if ask != run._post else [])))
        except (SoundingVideoError, aiohttp.ClientError):
            continue
        for item in found[1] if isinstance(found, tuple) else ():
            path = answers.free_path(folder / "out", item)
            assert path.resolve().is_relative_to((folder / "out").resolve())


@reader("messages of a ComfyUI server", odd_json(MESSAGES))
def _messages(case: bytes, folder: Path) -> None:
    import aiohttp
    from sounding_video.core.progress import SILENT
    from sounding_video.headless import answers, client

    run = client._Run("http://x", _graphs()[-1], {}, folder, SILENT)
    kind, data = answers.text_message(aiohttp.WSMessage(aiohttp.WSMsgType.TEXT, case.decode("utf-8", "replace"), None))
    run._note(kind, data)


@reader(
    "notes in a result",
    lambda rng: odd_value(rng, [{"9": {"t2sv_report": ["a"], "t2sv_captions": [{"report": '{"notes": []}'}]}}]),
)
def _notes(case: Any, folder: Path) -> None:
    from sounding_video.headless.report import RunReport
    from sounding_video.nodes.telling import CAPTIONS_KEY, REPORT_KEY

    text = json.dumps(case).replace("t2sv_report", REPORT_KEY).replace("t2sv_captions", CAPTIONS_KEY)
    outputs = json.loads(text)
    if isinstance(outputs, dict):
        _ = RunReport(outputs, [], 0.0).sentences


@reader("address of a ComfyUI server", odd_text("http://", "a", ":8188", "/"))
def _comfy_address(case: str, folder: Path) -> None:
    from sounding_video.headless.client import require_address

    require_address(case)


# Numbers, names and rates.
@reader(
    "numbers of options",
    lambda rng: rng.choice((odd_text("1", "9", "x", ",", "/"), lambda rng: str(rng.choice(ODD))))(rng),
)
def _numbers(case: str, folder: Path) -> None:
    for read in _readers_of_options():
        try:
            read(case)
        except argparse.ArgumentTypeError as error:
            assert len(str(error)) < 400


@cache
def _readers_of_options() -> tuple[Callable[[str], Any], ...]:
    from sounding_video.cli import build_parser
    from sounding_video.cli.options import Checked

    (commands,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    actions = (action for parser in commands.choices.values() for action in parser._actions)
    return tuple({repr(a.option_strings): a.type for a in actions if isinstance(a.type, Checked)}.values())


@reader("--lora", odd_text("style.safetensors", ":", "0.8", "~"))
def _lora(case: str, folder: Path) -> None:
    from sounding_video.cli.loras import parse_lora

    parse_lora(case, "video")


@reader("file name prefix", odd_text("%date:yyyy-MM-dd%", "%width%", "/", "%T2SVJointSampler.seed%", "%7.steps%", ".."))
def _prefix(case: str, folder: Path) -> None:
    from sounding_video.nodes.host.common import check_prefix
    from sounding_video.nodes.host.prefixes import filled_prefix, with_date

    with_date(case)
    check_prefix(case)
    filled_prefix(case, width=8, height=8, hidden=None)


@reader(
    "frame rate", lambda rng: rng.choice((odd_text("30000", "/", "1001", "e", "."), lambda rng: rng.choice(ODD)))(rng)
)
def _rate(case: Any, folder: Path) -> None:
    from sounding_video.core.clock import as_fps

    assert 0 < as_fps(case) <= 1000


def _odd_extent(rng: random.Random) -> list[Any]:
    good = (81, 15, 832, 480)
    return [rng.choice(ODD) if rng.random() < 0.3 else rng.choice((value, value * 3, 17, 16, 33)) for value in good]


@reader("timeline", _odd_extent)
def _timeline(case: list[Any], folder: Path) -> None:
    from sounding_video.core.clock import Timeline, nearest_frames
    from sounding_video.core.windows import num_latents_of, windows

    nearest_frames(case[0])
    made = Timeline(*case)
    _ = made.video_latent_shape, made.audio_latent_shape
    num_latents_of(made, windows(made, min(made.seconds * 3, Fraction(600))))
