"""Tokenizers for single-file text encoders: from the sentencepiece bytes inside, or from a folder beside."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ...core.disk import is_dir, is_file, look, reason, suffix_of
from ...core.errors import CorruptWeightsError, IncompatibleWeightsError, MissingModelError, WeightsError
from ...core.json_text import read_json
from ._config import refuse_code
from ._limits import in_words
from ._parts import open_part
from .hub import hub_snapshots

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Of a number of 64 bits, seven a byte.
LONGEST_SHIFT = 63
# Kinds of pieces in a sentencepiece model.
UNKNOWN, BYTE = 2, 6
WEIGHT_FILES = (".safetensors", ".sft", ".gguf")
SENTENCEPIECE_FILES = ("spiece.model", "tokenizer.model")
# The token table is padded: 32 100 T5 tokens in 32 128 rows, 256 000 UMT5 pieces in 256 384.
MOST_PADDING_ROWS = 512
DEPTH = 3
# That of UMT5 has 17 MB, those of language models up to 35 MB.
MOST_TOKENIZER_BYTES = 200 << 20
# Letters that one letter may become before a text is read; known tokenizers make it one.
MOST_GROWTH = 100
# Tokens of every T5 by number; a language model's tokenizer of about the same size has others there.
T5_TOKENS = {"<pad>": 0, "</s>": 1}
# ComfyUI's folders of text encoders; an all-in-one checkpoint lies in another.
TEXT_FOLDERS = ("text_encoders", "clip")
COMFYUI_T5_TOKENIZER = Path("comfy") / "text_encoders" / "t5_tokenizer"


def tokenizer_from_sentencepiece(data: bytes, max_length: int | None = None) -> PreTrainedTokenizerBase:
    """A T5-style tokenizer (end token behind, padding token 0) from a sentencepiece model's bytes.

    Raises:
        CorruptWeightsError: the bytes are not a unigram sentencepiece model.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pieces, charsmap = _read_model(data)
    kinds = {piece: kind for piece, _, kind in pieces}
    special = [piece for piece in ("<pad>", "</s>", "<unk>") if piece in kinds]
    if len(special) < 3:
        raise CorruptWeightsError(
            "the tokenizer inside the file is not T5's", got=f"pieces {special}", expected="<pad>, </s> and <unk>"
        )
    unknown = next(index for index, (_, _, kind) in enumerate(pieces) if kind == UNKNOWN)
    vocabulary = [(piece, score) for piece, score, _ in pieces]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=unknown, byte_fallback=BYTE in kinds.values()))
    steps = [normalizers.Precompiled(charsmap)] if charsmap else []
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    end = next(index for index, (piece, _, _) in enumerate(pieces) if piece == "</s>")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", end)])
    length = {} if max_length is None else {"model_max_length": max_length}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", **length
    )


