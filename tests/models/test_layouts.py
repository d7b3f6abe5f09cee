"""Single files of every layout give the same models as the diffusers folders they were written from."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from sounding_video.core.device import resolve_placement
from sounding_video.core.errors import (
    CorruptWeightsError,
    IncompatibleWeightsError,
    MissingModelError,
    MissingPackageError,
    UnsafeWeightsError,
)
from sounding_video.models.parts import AudioParts, VideoParts
from sounding_video.models.weights import _stable_audio as stable
from sounding_video.models.weights._header import TensorInfo, WeightFile, open_weights
from sounding_video.models.weights._tokenizers import tokenizer_from_sentencepiece
from sounding_video.models.weights._wan import t5_config, transformer_config, transformer_names
from sounding_video.models.weights.find import find_file_sets
from sounding_video.models.weights.layouts import Layout, StableAudioFiles, WanFiles, identify
from sounding_video.models.weights.load import load_stable_audio, load_wan

_spec = importlib.util.spec_from_file_location("single_files", Path(__file__).with_name("single_files.py"))
single = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(single)

FLOAT32 = resolve_placement(device="cpu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return single.write_folders(tmp_path_factory.mktemp("folders"))


@pytest.fixture(scope="module")
def files(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every part in its most common single-file form, float32, with a tokenizer folder beside each text encoder."""
    root = tmp_path_factory.mktemp("files")
    wan, audio = folders / "wan", folders / "stable_audio"
    shutil.copytree(wan / "tokenizer", root / "umt5" / "tokenizer")
    shutil.copytree(audio / "tokenizer", root / "t5" / "tokenizer")
    return {
        "wan": single.save(root / "a.safetensors", single.wan_original(wan)),
        "wan_vae": single.save(root / "b.safetensors", single.vae_original(wan)),
        "umt5": single.save(root / "umt5" / "c.safetensors", single.part(wan / "text_encoder")),
        "stable_audio": single.save(root / "d.safetensors", single.stable_audio_original(audio)),
        "t5": single.save(root / "t5" / "e.safetensors", single.part(audio / "text_encoder")),
    }


def wan_files(files: dict[str, Path], **changed: Path) -> WanFiles:
    chosen = {**files, **changed}
    return WanFiles(chosen["wan"], chosen["wan_vae"], chosen["umt5"], changed.get("tokenizer"))


def modules(parts: VideoParts | AudioParts) -> dict[str, torch.nn.Module]:
    found = {"tower": parts.tower.model, "codec": parts.codec.vae, "text": parts.text.model}
    return found | ({"projection": parts.text.projection} if isinstance(parts, AudioParts) else {})


def assert_same(got: VideoParts | AudioParts, wanted: VideoParts | AudioParts) -> None:
    """Configurations, names, types and every bit of every tensor."""
    for name, module in modules(wanted).items():
        other = modules(got)[name]
        own, reference = other.state_dict(), module.state_dict()
        assert list(own) == list(reference)
        for key, tensor in reference.items():
            assert own[key].dtype == tensor.dtype, (name, key)
            assert torch.equal(own[key], tensor), (name, key)
        ignored = {
            "_name_or_path",
            "_diffusers_version",
            "_class_name",
            "_use_default_values",
            "architectures",
            "dtype",
            "torch_dtype",  # its name in older transformers
            "transformers_version",
        }
        configs = [dict(m.config if name != "text" else m.config.to_dict()) for m in (other, module)]
        for key in configs[1].keys() - ignored:
            a, b = (list(v) if isinstance(v := config.get(key), tuple) else v for config in configs)
            assert a == b, (name, key)


def align(parts: VideoParts | AudioParts) -> None:
    """Give every tensor memory of its own: CPU kernels round differently on the odd addresses of a mapped file."""
    for module in modules(parts).values():
        for parameter in module.parameters():
            parameter.data = parameter.data.clone()


@torch.no_grad()
def video_outputs(parts: VideoParts) -> list[torch.Tensor]:
    align(parts)
    g = torch.Generator().manual_seed(5)
    latents = torch.randn(1, 16, 2, 4, 6, generator=g)
    text = parts.text.encode(["a dog barks twice"])
    dtype = parts.tower.model.dtype
    noise = parts.tower.model(latents.to(dtype), torch.tensor([700]), text[:, :20].to(dtype)).sample
    return [text, noise, parts.codec.decode(latents)]


