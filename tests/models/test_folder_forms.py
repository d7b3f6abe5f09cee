"""Forms of weights in diffusers folders and beside each other: variants, shards without an index, packed matrices."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from sounding_video.core.device import resolve_placement
from sounding_video.core.errors import IncompatibleWeightsError, MissingModelError, WeightsError
from sounding_video.models.weights._header import open_weights
from sounding_video.models.weights.convert import hash_tower
from sounding_video.models.weights.find import find_file_sets, find_files, find_models, is_whole
from sounding_video.models.weights.listing import whats_missing
from sounding_video.models.weights.load import load_stable_audio, load_wan

_spec = importlib.util.spec_from_file_location("single_files", Path(__file__).with_name("single_files.py"))
single = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(single)

CPU = resolve_placement(device="cpu")
PLAIN = {"transformer": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}


def halves(state: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    names = sorted(state)
    return [{name: state[name] for name in part} for part in (names[: len(names) // 2], names[len(names) // 2 :])]


def write(path: Path, state: dict[str, torch.Tensor]) -> None:
    save_file(state, path, metadata={"format": "pt"})


def variant(folder: Path, stem: str, state: dict) -> None:
    write(folder / f"{stem}.fp16.safetensors", state)


def variant_shards(folder: Path, stem: str, state: dict, *, name: str = "{stem}.fp16-0000{n}-of-00002.safetensors"):
    where = {}
    for number, half in enumerate(halves(state), start=1):
        shard = name.format(stem=stem, n=number)
        write(folder / shard, half)
        where.update(dict.fromkeys(half, shard))
    (folder / f"{stem}.safetensors.index.fp16.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))


def older_variant_shards(folder: Path, stem: str, state: dict) -> None:
    variant_shards(folder, stem, state, name="{stem}-0000{n}-of-00002.fp16.safetensors")


def bare_shards(folder: Path, stem: str, state: dict) -> None:
    for number, half in enumerate(halves(state), start=1):
        write(folder / f"{stem}-0000{number}-of-00002.safetensors", half)


def bare_variant_shards(folder: Path, stem: str, state: dict) -> None:
    bare_shards(folder, f"{stem}.bf16", state)


def indexed_shards(folder: Path, stem: str, state: dict) -> None:
    single.save_sharded(folder, stem, state)
    for path in folder.glob("*.safetensors"):
        write(path, load_file(path))


def another_name(folder: Path, stem: str, state: dict) -> None:
    write(folder / "my weights.safetensors", state)


FORMS: list[Callable[[Path, str, dict], None]] = [
    variant, variant_shards, older_variant_shards, bare_shards, bare_variant_shards, indexed_shards, another_name,
]  # fmt: skip


def rewrite(folder: Path, form: Callable[[Path, str, dict], None]) -> None:
    for part in folder.iterdir():
        stem = PLAIN.get(part.name, "diffusion_pytorch_model")
        whole = part / f"{stem}.safetensors"
        if whole.is_file():
            state = load_file(whole)
            whole.unlink()
            form(part, stem, state)


def same(one: torch.nn.Module, other: torch.nn.Module) -> None:
    own, wanted = one.state_dict(), other.state_dict()
    assert list(own) == list(wanted)
    assert all(own[n].dtype == t.dtype and torch.equal(own[n], t) for n, t in wanted.items())
    assert not one.training


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_folder_in_another_form_loads_as_the_plain_one(dtype, form, small_models_dir, tmp_path) -> None:
    placement = resolve_placement(device="cpu", dtype=dtype)
    root = shutil.copytree(small_models_dir, tmp_path / "models")
    for name in ("wan", "stable_audio"):
        rewrite(root / name, form)
        assert is_whole(root / name, name)
    wanted = (
        load_wan(small_models_dir / "wan", placement),
        load_stable_audio(small_models_dir / "stable_audio", placement),
    )
    found = find_models(root)
    assert (found.video, found.audio) == (root / "wan", root / "stable_audio")
    got = load_wan(found.video, placement), load_stable_audio(found.audio, placement)
    for own, reference in zip(got, wanted, strict=True):
        same(own.tower.model, reference.tower.model)
        same(own.codec.vae, reference.codec.vae)
        same(own.text.model, reference.text.model)
    text = got[0].text.model
    assert text.shared.weight is text.encoder.embed_tokens.weight, "the token table is in memory once"


def test_the_plain_file_goes_before_a_variant_and_the_most_exact_of_variants(small_models_dir, tmp_path) -> None:
    root = shutil.copytree(small_models_dir / "wan", tmp_path / "wan")
    part, stem = root / "transformer", "diffusion_pytorch_model"
    exact = load_file(part / f"{stem}.safetensors")
    for name, dtype in (("fp16", torch.float16), ("bf16", torch.bfloat16), ("z", torch.float32)):
        write(part / f"{stem}.{name}.safetensors", {n: t.to(dtype) * 2 for n, t in exact.items()})
    same(load_wan(root, CPU).tower.model, load_wan(small_models_dir / "wan", CPU).tower.model)
    (part / f"{stem}.safetensors").unlink()
    loaded = load_wan(root, CPU).tower.model.state_dict()["proj_out.weight"]
    assert torch.equal(loaded, exact["proj_out.weight"] * 2), "float32 of the variants, whatever it is called"
    (part / f"{stem}.z.safetensors").unlink()
    loaded = load_wan(root, CPU).tower.model.state_dict()["proj_out.weight"]
    assert torch.equal(loaded, (exact["proj_out.weight"].bfloat16() * 2).float())


def test_several_files_of_other_names_are_refused(small_models_dir, tmp_path) -> None:
    root = shutil.copytree(small_models_dir / "wan", tmp_path / "wan")
    whole = root / "vae" / "diffusion_pytorch_model.safetensors"
    shutil.copy(whole, root / "vae" / "a.safetensors")
    whole.rename(root / "vae" / "b.safetensors")
    with pytest.raises(IncompatibleWeightsError, match=r"several weight files.*a\.safetensors, b\.safetensors"):
        load_wan(root, CPU)


@pytest.mark.parametrize("form", [bare_shards, bare_variant_shards, variant_shards])
def test_a_folder_without_one_of_its_shards(form, small_models_dir, tmp_path) -> None:
    root = shutil.copytree(small_models_dir, tmp_path / "models")
    rewrite(root / "wan", form)
    next((root / "wan" / "text_encoder").glob("*00002-of*")).unlink()
    assert "00002-of-00002" in whats_missing(root / "wan", "wan")
    with pytest.raises(MissingModelError, match=r"part of the sharded model was not found: .*00002-of-00002"):
        load_wan(find_models(root).video, CPU)


def test_a_variant_that_lacks_or_has_too_much_is_refused(small_models_dir, tmp_path) -> None:
    root = shutil.copytree(small_models_dir / "wan", tmp_path / "wan")
    rewrite(root, variant)
    file = root / "transformer" / "diffusion_pytorch_model.fp16.safetensors"
    state = load_file(file)
    write(file, {n: t for n, t in state.items() if n != "proj_out.bias"})
    with pytest.raises(IncompatibleWeightsError, match=r"1 missing: proj_out\.bias"):
        load_wan(root, CPU)
    write(file, state | {"stray": torch.zeros(1)})
    with pytest.raises(IncompatibleWeightsError, match="1 unexpected: stray"):
        load_wan(root, CPU)


def test_scaled_weights_in_a_folder_are_undone(tmp_path) -> None:
    folders = single.write_folders(tmp_path / "folders")
    plain = shutil.copytree(folders / "wan", tmp_path / "plain")
    stored, meaning = single.scaled_fp8(single.part(folders / "wan" / "transformer"), word="weight_scale")
    single.replace_part(folders / "wan", "transformer", lambda _: single.with_quantisation(stored, "float8_e4m3fn"))
    single.replace_part(plain, "transformer", lambda _: meaning)
    same(load_wan(folders / "wan", CPU).tower.model, load_wan(plain, CPU).tower.model)


@pytest.fixture
def loose(tmp_path: Path) -> Path:
    """Wan in single files; the transformer in three shards without their index."""
    folders = single.write_folders(tmp_path / "folders")
    root = tmp_path / "models"
    state = single.wan_original(folders / "wan")
    names = sorted(state)
    for number in range(3):
        part = {name: state[name] for name in names[number::3]}
        single.save(root / "unet" / f"wan-{number + 1:05}-of-00003.safetensors", part)
    single.save(root / "vae" / "v.safetensors", single.vae_original(folders / "wan"))
    single.save(root / "clip" / "t.safetensors", single.part(folders / "wan" / "text_encoder"))
    shutil.copytree(folders / "wan" / "tokenizer", root / "clip" / "tokenizer")
    return root


def test_loose_shards_are_one_model(loose) -> None:
    (found,) = find_file_sets([loose], "wan")
    first = loose / "unet" / "wan-00001-of-00003.safetensors"
    assert found.transformer == first
    loaded = load_wan(found, CPU)
    assert loaded.name == "wan"
    same(loaded.tower.model, load_wan(loose.parent / "folders" / "wan", CPU).tower.model)
    assert len(find_files([loose])) == 3, "the shards are listed once"
    assert len(hash_tower(first)) == 3
    second = first.with_name("wan-00002-of-00003.safetensors")
    assert set(open_weights(second)) == set(open_weights(first)), "any of them stands for the whole"
    assert open_weights(first).num_bytes == sum(file.stat().st_size for file in first.parent.iterdir())


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_number_that_is_missing_is_named(number, loose, small_models_dir) -> None:
    name = f"wan-0000{number}-of-00003.safetensors"
    (loose / "unet" / name).unlink()
    shutil.copytree(small_models_dir / "stable_audio", loose / "stable_audio")
    with pytest.raises(MissingModelError, match=rf"no Wan 2\.1 model was found.*not usable: .*without {name}"):
        find_models(loose)


def test_shards_of_two_models_and_of_odd_numbers(loose) -> None:
    unet = loose / "unet"
    shutil.copy(unet / "wan-00001-of-00003.safetensors", unet / "wan-00001-of-00001.safetensors")
    shutil.copy(unet / "wan-00001-of-00003.safetensors", unet / "wan-00005-of-00003.safetensors")
    names = {file.path.name: file for file in find_files([loose]) if file.path.parent == unet}
    assert set(names) == {"wan-00001-of-00001.safetensors", "wan-00001-of-00003.safetensors"}
    assert names["wan-00001-of-00003.safetensors"].layout
    with pytest.raises(MissingModelError, match=r"wan-00005-of-00003\.safetensors of 3"):
        open_weights(unet / "wan-00005-of-00003.safetensors")
    (unet / "wan-00002-of-00003.safetensors").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"wan-00002-of-00003"):
        open_weights(unet / "wan-00001-of-00003.safetensors")
