"""Kinds 6, 7 and 8: bridges, weight files and folders of diffusers that lie."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from .case import EITHER, REFUSED, SMALL, Case, Place
from .texts import POCKET

Json = dict[str, object]
GENERATE = ["generate", "x", "-o", "new/c.mp4"]


def packed(header: object, data: bytes = b"\0" * 16, length: int | None = None) -> bytes:
    """A safetensors file; its length may be another one."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(**changed: object) -> Json:
    """A tensor of four numbers."""
    return {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} | changed


def bridge_with(metadata: Callable[[Json], Json], tensors: Callable[[Json], Json] = dict) -> bytes:
    """The bundled bridges with another header."""
    data = (POCKET / "bridge.safetensors").read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    notes = metadata(dict(header.pop("__metadata__")))
    return packed({"__metadata__": notes} | tensors(header), data[8 + size :])


def noted(**changed: str) -> Callable[[Json], Json]:
    """Other notes."""
    return lambda notes: notes | changed


def configured(**changed: object) -> Callable[[Json], Json]:
    """Another configuration of bridges."""
    return lambda notes: notes | {"config": json.dumps(json.loads(notes["config"]) | changed)}


def placed(**changed: object) -> Callable[[Json], Json]:
    """Other places of bridges."""
    return lambda notes: notes | {"points": json.dumps(json.loads(notes["points"]) | changed)}