@torch.no_grad()
def audio_outputs(parts: AudioParts) -> list[torch.Tensor]:
    align(parts)
    g = torch.Generator().manual_seed(5)
    latents = torch.randn(1, 6, 9, generator=g)
    text, duration = parts.text.encode(["a dog barks"]), parts.text.duration(0, 3.5)
    from diffusers.models.embeddings import get_1d_rotary_pos_embed

    rotary = get_1d_rotary_pos_embed(32, 10, use_real=True, repeat_interleave_real=False)
    dtype = parts.tower.model.dtype
    noise = parts.tower.model(
        latents.to(dtype), torch.tensor([0.7], dtype=dtype), text, duration, rotary_embedding=rotary
    ).sample
    return [text, duration, noise, parts.codec.decode(latents)]


@pytest.fixture(scope="module")
def wan_reference(folders: Path) -> VideoParts:
    return load_wan(folders / "wan", FLOAT32)


@pytest.fixture(scope="module")
def audio_reference(folders: Path) -> AudioParts:
    return load_stable_audio(folders / "stable_audio", FLOAT32)


def test_original_names_give_the_folder_s_video_side(files, wan_reference) -> None:
    loaded = load_wan(wan_files(files), FLOAT32)
    assert_same(loaded, wan_reference)
    for own, reference in zip(video_outputs(loaded), video_outputs(wan_reference), strict=True):
        assert torch.equal(own, reference)
    assert loaded.name == "a"
    assert loaded.trained
    assert not any(p.requires_grad or p.is_meta for p in loaded.tower.parameters())
    text = loaded.text.model
    assert text.shared.weight is text.encoder.embed_tokens.weight, "the token table is in memory once"


def test_original_checkpoint_gives_the_folder_s_audio_side(files, audio_reference) -> None:
    loaded = load_stable_audio(StableAudioFiles(files["stable_audio"], files["t5"]), FLOAT32)
    assert_same(loaded, audio_reference)
    for own, reference in zip(audio_outputs(loaded), audio_outputs(audio_reference), strict=True):
        assert torch.equal(own, reference)
    assert loaded.text.max_length == 128
    assert loaded.codec.hop == 32
    assert loaded.codec.sample_rate == 44_100


@pytest.mark.parametrize("layout", ["prefixed", "diffusers", "sharded", "pth", "kijai"])
def test_wan_transformer_layouts(layout, files, folders, tmp_path, wan_reference) -> None:
    state = single.wan_original(folders / "wan")
    if layout == "prefixed":
        file = single.save(tmp_path / "x.safetensors", single.wan_original(folders / "wan", "model.diffusion_model."))
    elif layout == "diffusers":
        file = single.save(tmp_path / "x.safetensors", single.part(folders / "wan" / "transformer"))
    elif layout == "sharded":
        file = single.save_sharded(tmp_path, "diffusion_pytorch_model", state)
    elif layout == "pth":
        file = tmp_path / "x.pth"
        torch.save(state, file)
    else:
        file = single.save(tmp_path / "x.safetensors", single.wan_original(folders / "wan", "diffusion_model."))
    told = identify(file)
    assert (told.kind, told.text_width, told.dtype) == ("wan", single.VIDEO_TEXT, "float32")
    assert told.names == {"diffusers": "diffusers", "prefixed": "ComfyUI", "kijai": "ComfyUI"}.get(layout, "original")
    assert_same(load_wan(wan_files(files, wan=file), FLOAT32), wan_reference)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, single.FP8])
@pytest.mark.parametrize("loaded_as", ["float32", "bfloat16", "float16"])
def test_stored_types_equal_the_rounded_folder(dtype, loaded_as, files, folders, tmp_path) -> None:
    """A file in another type is the folder's weights rounded to it; fp8 is rounded once more only when loading."""
    file = single.save(tmp_path / "x.safetensors", single.cast(single.wan_original(folders / "wan"), dtype))
    text = single.save(tmp_path / "umt5.safetensors", single.cast(single.part(folders / "wan/text_encoder"), dtype))
    rounded = shutil.copytree(folders / "wan", tmp_path / "wan")
    for name in ("transformer", "text_encoder"):
        single.replace_part(rounded, name, lambda state: single.cast(single.cast(state, dtype), torch.float32))
    placement = resolve_placement(device="cpu", dtype=loaded_as)
    tokenizer = folders / "wan" / "tokenizer"
    loaded = load_wan(wan_files(files, wan=file, umt5=text, tokenizer=tokenizer), placement)
    assert_same(loaded, load_wan(rounded, placement))
    assert identify(file).dtype == str(dtype).removeprefix("torch.")


