"""Checkpoints of everything: transformer, VAE and text encoder in one file, under every prefix that is around."""

from __future__ import annotations

import importlib.util
import io
import shutil
from pathlib import Path

import pytest
import torch
from sounding_video.core.device import resolve_placement
from sounding_video.core.errors import MissingModelError, WeightsError
from sounding_video.models.plan.outline import outline_models
from sounding_video.models.weights._parts import open_part
from sounding_video.models.weights.find import find_file_sets, find_files, find_models
from sounding_video.models.weights.layouts import StableAudioFiles, WanFiles
from sounding_video.models.weights.load import load_stable_audio, load_wan
from sounding_video.nodes.host import standalone
from sounding_video.nodes.host.folders import list_models, resolve_model

_spec = importlib.util.spec_from_file_location("single_files", Path(__file__).with_name("single_files.py"))
single = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(single)

CPU = resolve_placement(device="cpu")
# What stands in front of the parts: as ComfyUI saves Wan, the older spelling, and shorter ones.
SPELLINGS = {
    "ComfyUI": ("model.diffusion_model.", "vae.", "text_encoders.umt5xxl.transformer."),
    "older": ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.umt5xxl.transformer."),
    "short": ("diffusion_model.", "vae.", "text_encoders."),
}


@pytest.fixture(autouse=True)
def no_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sounding_video.models.weights.hub.hub_cache", lambda: tmp_path / "hub")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return single.write_folders(tmp_path_factory.mktemp("folders"))


def everything(folders: Path, spelling: str = "ComfyUI", *, original_text: bool = False) -> dict[str, torch.Tensor]:
    """One state with all parts of Wan."""
    wan = folders / "wan"
    transformer, vae, text = SPELLINGS[spelling]
    encoder = single.umt5_original(wan) if original_text else single.part(wan / "text_encoder")
    state = single.wan_original(wan, transformer)
    state |= {f"{vae}{name}": tensor for name, tensor in single.vae_original(wan).items()}
    return state | {f"{text}{name}": tensor for name, tensor in encoder.items()}


@pytest.fixture
def models(folders: Path, tmp_path: Path) -> Path:
    """The tokenizer and the audio side, in folders of ComfyUI's names; no Wan yet."""
    root = tmp_path / "models"
    (root / "checkpoints").mkdir(parents=True)
    shutil.copytree(folders / "wan" / "tokenizer", root / "checkpoints" / "umt5 tokenizer")
    shutil.copytree(folders / "stable_audio", root / "stable_audio")
    return root


def assert_same(got, wanted) -> None:
    for own, other in (
        (got.tower.model, wanted.tower.model), (got.codec.vae, wanted.codec.vae), (got.text.model, wanted.text.model)
    ):  # fmt: skip
        reference = other.state_dict()
        assert all(torch.equal(tensor, reference[name]) for name, tensor in own.state_dict().items())
        assert own.state_dict().keys() == reference.keys()


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("original_text", [False, True])
def test_one_file_is_a_whole_set(original_text, spelling, models, folders) -> None:
    state = everything(folders, spelling, original_text=original_text)
    more = {"model_ema.decay": torch.ones(1)}
    if spelling == "ComfyUI":
        more["text_encoders.umt5xxl.logit_scale"] = torch.ones(())
    file = single.save(models / "checkpoints" / "all.safetensors", state | more)
    found = find_models(models)
    assert found.video == WanFiles(file, file, file)
    assert_same(load_wan(found.video, CPU), load_wan(folders / "wan", CPU))
    assert find_models(models, video=str(file)).video == found.video
    assert outline_models(found, CPU).joint, "the plan reads the same parts"
    kinds = [part.layout.kind for part in find_files([models]) if part.path == file]
    assert kinds == ["wan", "wan_vae", "umt5"]


def test_the_loader_lists_it_once(models, folders) -> None:
    file = single.save(models / "checkpoints" / "all.safetensors", everything(folders))
    with standalone.session(standalone.Session((models,))):
        assert list_models("wan") == ["pocket", "checkpoints/all.safetensors"]
        assert resolve_model("wan", "checkpoints/all.safetensors") == WanFiles(file, file, file)


