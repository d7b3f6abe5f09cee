"""Load LoRA without a server: its list, what it finds, what it refuses."""

from __future__ import annotations

import pytest
from lora_files import LAYOUTS, factors, peft_folder
from sounding_video.core.device import resolve_placement
from sounding_video.core.errors import MissingModelError
from sounding_video.headless.runner import run_workflow
from sounding_video.models.lora.files import read_lora
from sounding_video.nodes import sampling
from sounding_video.nodes.given import BOTH, PICTURE, SOUND
from sounding_video.nodes.host import standalone
from sounding_video.nodes.host.folders import list_loras, resolve_lora
from sounding_video.nodes.lora import LoadLora
from sounding_video.nodes.own import AS_SET, FROM_MODEL
from sounding_video.pipeline import add_lora, load_models


@pytest.fixture
def models(small_models_dir, tmp_path):
    """The small models, and a ``loras`` folder with one file and one peft folder."""
    from diffusers import WanTransformer3DModel

    for path in small_models_dir.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "loras" / "wan").mkdir(parents=True)
    pairs = factors(WanTransformer3DModel.from_pretrained(small_models_dir / "wan/transformer"))
    LAYOUTS["original names"](tmp_path / "loras" / "wan" / "style.safetensors", pairs)
    peft_folder(tmp_path / "loras" / "grain", pairs)
    (tmp_path / "loras" / "notes.txt").write_text("not a LoRA")
    return tmp_path


def test_the_list_holds_files_and_peft_folders(models):
    with standalone.session(standalone.Session((models,))):
        assert list_loras() == ["grain", "wan/style.safetensors"]
        assert resolve_lora("grain") == models / "loras" / "grain"
        options = {port.id: port.options for port in LoadLora.GET_SCHEMA().inputs}["lora_file"]
        assert options["options"] == ["none", "grain", "wan/style.safetensors"]
        for name in ("../bridge.safetensors", "/etc/passwd", "absent"):
            with pytest.raises(MissingModelError, match=r"no LoRA of that name was found.*grain, wan/style"):
                resolve_lora(name)


def test_a_chain_of_loras_runs_and_changes_the_clip(graph, models, tmp_path):
    files = {}
    chains = {"plain": [("none", 1.0)], "one": [("wan/style.safetensors", 0.5), ("grain", 0.25)]}
    chains["other way round"] = chains["one"][::-1]
    for name, chain in chains.items():
        source = ["4", 0]
        for number, (lora, strength) in enumerate(chain):
            inputs = {"model": source, "lora_file": lora, "strength": strength}
            graph[f"{50 + number}"] = {"class_type": "T2SVLoadLora", "inputs": inputs}
            source = [f"{50 + number}", 0]
        graph["7"]["inputs"]["model"] = source
        report = run_workflow(graph, output_dir=tmp_path / name, models_dir=models, device="cpu", embed_metadata=False)
        files[name] = report.files[0].read_bytes()
    assert files["one"] == files["other way round"] != files["plain"]


def test_a_step_distilled_one_sets_what_stands_at_the_sampler_s_defaults(models):
    path = models / "loras" / "wan21_causvid_rank32.safetensors"
    path.symlink_to(models / "loras" / "wan" / "style.safetensors")
    plain = load_models(models, placement=resolve_placement(device="cpu"))
    distilled = add_lora(plain, read_lora(path), 0.5)
    fresh = {"steps": 50, "video_guidance_scale": 6.0, "audio_guidance_scale": 6.0, "flow_shift": 3.0}

    def taken(model, defaults=FROM_MODEL, task=BOTH, **changed):
        options, told = sampling._options(model, defaults, {**fresh, **changed}, task)
        return options.num_steps, options.video_guidance_scale, options.audio_guidance_scale, options.flow_shift, told

    told = "num_steps 8, video_guidance_scale 1, flow_shift 8: from the model"
    assert taken(distilled) == taken(distilled, task=PICTURE) == (8, 1.0, 6.0, 8.0, told)
    assert taken(distilled, steps=12, audio_guidance_scale=4.0)[:4] == (12, 1.0, 4.0, 8.0)
    assert taken(distilled, AS_SET)[:4] == taken(plain)[:4] == (50, 6.0, 6.0, 3.0)
    assert taken(distilled, task=SOUND)[:4] == (50, 6.0, 6.0, 3.0), "the picture is given, and none is made"
    assert taken(add_lora(distilled, read_lora(models / "loras" / "grain")))[0] == 8
    with standalone.session(standalone.Session((models,))):
        report = LoadLora.execute(plain, path.name, 1.0).args[1]
    assert report.endswith("; CausVid, step-distilled: made for 8 steps, no guidance of the picture (scale 1), shift 8")