@pytest.mark.parametrize("word", ["scale_weight", "weight_scale"])
def test_scaled_fp8_is_undone(word, files, folders, tmp_path) -> None:
    stored, meaning = single.scaled_fp8(single.wan_original(folders / "wan"), word=word)
    text_stored, text_meaning = single.scaled_fp8(single.part(folders / "wan" / "text_encoder"), word=word)
    paths = {
        "wan": single.save(tmp_path / "w.safetensors", stored),
        "umt5": single.save(tmp_path / "t.safetensors", text_stored),
        "tokenizer": folders / "wan" / "tokenizer",
    }
    plain = {
        "wan": single.save(tmp_path / "wp.safetensors", meaning),
        "umt5": single.save(tmp_path / "tp.safetensors", text_meaning),
        "tokenizer": folders / "wan" / "tokenizer",
    }
    assert identify(paths["wan"]).dtype == "scaled float8_e4m3fn"
    loaded = load_wan(wan_files(files, **paths), FLOAT32)
    assert_same(loaded, load_wan(wan_files(files, **plain), FLOAT32))
    original = load_wan(wan_files(files), FLOAT32)
    for name, weight in loaded.tower.model.state_dict().items():  # e4m3 keeps 3 bits behind the leading one
        exact = original.tower.model.state_dict()[name]
        assert torch.allclose(weight, exact, rtol=2**-4, atol=float(exact.abs().max()) * 2**-15)


@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_fp8_of_both_kinds_with_a_scale_a_matrix_or_a_row(dtype, per_row, files, folders, tmp_path) -> None:
    """Written the newer way: the packing stands beside each layer, and scales of inputs, which are not used here."""
    word = str(dtype).removeprefix("torch.")
    stored, meaning = single.scaled_fp8(
        single.wan_original(folders / "wan"), word="weight_scale", dtype=dtype, per_row=per_row
    )
    stored = single.with_quantisation(stored, word, full_precision_matrix_mult=True)
    inputs = {name.replace("weight_scale", "input_scale"): torch.tensor(7.0) for name in stored if "_scale" in name}
    file = single.save(tmp_path / "w.safetensors", stored | inputs)
    plain = single.save(tmp_path / "p.safetensors", meaning)
    assert identify(file).dtype == f"scaled {word}"
    assert_same(load_wan(wan_files(files, wan=file), FLOAT32), load_wan(wan_files(files, wan=plain), FLOAT32))


def test_older_scaled_fp8_with_a_prefix_and_scales_of_inputs(files, folders, tmp_path) -> None:
    """As ComfyUI saves a model it loaded scaled: the marker has the prefix too, and is empty."""
    stored, meaning = single.scaled_fp8(single.wan_original(folders / "wan"))
    del stored["scaled_fp8"]
    prefix = "model.diffusion_model."
    inputs = {n.replace("scale_weight", "scale_input"): torch.tensor(7.0) for n in stored if "scale_weight" in n}
    marked = {f"{prefix}{n}": t for n, t in (stored | inputs).items()}
    marked[f"{prefix}scaled_fp8"] = torch.empty(0, dtype=single.FP8)
    file = single.save(tmp_path / "w.safetensors", marked)
    plain = single.save(tmp_path / "p.safetensors", meaning)
    assert_same(load_wan(wan_files(files, wan=file), FLOAT32), load_wan(wan_files(files, wan=plain), FLOAT32))


def test_a_scale_of_another_shape_is_refused(files, folders, tmp_path) -> None:
    stored, _ = single.scaled_fp8(single.wan_original(folders / "wan"), word="weight_scale")
    first = next(name for name in stored if name.endswith("weight_scale"))
    file = single.save(tmp_path / "w.safetensors", stored | {first: torch.ones(3)})
    with pytest.raises(IncompatibleWeightsError, match=rf"scale of an fp8 weight .*{first} \(3,\).*one a row"):
        load_wan(wan_files(files, wan=file), FLOAT32)


def test_umt5_layouts(files, folders, tmp_path, wan_reference) -> None:
    original = tmp_path / "umt5-xxl-enc.pth"
    torch.save(single.umt5_original(folders / "wan"), original)
    kijai = single.save(tmp_path / "kijai.safetensors", single.umt5_original(folders / "wan"))
    for file in (original, kijai):
        told = identify(file)
        assert (told.kind, told.names, told.text_width) == ("umt5", "original", single.VIDEO_TEXT)
        chosen = wan_files(files, umt5=file, tokenizer=folders / "wan" / "tokenizer")
        assert_same(load_wan(chosen, FLOAT32), wan_reference)


