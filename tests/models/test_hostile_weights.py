"""Weight files that lie: each ends in one of our errors, before anything is read, made or unpacked for its claims."""

from __future__ import annotations

import io
import json
import pickle
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save
from sounding_video.core.errors import CorruptWeightsError, SoundingVideoError, UnsafeWeightsError, WeightsError
from sounding_video.models.weights._header import open_weights
from sounding_video.models.weights.bridges import load_bridges, outline_bridges
from sounding_video.models.weights.listing import inspect_parts

SECONDS = 5.0
HUGE = 10**18


def refused(path: Path, *, kind: type[SoundingVideoError] = WeightsError, match: str = ".") -> None:
    """Every way to a file refuses it, quickly, and lists come up."""
    start = time.monotonic()
    (found, *_) = inspect_parts(path)
    assert found.layout is None and found.problem
    with pytest.raises(kind, match=match):
        file = open_weights(path)
        for name in file:
            file.tensor(name)
    with pytest.raises(SoundingVideoError):
        load_bridges(path)
    assert time.monotonic() - start < SECONDS


def safetensors(header: object, data: bytes = b"\0" * 16) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(**changed: object) -> dict[str, object]:
    return {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} | changed


HEADERS: dict[str, bytes] = {
    "an overflow": safetensors({"a": entry(shape=[2**40, 2**40])}),
    "a product of 2**64": safetensors({"a": entry(shape=[2**32, 2**32])}),
    "negative": safetensors({"a": entry(shape=[-4])}),
    "fractions": safetensors({"a": entry(shape=[4.0])}),
    "truth": safetensors({"a": entry(shape=[True, 4])}),
    "text": safetensors({"a": entry(shape=["4"])}),
    "nested": safetensors({"a": entry(shape=[[4]])}),
    "no list": safetensors({"a": entry(shape=4)}),
    "null": safetensors({"a": entry(shape=None)}),
    "huge": safetensors({"a": entry(shape=[HUGE])}),
    "offsets behind the end": safetensors({"a": entry(data_offsets=[0, HUGE], shape=[HUGE // 4])}),
    "offsets backwards": safetensors({"a": entry(data_offsets=[16, 0])}),
    "offsets below zero": safetensors({"a": entry(data_offsets=[-16, 0])}),
    "three offsets": safetensors({"a": entry(data_offsets=[0, 8, 16])}),
    "offsets of text": safetensors({"a": entry(data_offsets=["0", "16"])}),
    "another length than its shape": safetensors({"a": entry(shape=[3])}),
    "over each other": safetensors({"a": entry(), "b": entry()}),
    "a gap": safetensors({"a": entry(data_offsets=[0, 8], shape=[2]), "b": entry(data_offsets=[12, 16], shape=[1])}),
    "spare bytes": safetensors({"a": entry()}, b"\0" * 20),
    "cut short": safetensors({"a": entry()}, b"\0" * 4),
    "an unknown type": safetensors({"a": entry(dtype="F31")}),
    "a type that is a list": safetensors({"a": entry(dtype=["F32"])}),
    "a type less": safetensors({"a": {"shape": [4], "data_offsets": [0, 16]}}),
    "a key more": safetensors({"a": entry(more=1)}),
    "an entry that is a number": safetensors({"a": 7}),
    "a list": safetensors([entry()]),
    "keys twice": safetensors(b'{"a":%b,"a":%b}' % ((json.dumps(entry()).encode(),) * 2)),
    "metadata of numbers": safetensors({"__metadata__": {"n": 1}, "a": entry()}),
    "metadata that are a list": safetensors({"__metadata__": ["n"], "a": entry()}),
    "deep metadata": safetensors(b'{"__metadata__":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "deep": safetensors(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "digits": safetensors(b'{"a":{"dtype":"F32","shape":[%b],"data_offsets":[0,16]}}' % (b"9" * 5000)),
    "NaN": safetensors(b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,16]}}'),
    "a header longer than the file": struct.pack("<Q", HUGE) + b"{}",
    "a header of all 64 bits": b"\xff" * 8 + b"{}",
    "no text": safetensors(b"{\xff\xfe}"),
    "nothing but a length": struct.pack("<Q", 2),
    "no tensors": safetensors({}, b""),
    "tensors without numbers": safetensors(
        {"0.attn.q_proj_1.weight": entry(shape=[0, 2**40], data_offsets=[0, 0])}, b""
    ),
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_safetensors_header_that_lies(case, tmp_path) -> None:
    path = tmp_path / "bridge.safetensors"
    path.write_bytes(HEADERS[case])
    if case in ("no tensors", "tensors without numbers"):
        with pytest.raises(SoundingVideoError):
            load_bridges(path)
        assert inspect_parts(path)
        return
    refused(path)


def gguf(
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    tensors: int = 1,
    fields: int = 1,
    field: bytes | None = None,
    name: bytes = b"blocks.0.x",
    shape: tuple[int, ...] = (4,),
    kind: int = 0,
    offset: int = 0,
    order: str = "<",
) -> bytes:
    def text(value: bytes) -> bytes:
        return struct.pack(f"{order}Q", len(value)) + value

    head = magic + struct.pack(f"{order}IQQ", version, tensors, fields)
    head += field if field is not None else text(b"general.name") + struct.pack(f"{order}I", 8) + text(b"x")
    head += text(name) + struct.pack(f"{order}I", len(shape)) + struct.pack(f"{order}{len(shape)}Q", *shape)
    head += struct.pack(f"{order}IQ", kind, offset)
    return head + b"\0" * (-len(head) % 32) + b"\0" * 32


def listed(kind: int, count: int, content: bytes = b"", name: bytes = b"tokenizer.ggml.tokens") -> bytes:
    return struct.pack("<Q", len(name)) + name + struct.pack("<IIQ", 9, kind, count) + content


def single(kind: int, content: bytes, name: bytes = b"general.alignment") -> bytes:
    return struct.pack("<Q", len(name)) + name + struct.pack("<I", kind) + content


GGUF: dict[str, bytes] = {
    "a list of 10**10 texts": gguf(field=listed(8, 10**10)),
    "a list of 10**10 bytes": gguf(field=listed(0, 10**10)),
    "a list of 2**63 numbers": gguf(field=listed(4, 2**63)),
    "a list that is all there and too long": gguf(field=listed(0, 5_000_000, b"\0" * 5_000_000)),
    "a list of lists": gguf(field=listed(9, 1, struct.pack("<IQ", 9, 1) * 100_000)),
    "a list of an unknown kind": gguf(field=listed(77, 1)),
    "a text of 2**63 bytes": gguf(field=struct.pack("<Q", 2**63) + b"x"),
    "a text longer than the file": gguf(field=single(8, struct.pack("<Q", 10**9), b"general.name")),
    "a field of an unknown kind": gguf(field=single(99, b"")),
    "an alignment of zero": gguf(field=single(4, struct.pack("<I", 0))),
    "an alignment of three": gguf(field=single(4, struct.pack("<I", 3))),
    "an alignment of 2**31": gguf(field=single(4, struct.pack("<I", 2**31))),
    "an alignment that is a text": gguf(field=single(8, struct.pack("<Q", 2) + b"32")),
    "2**60 tensors": gguf(tensors=2**60),
    "2**60 fields": gguf(fields=2**60),
    "a tensor more than there is": gguf(tensors=2),
    "version 1": gguf(version=1),
    "version 9": gguf(version=9),
    "the other byte order": gguf(order=">"),
    "a shape of zero": gguf(shape=(4, 0)),
    "a shape of 2**63": gguf(shape=(2**63, 2)),
    "a shape that overflows": gguf(shape=(2**32, 2**32)),
    "no axes": gguf(shape=()),
    "five axes": gguf(shape=(1,) * 5),
    "an unknown type": gguf(kind=4711),
    "a type that has been removed": gguf(kind=4),
    "half a block": gguf(kind=8, shape=(16,)),
    "an offset behind the end": gguf(offset=32 * 10**15),
    "an offset between": gguf(offset=3),
    "a name that is no text": gguf(name=b"\xff\xfe"),
    "a name of a megabyte": gguf(name=b"x" * (1 << 20)),
    "nothing else": b"GGUF",
    "cut in its header": gguf()[:40],
    "cut in its tensors": gguf(shape=(32,))[:-40],
}


@pytest.mark.parametrize("case", GGUF)
def test_a_gguf_header_that_lies(case, tmp_path) -> None:
    pytest.importorskip("gguf", reason="the gguf package is not installed")
    path = tmp_path / "model.gguf"
    path.write_bytes(GGUF[case])
    refused(path, kind=CorruptWeightsError, match="GGUF file cannot be read")


@pytest.mark.parametrize("shape", [(2, 3), (0, 4), (2**32, 2**32), (5,)])
def test_a_gguf_that_notes_another_shape_than_a_tensor_has(shape, tmp_path) -> None:
    pytest.importorskip("gguf", reason="the gguf package is not installed")
    path, name = tmp_path / "model.gguf", b"comfy.gguf.orig_shape.blocks.0.x"
    path.write_bytes(gguf(field=listed(10, len(shape), struct.pack(f"<{len(shape)}Q", *shape), name)))
    refused(path, kind=CorruptWeightsError, match="another shape than a tensor has")


def test_a_gguf_that_does_not_lie_is_read(tmp_path) -> None:
    pytest.importorskip("gguf", reason="the gguf package is not installed")
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf())
    assert open_weights(path).tensor("blocks.0.x").tolist() == [0.0] * 4


def checkpoint(contents: object, **how: object) -> bytes:
    output = io.BytesIO()
    torch.save(contents, output, **how)
    return output.getvalue()


def packed(data: bytes, method: int = zipfile.ZIP_DEFLATED, more: int = 0) -> bytes:
    output = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(output, "w", method) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name) + b"\0" * (more if name.endswith("data/0") else 0))
    return output.getvalue()


def overlapping(data: bytes) -> bytes:
    """The directory of an archive names its largest entry a thousand times: a bomb without packing."""
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        entries = source.infolist()
        start = source.start_dir
    largest = max(entries, key=lambda one: one.file_size)
    output = io.BytesIO(data[:start])
    output.seek(0, io.SEEK_END)
    with zipfile.ZipFile(output, "a") as target:
        target.filelist = [*entries, *[_renamed(largest, number) for number in range(1000)]]
        target._didModify = True
        target.start_dir = start
    return output.getvalue()


def _renamed(info: zipfile.ZipInfo, number: int) -> zipfile.ZipInfo:
    twin = zipfile.ZipInfo(f"{info.filename}_{number}")
    for name in ("header_offset", "file_size", "compress_size", "CRC", "compress_type"):
        setattr(twin, name, getattr(info, name))
    return twin


class _Call:
    def __init__(self, function: Callable, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


STATE = {"blocks.0.norm.weight": torch.ones(512)}
CHECKPOINTS: dict[str, Callable[[], bytes]] = {
    "a bomb": lambda: packed(checkpoint(STATE), more=50_000_000),
    "a bomb packed with lzma": lambda: packed(checkpoint(STATE), zipfile.ZIP_LZMA, 50_000_000),
    "packed": lambda: packed(checkpoint(STATE)),
    "an overlapping bomb": lambda: overlapping(checkpoint(STATE)),
    "room for a terabyte": lambda: checkpoint({"a": _Call(bytearray, 10**12)}, pickle_protocol=2),
    "room for a terabyte, before 1.6": lambda: checkpoint(
        {"a": _Call(bytearray, 10**12)}, pickle_protocol=2, _use_new_zipfile_serialization=False
    ),
    "one number counted 10**12 times": lambda: checkpoint({"a": torch.ones(1).expand(10**6, 10**6)}),
    "sparse": lambda: checkpoint({"a": torch.eye(3).to_sparse()}),
    "without numbers": lambda: checkpoint({"a": torch.empty(10**9, 10**9, device="meta")}),
    "quantised by torch": lambda: checkpoint({"a": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)}),
    "names that are numbers": lambda: checkpoint({7: torch.ones(3), "state_dict": {8: torch.ones(2)}}),
    "names that are tuples": lambda: checkpoint({("a", 1): torch.ones(3)}),
    "a class": lambda: checkpoint({"a": torch.nn.Linear(1, 1)}),
    "a plain pickle": lambda: pickle.dumps({"a": _Call(print, "ran")}, protocol=2),
    "an archive of something else": lambda: packed(checkpoint(STATE), zipfile.ZIP_STORED).replace(
        b"data.pkl", b"data.txt"
    ),
}


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
@pytest.mark.parametrize("case", CHECKPOINTS)
def test_a_checkpoint_that_lies(case, suffix, tmp_path, capsys) -> None:
    path = tmp_path / f"bridge{suffix}"
    path.write_bytes(CHECKPOINTS[case]())
    refused(path, kind=WeightsError)
    assert "ran" not in capsys.readouterr().out


def test_a_storage_of_a_file_before_1_6_that_claims_too_much(tmp_path) -> None:
    data = checkpoint(STATE, _use_new_zipfile_serialization=False)
    number = pickle.BININT2 + struct.pack("<H", 512)
    assert data.count(number)
    path = tmp_path / "bridge.pt"
    path.write_bytes(data.replace(number, pickle.BININT + struct.pack("<i", 2**31 - 1), 1))
    with pytest.raises(CorruptWeightsError, match="claims more than it holds"):
        open_weights(path)


def test_a_checkpoint_that_holds_itself_is_read(tmp_path) -> None:
    path = tmp_path / "bridge.ckpt"
    state: dict[str, object] = {f"n{number}": {} for number in range(50)} | STATE
    for number in range(50):
        state[f"n{number}"] = {f"m{other}": state for other in range(50)}
    torch.save(state, path)
    assert list(open_weights(path)) == list(STATE)


INDEXES: dict[str, object] = {
    "a list": [],
    "no map": {"metadata": {}},
    "a map that is a list": {"weight_map": ["a.safetensors"]},
    "an empty map": {"weight_map": {}},
    "numbers": {"weight_map": {"a": 1, "b": "x.safetensors"}},
    "null": {"weight_map": {"a": None}},
    "lists": {"weight_map": {"a": ["x.safetensors"]}},
    "above": {"weight_map": {"a": "../x.safetensors"}},
    "absolute": {"weight_map": {"a": "/etc/x.safetensors"}},
    "another system's": {"weight_map": {"a": "..\\x.safetensors"}},
    "a drive": {"weight_map": {"a": "C:x.safetensors"}},
    "the folder": {"weight_map": {"a": ".."}},
    "a zero byte": {"weight_map": {"a": "x\0.safetensors"}},
    "itself": {"weight_map": {"a": "model.safetensors.index.json"}},
    "a pickle": {"weight_map": {"a": "x.bin"}},
    "what is not there": {"weight_map": {"a": "y.safetensors"}},
}


@pytest.mark.parametrize("case", INDEXES)
def test_an_index_that_lies(case, tmp_path) -> None:
    path = tmp_path / "model.safetensors.index.json"
    (tmp_path / "x.safetensors").write_bytes(save({"a": torch.ones(2)}))
    path.write_text(json.dumps(INDEXES[case]))
    with pytest.raises(SoundingVideoError):
        open_weights(path)
    assert inspect_parts(path)[0].problem


@pytest.mark.parametrize("count", ["99999999999", "9" * 180])
def test_a_name_that_counts_parts_without_end(count, tmp_path) -> None:
    path = tmp_path / f"model-00001-of-{count}.safetensors"
    path.write_bytes(save({"a": torch.ones(2)}))
    with pytest.raises(CorruptWeightsError, match="counts more parts"):
        open_weights(path)


@pytest.mark.parametrize(
    "name", ["999999999.attn.q_proj_1.weight", f"{'9' * 5000}.attn.q_proj_1.weight", "007.x", "².x"]
)
def test_blocks_without_end(name, tmp_path) -> None:
    for full in (name, f"blocks.{name}", f"dual_dit_blocks.{name}", f"encoder.block.{name}"):
        path = tmp_path / "bridge.safetensors"
        path.write_bytes(save({full: torch.ones(2, 2)}))
        with pytest.raises(SoundingVideoError):
            load_bridges(path)
        assert inspect_parts(path), "a list looks at the ends of names only"


@pytest.fixture(scope="module")
def bridge(small_models_dir: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    source = small_models_dir / "bridge.safetensors"
    return load_file(source), dict(open_weights(source).metadata)


def _changed(**values: object) -> Callable[[dict], object]:
    return lambda config: config | values


CONFIGS: dict[str, Callable[[dict], object]] = {
    "a list": lambda config: [config],
    "null": lambda config: None,
    "a number": lambda config: 7,
    "a text": lambda config: json.dumps(config),
    "truth": lambda config: True,
    "empty": lambda config: {},
    "a key more": _changed(more=1),
    "a key less": lambda config: {name: value for name, value in config.items() if name != "video_width"},
    "a reading that is a list": _changed(reading=["official"]),
    "an unknown reading": _changed(reading="OFFICIAL"),
    "an unknown rope": _changed(rope="none"),
    "a rope that is an object": _changed(rope={}),
    "heads that do not divide": _changed(num_heads=7),
} | {
    f"{name} {value!r}": _changed(**{name: value})
    for name in ("video_width", "qk_width", "v_width", "num_heads", "audio_time_width")
    for value in (10**9, 10**30, 0, -1, True, 1.5, 16.0, "64", None, [16], float("nan"))
}
POINTS: dict[str, object] = {
    "a list": [[0, 1], [0, 1]],
    "null": None,
    "a side less": {"video": [0, 1]},
    "a side more": {"video": [0, 1], "audio": [0, 1], "text": [0, 1]},
    "texts": {"video": ["0", "1"], "audio": [0, 1]},
    "one text": {"video": "01", "audio": [0, 1]},
    "fractions": {"video": [0.0, 1.9], "audio": [0, 1]},
    "nested": {"video": [[0], [1]], "audio": [0, 1]},
    "twice": {"video": [1, 1], "audio": [0, 1]},
    "unsorted": {"video": [1, 0], "audio": [0, 1]},
    "negative": {"video": [-1, 0], "audio": [0, 1]},
    "truth": {"video": [False, True], "audio": [0, 1]},
    "past any tower": {"video": [0, 10**9], "audio": [0, 1]},
    "digits": {"video": [0, 10**200], "audio": [0, 1]},
    "of another length": {"video": [0, 1, 2], "audio": [0, 1]},
    "more than bridges": {"video": [0, 1, 2], "audio": [0, 1, 2]},
    "none": {"video": [], "audio": []},
    "objects": {"video": {"0": 0}, "audio": [0, 1]},
    "past the tower": {"video": [0, 99], "audio": [0, 1]},
}
METADATA: dict[str, dict[str, str]] = {
    "an unknown kind": {"fusion": "evil"},
    "a kind that is a path": {"fusion": "../additive"},
    "another kind": {"fusion": "additive"},
    "a newer version": {"version": "2"},
    "neither trained nor not": {"trained": "maybe"},
    "packed weights": {"_quantization_metadata": '{"layers": {}}'},
    "deep config": {"config": "[" * 100_000},
    "keys twice": {"points": '{"video": [0, 1], "audio": [0, 1], "video": [0, 2]}'},
    "no JSON": {"config": "video_width=16"},
}


def _refused_bridge(tmp_path: Path, bridge: tuple, changed: dict[str, str]) -> None:
    tensors, metadata = bridge
    path = tmp_path / "b.safetensors"
    path.write_bytes(save(tensors, metadata | changed))
    start = time.monotonic()
    for load in (load_bridges, outline_bridges):
        with pytest.raises(SoundingVideoError) as caught:
            load(path)
        assert len(str(caught.value)) < 1000
    assert inspect_parts(path)
    assert time.monotonic() - start < SECONDS


@pytest.mark.parametrize("case", CONFIGS)
def test_a_configuration_of_bridges_that_lies(case, bridge, tmp_path) -> None:
    config = CONFIGS[case](json.loads(bridge[1]["config"]))
    _refused_bridge(tmp_path, bridge, {"config": json.dumps(config)})


@pytest.mark.parametrize("case", [case for case in POINTS if case != "past the tower"])
def test_points_of_bridges_that_lie(case, bridge, tmp_path) -> None:
    _refused_bridge(tmp_path, bridge, {"points": json.dumps(POINTS[case])})


@pytest.mark.parametrize("case", METADATA)
def test_metadata_of_bridges_that_lie(case, bridge, tmp_path) -> None:
    _refused_bridge(tmp_path, bridge, METADATA[case])


def test_points_past_the_tower_are_refused_where_the_tower_is_known(bridge, small_models_dir, tmp_path) -> None:
    from sounding_video.core.device import resolve_placement
    from sounding_video.models.loading import load_models

    path = tmp_path / "b.safetensors"
    path.write_bytes(save(bridge[0], bridge[1] | {"points": json.dumps(POINTS["past the tower"])}))
    with pytest.raises(WeightsError, match="lies past the video tower"):
        load_models(small_models_dir, placement=resolve_placement(device="cpu"), bridge=path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_nan_in_a_small_tensor_is_told(value, bridge, tmp_path) -> None:
    tensors = {name: tensor.clone() for name, tensor in bridge[0].items()}
    name = next(name for name in tensors if name.endswith("bias"))
    tensors[name][0] = value
    path = tmp_path / "b.safetensors"
    path.write_bytes(save(tensors, bridge[1]))
    with pytest.raises(CorruptWeightsError, match=f"NaN or infinity: got {name}"):
        load_bridges(path)


def test_unsafe_is_unsafe(tmp_path) -> None:
    for case in ("a bomb", "room for a terabyte", "a class", "a plain pickle"):
        path = tmp_path / "bridge.ckpt"
        path.write_bytes(CHECKPOINTS[case]())
        with pytest.raises(UnsafeWeightsError):
            open_weights(path)
