"""Bad input in the order of the list in the issue: what each file is refused for, and that nothing of it runs.

Beside these: truncated, wrong and malicious single files in ``test_layouts.py``, bridges in ``test_bridge_files.py``,
LoRAs in ``test_lora_refused.py``, storage that a device cannot keep in ``test_storage.py``.
"""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from sounding_video.core.device import resolve_placement
from sounding_video.core.errors import (
    CorruptWeightsError,
    IncompatibleWeightsError,
    MissingModelError,
    UnsafeWeightsError,
)
from sounding_video.models.weights._header import open_weights
from sounding_video.models.weights.bridges import load_bridges
from sounding_video.models.weights.find import inspect
from sounding_video.models.weights.load import load_stable_audio, load_wan
from sounding_video.nodes.host import standalone
from sounding_video.nodes.host.folders import resolve_model

CPU = resolve_placement(device="cpu")


@pytest.fixture
def models(small_models_dir: Path, tmp_path: Path) -> Path:
    return shutil.copytree(small_models_dir, tmp_path / "models")


def pack(path: Path) -> None:
    """Weights as a foreign quantiser leaves them: the same names and shapes in whole numbers, the scales elsewhere."""
    state = load_file(path)
    packed = {n: (t * 100).to(torch.int8) if t.ndim > 1 else t for n, t in state.items()}
    with_metadata = open_weights(path).metadata
    save_file(packed, path, metadata={"format": "pt", **with_metadata})


@pytest.mark.parametrize(
    ("part", "load"),
    [
        ("wan/transformer/diffusion_pytorch_model.safetensors", lambda root: load_wan(root / "wan", CPU)),
        ("wan/text_encoder/model.safetensors", lambda root: load_wan(root / "wan", CPU)),
        (
            "stable_audio/transformer/diffusion_pytorch_model.safetensors",
            lambda root: load_stable_audio(root / "stable_audio", CPU),
        ),
    ],
)
def test_wrong_dtype_in_a_folder(models, part, load):
    pack(models / part)
    with pytest.raises(IncompatibleWeightsError, match=r"quantised in a way.*\(int8\).*fp8 or scaled fp8"):
        load(models)


def test_wrong_dtype_in_a_bridge_file(models):
    pack(models / "bridge.safetensors")
    with pytest.raises(IncompatibleWeightsError, match=r"\d+ of whole numbers: 0\.adaln_modulation_1\.1\.weight"):
        load_bridges(models / "bridge.safetensors")


@pytest.mark.parametrize("part", ["vae", "text_encoder"])
def test_a_folder_without_config(models, part):
    (models / "wan" / part / "config.json").unlink()
    with pytest.raises(MissingModelError, match=rf"no configuration: got .*{part} without config\.json"):
        load_wan(models / "wan", CPU)


def test_a_tower_folder_without_config(models):
    (models / "wan" / "transformer" / "config.json").unlink()
    with pytest.raises(IncompatibleWeightsError, match=r"not a Wan 2\.1 model: .*no transformer/config\.json"):
        load_wan(models / "wan", CPU)


def test_half_a_download_in_a_folder(models):
    """A folder that a stopped ``hf download`` left: some shards named by the index are not there."""
    folder = models / "wan" / "transformer"
    whole = folder / "diffusion_pytorch_model.safetensors"
    names = sorted(load_file(whole))
    shards = [f"diffusion_pytorch_model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    half = {name: tensor for name, tensor in load_file(whole).items() if name in names[::2]}
    save_file(half, folder / shards[0], metadata={"format": "pt"})
    whole.unlink()
    weight_map = {name: shards[index % 2] for index, name in enumerate(names)}
    (folder / f"{whole.name}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    with pytest.raises(MissingModelError, match=r"part of the sharded model was not found: .*00002-of-00002"):
        load_wan(models / "wan", CPU)
    with pytest.raises(MissingModelError, match=r"part of the sharded model was not found: .*00002-of-00002"):
        open_weights(folder / f"{whole.name}.index.json")


@pytest.mark.parametrize("suffix", [".incomplete", ".part", ".crdownload", ".aria2", ".tmp"])
def test_half_a_download_of_a_file(models, suffix):
    half = models / f"bridge.safetensors{suffix}"
    shutil.copy(models / "bridge.safetensors", half)
    with pytest.raises(CorruptWeightsError, match="is half a download"):
        open_weights(half)


@pytest.mark.parametrize("name", ["../secret.safetensors", "wan/../../secret.safetensors", "{outside}"])
def test_a_path_outside(models, tmp_path, name):
    """A name in a workflow reaches what the lists hold and nothing else, also when something lies there."""
    outside = tmp_path / "secret.safetensors"
    shutil.copy(models / "bridge.safetensors", outside)
    with standalone.session(standalone.Session((models,))):
        assert resolve_model("bridge", "bridge.safetensors") == models / "bridge.safetensors"
        with pytest.raises(MissingModelError, match="no bridge of that name was found"):
            resolve_model("bridge", name.format(outside=outside))


class _Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


class _Call:
    """Unpickling this calls a function of torch."""

    def __init__(self, function: Callable, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


@pytest.mark.parametrize("writer", ["zip", "before 1.6", "pickle"])
def test_a_pickle_that_names_a_function_of_torch_is_called_unsafe_and_the_function_named(tmp_path, writer):
    """Not corrupt, which would send the user to download it again."""
    file, canary = tmp_path / "bicross.ckpt", tmp_path / "ran"
    contents = {
        "0.attn.q_proj_1.weight": torch.zeros(2, 2, dtype=torch.bfloat16),
        "a": _Call(torch.hub.load_state_dict_from_url, canary.as_uri()),
        "b": _Call(torch.save, torch.zeros(1), str(canary)),
    }
    if writer == "pickle":
        file.write_bytes(pickle.dumps({**contents, "0.attn.q_proj_1.weight": "torch.hub"}))
    else:
        torch.save(contents, file, _use_new_zipfile_serialization=writer == "zip")
    with pytest.raises(UnsafeWeightsError, match=r"naming torch\.hub\.load_state_dict_from_url") as caught:
        load_bridges(file)
    assert ", torch.serialization.save" in str(caught.value.got) or writer == "before 1.6"
    assert "torch.hub.load_state_dict_from_url" in inspect(file).problem or writer != "zip", (
        "others are not looked into"
    )
    assert not canary.exists()


def test_torch_files_of_another_pickle_protocol_are_not_called_unsafe(tmp_path):
    file = tmp_path / "bicross.ckpt"
    tensors = {"a": torch.nn.Parameter(torch.zeros(2, dtype=torch.bfloat16)), "b": torch.zeros(2), "c": torch.Size([2])}
    torch.save(tensors, file, pickle_protocol=4)
    with pytest.raises(CorruptWeightsError, match="cannot be read"):
        load_bridges(file)


def test_a_malicious_pickle_in_a_folder_and_in_a_list_does_not_run(models, tmp_path):
    canary = tmp_path / "ran"
    (models / "wan" / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({"blocks.0": _Canary(canary)}, models / "wan" / "transformer" / "diffusion_pytorch_model.bin")
    with pytest.raises(UnsafeWeightsError, match="a pickle, which can run code"):
        load_wan(models / "wan", CPU)
    torch.save({"0.attn.q_proj_1.weight": _Canary(canary)}, models / "evil.ckpt")
    assert "wants to run code" in inspect(models / "evil.ckpt").problem
    with standalone.session(standalone.Session((models,))), pytest.raises(UnsafeWeightsError):
        load_bridges(resolve_model("bridge", "evil.ckpt"))
    assert not canary.exists()