def test_vae_layouts(files, folders, tmp_path, wan_reference) -> None:
    pth = tmp_path / "Wan2.1_VAE.pth"
    torch.save(single.vae_original(folders / "wan"), pth)
    diffusers = single.save(tmp_path / "vae.safetensors", single.part(folders / "wan" / "vae"))
    original = single.vae_original(folders / "wan")
    kijai = single.save(tmp_path / "Wan2_1_VAE_fp32.safetensors", {f"model.{n}": t for n, t in original.items()})
    for file, names in ((pth, "original"), (diffusers, "diffusers"), (kijai, "Kijai's")):
        assert (identify(file).kind, identify(file).names) == ("wan_vae", names)
        assert_same(load_wan(wan_files(files, wan_vae=file), FLOAT32), wan_reference)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_stable_audio_layouts(dtype, files, folders, tmp_path) -> None:
    folder = folders / "stable_audio"
    comfy = single.cast(single.stable_audio_original(folder, newer_weight_norm=True), dtype)
    file = single.save(tmp_path / "x.safetensors", comfy)
    ckpt = tmp_path / "model.ckpt"
    torch.save({"state_dict": single.cast(single.stable_audio_original(folder), dtype)}, ckpt)
    whole_t5 = single.part(folder / "text_encoder") | {"decoder.final_layer_norm.weight": torch.ones(3)}
    t5 = single.save(tmp_path / "t5-base.safetensors", whole_t5)
    rounded = shutil.copytree(folder, tmp_path / "rounded")
    for name in ("transformer", "vae", "projection_model"):
        single.replace_part(rounded, name, lambda state: single.cast(single.cast(state, dtype), torch.float32))
    wanted = load_stable_audio(rounded, FLOAT32)
    for checkpoint, names in ((file, "ComfyUI"), (ckpt, "original")):
        assert (identify(checkpoint).kind, identify(checkpoint).names) == ("stable_audio", names)
        loaded = load_stable_audio(StableAudioFiles(checkpoint, t5, folder / "tokenizer"), FLOAT32)
        assert_same(loaded, wanted)


def test_a_checkpoint_saved_by_comfyui(files, folders, tmp_path) -> None:
    """It drops the biases of the norms, which are zero in the published model, and keeps the text encoder inside."""
    folder = shutil.copytree(folders / "stable_audio", tmp_path / "zero")
    norms = (".norm1.bias", ".norm2.bias", ".norm3.bias")
    single.replace_part(
        folder, "transformer", lambda s: {n: torch.zeros_like(t) if n.endswith(norms) else t for n, t in s.items()}
    )
    state = single.saved_by_comfyui(folder)
    file = single.save(tmp_path / "saved.safetensors", state)
    assert (identify(file).kind, identify(file).names) == ("stable_audio", "ComfyUI")
    loaded = load_stable_audio(StableAudioFiles(file, files["t5"]), FLOAT32)
    assert_same(loaded, load_stable_audio(folder, FLOAT32))
    one = "model.model.transformer.layers.0.pre_norm.beta"
    half = single.save(tmp_path / "half.safetensors", state | {one: torch.zeros(256)})
    with pytest.raises(IncompatibleWeightsError, match=r"5 missing: transformer_blocks\.0\.norm2\.bias"):
        load_stable_audio(StableAudioFiles(half, files["t5"]), FLOAT32)


def test_stable_audio_in_half_types(files, folders) -> None:
    for dtype in ("bfloat16", "float16"):
        placement = resolve_placement(device="cpu", dtype=dtype)
        loaded = load_stable_audio(StableAudioFiles(files["stable_audio"], files["t5"]), placement)
        assert_same(loaded, load_stable_audio(folders / "stable_audio", placement))


def test_gguf(files, folders, tmp_path) -> None:
    gguf = pytest.importorskip("gguf", reason="the gguf package is not installed")
    state = single.wan_original(folders / "wan")
    file = tmp_path / "wan.gguf"
    writer = gguf.GGUFWriter(file, arch="wan")
    meaning = {}
    for name, tensor in state.items():
        numbers = tensor.numpy()
        kind = gguf.GGMLQuantizationType.F32
        if tensor.ndim == 2 and tensor.shape[1] % 32 == 0:
            kind = gguf.GGMLQuantizationType.Q8_0
        if tensor.ndim == 5:  # GGUF has four dimensions; ComfyUI's converters say the rest in a field
            writer.add_array(f"comfy.gguf.orig_shape.{name}", [int(size) for size in tensor.shape])
            numbers = numbers.reshape(numbers.shape[0], numbers.shape[1], 2, 2)
        packed = gguf.quants.quantize(numbers, kind)
        writer.add_tensor(name, packed, raw_dtype=kind)
        meaning[name] = torch.from_numpy(gguf.quants.dequantize(packed, kind).copy()).reshape(tensor.shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    told = identify(file)
    assert (told.kind, told.format, told.dtype) == ("wan", "gguf", "Q8_0")
    plain = single.save(tmp_path / "plain.safetensors", meaning)
    loaded = load_wan(wan_files(files, wan=file), FLOAT32)
    assert_same(loaded, load_wan(wan_files(files, wan=plain), FLOAT32))
    exact = load_wan(wan_files(files), FLOAT32).tower.model.blocks[0].ffn.net[0].proj.weight
    rounded = loaded.tower.model.blocks[0].ffn.net[0].proj.weight
    assert not torch.equal(rounded, exact)
    assert torch.allclose(rounded, exact, atol=float(exact.abs().max()) / 127)


def test_gguf_without_the_package_says_what_to_install(tmp_path, monkeypatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "gguf", None)
    file = tmp_path / "x.gguf"
    file.write_bytes(b"GGUF" + bytes(60))
    with pytest.raises(MissingPackageError, match="pip install gguf"):
        open_weights(file)


def test_the_tokenizer_inside_the_file_tokenises_as_sentencepiece_does(sentencepiece_model) -> None:
    import sentencepiece

    witness = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model)
    ours = tokenizer_from_sentencepiece(sentencepiece_model)
    texts = [
        "the dog barks twice",
        "",
        "  two   blanks ",
        "naïve ﬁre Ｆｕｌｌ ｗｉｄｔｈ",
        "emoji 🐶 and 犬",
    ]
    for text in texts:
        assert ours(text).input_ids == [*witness.encode(text), 1], text
    padded = ours(["dog"], padding="max_length", max_length=9).input_ids[0]
    assert padded[-3:] == [0, 0, 0]


