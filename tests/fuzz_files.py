"""Readers of weight files and media, with odd input for them."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from fuzz_cases import damaged, odd_json, odd_safetensors, odd_value, odd_weight_files
from fuzz_readers import reader, written

# Weight files.
TENSOR = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
HEADERS = [
    {"__metadata__": {"format": "pt"}, "a.weight": TENSOR, "b.weight": {**TENSOR, "data_offsets": [16, 32]}},
    {"blocks.0.attn1.to_q.lora_A.weight": TENSOR,
     "blocks.0.attn1.to_q.lora_B.weight": {**TENSOR, "data_offsets": [16, 32]}},
    {"__metadata__": {"lora_adapter_metadata": '{"transformer.r": 4, "transformer.lora_alpha": 8}'},
     "transformer.blocks.0.attn1.to_q.lora_A.weight": TENSOR},
    {"__metadata__": {"_quantization_metadata": '{"layers": {"a": {"format": "float8_e4m3fn"}}}'}, "a.weight": TENSOR},
]  # fmt: skip


@cache
def _bridge_header() -> dict[str, Any]:
    import tempfile

    from small_models import write_bridge

    with tempfile.TemporaryDirectory() as folder:
        content = write_bridge(Path(folder, "bridge.safetensors")).read_bytes()
    return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])


@cache
def _alignments_of_all_kinds() -> list[bytes]:
    """Whole files: read by no tower, by one, by both; of random weights that only show the form."""
    import tempfile

    from small_models import write_alignment

    kinds = [{}, {"reads": ("audio",)}, {"reads": ("video", "audio")}, {"reads": ("video",), "trained": False}]
    with tempfile.TemporaryDirectory() as folder:
        return [write_alignment(Path(folder, f"{n}.safetensors"), **kind).read_bytes() for n, kind in enumerate(kinds)]


@reader("safetensors files", lambda rng: odd_safetensors([*HEADERS, _bridge_header()])(rng))
def _safetensors(case: bytes, folder: Path) -> None:
    from sounding_video.models.weights._header import open_weights, require_float
    from sounding_video.models.weights.listing import _inspect

    path = written(case, folder, "w.safetensors")
    _inspect(path, 0, len(case))
    require_float(open_weights(path))


@reader("LoRA files", odd_safetensors(HEADERS))
def _lora_file(case: bytes, folder: Path) -> None:
    from sounding_video.models.lora.files import read_lora

    read_lora(written(case, folder, "w.safetensors"))


@reader("bridge files", lambda rng: odd_safetensors([_bridge_header()])(rng))
def _bridges(case: bytes, folder: Path) -> None:
    from sounding_video.models.weights.bridges import outline_bridges

    outline_bridges(written(case, folder, "bridge.safetensors"))


@reader("alignment files", lambda rng: odd_weight_files(_alignments_of_all_kinds())(rng))
def _alignments(case: bytes, folder: Path) -> None:
    from sounding_video.models.weights.alignment import factors_of, load_alignment

    loaded = load_alignment(written(case, folder, "alignment.safetensors"))
    assert loaded.summary() and isinstance(loaded.warnings(), list)
    factors_of(loaded)


@reader(
    "index files",
    odd_json([{"metadata": {"total_size": 1}, "weight_map": {"a": "x-1.safetensors", "b": "x-2.safetensors"}}]),
)
def _index(case: bytes, folder: Path) -> None:
    from sounding_video.models.weights._shards import index_shards

    for name in ("x-1.safetensors", "x-2.safetensors"):
        (folder / name).touch()
    index_shards(written(case, folder, "model.safetensors.index.json"))


@reader("config.json", odd_json([{"_class_name": "WanTransformer3DModel", "num_layers": 2, "patch_size": [1, 2, 2]}]))
def _class_name(case: bytes, folder: Path) -> None:
    from sounding_video.models.weights.listing import tower_kind

    (folder / "transformer").mkdir(exist_ok=True)
    written(case, folder / "transformer", "config.json")
    tower_kind(folder)


@reader("GGUF files", lambda rng: damaged(rng, _gguf()))
def _gguf_file(case: bytes, folder: Path) -> None:
    from sounding_video.models.weights._header import open_weights

    open_weights(written(case, folder, "w.gguf"))


@cache
def _gguf() -> bytes:
    import tempfile

    import gguf
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        writer = gguf.GGUFWriter(f"{folder}/x.gguf", "t5encoder")
        writer.add_uint32("t5encoder.block_count", 2)
        writer.add_array("tokenizer.ggml.tokens", ["a", "b"])
        writer.add_tensor("enc.blk.0.attn_q.weight", np.zeros((4, 4), np.float32))
        for step in (
            writer.write_header_to_file,
            writer.write_kv_data_to_file,
            writer.write_tensors_to_file,
            writer.close,
        ):
            step()
        return Path(folder, "x.gguf").read_bytes()


# Media.
@cache
def _clips() -> dict[str, bytes]:
    """One small clip of each kind, with tags."""
    import tempfile

    import torch
    from sounding_video.core.types import AudioClip, AVClip, VideoClip
    from sounding_video.media.mux import write_clip

    clip = AVClip(VideoClip(torch.zeros(3, 32, 32, 3), 15), AudioClip(torch.zeros(2, 8820), 44_100))
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("mp4", "mkv", "webm", "wav", "flac"):
            sound = suffix in ("wav", "flac")
            write_clip(
                AVClip(None, clip.audio) if sound else clip, Path(folder, f"c.{suffix}"), metadata={"prompt": {"a": 1}}
            )
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()} | {"p.png": _png()}


def _png() -> bytes:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info, file = PngInfo(), io.BytesIO()
    info.add_text("prompt", '{"1": {"class_type": "A", "inputs": {}}}', zip=True)
    info.add_itxt("workflow", '{"nodes": []}')
    Image.new("RGB", (4, 4)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def _odd_clip(rng: random.Random) -> tuple[str, bytes]:
    name = rng.choice(sorted(_clips()))
    return name, damaged(rng, _clips()[name])


@reader("media files", _odd_clip)
def _media(case: tuple[str, bytes], folder: Path) -> None:
    from sounding_video.media.tag_reader import read_tags
    from sounding_video.media.whole import require_whole

    path = written(case[1], folder, case[0])
    for read in _each(require_whole, read_tags, path=path):
        read()


def _each(*readers: Callable[[Path], object], path: Path) -> Iterator[Callable[[], object]]:
    from sounding_video.core.errors import SoundingVideoError

    for read in readers:

        def one(read: Callable[[Path], object] = read) -> None:
            try:
                read(path)
            except SoundingVideoError as error:
                assert len(str(error)) < 5000

        yield one


@reader("clips from beginning to end", _odd_clip)
def _decoded(case: tuple[str, bytes], folder: Path) -> None:
    from sounding_video.media.probe import probe
    from sounding_video.media.user_file import open_user_file

    path = written(case[1], folder, case[0])
    for read in _each(probe, open_user_file, path=path):
        read()


@reader(
    "tags of a container", lambda rng: odd_value(rng, [{"comment": '{"prompt": "{}"}', "PROMPT": "{}", "title": "a"}])
)
def _tags(case: Any, folder: Path) -> None:
    from sounding_video.media.tags import decode_tags, encode_tags

    if isinstance(case, dict):
        decode_tags({key: str(value) for key, value in case.items()}, from_comment=True)
        encode_tags(case)


# Folders of PAV-DiT.
NOTES = [{"num_steps": 30, "video_cfg": 3.0, "fps": "15", "size": [64, 64], "captions": "short", "trained": True,
          "trained_parts": ["autoencoder"], "knows": {"a ball": ["ball"]}}]  # fmt: skip


@cache
def _planes() -> dict[str, bytes]:
    """Every file of a small folder, by its path in it."""
    import tempfile

    from small_models import write_pav_dit_folder

    with tempfile.TemporaryDirectory() as folder:
        root = write_pav_dit_folder(Path(folder, "planes"))
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def _with_file(name: str, case: bytes, folder: Path) -> None:
    """A folder one of whose files is odd: what it was made for, and its outline, as plans and loaders read them."""
    from sounding_video.core.device import resolve_placement
    from sounding_video.models.families import FAMILIES
    from sounding_video.models.loading import outline_found

    root, cpu = folder / "planes", resolve_placement(device="cpu")
    for path, content in {**_planes(), name: case}.items():
        place = root / path
        if not place.is_file() or place.read_bytes() != content:
            place.parent.mkdir(parents=True, exist_ok=True)
            written(content, place.parent, place.name)
    found = FAMILIES.get("pav_dit")().recognise(root)
    for read in _each(lambda _: found and found.own, lambda _: found and outline_found(found, cpu), path=root):
        read()


def _odd_config(part: str) -> Callable[[random.Random], bytes]:
    return lambda rng: odd_json([json.loads(_planes()[f"{part}/config.json"])])(rng)


@reader("model.json", odd_json(NOTES))
def _model_note(case: bytes, folder: Path) -> None:
    from sounding_video.models.pav_dit.new import read_own_note

    _with_file("model.json", case, folder)
    read_own_note(folder / "planes")


@reader("PAV-DiT transformers", _odd_config("transformer"))
def _planes_transformer(case: bytes, folder: Path) -> None:
    _with_file("transformer/config.json", case, folder)


@reader("PAV-DiT autoencoders", _odd_config("autoencoder"))
def _planes_autoencoder(case: bytes, folder: Path) -> None:
    _with_file("autoencoder/config.json", case, folder)