def test_sizes_are_those_of_the_parts(models, folders) -> None:
    file = single.save(models / "checkpoints" / "all.safetensors", everything(folders))
    sizes = [part.layout.num_bytes for part in find_files([models]) if part.path == file]
    assert sum(sizes) < file.stat().st_size < sum(sizes) + 200_000
    wan = single.save(models.parent / "w.safetensors", single.wan_original(folders / "wan"))
    assert 0 < wan.stat().st_size - sizes[0] < 100_000


def test_packed_and_scaled_parts_are_undone(models, folders) -> None:
    """As the popular ones are: the transformer scaled, the text encoder scaled, each with a marker of its own."""
    wan = folders / "wan"
    scaled, meaning = single.scaled_fp8(single.wan_original(wan), word="weight_scale")
    text, text_meaning = single.scaled_fp8(single.part(wan / "text_encoder"))
    prefixes = SPELLINGS["ComfyUI"]
    parts = (single.with_quantisation(scaled, "float8_e4m3fn"), single.vae_original(wan), text)
    plain = (meaning, single.vae_original(wan), text_meaning)
    named = [
        {p + n: t for p, part in zip(prefixes, group, strict=True) for n, t in part.items()} for group in (parts, plain)
    ]
    tokenizer = models / "checkpoints" / "umt5 tokenizer"
    files = [single.save(models.parent / f"{i}.safetensors", state) for i, state in enumerate(named)]
    own, other = (load_wan(WanFiles(f, f, f, tokenizer), CPU) for f in files)
    assert_same(own, other)
    assert open_part(files[0], "wan").dtype == "scaled float8_e4m3fn"


