"""PAV-DiT folders whose note, configurations or headers lie: a sentence before anything is built."""

from __future__ import annotations

import json
import shutil
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from small_models import write_pav_dit_folder
from sounding_video.cli import main
from sounding_video.core.device import resolve_placement
from sounding_video.core.errors import SoundingVideoError
from sounding_video.models.loading import find_model, load_models, outline_found

CPU = resolve_placement(device="cpu")
SECONDS = 20.0  # of a busy machine; a second is usual
ODD: tuple[Any, ...] = (10**9, 10**30, 0, -1, 1.5, True, "8", None, [8], {}, float("inf"), float("nan"))
TRANSFORMER = ("grid", "latent_channels", "width", "depth", "heads", "text_width", "patch", "predicts")
# A part of the autoencoder's configuration, and a setting in it.
AUTOENCODER = (
    ("grid",), ("latent_channels",), ("bound",), ("extent",), ("extent", "frames"), ("extent", "height"),
    ("extent", "fps"), ("sound",), ("sound", "hop"), ("sound", "columns"), ("sound", "bands"), ("sound", "window"),
    ("sound", "sample_rate"), ("body", "width"), ("body", "encoder"), ("body", "heads"), ("body", "head_width"),
    ("body", "summary_depth"), ("body", "summary_heads"), ("body", "summary_hidden"), ("fusion", "at"),
    ("fusion", "heads"), ("fusion", "scales"), ("fusion", "segments"), ("fusion", "over_scales"),
)  # fmt: skip
# Of these any value of the right kind makes another decoder, which the weights may fit.
FREE = {("fusion", "segments"), ("fusion", "heads"), ("body", "heads"), ("sound", "sample_rate"), ("fusion", "scales")}
# What stands there already.
NO_CHANGE = [(("fusion", "over_scales"), True)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_pav_dit_folder(tmp_path_factory.mktemp("hostile") / "planes")


def refused(folder: Path, *, may_pass: bool = False) -> None:
    """A sentence, soon: from the outline, by which loading begins too, or at least from loading."""
    start = time.monotonic()
    try:
        outline_found(find_model(folder), CPU)
        load_models(folder, placement=CPU)
    except SoundingVideoError as error:
        assert len(str(error)) < 1500
    else:
        assert may_pass, "it was built"
    assert time.monotonic() - start < SECONDS


def with_value(folder: Path, part: str, place: tuple[str, ...], value: Any, *, may_pass: bool = False) -> None:
    """What becomes of one other value in a configuration."""
    path = folder / part / "config.json"
    whole = path.read_text()
    config = json.loads(whole)
    inner = config
    for name in place[:-1]:
        inner = inner[name]
    if inner.get(place[-1]) == value and type(inner.get(place[-1])) is type(value):
        return
    inner[place[-1]] = value
    try:
        path.write_text(json.dumps(config))
        refused(folder, may_pass=may_pass)
    finally:
        path.write_text(whole)


@pytest.mark.parametrize("name", TRANSFORMER)
def test_a_transformer_that_cannot_be(folder, name) -> None:
    for value in ODD:
        # null stands for the class's default, another patch or sign for another model of the same weights.
        with_value(folder, "transformer", (name,), value, may_pass=value is None)


@pytest.mark.parametrize("place", AUTOENCODER, ids=".".join)
def test_an_autoencoder_that_cannot_be(folder, place) -> None:
    for value in ODD:
        with_value(
            folder, "autoencoder", place, value, may_pass=place in FREE or value is None or (place, value) in NO_CHANGE
        )


@pytest.mark.parametrize("text", ["[]", "null", "3", '"x"', "{", "", "\x00", "[" * 5000])
@pytest.mark.parametrize("name", ["model.json", "transformer/config.json", "autoencoder/config.json"])
def test_files_that_are_no_object(folder, tmp_path, name, text, capsys) -> None:
    where = shutil.copytree(folder, tmp_path / "planes")
    (where / name).write_text(text)
    assert main(["generate", "a dog", "--no-expand", "--models", str(where), "-o", str(tmp_path / "x.mp4")]) != 0
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "Traceback" not in error and len(error) < 3000


@pytest.mark.parametrize(
    "note",
    [{"num_steps": 10**9}, {"num_steps": 0}, {"video_cfg": 1e400}, {"fps": 0}, {"size": [64]}, {"knows": 3},
     {"num_steps": []}, {"audio_cfg": "x"}, {"trained": "yes"}, {"trained": 1}],
    ids=str,
)  # fmt: skip
def test_a_note_that_says_what_cannot_be(folder, tmp_path, note, capsys) -> None:
    where = shutil.copytree(folder, tmp_path / "planes")
    (where / "model.json").write_text(json.dumps(note))
    if "trained" in note:
        assert not load_models(where, placement=CPU).trained, "only true is true"
        return
    assert main(["generate", "a dog", "--no-expand", "--models", str(where), "-o", str(tmp_path / "x.mp4")]) != 0
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize("part", ["transformer", "autoencoder", "text_encoder"])
@pytest.mark.parametrize("how", ["shape", "huge", "cut", "missing", "more"])
def test_headers_that_lie(folder, tmp_path, part, how) -> None:
    where = shutil.copytree(folder, tmp_path / "planes")
    (path,) = (where / part).glob("*.safetensors")
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    name = max((key for key in header if key != "__metadata__"), key=lambda key: header[key]["data_offsets"][1])
    if how == "shape":
        header[name]["shape"] = [1, *header[name]["shape"]]
    elif how == "huge":
        header[name] |= {"shape": [10**9, 10**9], "data_offsets": [0, 4 * 10**18]}
    elif how == "missing":
        header.pop(name)
    elif how == "more":
        header["more.weight"] = {"dtype": "F32", "shape": [0], "data_offsets": [len(content) - 8 - size] * 2}
    text = json.dumps(header).encode()
    body = content[8 + size :]
    path.write_bytes(struct.pack("<Q", len(text)) + text + (body[: len(body) // 2] if how == "cut" else body))
    start = time.monotonic()
    with pytest.raises(SoundingVideoError) as error:
        load_models(where, placement=CPU)
    assert len(str(error.value)) < 1500 and time.monotonic() - start < SECONDS