NOTES: dict[str, Callable[[Json], Json]] = {
    **{f"{name} = {value!r:.20}": configured(**{name: value}) for name in ("qk_width", "num_heads", "video_width")
        for value in (2**31, 2**63, -0.0, 1e300, "192", [192], {"a": 1}, "\u0661")},
    "a configuration of a megabyte": configured(reading="x" * 1_000_000),
    "a rope above": configured(rope="../clock"),
    "a rope of the language": configured(rope="__class__"),
    "a reading of letters that steer": configured(reading="\x1b[2Jofficial"),
    "an exponent without end": lambda notes: notes | {"config": notes["config"].replace("6,", "1e999999999,", 1)},
    "a file of the package": noted(fusion="__init__"),
    "a private file": noted(fusion="_attention"),
    "a base": noted(fusion="base"),
    "a kind of the system": noted(fusion="os.system"),
    "a kind with a zero": noted(fusion="dual_cross\0"),
    "a kind in capitals": noted(fusion="DUAL_CROSS"),
    "a kind of 10**6 letters": noted(fusion="d" * 1_000_000),
    "points of 10**5": placed(video=list(range(100_000))),
    "points that are half": placed(video=[0.5, 1, 2]),
    "points below zero and above": placed(video=[-(2**63), 3, 2**63]),
    "points null": placed(audio=None),
    "points in words": placed(audio="1,3,5"),
    "another task": noted(task="format_disk"),
    "no task": noted(task=""),
    "trained in numbers": noted(trained="1"),
    "training that is a list": noted(training="[]"),
    "training that is deep": noted(training="[" * 5000),
    "training of code": noted(training="__import__('os').system('touch canary')"),
    "a time of no number": noted(given_video_time="soon", given_draw="fixed", task="v2a"),
    "a time of infinity": noted(given_video_time="inf", given_draw="fixed", task="v2a"),
    "a time of two": noted(given_video_time="2", given_draw="fixed", task="v2a"),
    "a drawing that is not": noted(given_draw="evil"),
    "a least time of NaN": noted(least_audio_time="nan", task="v2a"),
    "a recipe that steers": noted(recipe="\x1b]0;x\x07\u202e\n\nerror: all is well"),
    "another format": noted(format="sounding_video.alignment"),
    "the form of TensorFlow": noted(format="tf"),
    "notes of a megabyte": noted(more="x" * 1_000_000),
    "a sampling that is none": noted(sampling='{"steps": -1}', sampler="{"),
}  # fmt: skip
TENSORS: dict[str, Callable[[Json], Json]] = {
    "numbers that are whole": lambda found: {name: one | {"dtype": "I32"} for name, one in found.items()},
    "truths": lambda found: {name: one | {"dtype": "BOOL", "shape": [one["data_offsets"][1] - one["data_offsets"][0]]}
        for name, one in found.items()},
    "halves of twice as many": lambda found: {name: one | {"dtype": "BF16",
        "shape": [*one["shape"][:-1], one["shape"][-1] * 2]}
        for name, one in found.items()},
    "a block less": lambda found: {name: one for name, one in found.items() if not name.startswith("1.")},
    "other names": lambda found: {f"evil.{name}": one for name, one in found.items()},
    "names that steer": lambda found: {f"{name}\x1b[31m": one for name, one in found.items()},
    "turned shapes": lambda found: {name: one | {"shape": one["shape"][::-1]} for name, one in found.items()},
    "flat shapes": lambda found: {name: one | {"shape": [(one["data_offsets"][1] - one["data_offsets"][0]) // 4]}
        for name, one in found.items()},
}  # fmt: skip
HEADERS: dict[str, bytes] = {
    "no header": packed(b""),
    "a header of blanks": packed(b" " * 64),
    "a header that ends in zeros": packed(json.dumps({"a": entry()}).encode() + b"\0" * 8),
    "a header one byte short": packed({"a": entry()}, length=len(json.dumps({"a": entry()})) - 1),
    "a header one byte long": packed({"a": entry()}, length=len(json.dumps({"a": entry()})) + 1),
    "a header of 2**63 bytes": packed({"a": entry()}, length=2**63),
    "a header of the whole file": packed({"a": entry()}, length=len(json.dumps({"a": entry()})) + 16),
    "out of order, and right": packed(
        {"b": entry(shape=[2], data_offsets=[8, 16]), "a": entry(shape=[2], data_offsets=[0, 8])}
    ),
    "offsets that are fractions": packed({"a": entry(data_offsets=[0.0, 16.0])}),
    "offsets of true": packed({"a": entry(data_offsets=[False, 16])}),
    "half over each other": packed({"a": entry(), "b": entry(data_offsets=[8, 24])}, b"\0" * 24),
    "64 bits of 32": packed({"a": entry(dtype="F64")}),
    "small letters": packed({"a": entry(dtype="f32")}),
    "complex numbers": packed({"a": entry(dtype="C64", shape=[2])}),
    "four bits": packed({"a": entry(dtype="F4", shape=[32])}),
    "a name of nothing": packed({"": entry()}),
    "a name with a zero": packed({"a\0b": entry()}),
    "a name of a path": packed({"../../../etc/passwd": entry()}),
    "a name of half a pair": packed(b'{"\\ud800":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'),
    "100000 of nothing": packed(
        {f"t{number}": entry(shape=[0], data_offsets=[0, 0]) for number in range(100_000)}, b""
    ),
    "an axis of 100000": packed({"a": entry(shape=[1] * 100_000 + [4])}),
    "null notes": packed({"__metadata__": None, "a": entry()}),
    "notes that are a tensor": packed({"__metadata__": entry()}),
    "big end first": struct.pack(">Q", 60) + json.dumps({"a": entry()}).encode() + b"\0" * 16,
    "a mark before the header": packed(b"\xef\xbb\xbf" + json.dumps({"a": entry()}).encode()),
    "UTF-16 in the header": packed(json.dumps({"a": entry()}).encode("utf-16")),
    "scalars": packed({"a": entry(shape=[], data_offsets=[0, 4])}, b"\0" * 4),
    "numbers that are none": packed(
        {"0.attn.q_proj_1.weight": entry(shape=[2, 2])}, struct.pack("<4f", *[float("nan")] * 4)
    ),
}


class _Calls:
    """Names code to run in a pickle, as any pickle may."""

    def __init__(self, *call: object) -> None:
        self.call = call

    def __reduce__(self) -> tuple:
        return self.call[0], tuple(self.call[1:])


def _global(module: str, name: str, argument: str) -> bytes:
    """A pickle of protocol 0 that calls a function by its name, there or not."""
    return f"c{module}\n{name}\n(V{argument}\ntR.".encode()


def _archive(data: bytes, prefix: str = "archive", **more: bytes) -> bytes:
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w") as file:
        file.writestr(f"{prefix}/data.pkl", data)
        file.writestr(f"{prefix}/version", b"3\n")
        for name, content in more.items():
            file.writestr(name.replace("__", "/"), content)
    return output.getvalue()


def pickles(canary: Path) -> dict[str, bytes]:
    """Files that make the canary where they are loaded without care."""
    shell, python = f"touch {canary}", f"open({str(canary)!r}, 'w')"
    calls = {
        "os.system": _global("os", "system", shell), "posix.system": _global("posix", "system", shell),
        "subprocess.getoutput": _global("subprocess", "getoutput", shell), "eval": _global("builtins", "eval", python),
        "exec of Python 2": _global("__builtin__", "eval", python), "os.mkdir": _global("os", "mkdir", str(canary)),
        "timeit": _global("timeit", "timeit", python), "pathlib": _global("pathlib", "Path", str(canary)),
        "numpy's runstring": _global("numpy.testing._private.utils", "runstring", python),
        "torch's own loader": _global("torch.storage", "_load_from_bytes", "x"),
        "torch.load": _global("torch", "load", str(canary)), "torch.hub": _global("torch.hub", "load", "owner/evil"),
        "webbrowser": _global("webbrowser", "open", "http://127.0.0.1:9"),
        "runpy": _global("runpy", "run_path", "evil.py"),
        "our own package": _global("sounding_video.cli", "main", "x"), "getattr": _global("builtins", "getattr", "x"),
        "dotted": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c" + bytes([len(shell)]) + shell.encode() + b"\x85R.",
        "by its extension": pickle.PROTO + b"\x02\x82\x01.", "by a persistent name": b"Pevil\n.",
        "a build": pickle.dumps({"state_dict": _Calls(os.system, shell)}),
        "nested": pickle.dumps([[[{"a": _Calls(os.system, shell)}]]], protocol=4),
    }  # fmt: skip
    made = {f"{name}, plain": data for name, data in calls.items()}
    return made | {f"{name}, in an archive": _archive(data) for name, data in calls.items()}


def archives(canary: Path) -> dict[str, bytes]:
    """Archives that are odd in themselves."""
    empty = pickle.dumps({}, protocol=2)
    evil = _archive(empty, **{"archive__code__evil.py": b"import os\n", "__etc__evil": b"x", "..__..__evil": b"x"})
    tape = io.BytesIO()
    with tarfile.open(fileobj=tape, mode="w") as file:
        info = tarfile.TarInfo("../pickle")
        info.size = len(empty)
        file.addfile(info, io.BytesIO(empty))
        link = tarfile.TarInfo("storages")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        file.addfile(link)
    objects = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}".ljust(69) + b"\n"
    return {
        "names above and absolute": evil,
        "an empty archive": b"PK\5\6" + b"\0" * 18,
        "an archive behind a script": b"#!/bin/sh\ntouch canary\n" + _archive(empty),
        "an archive cut short": _archive(empty)[:-10],
        "a tape": tape.getvalue(),
        "two pickles": _archive(empty) + _archive(empty),
        "no pickle": _archive(b""),
        "a million marks": b"(" * 1_000_000 + b".",
        "a list that grows": b"]" + b"2" * 30 + b"." * 2,
        "a text of 2**31 bytes": b"\x80\x04\x8d" + struct.pack("<Q", 2**31) + b"x.",
        "a memo of 2**31": b"\x80\x02}r" + struct.pack("<I", 2**31 - 1) + b".",
        "a frame of 2**60": b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"}.",
        "protocol 255": b"\x80\xff}.",
        "numpy's pickle": b"\x93NUMPY\x01\x00\x46\x00" + objects
            + pickle.dumps(_Calls(os.system, f"touch {canary}")),
        "an archive of ONNX": b"\x08\x07\x12\x07pytorch" + b"\0" * 40,
        "HDF5": b"\x89HDF\r\n\x1a\n" + b"\0" * 90,
        "TorchScript": _archive(empty, **{"archive__constants.pkl": empty, "archive__code____torch__.py": b"evil"}),
        "7-Zip": b"7z\xbc\xaf\x27\x1c\0\4" + b"\0" * 60,
    }  # fmt: skip


def gguf(version: int = 3, tensors: int = 1, fields: bytes = b"", count: int = 0, offset: int = 0, kind: int = 0,
         name: bytes = b"blocks.0.x", shape: tuple[int, ...] = (4,), order: str = "<",
         tail: int = 32) -> bytes:  # fmt: skip
    """A GGUF file; every number of it may lie."""
    head = b"GGUF" + struct.pack(f"{order}IQQ", version, tensors, count) + fields
    for _ in range(min(tensors, 3)):
        head += struct.pack(f"{order}Q", len(name)) + name + struct.pack(f"{order}I", len(shape))
        head += struct.pack(f"{order}{len(shape)}Q", *shape) + struct.pack(f"{order}IQ", kind, offset)
    return head + b"\0" * (-len(head) % 32) + b"\0" * tail


def field(name: bytes, kind: int, content: bytes) -> bytes:
    """A field of a GGUF file."""
    return struct.pack("<Q", len(name)) + name + struct.pack("<I", kind) + content


GGUFS: dict[str, bytes] = {
    "version 0": gguf(version=0), "version 2": gguf(version=2), "version 2**31": gguf(version=2**31),
    "the other order with its version": gguf(version=3 << 24, order=">"),
    "an alignment below zero": gguf(fields=field(b"general.alignment", 5, struct.pack("<i", -32)), count=1),
    "an alignment of 1.5": gguf(fields=field(b"general.alignment", 6, struct.pack("<f", 1.5)), count=1),
    "alignments twice": gguf(fields=field(b"general.alignment", 4, struct.pack("<I", 32)) * 2, count=2),
    "a truth of seven": gguf(fields=field(b"a", 7, b"\7"), count=1),
    "a list in a list": gguf(fields=field(b"a", 9, struct.pack("<IQ", 9, 2**40)), count=1),
    "a list of truths without end": gguf(fields=field(b"a", 9, struct.pack("<IQ", 7, 2**62)), count=1),
    "a text of nothing": gguf(fields=field(b"general.architecture", 8, struct.pack("<Q", 0)), count=1),
    "an architecture of code": gguf(fields=field(b"general.architecture", 8, struct.pack("<Q", 11) + b"os.system()"),
        count=1),
    "a field without a name": gguf(fields=field(b"", 0, b"\0"), count=1),
    "the same tensor three times": gguf(tensors=3), "tensors over each other": gguf(tensors=2, offset=0),
    "2**32 tensors": gguf(tensors=2**32), "a type of 2**31": gguf(kind=2**31),
    "five numbers of four": gguf(shape=(5,), tail=16),
    "an axis of 2**62": gguf(shape=(2**62,)), "axes of one": gguf(shape=(1, 1, 1, 1)),
    "offset 2**63": gguf(offset=2**63),
    "a name that steers": gguf(name=b"\x1b[2J"), "a name of zeros": gguf(name=b"\0" * 8),
    "nothing behind": gguf(tail=0),
}  # fmt: skip


def _weights(name: str, content: Callable[[Place], bytes] | bytes, line: list[str]) -> Callable[[Place], list[str]]:
    def lay(place: Place) -> list[str]:
        path = place.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(place) if callable(content) else content)
        (path.parent / "evil.py").write_text(f"open({str(place.canary)!r}, 'w')")
        return line

    return lay