def test_umt5_with_its_tokenizer_inside(files, folders, tmp_path, sentencepiece_model) -> None:
    inside = torch.frombuffer(bytearray(sentencepiece_model), dtype=torch.uint8)
    state = single.part(folders / "wan" / "text_encoder") | {"spiece_model": inside}
    file = single.save(tmp_path / "umt5_xxl.safetensors", state)
    loaded = load_wan(wan_files(files, umt5=file), FLOAT32)
    assert_same(loaded, load_wan(wan_files(files), FLOAT32))
    ids, _ = loaded.text.tokenize(["the dog barks"])
    assert ids[0, :4].tolist() == tokenizer_from_sentencepiece(sentencepiece_model)("the dog barks").input_ids[:4]
    broken = single.save(tmp_path / "broken.safetensors", state | {"spiece_model": inside[:100]})
    with pytest.raises(CorruptWeightsError, match="tokenizer inside the file"):
        load_wan(wan_files(files, umt5=broken), FLOAT32)


def test_without_any_tokenizer_the_message_says_what_to_do(files, folders, tmp_path) -> None:
    alone = single.save(tmp_path / "alone" / "t.safetensors", single.part(folders / "wan" / "text_encoder"))
    with pytest.raises(MissingModelError, match=r"no tokenizer inside .* no tokenizer at all.*Copy the tokenizer"):
        load_wan(wan_files(files, umt5=alone), FLOAT32)


def test_a_lone_t5_takes_the_tokenizer_of_the_comfyui_around_it(files, folders, tmp_path) -> None:
    folder = folders / "stable_audio"
    t5 = single.save(
        tmp_path / "ComfyUI/models/text_encoders/t5-base.safetensors", single.part(folder / "text_encoder")
    )
    chosen = StableAudioFiles(files["stable_audio"], t5)
    with pytest.raises(MissingModelError, match="no tokenizer at all"):
        load_stable_audio(chosen, FLOAT32)
    shutil.copytree(folder / "tokenizer", tmp_path / "ComfyUI/comfy/text_encoders/t5_tokenizer")
    loaded = load_stable_audio(chosen, FLOAT32)
    assert torch.equal(loaded.text.encode(["a dog"]), load_stable_audio(folder, FLOAT32).text.encode(["a dog"]))


def test_a_tokenizer_of_a_language_model_is_passed_over(files, folders, tmp_path, monkeypatch) -> None:
    """One of about the same size, which would give the right number of wrong tokens; the right one is in the cache."""
    text = single.save(tmp_path / "text" / "t5.safetensors", single.part(folders / "stable_audio" / "text_encoder"))
    other = shutil.copytree(folders / "stable_audio" / "tokenizer", tmp_path / "text" / "llama")
    file = other / "tokenizer.json"
    file.write_text(file.read_text().replace("<pad>", "<s>"))
    chosen = StableAudioFiles(files["stable_audio"], text)
    monkeypatch.setattr("sounding_video.models.weights.hub.hub_cache", lambda: tmp_path / "hub")
    with pytest.raises(MissingModelError, match=r"llama \(not T5's\)"):
        load_stable_audio(chosen, FLOAT32)
    snapshot = tmp_path / "hub" / "models--google-t5--t5-base" / "snapshots" / ("a" * 40)
    shutil.copytree(folders / "stable_audio" / "tokenizer", snapshot)
    assert load_stable_audio(chosen, FLOAT32).text.max_length == 128


