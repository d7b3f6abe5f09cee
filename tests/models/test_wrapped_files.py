"""Whole models behind one word of a wrapper, in other wrappings of torch files, and in parts that overlap."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from sounding_video.core.device import resolve_placement
from sounding_video.core.errors import CorruptWeightsError, MissingModelError
from sounding_video.models.weights._header import open_weights
from sounding_video.models.weights.find import find_files, find_models
from sounding_video.models.weights.load import load_wan

_spec = importlib.util.spec_from_file_location("single_files", Path(__file__).with_name("single_files.py"))
single = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(single)

CPU = resolve_placement(device="cpu")
PARTS = {
    "wan": ("diffusion_models/wan.safetensors", single.wan_original),
    "vae": ("vae/vae.safetensors", single.vae_original),
    "umt5": ("text_encoders/umt5.safetensors", lambda folder: single.part(folder / "text_encoder")),
}


@pytest.fixture(autouse=True)
def no_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sounding_video.models.weights.hub.hub_cache", lambda: tmp_path / "hub")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return single.write_folders(tmp_path_factory.mktemp("folders"))


@pytest.fixture
def models(folders: Path, tmp_path: Path) -> Path:
    root = tmp_path / "models"
    for name, state in PARTS.values():
        single.save(root / name, state(folders / "wan"))
    shutil.copytree(folders / "wan" / "tokenizer", root / "text_encoders" / "tokenizer")
    shutil.copytree(folders / "stable_audio", root / "stable_audio")
    return root


def assert_whole(models: Path, folders: Path) -> None:
    own, wanted = load_wan(find_models(models).video, CPU), load_wan(folders / "wan", CPU)
    for got, other in (
        (own.tower.model, wanted.tower.model), (own.codec.vae, wanted.codec.vae), (own.text.model, wanted.text.model)
    ):  # fmt: skip
        reference = other.state_dict()
        assert all(torch.equal(tensor, reference[name]) for name, tensor in got.state_dict().items())


@pytest.mark.parametrize("word", ["module.", "_orig_mod.", "net.", "generator.model.", "text_encoder."])
@pytest.mark.parametrize("part", PARTS)
def test_one_word_in_front_of_a_whole_model_is_taken_off(part, word, models, folders) -> None:
    name, state = PARTS[part]
    single.save(models / name, {word + key: tensor for key, tensor in state(folders / "wan").items()})
    assert_whole(models, folders)
    if part == "wan":
        assert find_models(models, video=str(models / name)).video == find_models(models).video


@pytest.mark.parametrize("word", ["controlnet.", "vace.", "transformer_2.", "motion_module."])
def test_a_word_that_makes_another_model_of_it_is_told(word, models, folders) -> None:
    name, state = PARTS["wan"]
    single.save(models / name, {word + key: tensor for key, tensor in state(folders / "wan").items()})
    with pytest.raises(MissingModelError, match=r"no Wan 2\.1 model was found.*not usable: .*wan\.safetensors"):
        find_models(models)


@pytest.mark.parametrize("wrapper", ["model_state_dict", "params_ema", "generator", "weights"])
def test_a_torch_file_with_one_set_of_weights_in_it(wrapper, models, folders) -> None:
    name, state = PARTS["wan"]
    (models / name).unlink()
    torch.save({wrapper: state(folders / "wan"), "epoch": 3, "args": {"lr": 1.0}}, models / "w.pth")
    assert_whole(models, folders)


def test_a_torch_file_with_two_sets_of_weights_is_not_guessed(models, folders) -> None:
    name, state = PARTS["wan"]
    (models / name).unlink()
    torch.save({"generator": state(folders / "wan"), "generator_ema": state(folders / "wan")}, models / "w.pth")
    with pytest.raises(MissingModelError, match=r"no Wan 2\.1 model was found"):
        find_models(models)


@pytest.mark.parametrize("name", ["shared.weight", "encoder.embed_tokens.weight"])
def test_a_text_encoder_with_its_table_under_either_name(name, models, folders) -> None:
    state = single.part(folders / "wan" / "text_encoder")
    state[name] = state.pop("shared.weight")
    single.save(models / PARTS["umt5"][0], state)
    assert_whole(models, folders)


def test_parts_that_hold_one_tensor_twice_are_of_different_models(models, folders) -> None:
    """Which of the two is meant, nothing says; the last one was taken."""
    path = models / PARTS["wan"][0]
    state = single.wan_original(folders / "wan")
    names = sorted(state)
    path.unlink()
    shards = [path.with_name(f"wan-0000{number}-of-00002.safetensors") for number in (1, 2)]
    save_file({name: state[name] for name in names[:9]}, shards[0])
    save_file({name: state[name] for name in names[8:]}, shards[1])
    with pytest.raises(CorruptWeightsError, match="two parts of the sharded model hold one tensor"):
        open_weights(shards[0])
    with pytest.raises(MissingModelError, match="hold one tensor"):
        find_models(models)


def test_an_encoder_that_lacks_a_block_s_tensor_is_passed_over(models, folders) -> None:
    state = single.part(folders / "wan" / "text_encoder")
    state.pop("encoder.block.1.layer.0.SelfAttention.k.weight")
    single.save(models / "clip" / "a.safetensors", state)
    assert find_models(models).video.text_encoder == models / PARTS["umt5"][0]
    (told,) = [file.problem for file in find_files([models]) if file.is_refused]
    assert "a.safetensors without layer.0.SelfAttention.k.weight of block 1" in told
    assert_whole(models, folders)