def _read_model(data: bytes) -> tuple[list[tuple[str, float, int]], bytes]:
    """Pieces with score and kind, and the normaliser's table, from the protocol buffer of sentencepiece.

    ModelProto: 1 = pieces (1 = text, 2 = score, 3 = kind, normally left out for kind 1), 3 = normaliser (2 = table).
    """
    pieces, charsmap = [], b""
    try:
        for number, value in _fields(data):
            if number == 1:
                entry = dict(_fields(value))
                score = struct.unpack("<f", entry[2])[0] if 2 in entry else 0.0
                pieces.append((entry[1].decode("utf-8"), score, entry.get(3, 1)))
            elif number == 3:
                charsmap = dict(_fields(value)).get(2, b"")
    except (IndexError, KeyError, ValueError, AttributeError, TypeError, struct.error) as error:
        raise CorruptWeightsError(
            "the tokenizer inside the file cannot be read",
            got=f"{len(data)} bytes ({type(error).__name__})",
            expected="a sentencepiece model",
        ) from error
    return pieces, charsmap


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers and values of one protocol buffer message."""
    position = 0

    def varint() -> int:
        nonlocal position
        value = shift = 0
        while True:
            if shift > LONGEST_SHIFT:
                raise ValueError("a number without end")
            byte = data[position]
            value |= (byte & 0x7F) << shift
            position, shift = position + 1, shift + 7
            if byte < 0x80:
                return value

    while position < len(data):
        tag = varint()
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            yield number, varint()
            continue
        if wire not in (1, 2, 5):
            raise ValueError(f"wire type {wire}")
        size = varint() if wire == 2 else {1: 8, 5: 4}[wire]
        if position + size > len(data):
            raise ValueError("the message ends early")
        yield number, data[position : position + size]
        position += size


def load_tokenizer(path: Path, max_length: int | None = None) -> PreTrainedTokenizerBase:
    """A tokenizer from a folder of transformers, a sentencepiece file, or a weight file that has one inside.

    Raises:
        MissingModelError: none of these is there.
        IncompatibleWeightsError: the folder's tokenizer cannot be loaded.
        CorruptWeightsError: a file is no sentencepiece model.
    """
    inside = (path / name for name in SENTENCEPIECE_FILES)
    sentencepiece = path if is_file(path) else next((file for file in inside if is_file(file)), None)
    if sentencepiece is not None and not is_file(path / "tokenizer.json"):
        return tokenizer_from_sentencepiece(_sentencepiece_bytes(sentencepiece), max_length)
    if not is_dir(path):
        raise MissingModelError("the tokenizer was not found", got=path, expected="a folder or a sentencepiece file")
    tokenizer = tokenizer_from_folder(path)
    if max_length is not None:
        tokenizer.model_max_length = max_length
    return tokenizer


def tokenizer_from_folder(path: Path) -> PreTrainedTokenizerBase:
    """What transformers makes of a folder; code that lies in it is never run, nor is anybody asked whether to."""
    from transformers import AutoTokenizer

    for name in ("tokenizer_config.json", "config.json"):
        if is_file(path / name):
            what = "the configuration of the tokenizer"
            refuse_code(read_json(path / name, what=what, error=CorruptWeightsError), path / name)
    if is_file(path / "tokenizer.json"):
        _refuse_growth(path / "tokenizer.json")
    try:
        return AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except BaseException as error:
        # The library raises plain Exception for a file that it cannot read, and its Rust part a PanicException.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise IncompatibleWeightsError(
            "the tokenizer folder cannot be loaded",
            got=f"{path} ({in_words(error)})",
            expected="tokenizer.json and tokenizer_config.json",
        ) from error


def _refuse_growth(path: Path) -> None:
    """Refuse a tokenizer that makes a text longer and longer before it reads it: a bomb in a few letters.

    Raises:
        IncompatibleWeightsError: it does.
    """
    content = read_json(path, what="the tokenizer", error=CorruptWeightsError, most_bytes=MOST_TOKENIZER_BYTES)
    steps = [content.get("normalizer")] if isinstance(content, dict) else []
    growth = 1
    while steps:
        step = steps.pop()
        if isinstance(step, dict):
            more = step.get("normalizers")
            steps += more if isinstance(more, list) else []
            growth *= max([1, *(len(step[key]) for key in ("content", "prepend") if isinstance(step.get(key), str))])
    if growth > MOST_GROWTH:
        raise IncompatibleWeightsError(
            "the tokenizer makes a text longer and longer",
            got=f"{path} (a letter may become {growth})",
            expected=f"at most {MOST_GROWTH}",
        )


def _sentencepiece_bytes(path: Path) -> bytes:
    if suffix_of(path) not in WEIGHT_FILES:
        try:
            return path.read_bytes()
        except OSError as error:
            raise CorruptWeightsError(
                "the tokenizer file cannot be read", got=f"{path} ({reason(error)})", expected="a sentencepiece model"
            ) from error
    return open_part(path, "umt5", "the file with a tokenizer inside").tokenizer_bytes() or b""


def find_tokenizer(
    text_encoder: Path, num_rows: int, *, max_length: int | None = None, further: Iterable[Path] = ()
) -> PreTrainedTokenizerBase:
    """T5's tokenizer beside a text encoder file, or in further places, whose size fits the token table.

    Args:
        text_encoder: The weights; folders and sentencepiece files beside and below are looked at.
        num_rows: Rows of the token table.
        max_length: Tokens a text may have; None keeps what the tokenizer says.
        further: Folders, sentencepiece files or weight files; asked for only when nothing beside fits.

    Raises:
        MissingModelError: none fits; the message says where was looked and what to do.
    """
    looked = []
    for place in _places(text_encoder.parent, further):
        if not _is_t5s(place):
            looked.append(f"{place} (not T5's)")
            continue
        tokenizer = load_tokenizer(place, max_length)
        looked.append(f"{place} ({len(tokenizer)} tokens)")
        if 0 <= num_rows - len(tokenizer) < MOST_PADDING_ROWS:
            return tokenizer
    raise MissingModelError(
        "the text encoder file has no tokenizer inside and none that fits stands beside it",
        got=f"{text_encoder} with {num_rows} token rows; looked at {', '.join(looked) or 'no tokenizer at all'}",
        expected="a folder with tokenizer.json, or spiece.model, beside the file",
        remedy="Copy the tokenizer folder of the model's diffusers repository beside the file.",
    )


def further_places(text_encoder: Path) -> Iterator[Path]:
    """Where a tokenizer for a lone file may be: with the ComfyUI around it or its encoders, or in the cache."""
    folders = (parent / COMFYUI_T5_TOKENIZER for parent in text_encoder.absolute().parents)
    yield from (folder for folder in folders if is_dir(folder))
    around = [parent / name for parent in list(text_encoder.absolute().parents)[1:3] for name in TEXT_FOLDERS]
    yield from (folder for folder in around if is_dir(folder))
    yield from hub_snapshots().values()


def _places(folder: Path, further: Iterable[Path]) -> Iterator[Path]:
    yield from tokenizer_places(folder)
    for place in further:
        yield from tokenizer_places(place) if is_dir(place) else [place]


def _is_t5s(place: Path) -> bool:
    """Whether padding and end have T5's numbers; only this is looked at, so that no other tokenizer is loaded."""
    try:
        if is_file(place):
            pieces = [piece for piece, _, _ in _read_model(_sentencepiece_bytes(place))[0]]
            return pieces[:2] == list(T5_TOKENS)
        added = read_json(place / "tokenizer.json")["added_tokens"]
        return T5_TOKENS.items() <= {token["content"]: token["id"] for token in added}.items()
    except (WeightsError, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False


def tokenizer_places(folder: Path) -> list[Path]:
    """Tokenizer folders and sentencepiece files in a folder and up to three levels below it."""
    folders = (folder, *look(folder, DEPTH).folders)
    names = ("tokenizer.json", *SENTENCEPIECE_FILES)
    found = (next((f / name for name in names if is_file(f / name)), None) for f in folders)
    return list(dict.fromkeys(path.parent if path.name == "tokenizer.json" else path for path in found if path))
