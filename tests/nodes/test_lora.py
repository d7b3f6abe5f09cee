"""Load LoRA without a server: its list, what it finds, what it refuses."""

from __future__ import annotations

import pytest
from lora_files import LAYOUTS, factors, peft_folder
from sounding_video.core.errors import MissingModelError
from sounding_video.headless.runner import run_workflow
from sounding_video.nodes.host import standalone
from sounding_video.nodes.host.folders import list_loras, resolve_lora
from sounding_video.nodes.lora import LoadLora


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
