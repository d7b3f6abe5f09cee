"""The bundled pocket model: its form, its size, that the stock classes read it, and that its build is repeatable."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import StableAudioPipeline, WanPipeline
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from sounding_video.core.clock import LatentGeometry
from sounding_video.core.device import resolve_placement
from sounding_video.core.types import Modality
from sounding_video.models.conditioning import encode_audio, encode_video
from sounding_video.models.joint import JointModel
from sounding_video.models.weights.alignment import load_alignment
from sounding_video.models.weights.bridges import load_bridges
from sounding_video.models.weights.files import read_safetensors
from sounding_video.models.weights.find import POCKET, find_models, pocket_folder
from sounding_video.models.weights.load import load_stable_audio, load_wan

PARTS = {
    "wan": {"transformer", "vae", "text_encoder", "tokenizer", "scheduler"},
    "stable_audio": {"transformer", "vae", "text_encoder", "tokenizer", "scheduler", "projection_model"},
}


@pytest.fixture(scope="module")
def pocket() -> Path:
    return pocket_folder()


@pytest.fixture(scope="module")
def note(pocket: Path) -> dict:
    return json.loads((pocket / "pocket.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def video():
    return load_wan(pocket_folder() / "wan", resolve_placement(device="cpu"), text_length=64)


@pytest.fixture(scope="module")
def audio():
    return load_stable_audio(pocket_folder() / "stable_audio", resolve_placement(device="cpu"))


def test_folder_layout(pocket):
    bridges = {"bridge.safetensors", "bridge_adaptor.safetensors", "bridge_v2a.safetensors"}
    others = {"alignment.safetensors", "pocket.json", "README.md"}
    assert {entry.name for entry in pocket.iterdir()} == {*PARTS, *bridges, *others}
    for side, parts in PARTS.items():
        assert {entry.name for entry in (pocket / side).iterdir()} == parts | {"model_index.json"}
    found = find_models(POCKET)
    assert (found.video, found.audio, found.bridge) == (
        pocket / "wan",
        pocket / "stable_audio",
        pocket / "bridge.safetensors",
    )


def test_both_towers_read_the_alignment(pocket, video, audio):
    alignment = load_alignment(pocket / "alignment.safetensors")
    assert alignment.trained and not alignment.warnings()
    towers = "the picture's tower, frame by frame and the sound's tower, frame by frame"
    assert alignment.summary().endswith(f"read by {towers}")
    assert float(alignment.notes["leak_sound"]) <= 0.05 and float(alignment.notes["leak_picture"]) <= 0.05
    for side, tower in (("video", video.tower), ("audio", audio.tower)):
        assert alignment.alignment.reader_for(side).latent.out_features == tower.width


def test_size_limits(pocket):
    sizes = {file: file.stat().st_size for file in pocket.rglob("*") if file.is_file()}
    assert sum(sizes.values()) < 60e6
    assert all(size < 6e6 for file, size in sizes.items() if file.name.startswith("bridge"))
    assert max(sizes.values()) < 16e6


def test_no_file_says_where_it_came_from(pocket):
    assert [str(file) for file in pocket.rglob("*.json") if "_name_or_path" in file.read_text(encoding="utf-8")] == []


def test_weights_are_16_bit_and_finite(pocket):
    for file in pocket.rglob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  not a dict
                tensor = tensors.get_tensor(name)
                assert tensor.dtype in (torch.float16, torch.bfloat16), f"{file.name} {name}"
                assert tensor.isfinite().all(), f"{file.name} {name}"


def test_it_says_in_plain_words_whether_it_is_trained(pocket, note, video, audio):
    bridges = load_bridges(pocket / "bridge.safetensors")
    assert note["trained"] is video.trained is audio.trained is bridges.trained
    assert ("untrained" in (pocket / "README.md").read_text(encoding="utf-8").lower()) is not note["trained"]


def test_the_note_counts_the_parameters(pocket, note, video, audio):
    modules = {
        "wan/transformer": video.tower.model,
        "wan/vae": video.codec.vae,
        "wan/text_encoder": video.text.model,
        "stable_audio/transformer": audio.tower.model,
        "stable_audio/vae": audio.codec.vae,
        "stable_audio/text_encoder": audio.text.model,
        "stable_audio/projection_model": audio.text.projection,
        **{file.stem: load_bridges(file).stack for file in pocket_folder().glob("bridge*.safetensors")},
    }
    counted = {name: sum(p.numel() for p in module.parameters()) for name, module in modules.items()}
    counted["alignment"] = sum(
        tensor.numel() for tensor in read_safetensors(pocket / "alignment.safetensors")[0].values()
    )
    assert note["sizes"] == counted
    assert (note["frames"] - 1) % 4 == 0 and note["size"] % 16 == 0 and note["fps"] > 0 and note["num_steps"] > 0


def test_geometry_is_the_real_models(video, audio):
    geometry = LatentGeometry(
        video.codec.latent_channels,
        video.codec.temporal_stride,
        video.codec.spatial_stride,
        video.tower.model.config.patch_size[-1],
        audio.codec.latent_channels,
        audio.codec.hop,
        audio.codec.sample_rate,
    )
    assert geometry == LatentGeometry()
    assert audio.text.max_length == 128 and video.text.tokenizer.model_max_length == 512
    assert audio.codec.channels == 2


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=30))
def test_any_text_has_tokens_and_comes_back(video, text):
    tokenizer = video.text.tokenizer
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert tokenizer.unk_token_id not in ids
    # Bytes lose nothing; case and compatibility forms go in the normaliser (whose Unicode may be newer than Python's).
    normal = tokenizer.backend_tokenizer.normalizer.normalize_str(text)
    assert tokenizer.decode(ids).lstrip(" ") == normal.lstrip(" ")
    if text.isascii():
        assert normal == text.lower()


def test_listed_words_are_one_token_and_the_end_token_follows(root, video, audio):
    words = sorted(set((root / "benchmarks" / "pocket" / "words.txt").read_text(encoding="utf-8").split()))
    assert len(words) > 500
    for tokenizer in (video.text.tokenizer, audio.text.tokenizer):
        assert all(len(ids) == 2 and ids[1] == tokenizer.eos_token_id for ids in tokenizer(words).input_ids)
    ids, mask = audio.text.tokenize(["a Red BALL"])
    assert torch.equal(ids, audio.text.tokenize(["a red ball"])[0])
    assert ids[0, 3] == 1 and not ids[0, 4:].any() and mask.sum() == 4


def test_different_prompts_are_told_apart(video, audio):
    for text in (video.text, audio.text):
        a, b = text.encode(["a red ball bounces on wood"]), text.encode(["a blue ball bounces on wood"])
        assert (a - b).abs().max() > 0.05 * a.abs().max()


def test_codecs_give_sane_pictures_and_sound(video, audio):
    generator = torch.Generator().manual_seed(0)
    frames = video.codec.decode(torch.randn(1, 16, 2, 8, 8, generator=generator))
    assert frames.shape == (5, 64, 64, 3)
    assert frames.std() > 0.02
    assert ((frames == 0) | (frames == 1)).float().mean() < 0.2
    sound = audio.codec.decode(torch.randn(1, 64, 6, generator=generator))
    assert sound.shape == (2, 6 * 2048)
    assert 1e-3 < sound.abs().max() < 1
    assert video.codec.encode(frames).shape == (1, 16, 2, 8, 8)
    assert audio.codec.encode(sound).shape == (1, 64, 6)


def test_one_joint_step(video, audio):
    model = JointModel(video.tower, audio.tower, load_bridges(pocket_folder() / "bridge.safetensors").stack)
    picture = encode_video(video.text, "a red ball bounces", None)
    sound = encode_audio(audio.text, "a dull thud", None, seconds=2.2)
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 16, 2, 8, 8, generator=generator), torch.randn(1, 64, 10, generator=generator)
    with torch.no_grad():
        flow, velocity = model(
            Modality(latents[0], torch.tensor([500.0]), picture.positive),
            Modality(latents[1], torch.tensor([0.5]), sound.positive, sound.duration),
        )
    assert flow.shape == latents[0].shape and velocity.shape == latents[1].shape
    assert flow.isfinite().all() and velocity.isfinite().all()
    assert flow.abs().max() < 100 and velocity.abs().max() < 100


def test_the_stock_pipelines_run_it(pocket, video):
    wan = WanPipeline.from_pretrained(pocket / "wan", torch_dtype=torch.float32)
    wan.set_progress_bar_config(disable=True)
    assert wan.scheduler.config.flow_shift == 1.0 and wan.scheduler.config.use_flow_sigmas
    frames = wan(
        "a red ball", "blurred", height=32, width=48, num_frames=5, num_inference_steps=2, max_sequence_length=64,
        generator=torch.Generator().manual_seed(0), output_type="np",
    ).frames  # fmt: skip
    assert frames.shape == (1, 5, 32, 48, 3) and frames.std() > 0.01
    stock, _ = wan.encode_prompt("a red ball", do_classifier_free_guidance=False, max_sequence_length=64)
    torch.testing.assert_close(video.text.encode(["a red ball"]), stock, rtol=0, atol=1e-5)

    stable_audio = StableAudioPipeline.from_pretrained(pocket / "stable_audio", torch_dtype=torch.float32)
    stable_audio.set_progress_bar_config(disable=True)
    assert stable_audio.scheduler.config.sigma_min == 0.3 and stable_audio.scheduler.config.sigma_max == 500
    sound = stable_audio(
        "a dull thud", negative_prompt="hiss", audio_end_in_s=0.2, num_inference_steps=2, output_type="latent",
        generator=torch.Generator().manual_seed(0),
    ).audios  # fmt: skip
    assert sound.shape == (1, 64, 1024) and sound.isfinite().all()


@pytest.mark.slow
def test_two_builds_give_the_same_bytes(root, tmp_path, python_with_package):
    code = (
        "import runpy, sys; sys.argv = ['build', *sys.argv[1:]]; runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    )
    script = str(root / "benchmarks" / "pocket" / "build.py")
    folders = [tmp_path / "first", tmp_path / "second"]
    builds = [python_with_package(code, [script, "--output", str(folder), "--seed", "3"]) for folder in folders]
    for build in builds:
        output, errors = build.communicate(timeout=300)
        assert build.returncode == 0, errors
        assert "bridge" in output and "MB in" in output
    files = [sorted(file.relative_to(folder) for file in folder.rglob("*") if file.is_file()) for folder in folders]
    assert files[0] == files[1] and len(files[0]) > 20
    for file in files[0]:
        assert (folders[0] / file).read_bytes() == (folders[1] / file).read_bytes(), file
    assert json.loads((folders[0] / "pocket.json").read_text(encoding="utf-8"))["seed"] == 3


def test_its_own_text_length_is_what_training_and_sampling_use(pocket, note) -> None:
    from sounding_video.training.recipes import recipe

    video = load_wan(pocket / "wan", resolve_placement(device="cpu"))
    assert video.text.max_length == note["text_length"] == recipe("pocket_bridges").models.text_length


@pytest.mark.parametrize(("made", "file"), [("joint", "bridge"), ("v2a", "bridge_v2a"), ("a2v", "bridge")])
def test_each_task_takes_the_bridges_that_were_trained_for_it(pocket, made, file):
    assert find_models(POCKET, made=made).bridge == pocket / f"{file}.safetensors"