@pytest.mark.parametrize("place", ["text_encoders.spiece_model", "text_encoders.umt5xxl.transformer.spiece_model"])
def test_the_tokenizer_inside_is_taken(place, models, folders) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    out = io.BytesIO()
    lines = [" ".join(("dog", "barks", "twice", "bell", "rings")[(i * j) % 5] for j in range(1, 9)) for i in range(200)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=out, vocab_size=300, byte_fallback=True, pad_id=0, eos_id=1,
        unk_id=2, bos_id=-1, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    inside = torch.frombuffer(bytearray(out.getvalue()), dtype=torch.uint8)
    file = single.save(models / "checkpoints" / "all.safetensors", everything(folders) | {place: inside})
    found = find_models(models).video
    ids, _ = load_wan(found, CPU).text.tokenize(["dog barks"])
    witness = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
    wanted = [*witness.encode("dog barks"), 1]
    assert ids[0, : len(wanted)].tolist() == wanted
    part = next(part for part in find_files([models]) if part.path == file and part.layout.kind == "umt5")
    assert part.layout.has_tokenizer


def test_its_own_parts_go_before_more_exact_ones_elsewhere(models, folders) -> None:
    half = single.cast(everything(folders), torch.float16)
    file = single.save(models / "checkpoints" / "all.safetensors", half)
    vae = single.save(models / "vae" / "v.safetensors", single.vae_original(folders / "wan"))
    lone = single.save(models / "unet" / "w.safetensors", single.wan_original(folders / "wan"))
    sets = find_file_sets([models], "wan")
    assert sets == [WanFiles(file, file, file), WanFiles(lone, vae, file)], "a lone transformer may borrow from it"


def test_what_it_lacks_comes_from_other_files(models, folders) -> None:
    state = {name: t for name, t in everything(folders).items() if not name.startswith("text_encoders.")}
    file = single.save(models / "checkpoints" / "no text.safetensors", state)
    with pytest.raises(MissingModelError, match=r"no text\.safetensors without a UMT5 text encoder that fits"):
        find_models(models)
    text = single.save(models / "checkpoints" / "t.safetensors", single.part(folders / "wan" / "text_encoder"))
    assert find_models(models).video == WanFiles(file, file, text)


HEAD, BLOCK = "model.diffusion_model.head.head.weight", "model.diffusion_model.blocks.1.ffn.2.weight"
FAULTS = {
    "a block lacks something": lambda state: state.pop(BLOCK),
    "the head is missing": lambda state: state.pop(HEAD),
    "a block is missing": lambda state: [state.pop(n) for n in [*state] if ".blocks.0." in n and "model.diff" in n],
    "another shape": lambda state: state.update({BLOCK: state[BLOCK][:, :-1].contiguous()}),
}


@pytest.mark.parametrize("fault", [*FAULTS, "a stray part", "another model", "packed", "cut"])
def test_it_is_not_taken_before_a_good_set_to_fail_then(fault, models, folders) -> None:
    """Its name comes first in every list; the good files behind it are what loads."""
    state = everything(folders)
    if fault == "a stray part":
        state["control_model.blocks.0.weight"] = torch.zeros(3)
    elif fault == "another model":
        state["model.diffusion_model.img_emb.proj.0.weight"] = torch.zeros(3)
    elif fault in FAULTS:
        FAULTS[fault](state)
    elif fault == "packed":
        name = next(n for n in state if n.endswith("self_attn.q.weight"))
        state[name] = (state[name] * 100).to(torch.int8)
    file = single.save(models / "a checkpoints" / "all.safetensors", state)
    if fault == "cut":
        file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(MissingModelError, match=r"no Wan 2\.1 model was found: .*not usable: .*all\.safetensors"):
        find_models(models)
    wan = folders / "wan"
    good = single.save(models / "unet" / "w.safetensors", single.wan_original(wan))
    single.save(models / "vae" / "v.safetensors", single.vae_original(wan))
    single.save(models / "checkpoints" / "t.safetensors", single.part(wan / "text_encoder"))
    found = find_models(models)
    assert found.video.transformer == good
    assert_same(load_wan(found.video, CPU), load_wan(wan, CPU))
    if fault in FAULTS:
        with pytest.raises(WeightsError, match=r"another shape|\d+ missing|is incomplete: got .* without"):
            load_wan(find_models(models, video=str(file)).video, CPU)
        return
    words = {"a stray part": "1 unexpected: control_model", "packed": "int8", "cut": "cut short"}
    with pytest.raises(WeightsError, match=words.get(fault, r"not a Wan 2\.1 transformer")):
        find_models(models, video=str(file))


@pytest.mark.parametrize("place", ["text_encoders", "clip"])
def test_its_tokenizer_may_lie_with_the_text_encoders(place, models, folders) -> None:
    """As ComfyUI's folders are: the checkpoint in one, tokenizers beside the encoders in another."""
    (models / place).mkdir()
    shutil.move(models / "checkpoints" / "umt5 tokenizer", models / place / "umt5 tokenizer")
    file = single.save(models / "checkpoints" / "all.safetensors", everything(folders))
    found = find_models(models)
    assert found.video == WanFiles(file, file, file)
    assert_same(load_wan(found.video, CPU), load_wan(folders / "wan", CPU))


def test_stable_audio_with_its_text_encoder_inside(models, folders) -> None:
    """As ComfyUI's Save Checkpoint leaves it; no file for T5 is needed."""
    shutil.rmtree(models / "stable_audio")
    audio = folders / "stable_audio"
    shutil.copytree(audio / "tokenizer", models / "checkpoints" / "t5 tokenizer")
    single.save(models / "checkpoints" / "all.safetensors", everything(folders))
    file = single.save(models / "checkpoints" / "audio.safetensors", single.saved_by_comfyui(audio))
    found = find_models(models).audio
    assert found == StableAudioFiles(file, file)
    loaded, wanted = load_stable_audio(found, CPU), load_stable_audio(audio, CPU)
    own = loaded.text.model.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in wanted.text.model.state_dict().items())
    assert torch.equal(loaded.text.encode(["a dog"]), wanted.text.encode(["a dog"]))


def test_checkpoints_of_other_models_are_still_told(tmp_path) -> None:
    sdxl = {
        "model.diffusion_model.input_blocks.0.0.weight": torch.zeros(2),
        "first_stage_model.decoder.mid.attn_1.k.weight": torch.zeros(2),
        "conditioner.embedders.1.model.ln_final.weight": torch.zeros(2),
        "conditioner.embedders.0.transformer.text_model.encoder.layers.0.x": torch.zeros(2),
    }
    single.save(tmp_path / "sdxl.safetensors", sdxl)
    (found,) = find_files([tmp_path])
    assert found.is_foreign and "Stable Diffusion XL" in found.problem
    vae = {f"vae.{name}": torch.zeros(2) for name in ("decoder.middle.0.residual.0.gamma",)}
    single.save(tmp_path / "sdxl.safetensors", vae | {"vae.decoder.upsamples.0.residual.0.gamma": torch.zeros(2)})
    (found,) = find_files([tmp_path])
    assert found.layout.kind == "wan_vae", "a VAE alone under its prefix"
