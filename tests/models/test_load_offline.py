"""Everything that is on disk loads and runs without any network, whether or not the hub was told so."""

from __future__ import annotations

import importlib.util
import shutil
import socket
from pathlib import Path

import pytest
import torch
from sounding_video import pipeline
from sounding_video.core.device import resolve_placement

_spec = importlib.util.spec_from_file_location("single_files", Path(__file__).with_name("single_files.py"))
single = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(single)

HUB_IDS = {"wan": "Wan-AI--Wan2.1-T2V-1.3B-Diffusers", "stable_audio": "stabilityai--stable-audio-open-1.0"}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[object]:
    """Any attempt to connect fails, and is kept; nothing tells the libraries to stay offline."""
    from huggingface_hub import constants

    attempts: list[object] = []

    def refuse(self: socket.socket, address: object) -> None:
        attempts.append(address)
        raise OSError(f"no network in this test: {address}")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "DIFFUSERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("sounding_video.models.weights.hub.hub_cache", lambda: tmp_path / "hub")
    return attempts


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return single.write_folders(tmp_path_factory.mktemp("folders"))


def _as_folders(folders: Path, root: Path) -> Path:
    return shutil.copytree(folders, root / "folders")


def _as_files(folders: Path, root: Path) -> Path:
    """A ComfyUI models folder with a tokenizer beside each text encoder."""
    models = root / "models"
    for kind, encoder in (("wan", "umt5"), ("stable_audio", "t5")):
        text = models / "text_encoders" / encoder
        single.save(text / f"{encoder}.safetensors", single.part(folders / kind / "text_encoder"))
        shutil.copytree(folders / kind / "tokenizer", text / "tokenizer")
    single.save(models / "diffusion_models" / "w.safetensors", single.wan_original(folders / "wan"))
    single.save(models / "vae" / "v.safetensors", single.vae_original(folders / "wan"))
    single.save(models / "checkpoints" / "a.safetensors", single.stable_audio_original(folders / "stable_audio"))
    return models


def _as_snapshots(folders: Path, root: Path) -> str:
    for kind, name in HUB_IDS.items():
        shutil.copytree(folders / kind, root / "hub" / f"models--{name}" / "snapshots" / ("a" * 40))
    return HUB_IDS["wan"].replace("--", "/")


@pytest.mark.parametrize("layout", [_as_folders, _as_files, _as_snapshots])
def test_loading_and_a_whole_run_connect_to_nothing(layout, folders, no_network, tmp_path) -> None:
    with pytest.raises(OSError, match="no network in this test"):
        socket.create_connection(("127.0.0.1", 9))
    no_network.clear()
    model = pipeline.load_models(layout(folders, tmp_path), placement=resolve_placement(device="cpu"))
    clip = pipeline.generate(
        model,
        pipeline.Captions("a dog", "barking"),
        timeline=pipeline.Timeline(5, 15, 32, 32, model.geometry),
        options=pipeline.SamplingOptions(num_steps=1),
    )
    assert clip.video.frames.shape[0] == 5
    assert torch.isfinite(clip.audio.waveform).all()
    assert no_network == []
