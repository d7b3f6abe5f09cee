"""``generate`` with LoRAs, and the node Load LoRA behind the workflow that the file carries."""

from __future__ import annotations

import json

import pytest
import torch
from lora_files import LAYOUTS, dotted, factors
from sounding_video.cli.loras import Lora, parse_lora
from sounding_video.core.errors import InputError
from sounding_video.media.probe import probe, read_clip


@pytest.fixture(scope="module")
def loras(small_models_dir, tmp_path_factory):
    """One LoRA for each part of the small models, in a folder called ``loras``."""
    from diffusers import StableAudioDiTModel, WanTransformer3DModel
    from sounding_video.models.weights.bridges import load_bridges

    folder = tmp_path_factory.mktemp("comfy") / "loras"
    (folder / "wan").mkdir(parents=True)
    wan = WanTransformer3DModel.from_pretrained(small_models_dir / "wan/transformer")
    sao = StableAudioDiTModel.from_pretrained(small_models_dir / "stable_audio/transformer")
    plain = dotted("", "lora_A", "lora_B", alpha=False)
    return {
        "video": LAYOUTS["kohya"](folder / "wan" / "style.safetensors", factors(wan)),
        "audio": plain(folder / "sound.safetensors", factors(sao)),
        "bridge": plain(
            folder / "bridges.safetensors", factors(load_bridges(small_models_dir / "bridge.safetensors").stack)
        ),
    }


def test_the_strength_is_behind_the_last_colon():
    assert parse_lora("a.safetensors", "video") == Lora(parse_lora("a.safetensors:1", "video").path, 1.0, "video")
    assert parse_lora("a.safetensors:-0.5", "video").strength == -0.5
    assert str(parse_lora(r"C:\x.safetensors", "audio").path) == r"C:\x.safetensors"
    assert (str(parse_lora("C:x:2", "audio").path), parse_lora("C:x:2", "audio").strength) == ("C:x", 2.0)
    for text in ("a:nan", "a:inf", "", ":0.5"):
        with pytest.raises(InputError, match="FILE or FILE:STRENGTH"):
            parse_lora(text, "video")


def test_loras_change_the_clip_and_its_workflow_makes_it_again(
    generate, command, loras, small_models_dir, tmp_path, monkeypatch
):
    options = ["--video-caption", "waves", "--audio-caption", "surf", "--seed", 4]
    plain = generate(*options, "-o", tmp_path / "plain.mkv")
    options += ["--lora", f"{loras['video']}:0.7", "--audio-lora", loras["audio"], "--bridge-lora", loras["bridge"]]
    made = generate(*options, "--lora", f"{loras['video']}:0.1", "-o", tmp_path / "styled.mkv", "--json")
    assert (plain.code, made.code) == (0, 0), made.err
    assert "LoRA style.safetensors × 0.7 on 36 layers of the video tower" in made.json["model"]
    first, styled = read_clip(tmp_path / "plain.mkv"), read_clip(tmp_path / "styled.mkv")
    assert not torch.equal(first.video.frames, styled.video.frames)
    tags = probe(tmp_path / "styled.mkv").tags
    assert json.loads(tags["sounding_video"])["loras"][0] == {
        "file": "wan/style.safetensors",
        "strength": 0.7,
        "part": "video",
    }
    # The workflow names the files as a folder called loras does: put the folder where the nodes look.
    (tmp_path / "models").mkdir()
    for path in small_models_dir.iterdir():
        (tmp_path / "models" / path.name).symlink_to(path)
    (tmp_path / "models" / "loras").symlink_to(loras["audio"].parent)
    (tmp_path / "again.json").write_text(tags["prompt"])
    again = command(
        "run", tmp_path / "again.json", "--models", tmp_path / "models", "--output-dir", tmp_path / "out", "--json"
    )
    assert again.code == 0, again.err
    (path,) = again.json["files"]
    torch.testing.assert_close(read_clip(path).video.frames, styled.video.frames, atol=0, rtol=0)
    torch.testing.assert_close(read_clip(path).audio.waveform, styled.audio.waveform, atol=0, rtol=0)
    page = json.loads(tags["workflow"])
    assert [node["type"] for node in page["nodes"]].count("T2SVLoadLora") == 4


def test_a_step_distilled_lora_brings_its_steps_and_no_guidance_of_the_picture(
    command, loras, small_models_dir, tmp_path
):
    named = tmp_path / "wan_lightx2v_4step.safetensors"
    named.symlink_to(loras["video"])
    options = ["generate", "--models", small_models_dir, "--frames", 5, "--size", "32x32", "--no-expand"]
    options += ["--video-caption", "waves", "--audio-caption", "surf", "--lora", named]
    made = command(*options, "-o", tmp_path / "fast.mkv")
    assert made.code == 0, made.err
    asked = json.loads(probe(tmp_path / "fast.mkv").tags["sounding_video"])
    keys = ("num_steps", "video_guidance_scale", "audio_guidance_scale", "flow_shift")
    assert [asked[key] for key in keys] == [4, 1.0, 6.0, 5.0]
    told = "wan_lightx2v_4step.safetensors is step-distilled (LightX2V): 4 steps, no guidance of the picture"
    assert told in made.err and "look worse" not in made.err
    other = command(*options, "--steps", 1, "--video-cfg", 3, "-o", tmp_path / "slow.mkv")
    asked = json.loads(probe(tmp_path / "slow.mkv").tags["sounding_video"])
    assert [asked[key] for key in keys] == [1, 3.0, 6.0, 5.0]
    told = "the picture's LoRA (LightX2V) is made for 4 steps, no guidance of the picture (scale 1), shift 5"
    assert f"{told}; 1 steps, guidance scale 3 will look worse with it" in other.err
    off = command(*options[:-1], f"{named}:0", "--steps", 1, "-o", tmp_path / "off.mkv")
    assert json.loads(probe(tmp_path / "off.mkv").tags["sounding_video"])["video_guidance_scale"] == 6.0
    assert "distilled" not in off.err


def test_a_lora_for_another_part_or_absent_is_refused(generate, loras, tmp_path):
    outcome = generate("rain", "--audio-lora", loras["video"])
    assert outcome.code == 2 or "Traceback" not in outcome.err
    assert "which fits the video tower; expected a LoRA for the audio tower" in outcome.err
    outcome = generate("rain", "--lora", tmp_path / "absent.safetensors")
    assert outcome.code == 3 and "the LoRA file was not found" in outcome.err
    assert not (tmp_path / "clip.mp4").exists()