USES: dict[str, Callable[[str], list[str]]] = {
    "--bridge": lambda name: [*GENERATE, *SMALL, "--bridge", name],
    "--lora": lambda name: [*GENERATE, *SMALL, "--lora", name],
    "--audio-lora": lambda name: [*GENERATE, *SMALL, "--audio-lora", name],
    "--alignment": lambda name: [*GENERATE, *SMALL, "--alignment", name],
    "--wan": lambda name: [*GENERATE, *SMALL[2:], "--wan", name],
    "convert": lambda name: ["convert", name, "-o", "new/b.safetensors"],
    "doctor --plan": lambda name: ["doctor", "--plan", "--models", "pocket", "--bridge", name],
    "models": lambda name: ["models", "--models", ".", "--all"],
}


def cases(chance: random.Random) -> Iterator[Case]:
    """All of the three kinds."""
    for kind, lies in (("notes", NOTES), ("tensors", TENSORS)):
        for what, lie in lies.items():
            content = bridge_with(lie) if kind == "notes" else bridge_with(dict, lie)
            use = chance.choice(("--bridge", "--bridge", "doctor --plan", "convert", "models"))
            yield Case(6, f"{use}: {what}", _weights("b.safetensors", content, USES[use]("b.safetensors")), EITHER)
    for suffix, files in ((".safetensors", HEADERS), (".gguf", GGUFS)):
        for what, content in files.items():
            use = chance.choice(list(USES))
            right = EITHER if use == "models" else REFUSED
            yield Case(7, f"{use}: {suffix}, {what}", _weights(f"w{suffix}", content, USES[use](f"w{suffix}")), right)
    for make in (pickles, archives):
        for what in make(Path("/canary")):
            use, suffix = chance.choice(list(USES)), chance.choice((".ckpt", ".pt", ".bin", ".safetensors", ".pth"))
            right = EITHER if use == "models" else REFUSED

            def content(place: Place, make: Callable = make, what: str = what) -> bytes:
                return make(place.canary)[what]

            yield Case(7, f"{use}: {suffix}, {what}", _weights(f"w{suffix}", content, USES[use](f"w{suffix}")), right)
    from . import folders

    yield from folders.cases(chance)