def test_a_umt5_without_a_tokenizer_takes_the_one_inside_another(files, folders, tmp_path, sentencepiece_model) -> None:
    """Kijai's file beside ComfyUI's: the first one is the more exact, the second one has the tokenizer."""
    inside = torch.frombuffer(bytearray(sentencepiece_model), dtype=torch.uint8)
    exact = single.part(folders / "wan" / "text_encoder")
    single.save(tmp_path / "vae" / "v.safetensors", single.vae_original(folders / "wan"))
    single.save(tmp_path / "unet" / "w.safetensors", single.wan_original(folders / "wan"))
    kijai = single.save(tmp_path / "text_encoders" / "kijai.safetensors", single.umt5_original(folders / "wan"))
    half = single.cast(exact, torch.float16) | {"spiece_model": inside}
    comfy = single.save(tmp_path / "clip" / "umt5_xxl_fp16.safetensors", half)
    (found,) = find_file_sets([tmp_path], "wan")
    assert (found.text_encoder, found.tokenizer, found.spare_tokenizer) == (kijai, None, comfy)
    ids, _ = load_wan(found, FLOAT32).text.tokenize(["the dog barks"])
    assert ids[0, :4].tolist() == tokenizer_from_sentencepiece(sentencepiece_model)("the dog barks").input_ids[:4]
    shutil.copytree(folders / "wan" / "tokenizer", tmp_path / "text_encoders" / "tokenizer")
    beside, _ = load_wan(found, FLOAT32).text.tokenize(["the dog barks"])
    assert not torch.equal(beside, ids), "one that fits and stands beside goes first"


def test_a_tokenizer_of_another_size_is_passed_over(files, folders, tmp_path) -> None:
    state = single.part(folders / "wan" / "text_encoder")
    big = {n: torch.cat([t, t, t, t]) if "shared" in n else t for n, t in state.items()}
    file = single.save(tmp_path / "t.safetensors", big)
    shutil.copytree(folders / "wan" / "tokenizer", tmp_path / "tokenizer")
    with pytest.raises(MissingModelError, match=r"1436 token rows; looked at .*\(259 tokens\)"):
        load_wan(wan_files(files, umt5=file), FLOAT32)


@pytest.mark.parametrize(
    ("state", "title"),
    [
        ({"lora_unet_blocks_0.lora_up.weight": (4, 4)}, "a LoRA"),
        ({"blocks.0.self_attn.q.lora_A.weight": (4, 4), "head.modulation": (1, 2, 8)}, "a LoRA"),
        ({"double_blocks.0.img_attn.qkv.weight": (4, 4)}, "Flux"),
        ({"conditioner.embedders.1.model.ln_final.weight": (4,)}, "Stable Diffusion XL"),
        ({"model.diffusion_model.input_blocks.0.0.weight": (4, 4)}, "U-Net"),
        ({"decoder.upsamples.0.upsamples.0.residual.0.gamma": (4,)}, r"Wan 2\.2 5B"),
        ({"nothing.known": (2,)}, r"an unknown model \(1 tensors: nothing.known\)"),
        ({"0.attn.q_proj_1.weight": ()}, r"an unknown model \(1 tensors: 0\.attn\.q_proj_1"),
        (
            {"head.modulation": (1,), "text_embedding.0.weight": (1,), "patch_embedding.weight": (1,)},
            "an unknown model",
        ),
    ],
)
def test_unknown_files_are_named_with_what_is_wanted(state, title, tmp_path) -> None:
    file = single.save(tmp_path / "wan2.1_t2v_1.3B.safetensors", {n: torch.zeros(s) for n, s in state.items()})
    with pytest.raises(IncompatibleWeightsError, match=f"looks like.*{title}") as caught:
        identify(file)
    assert "Wan 2.1 transformer" in caught.value.expected
    assert "Comfy-Org/" in caught.value.remedy


@pytest.mark.parametrize(
    ("extra", "channels", "title"),
    [
        ({"img_emb.proj.0.weight": (4,)}, 36, "Wan image to video"),
        ({"vace_blocks.0.after_proj.bias": (4,)}, 16, "Wan VACE"),
        ({}, 36, "Wan image to video"),
        ({}, 48, r"Wan 2\.2 5B"),
    ],
)
def test_other_wans_are_told_apart(extra, channels, title, files, folders, tmp_path) -> None:
    state = single.wan_original(folders / "wan") | {n: torch.zeros(s) for n, s in extra.items()}
    state["patch_embedding.weight"] = torch.zeros(256, channels, 1, 2, 2)
    file = single.save(tmp_path / "x.safetensors", state)
    with pytest.raises(IncompatibleWeightsError, match=f"not a Wan 2.1 transformer: .*{title}"):
        load_wan(wan_files(files, wan=file), FLOAT32)


