"""Alignment files: read back, refused with what they are not, hostile metadata, beside bridges (law 14 of SAVA)."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import small_models as small
import torch
from lora_files import factors, peft_folder
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sounding_video.core.errors import CorruptWeightsError, IncompatibleWeightsError, MissingModelError, WeightsError
from sounding_video.models.alignment.selective import Alignment, AlignmentConfig
from sounding_video.models.joint import JointModel
from sounding_video.models.lora.apply import with_lora
from sounding_video.models.lora.files import read_lora
from sounding_video.models.weights.alignment import (
    LoraNote,
    factors_of,
    load_alignment,
    outline_alignment,
    save_alignment,
)
from sounding_video.models.weights.bridges import load_bridges, outline_bridges
from sounding_video.models.weights.find import find_models
from sounding_video.models.weights.layouts import identify
from sounding_video.models.weights.listing import find_alignments, find_bridges, inspect
from sounding_video.training.assembly import assemble

CONFIG = AlignmentConfig(width=8, hidden=6, grid=2, segment=2, video_text_width=16, audio_text_width=12)


@pytest.fixture
def alignment() -> Alignment:
    torch.manual_seed(0)
    made = Alignment(CONFIG)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    made.video_deviation.uniform_(0.5, 2)
    made.audio_support[3:] = 0
    return made


@pytest.fixture
def pairs(audio_tower) -> dict:
    return {name: pair for name, pair in factors(audio_tower.model).items() if ".attn2." in name}


@pytest.fixture
def path(alignment: Alignment, pairs: dict, tmp_path: Path) -> Path:
    loras = {"audio": (LoraNote(3, 1.5), pairs)}
    save_alignment(tmp_path / "alignment.safetensors", alignment, loras=loras, notes={"leak": "0.01"})
    return tmp_path / "alignment.safetensors"


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return dict(file.metadata())


def rewritten(path: Path, *, tensors: dict | None = None, **entries: str | None) -> Path:
    """The file with other tensors (None takes one out) or metadata."""
    state = {name: tensor for name, tensor in {**load_file(path), **(tensors or {})}.items() if tensor is not None}
    metadata = {name: text for name, text in {**metadata_of(path), **entries}.items() if text is not None}
    target = path.with_name("changed.safetensors")
    save_file(state, target, metadata=metadata)
    return target


def test_law_14_a_file_comes_back(path: Path, alignment: Alignment, pairs: dict) -> None:
    loaded = load_alignment(path)
    assert loaded.alignment.config == CONFIG and not loaded.alignment.training
    for name, tensor in alignment.state_dict().items():
        assert torch.equal(loaded.alignment.state_dict()[name], tensor), name
    ((note, back),) = factors_of(loaded).values()
    assert note == LoraNote(3, 1.5) and set(back) == set(pairs)
    assert all(torch.equal(a, b) for name in pairs for a, b in zip(back[name], pairs[name], strict=True))
    assert loaded.notes == {"leak": "0.01"} and loaded.trained
    sentence = loaded.summary()
    assert "8 dimensions, kept 8 of the picture and 3 of the sound; one vector 2 latent frames" in sentence
    save_alignment(path.with_name("again.safetensors"), loaded.alignment, loras=factors_of(loaded), notes=loaded.notes)
    assert path.with_name("again.safetensors").read_bytes() == path.read_bytes()


def test_law_14_what_is_told_frame_by_frame_comes_back_too(alignment: Alignment, tmp_path: Path) -> None:
    streams = replace(CONFIG, video_text_width=0, video_stream_width=24)
    made = Alignment(streams)
    torch.nn.init.normal_(made.video_frames.latent.weight)
    save_alignment(tmp_path / "frames.safetensors", made)
    loaded = load_alignment(tmp_path / "frames.safetensors")
    assert loaded.alignment.config == streams
    assert all(torch.equal(t, loaded.alignment.state_dict()[name]) for name, t in made.state_dict().items())
    assert "read by the picture's tower, frame by frame and the sound's tower" in loaded.summary()
    config = json.loads(metadata_of(tmp_path / "frames.safetensors")["config"])
    assert config["video_stream_width"] == 24 and "audio_stream_width" not in config
    with pytest.raises(CorruptWeightsError, match="told of the other side in two ways"):
        both = json.dumps(config | {"video_text_width": 16})
        load_alignment(rewritten(tmp_path / "frames.safetensors", config=both))
    with pytest.raises(IncompatibleWeightsError):
        load_alignment(
            rewritten(tmp_path / "frames.safetensors", config=json.dumps(config | {"video_stream_width": 0}))
        )


def test_files_of_older_versions_say_nothing_of_frames(path: Path) -> None:
    """And those that tell by tokens alone still read as they did there."""
    config = json.loads(metadata_of(path)["config"])
    assert not [name for name in config if name.endswith("stream_width")]
    assert load_alignment(path).alignment.config == CONFIG


def test_an_alignment_without_towers_comes_back_too(tmp_path: Path) -> None:
    plain = replace(CONFIG, video_text_width=0, audio_text_width=0)
    save_alignment(tmp_path / "x.safetensors", Alignment(plain), trained=False)
    loaded = load_alignment(tmp_path / "x.safetensors")
    assert not (loaded.loras or loaded.trained or loaded.alignment.reads("video"))
    assert "read by no tower yet; UNTRAINED weights" in loaded.summary()


def test_law_14_the_lora_is_laid_beside_the_tower_it_was_trained_for(path, pairs, wan_tower, audio_tower) -> None:
    joint = JointModel(wan_tower, audio_tower, None)
    _, report = with_lora(joint, load_alignment(path).loras["audio"], part="audio")
    assert (report.part, set(report.matched), report.unmatched) == ("audio", set(pairs), ())
    alone = peft_folder(path.with_name("peft.safetensors"), pairs)
    theirs, _ = with_lora(joint, read_lora(alone), part="audio")
    name = f"audio.model.{next(iter(pairs))}"
    mine, _ = with_lora(joint, load_alignment(path).loras["audio"], part="audio")
    x = torch.randn(2, mine.get_submodule(name).base.in_features)
    torch.testing.assert_close(mine.get_submodule(name)(x), theirs.get_submodule(name)(x))


def test_law_14_other_files_are_refused_with_what_they_are(path, small_models_dir, audio_tower, tmp_path) -> None:
    lora = tmp_path / "lora" / "x.safetensors"
    lora.parent.mkdir()
    peft_folder(lora, factors(audio_tower.model))
    adapter = next(lora.parent.rglob("*.safetensors"))
    wan = next((small_models_dir / "wan" / "transformer").glob("*.safetensors"))
    for other, what in (
        (small_models_dir / "bridge.safetensors", "looks like bridge file"),
        (adapter, "looks like a LoRA"),
        (wan, "looks like Wan 2.1 transformer"),
    ):
        for load in (load_alignment, outline_alignment):
            with pytest.raises(IncompatibleWeightsError, match="the file is not a SAVA alignment file") as error:
                load(other)
            assert what in str(error.value)
    for load in (load_bridges, outline_bridges):
        with pytest.raises(IncompatibleWeightsError, match=r"holds no bridges.*which is a SAVA alignment file"):
            load(path)
    with pytest.raises(IncompatibleWeightsError, match=r"not a LoRA.*which is a SAVA alignment file"):
        read_lora(path)
    with pytest.raises(MissingModelError):
        load_alignment(tmp_path / "nothing.safetensors")


def test_lists_know_it(path: Path) -> None:
    assert identify(path).description.startswith("SAVA alignment file, ours names")
    assert inspect(path).is_alignment and not inspect(path).is_bridge
    assert find_alignments(path.parent) == [path]
    path.write_bytes(path.read_bytes()[:-40])
    assert inspect(path).is_alignment, "also cut short"
    with pytest.raises(CorruptWeightsError):
        load_alignment(path)


GOOD = json.dumps({"audio": {"rank": 3, "alpha": 1.5}})


def config_with(**changes: object) -> str:
    from dataclasses import asdict

    return json.dumps({**asdict(CONFIG), **changes})


@pytest.mark.parametrize(
    "entries",
    [
        {"config": None},
        {"config": "{"},
        {"config": "[1]"},
        {"config": "[" * 100_000},
        {"config": config_with(width=1 << 40)},
        {"config": config_with(width=65536, hidden=65536)},
        {"config": config_with(grid=65536)},
        {"config": config_with(width="8")},
        {"config": config_with(surplus=1)},
        {"config": '{"width": 8}'},
        {"config": config_with(hidden=7)},
        {"config": config_with(video_text_width=0)},
        {"config": config_with(sound_rate=float("inf"))},
        {"loras": None},
        {"loras": "{}"},
        {"loras": "3"},
        {"loras": GOOD.replace("3", "4")},
        {"loras": GOOD.replace("3", "-1")},
        {"loras": GOOD.replace("1.5", "NaN")},
        {"loras": GOOD.replace("1.5", "1e400")},
        {"loras": GOOD.replace("audio", "video")},
        {"loras": GOOD.replace("audio", "bridge")},
        {"version": "2"},
        {"trained": "perhaps"},
    ],
    ids=lambda entries: str(entries)[:60],
)  # fmt: skip
def test_metadata_that_cannot_be_are_refused_before_anything_is_built(path: Path, entries: dict) -> None:
    changed = rewritten(path, **entries)
    for load in (load_alignment, outline_alignment):
        with pytest.raises(WeightsError) as error:
            load(changed)
        assert str(path.parent) in str(error.value) or "metadata" in str(error.value) or "alignment" in str(error.value)
        assert len(str(error.value)) < 2000


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ({"alignment.video.0.weight": None}, "1 missing: video.0.weight"),
        ({"alignment.video.7.weight": torch.zeros(2)}, "1 unexpected: video.7.weight"),
        ({"alignment.audio.2.bias": torch.zeros(9)}, "of the wrong shape"),
        ({"alignment.audio.2.bias": torch.zeros(8, dtype=torch.int32)}, "quantised"),
        ({"alignment.audio.2.bias": torch.full((8,), float("nan"))}, "NaN or infinity"),
        ({"alignment.audio_deviation": torch.zeros(384)}, "not above 0"),
        ({"alignment.video_support": torch.full((8,), 0.5)}, "the support of the alignment file is no choice"),
        ({"somewhere.weight": torch.zeros(2)}, "unknown tensors"),
        ({"audio_lora.x.lora_A.weight": torch.zeros(3, 4)}, "not whole"),
        ({"audio_lora.x.diff": torch.zeros(3, 4)}, "is another"),
        ({"video_lora.x.lora_A.weight": torch.zeros(3, 4)}, "the video LoRA of the alignment file is not whole"),
    ],
)
def test_tensors_that_are_not_the_models_are_refused(path: Path, tensors: dict, sentence: str) -> None:
    with pytest.raises(WeightsError) as error:
        load_alignment(rewritten(path, tensors=tensors))
    assert sentence in str(error.value)


def test_law_14_an_alignment_beside_a_bridge_harms_nothing_and_survives(path, small_models_dir, tmp_path) -> None:
    models = shutil.copytree(small_models_dir, tmp_path / "models")
    shutil.copy(path, models / "a_first.safetensors")
    found = find_models(models)
    assert found.bridge == models / "bridge.safetensors" and found.bridges == (found.bridge,)
    assert find_bridges(models) == [found.bridge]
    run = tmp_path / "run" / "export"
    run.mkdir(parents=True)
    small.write_bridge(run / "bridge.safetensors", seed=5)
    made = assemble(models, (run,), tmp_path / "made")
    laid = {file.name: file.read_bytes() for file in made.glob("*.safetensors")}
    assert laid == {"bridge.safetensors": (run / "bridge.safetensors").read_bytes(),
                    "a_first.safetensors": path.read_bytes()}  # fmt: skip
    (run / "bridge.safetensors").unlink()
    save_alignment(run / "alignment.safetensors", Alignment(CONFIG), trained=False)
    made = assemble(models, (run,), tmp_path / "again")
    assert {file.name for file in made.glob("*.safetensors")} == {"bridge.safetensors", "alignment.safetensors"}
    assert not load_alignment(made / "alignment.safetensors").trained
