"""Damaged bytes anywhere in a file of any format: lists come up, and loading says a sentence."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from sounding_video.core.errors import SoundingVideoError
from sounding_video.models.weights._header import open_weights
from sounding_video.models.weights.bridges import load_bridges
from sounding_video.models.weights.listing import inspect_parts

# Bytes at the beginning and at the end, where headers and directories stand, are hit most.
EDGE = 4000


@pytest.fixture(scope="module")
def whole(small_models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A text encoder in every format, by suffix."""
    folder = tmp_path_factory.mktemp("whole")
    source = small_models_dir / "wan" / "text_encoder" / "model.safetensors"
    state = load_file(source)
    torch.save(state, folder / "x.ckpt")
    torch.save(state, folder / "x.pt", _use_new_zipfile_serialization=False)
    found = {".safetensors": source.read_bytes()}
    return found | {suffix: (folder / f"x{suffix}").read_bytes() for suffix in (".ckpt", ".pt")}


def damaged(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 2, 8, 40))):
        place = chance.randrange(EDGE) if chance.random() < 0.5 else -1 - chance.randrange(EDGE)
        changed[place] = chance.randrange(256)
    return bytes(changed[: chance.randrange(len(changed))] if chance.random() < 0.2 else changed)


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt", ".pt"])
@pytest.mark.parametrize("named", ["as it is", ".safetensors", ".bin"])
def test_damaged_bytes_are_never_a_traceback(named, suffix, whole, tmp_path) -> None:
    chance = random.Random(f"{suffix} {named}")
    for number in range(150):
        path = tmp_path / f"{number}{suffix if named == 'as it is' else named}"
        path.write_bytes(damaged(whole[suffix], chance))
        (found,) = inspect_parts(path)
        assert found.layout or found.problem
        if found.layout is None:
            with pytest.raises(SoundingVideoError):
                for name in (file := open_weights(path)):
                    file.tensor(name)
                raise SoundingVideoError("another model, read whole")
        path.unlink()


def test_directories_of_archives_that_contradict_themselves(whole, tmp_path) -> None:
    """Each of them ended listing in a traceback of another library."""
    data, unsafe = whole[".ckpt"], tmp_path / "unsafe"
    torch.save({"module": torch.nn.Linear(1, 1)}, unsafe)
    code = unsafe.read_bytes()
    pickled = code.index(b"data.pkl")
    several = data.rindex(b"PK\x06\x07")  # the locator of the 64-bit directory: how many disks there are
    cases = {
        "a name that is no text": code[: pickled - 2] + b"\xff" + code[pickled - 1 :],
        "two names of one entry": code.replace(b"data.pkl", b"data.p-l", 1),
        "several disks": data[: several + 16] + struct.pack("<I", 7) + data[several + 20 :],
        "a number cut short": b"\x80\x02G\x00.",
    }
    for name, changed in cases.items():
        path = tmp_path / f"{name}.ckpt"
        path.write_bytes(changed)
        (found,) = inspect_parts(path)
        assert found.problem, name
        with pytest.raises(SoundingVideoError, match=name):
            open_weights(path)


@pytest.mark.parametrize("entry", ["config", "points"])
@pytest.mark.parametrize(
    "value", ["{", "[]", "null", "7", '{"video": 1, "audio": 2}', '{"video": ["x"]}', "[" * 99_999]
)
def test_metadata_of_a_bridge_that_cannot_be_read(value, entry, small_models_dir, tmp_path) -> None:
    source = small_models_dir / "bridge.safetensors"
    metadata = dict(open_weights(source).metadata) | {entry: value}
    save_file(load_file(source), tmp_path / "b.safetensors", metadata=metadata)
    with pytest.raises(SoundingVideoError):
        load_bridges(tmp_path / "b.safetensors")