def test_a_file_in_the_place_of_another(files) -> None:
    with pytest.raises(IncompatibleWeightsError, match=r"not a Wan 2\.1 VAE: .*UMT5 text encoder.*wan_2\.1_vae"):
        load_wan(wan_files(files, wan_vae=files["umt5"]), FLOAT32)
    with pytest.raises(IncompatibleWeightsError, match=r"not a UMT5 text encoder: .*T5 text encoder"):
        load_wan(wan_files(files, umt5=files["t5"]), FLOAT32)
    with pytest.raises(IncompatibleWeightsError, match=r"not a Stable Audio Open checkpoint: .*Wan 2\.1 transformer"):
        load_stable_audio(StableAudioFiles(files["wan"], files["t5"]), FLOAT32)


def test_a_text_encoder_of_another_width(files, folders, tmp_path) -> None:
    state = single.part(folders / "stable_audio" / "text_encoder")
    state["shared.weight"] = torch.zeros(259, 64)
    other = single.save(tmp_path / "t5-large.safetensors", state)
    with pytest.raises(IncompatibleWeightsError, match=r"text encoder does not fit the tower.*width 64.*width 48"):
        load_stable_audio(StableAudioFiles(files["stable_audio"], other), FLOAT32)


@pytest.mark.parametrize("kind", ["wan", "wan_vae", "umt5", "stable_audio", "t5"])
def test_every_missing_and_surplus_tensor_is_named(kind, files, folders, tmp_path) -> None:
    state = load_file(files[kind])
    lost = [n for n in state if "1" in n and n.endswith("weight") and "relative" not in n][-1]
    if kind == "wan_vae":
        lost = "decoder.upsamples.13.residual.6.weight"
    tokenizers = {"umt5": folders / "wan/tokenizer", "t5": folders / "stable_audio/tokenizer"}

    def load(file: Path) -> None:
        if kind in ("stable_audio", "t5"):
            chosen = {**files, kind: file}
            load_stable_audio(StableAudioFiles(chosen["stable_audio"], chosen["t5"], tokenizers["t5"]), FLOAT32)
        else:
            load_wan(wan_files(files, **{kind: file, "tokenizer": tokenizers["umt5"]}), FLOAT32)

    broken = single.save(tmp_path / "x.safetensors", {n: t for n, t in state.items() if n != lost})
    with pytest.raises(IncompatibleWeightsError, match=r"missing|without"):
        load(broken)
    stray = single.save(tmp_path / "y.safetensors", state | {"stray.weight": torch.zeros(1)})
    with pytest.raises(IncompatibleWeightsError, match=r"1 unexpected: stray\.weight"):
        load(stray)


