"""Text encoders in GGUF under llama.cpp's names, with a tokenizer in their metadata or without."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sounding_video.core.device import resolve_placement
from sounding_video.core.errors import IncompatibleWeightsError, MissingModelError
from sounding_video.models.weights._gguf_reader import quick_reader
from sounding_video.models.weights._header import open_weights
from sounding_video.models.weights._stable_audio import load_t5
from sounding_video.models.weights._tokenizers import _read_model, tokenizer_from_sentencepiece
from sounding_video.models.weights._wan import load_umt5
from sounding_video.models.weights.find import find_file_sets
from sounding_video.models.weights.layouts import WanFiles, identify
from sounding_video.models.weights.load import load_wan

gguf = pytest.importorskip("gguf", reason="the gguf package is not installed")
_spec = importlib.util.spec_from_file_location("single_files", Path(__file__).with_name("single_files.py"))
single = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(single)

CPU = resolve_placement(device="cpu")
RULES = [
    (r"^shared\.", "token_embd."),
    (r"^encoder\.final_layer_norm", "enc.output_norm"),
    (r"^encoder\.block\.(\d+)\.layer\.0\.layer_norm", r"enc.blk.\1.attn_norm"),
    (r"^encoder\.block\.(\d+)\.layer\.1\.layer_norm", r"enc.blk.\1.ffn_norm"),
    (r"^encoder\.block\.(\d+)\.layer\.0\.SelfAttention\.relative_attention_bias", r"enc.blk.\1.attn_rel_b"),
    (r"^encoder\.block\.(\d+)\.layer\.0\.SelfAttention\.([qkvo])\.", r"enc.blk.\1.attn_\2."),
    (r"^encoder\.block\.(\d+)\.layer\.1\.DenseReluDense\.wi_0", r"enc.blk.\1.ffn_gate"),
    (r"^encoder\.block\.(\d+)\.layer\.1\.DenseReluDense\.wi(?:_1)?\.", r"enc.blk.\1.ffn_up."),
    (r"^encoder\.block\.(\d+)\.layer\.1\.DenseReluDense\.wo", r"enc.blk.\1.ffn_down"),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return single.write_folders(tmp_path_factory.mktemp("folders"))


def write(
    path: Path, state: dict[str, torch.Tensor], *, arch: str = "t5encoder", tokenizer: dict[str, Any] | None = None
) -> dict[str, torch.Tensor]:
    """A GGUF file; what it stands for under the given names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer, meaning = gguf.GGUFWriter(path, arch=arch), {}
    for name, value in (tokenizer or {}).items():
        add = writer.add_array if isinstance(value, list | bytes) else writer.add_string
        add(f"tokenizer.ggml.{name}", value)
    for name, tensor in state.items():
        kind = gguf.GGMLQuantizationType.F32
        if tensor.ndim == 2 and tensor.shape[1] % 32 == 0:
            kind = gguf.GGMLQuantizationType.Q8_0
        elif tensor.ndim == 2:
            kind = gguf.GGMLQuantizationType.F16
        packed = gguf.quants.quantize(tensor.numpy(), kind)
        writer.add_tensor(name, packed, raw_dtype=kind)
        meaning[name] = torch.from_numpy(gguf.quants.dequantize(packed, kind).astype(np.float32)).reshape(tensor.shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return meaning


def encoder(folders: Path) -> dict[str, torch.Tensor]:
    return single.part(folders / "wan" / "text_encoder")


def llama(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    renamed = single.rename(state, RULES)
    assert all(re.match(r"token_embd|enc\.", name) for name in renamed), "every rule is there"
    return renamed


def renamed_back(meaning: dict[str, torch.Tensor], state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return dict(zip(state, meaning.values(), strict=True))


def same(one: torch.nn.Module, other: torch.nn.Module) -> None:
    own = one.state_dict()
    assert own.keys() == other.state_dict().keys()
    assert all(torch.equal(own[name], tensor) for name, tensor in other.state_dict().items())


def files(folders: Path, root: Path, text: Path) -> WanFiles:
    wan = single.save(root / "w.safetensors", single.wan_original(folders / "wan"))
    return WanFiles(wan, single.save(root / "v.safetensors", single.vae_original(folders / "wan")), text)


@pytest.mark.parametrize("arch", ["t5encoder", "t5"])
def test_umt5_equals_what_the_file_stands_for(arch, folders, tmp_path) -> None:
    state = encoder(folders)
    more = {}
    if arch == "t5":  # a whole one, whose decoder nothing here uses
        more = {"dec.blk.0.attn_q.weight": torch.zeros(4, 4), "output.weight": torch.zeros(4, 4)}
    text = tmp_path / "text" / "umt5-xxl-encoder-Q8_0.gguf"
    meaning = write(text, llama(state) | more, arch=arch)
    plain = single.save(
        tmp_path / "p.safetensors", renamed_back({n: t for n, t in meaning.items() if n not in more}, state)
    )
    told = identify(text)
    assert (told.kind, told.names, told.format, told.text_width) == ("umt5", "llama.cpp", "gguf", single.VIDEO_TEXT)
    assert not told.has_tokenizer
    own, wanted = (load_umt5(open_weights(file), torch.float32) for file in (text, plain))
    same(own, wanted)
    assert own.shared.weight is own.encoder.embed_tokens.weight
    assert own.config.num_layers == 2
    shutil.copytree(folders / "wan" / "tokenizer", text.parent / "tokenizer")
    loaded = load_wan(files(folders, tmp_path, text), CPU)
    reference = load_wan(
        WanFiles(tmp_path / "w.safetensors", tmp_path / "v.safetensors", plain, text.parent / "tokenizer"), CPU
    )
    assert torch.equal(loaded.text.encode(["a dog"]), reference.text.encode(["a dog"]))


def test_the_set_is_found(folders, tmp_path) -> None:
    text = tmp_path / "text_encoders" / "umt5.gguf"
    write(text, llama(encoder(folders)))
    files(folders, tmp_path, text)
    (found,) = find_file_sets([tmp_path], "wan")
    assert found.text_encoder == text


def test_a_t5_of_either_feed_forward(folders, tmp_path) -> None:
    state = single.part(folders / "stable_audio" / "text_encoder")
    meaning = write(tmp_path / "t5.gguf", llama(state))
    assert (identify(tmp_path / "t5.gguf").kind, identify(tmp_path / "t5.gguf").names) == ("t5", "llama.cpp")
    plain = single.save(tmp_path / "p.safetensors", renamed_back(meaning, state))
    same(*(load_t5(open_weights(file), torch.float32) for file in (tmp_path / "t5.gguf", plain)))


@pytest.mark.parametrize("fault", ["missing", "surplus"])
def test_a_missing_and_a_surplus_tensor_are_named(fault, folders, tmp_path) -> None:
    state = llama(encoder(folders))
    if fault == "missing":
        del state["enc.blk.1.ffn_gate.weight"]
    else:
        state["enc.blk.1.ffn_gate.bias"] = torch.zeros(20)
    write(tmp_path / "t.gguf", state)
    with pytest.raises(
        IncompatibleWeightsError, match="1 missing: .*wi_0" if fault == "missing" else "1 unexpected: enc"
    ):
        load_umt5(open_weights(tmp_path / "t.gguf"), torch.float32)


def metadata(model: bytes, rows: int) -> dict[str, Any]:
    """What llama.cpp's converter writes: every piece, filled up to the rows of the table."""
    import sentencepiece

    read = sentencepiece.SentencePieceProcessor(model_proto=model)
    count = read.get_piece_size()
    kinds = ((read.is_unknown, 2), (read.is_control, 3), (read.is_byte, 6))
    return {
        "model": "t5",
        "tokens": [read.id_to_piece(i) for i in range(count)] + [f"[PAD{i}]" for i in range(count, rows)],
        "scores": [float(read.get_score(i)) for i in range(count)] + [-10000.0] * (rows - count),
        "token_type": [next((k for test, k in kinds if test(i)), 1) for i in range(count)] + [5] * (rows - count),
        "precompiled_charsmap": _read_model(model)[1],
    }


def test_the_tokenizer_of_the_metadata_tokenises_as_sentencepiece_does(sentencepiece_model, folders, tmp_path) -> None:
    import sentencepiece

    text = tmp_path / "alone" / "t.gguf"
    write(text, llama(encoder(folders)), tokenizer=metadata(sentencepiece_model, 359))
    told = identify(text)
    assert told.has_tokenizer
    ours = tokenizer_from_sentencepiece(open_weights(text).tokenizer_bytes())
    witness = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model)
    for line in ("the dog barks twice", "", "  two   blanks ", "naïve ﬁre Ｆｕｌｌ ｗｉｄｔｈ", "emoji 🐶 and 犬"):
        assert ours(line).input_ids == [*witness.encode(line), 1], line
    assert len(ours) == witness.get_piece_size(), "without what fills the table up"
    ids, _ = load_wan(files(folders, tmp_path, text), CPU).text.tokenize(["the dog barks"])
    wanted = [*witness.encode("the dog barks"), 1]
    assert ids[0, : len(wanted)].tolist() == wanted


@pytest.mark.parametrize("change", ["another model", "other first tokens", "no scores", "fewer scores", "none"])
def test_metadata_that_are_of_no_use(change, sentencepiece_model, folders, tmp_path) -> None:
    """The tokenizer is taken as for other files of UMT5: beside, from another file, or a sentence says what to do."""
    said: dict[str, Any] | None = metadata(sentencepiece_model, 359)
    if change == "another model":
        said["model"] = "gpt2"
    elif change == "other first tokens":
        said["tokens"][:2] = ["<s>", "<pad>"]
    elif change == "no scores":
        del said["scores"]
    elif change == "fewer scores":
        said["scores"].pop()
    else:
        said = None
    text = tmp_path / "alone" / "t.gguf"
    write(text, llama(encoder(folders)), tokenizer=said)
    chosen = files(folders, tmp_path, text)
    with pytest.raises(MissingModelError, match="no tokenizer inside"):
        load_wan(chosen, CPU)
    shutil.copytree(folders / "wan" / "tokenizer", text.parent / "tokenizer")
    assert load_wan(chosen, CPU).text.tokenize(["a dog"])


def test_another_file_lends_its_tokenizer_and_takes_one(sentencepiece_model, folders, tmp_path) -> None:
    """The exact encoder has none; the GGUF beside it has."""
    exact = single.save(tmp_path / "text_encoders" / "kijai.safetensors", single.umt5_original(folders / "wan"))
    small = tmp_path / "clip" / "t.gguf"
    write(small, llama(encoder(folders)), tokenizer=metadata(sentencepiece_model, 359))
    files(folders, tmp_path, small)
    (found,) = find_file_sets([tmp_path], "wan")
    assert (found.text_encoder, found.spare_tokenizer) == (exact, small)
    ids, _ = load_wan(found, CPU).text.tokenize(["the dog barks"])
    assert ids[0, :4].tolist() == tokenizer_from_sentencepiece(sentencepiece_model)("the dog barks").input_ids[:4]


def test_lists_that_are_read_at_once_are_what_the_package_reads(tmp_path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "t.gguf", arch="t5")
    lists = ([3, -1, 2**31 - 1], [0.5, -2.0], [True, False], b"\x00\xff", ["a", "naïve", ""], [[1, 2], [3]], [7])
    for number, items in enumerate(lists):
        writer.add_array(f"list {number}", items)
    writer.add_uint32("number", 7)
    writer.add_tensor("t", np.arange(64, dtype=np.float32).reshape(2, 32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    def seen(reader: Any) -> tuple[dict, np.ndarray]:
        fields = {
            name: (field.types, field.data, [(part.dtype, part.tolist()) for part in field.parts])
            for name, field in reader.fields.items()
        }
        return fields, reader.tensors[0].data

    (ours, numbers), (theirs, wanted) = (
        seen(quick_reader()(tmp_path / "t.gguf")),
        seen(gguf.GGUFReader(tmp_path / "t.gguf")),
    )
    assert ours == theirs and len(ours) > len(lists) + 1
    assert np.array_equal(numbers, wanted)