def test_truncated_half_downloaded_and_placeholder_files(files, tmp_path) -> None:
    whole = files["wan"].read_bytes()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole[: len(whole) // 2])
    half = tmp_path / "wan.safetensors.incomplete"
    half.write_bytes(whole)
    pointer = tmp_path / "pointer.safetensors"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 2838276232\n")
    page = tmp_path / "page.safetensors"
    page.write_text("<!DOCTYPE html><html>Access to this model is restricted</html>")
    empty = tmp_path / "empty.safetensors"
    empty.touch()
    for file, words in (
        (cut, "cut short"),
        (half, "half a download"),
        (pointer, "Git LFS pointer"),
        (page, "a web page.*licence"),
        (empty, "is empty"),
    ):
        with pytest.raises(CorruptWeightsError, match=words):
            load_wan(wan_files(files, wan=file), FLOAT32)
    with pytest.raises(MissingModelError, match=r"Wan 2\.1 VAE was not found"):
        load_wan(wan_files(files, wan_vae=tmp_path / "nothing"), FLOAT32)


class _Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_a_malicious_pickle_does_not_run(files, tmp_path) -> None:
    canary, file = tmp_path / "ran", tmp_path / "wan.pth"
    torch.save({"head.modulation": torch.zeros(2), "x": _Canary(canary)}, file)
    with pytest.raises(UnsafeWeightsError, match=r"wants to run code.*pathlib"):
        load_wan(wan_files(files, wan=file), FLOAT32)
    assert not canary.exists()
    hidden = tmp_path / "hidden.safetensors"
    hidden.write_bytes(file.read_bytes())
    with pytest.raises(UnsafeWeightsError, match=r"named .safetensors but is a pickle"):
        load_wan(wan_files(files, wan=hidden), FLOAT32)
    assert not canary.exists()


def test_an_index_that_points_outside_or_to_missing_shards(files, folders, tmp_path) -> None:
    index = single.save_sharded(tmp_path, "m", single.wan_original(folders / "wan"))
    next(tmp_path.glob("*00002-of*")).unlink()
    with pytest.raises(MissingModelError, match="part of the sharded model was not found"):
        load_wan(wan_files(files, wan=index), FLOAT32)
    index.write_text('{"weight_map": {"a": "../../etc/x.safetensors"}}')
    with pytest.raises(CorruptWeightsError, match="outside of its folder"):
        load_wan(wan_files(files, wan=index), FLOAT32)


def header_of(state: dict[str, torch.Tensor]) -> WeightFile:
    """A file of which only the header exists: names, shapes and types."""
    infos = {n: TensorInfo(tuple(t.shape), str(t.dtype).removeprefix("torch.")) for n, t in state.items()}
    return WeightFile(Path("published.safetensors"), infos, {})


@pytest.mark.parametrize(("size", "layers", "heads", "ffn"), [("1.3B", 30, 12, 8960), ("14B", 40, 40, 13824)])
def test_published_wan_sizes_are_read_from_the_shapes(size, layers, heads, ffn, tmp_path) -> None:
    from diffusers import WanTransformer3DModel

    wanted = {"num_layers": layers, "num_attention_heads": heads, "ffn_dim": ffn}
    with torch.device("meta"):
        model = WanTransformer3DModel(**wanted)
    state = single.rename(model.state_dict(), single.WAN_RULES)
    file = header_of(state)
    names = transformer_names(file)
    config = transformer_config(file, names)
    assert set(names) == set(model.state_dict())
    assert names == dict(zip(model.state_dict(), state, strict=True))
    assert config == {key: model.config[key] for key in config}
    assert config.items() >= wanted.items()
    assert looked(file).detail == size


def looked(file: WeightFile) -> Layout:
    """``identify`` without a file to take the size of."""
    file.__class__ = type("Header", (WeightFile,), {"num_bytes": 0})
    return identify(file)


def test_published_sizes_of_the_other_parts() -> None:
    from diffusers import AutoencoderKLWan, AutoencoderOobleck, StableAudioDiTModel, StableAudioProjectionModel
    from transformers import T5Config, T5EncoderModel, UMT5Config, UMT5EncoderModel

    umt5 = {"vocab_size": 256384, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64}
    with torch.device("meta"):
        umt5_model = UMT5EncoderModel(UMT5Config(**umt5))
        t5_model = T5EncoderModel(T5Config(vocab_size=32128, d_model=768, d_ff=3072, num_layers=12, num_heads=12))
        vae, transformer = AutoencoderKLWan(), StableAudioDiTModel()
        projection = StableAudioProjectionModel(768, 768, 0, 512)
        oobleck = AutoencoderOobleck()
    encoder = {n: t for n, t in umt5_model.state_dict().items() if "embed_tokens" not in n}
    told = looked(header_of(single.rename(encoder, single.UMT5_RULES)))
    assert (told.kind, told.detail, told.text_width) == ("umt5", "XXL", 4096)
    assert t5_config(header_of(encoder), {n: n for n in encoder}).items() >= umt5.items()
    told = looked(header_of(t5_model.state_dict()))
    assert (told.kind, told.detail, told.text_width) == ("t5", "base", 768)
    assert looked(header_of(single.vae_names(vae.state_dict()))).kind == "wan_vae"
    file = header_of(
        single.stable_audio_checkpoint(transformer.state_dict(), projection.state_dict(), oobleck.state_dict())
    )
    assert (looked(file).kind, looked(file).text_width) == ("stable_audio", 768)
    for module, recipes, config in (
        (transformer, stable.transformer_recipes, stable._transformer_config),
        (projection, stable._conditioner_recipes, stable._projection_config),
        (oobleck, stable._autoencoder_recipes, stable._autoencoder_config),
    ):
        assert set(recipes(file)) == set(module.state_dict())
        sizes = config(file, recipes(file))
        assert sizes == {key: module.config[key] for key in sizes}


def test_one_file_alone_is_not_a_model(files) -> None:
    with pytest.raises(MissingModelError, match=r"one file is not a whole Wan 2\.1.*VAE and text encoder"):
        load_wan(files["wan"], FLOAT32)


def test_the_readme_s_table_of_layouts_names_tests_that_exist(root) -> None:
    """Every row names at least one file of tests, and each of them is there and not empty of tests."""
    text = (root / "README.md").read_text(encoding="utf-8")
    table = text[text.index("| layout | example | tested by") :].partition("\n\n")[0].splitlines()[2:]
    assert len(table) >= 11
    for row in table:
        names = re.findall(r"`(test_\w+\.py)`", row.split("|")[3])
        assert names, row
        for name in names:
            (file,) = (file for folder in ("tests/models", "tests") if (file := root / folder / name).is_file())
            assert "\ndef test_" in file.read_text(encoding="utf-8"), name
    assert "hub id" in " ".join(table).lower()
