"""Our models in the real ComfyUI's memory: they are known to it, leave when asked, and leave nothing behind."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import shutil
import urllib.request
from pathlib import Path

import pytest
import torch
from comfyui_server import python_of, serving
from sounding_video.headless.client import queue_workflow
from sounding_video.headless.graph import read_workflow
from sounding_video.media.probe import probe, read_clip

_spec = importlib.util.spec_from_file_location("single_files", Path(__file__).parents[1] / "models" / "single_files.py")
single = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(single)

MIB = 2**20
OURS = {"JointModel", "WanVAECodec", "OobleckCodec", "UMT5TextEncoder", "T5TextEncoder"}
NOISE = 48 * MIB  # of a process whose threads keep arenas of their own


def memory(server) -> dict:
    with urllib.request.urlopen(f"{server.url}/t2sv_probe/memory", timeout=180) as answer:
        return json.load(answer)


def free(server, **what: bool) -> None:
    request = urllib.request.Request(f"{server.url}/free", json.dumps(what).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=180) as answer:
        assert answer.status == 200


def settled(server, wanted) -> dict:
    """What is in memory once the server's worker has done what ``/free`` asked for."""
    import time

    deadline = time.monotonic() + 180
    while not wanted(state := memory(server)) and time.monotonic() < deadline:
        time.sleep(0.3)
    return state


@pytest.fixture(scope="module")
def template(root):
    return read_workflow(root / "workflows" / "api" / "text_to_sounding_video_pocket.json")


def changed(graph, seed: int, **inputs):
    """The graph at a small size, with another seed and caption, so that nothing but the models is cached."""
    graph = copy.deepcopy(graph)
    graph["7"]["inputs"] |= {"seed": seed, "steps": 1}
    graph["5"]["inputs"] |= {"width": 32, "height": 32, "num_frames": 5}
    graph["6"]["inputs"]["video_caption"] = f"picture number {seed}"
    for node_id, values in inputs.items():
        graph[node_id.removeprefix("node")]["inputs"].update(values)
    return graph


LOADERS = {"T2SVLoadWanTower": "video_model", "T2SVLoadStableAudioTower": "audio_model"}
SMALL = {
    "node1": {"video_model": "wan"},
    "node2": {"audio_model": "stable_audio"},
    "node3": {"bridge_file": "bridge.safetensors"},
}


def test_eviction_sharing_and_dropping_in_comfyui_s_own_code(comfyui_path, python_with_package):
    """On a card made of numbers, in a process of its own: see the script."""
    script = Path(__file__).with_name("comfy_memory_check.py")
    code = f"exec(compile(open({str(script)!r}).read(), {str(script)!r}, 'exec'))"
    paths = [str(comfyui_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    process = python_with_package(code, env=environment, python=python_of(comfyui_path))
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]
    assert output.splitlines()[-1] == "done"


def test_five_runs_of_the_template_leave_what_one_leaves(watched_comfyui, template, tmp_path):
    states = []
    for seed in range(5):
        graph = changed(template, seed, node5={"num_frames": 9}, node7={"steps": 2})
        queue_workflow(watched_comfyui.url, graph, output_dir=tmp_path)
        states.append(memory(watched_comfyui))
    assert set(states[0]["models"]) == OURS
    assert all(state["models"] == states[0]["models"] and state["count"] == len(OURS) for state in states)
    assert states[0]["models"]["JointModel"] > MIB
    sizes = [state["rss"] // MIB for state in states]
    print("process after each run:", sizes, "MiB")
    assert abs(states[4]["rss"] - states[0]["rss"]) < NOISE, sizes


def test_free_unloads_and_forgets(watched_comfyui, template, tmp_path):
    queue_workflow(watched_comfyui.url, changed(template, 100), output_dir=tmp_path)
    assert memory(watched_comfyui)["count"] >= len(OURS)
    free(watched_comfyui, unload_models=True)
    assert settled(watched_comfyui, lambda state: state["count"] == 0)["models"] == {}
    # The nodes still hold the models: the next run loads nothing from disk and registers what it uses. The audio
    # caption is the old one, whose embedding is known.
    queue_workflow(watched_comfyui.url, changed(template, 101), output_dir=tmp_path)
    before = memory(watched_comfyui)
    assert set(before["models"]) >= OURS - {"T5TextEncoder"}
    # With the cache of node results the models themselves go: nothing of ours holds them.
    free(watched_comfyui, unload_models=True, free_memory=True)
    after = settled(watched_comfyui, lambda state: state["rss"] < before["rss"] - 10 * MIB)
    assert after["models"] == {}
    queue_workflow(watched_comfyui.url, changed(template, 102), output_dir=tmp_path)


def test_free_gives_memory_back_that_can_be_seen(comfyui_path, root, template, tmp_path_factory, tmp_path):
    """On a server as people start it, with heaps for its threads: the pocket model's weights take 80 MB."""
    probe_pack = Path(__file__).with_name("memory_probe")
    base = tmp_path_factory.mktemp("comfyui")
    with serving(comfyui_path, root, base, None, others=(probe_pack,), one_heap=False) as server:
        queue_workflow(server.url, changed(template, 1), output_dir=tmp_path)
        before = memory(server)["rss"]
        free(server, unload_models=True, free_memory=True)
        after = settled(server, lambda state: state["rss"] < before - 50 * MIB)["rss"]
        assert before - after > 50 * MIB, (before // MIB, after // MIB)


def test_a_dropped_model_leaves_the_registry_without_being_asked(watched_comfyui, template, tmp_path):
    queue_workflow(watched_comfyui.url, changed(template, 200), output_dir=tmp_path)
    queue_workflow(watched_comfyui.url, changed(template, 201, **SMALL), output_dir=tmp_path)
    state = settled(watched_comfyui, lambda state: state["count"] == len(OURS))
    assert state["count"] == len(OURS)  # the pocket model's five are gone with the node results that held them
    assert state["models"]["JointModel"] < MIB


@pytest.mark.parametrize("offload", ["model", "group", "sequential"])
def test_offloaded_towers_are_not_registered_between_runs(watched_comfyui, template, tmp_path, offload):
    modes = {"node1": {"offload": offload}, "node2": {"offload": offload}}
    free(watched_comfyui, unload_models=True, free_memory=True)
    settled(watched_comfyui, lambda state: state["count"] == 0)
    queue_workflow(watched_comfyui.url, changed(template, 300, **modes), output_dir=tmp_path)
    assert memory(watched_comfyui)["models"] == {}


@pytest.mark.slow
def test_fifty_prompts_do_not_grow(watched_comfyui, template, tmp_path):
    """Two rounds: after the first the allocator has its arenas; the second may not add to them."""
    sizes = []
    for seed in range(50):
        queue_workflow(watched_comfyui.url, changed(template, seed, **SMALL), output_dir=tmp_path)
        if seed in (9, 29, 49):
            sizes.append(memory(watched_comfyui)["rss"])
    print("process after 10, 30 and 50 prompts:", [size // MIB for size in sizes], "MiB")
    assert sizes[2] - sizes[1] < NOISE and sizes[1] - sizes[0] < NOISE, [size // MIB for size in sizes]


def test_a_folder_of_extra_model_paths_is_searched(watched_comfyui):
    """``extra_model_paths.yaml`` names the folder under our own key, and a folder of LoRAs."""
    with urllib.request.urlopen(f"{watched_comfyui.url}/object_info", timeout=180) as answer:
        info = json.load(answer)

    def choices(node: str, name: str) -> list[str]:
        return info[node]["input"]["required"][name][1]["options"]

    assert choices("T2SVLoadWanTower", "video_model")[:2] == ["pocket", "wan"]
    assert choices("T2SVLoadStableAudioTower", "audio_model")[:2] == ["pocket", "stable_audio"]
    assert choices("T2SVLoadBridge", "bridge_file")[:2] == ["pocket", "bridge.safetensors"]


@pytest.fixture(scope="module")
def comfyui_with_files(comfyui_path, root, tmp_path_factory):
    """A server whose models are single files in folders that only ``extra_model_paths.yaml`` names."""
    base, elsewhere = tmp_path_factory.mktemp("comfyui"), tmp_path_factory.mktemp("elsewhere")
    folders = single.write_folders(tmp_path_factory.mktemp("folders"))
    wan, audio = folders / "wan", folders / "stable_audio"
    single.save(elsewhere / "nets" / "video" / "w.safetensors", single.cast(single.wan_original(wan), torch.float16))
    single.save(elsewhere / "decoders" / "v.safetensors", single.vae_original(wan))
    single.save(elsewhere / "texts" / "umt5" / "u.safetensors", single.scaled_fp8(single.part(wan / "text_encoder"))[0])
    shutil.copytree(wan / "tokenizer", elsewhere / "texts" / "umt5" / "tokenizer")
    single.save(elsewhere / "texts" / "t5" / "t.safetensors", single.part(audio / "text_encoder"))
    shutil.copytree(audio / "tokenizer", elsewhere / "texts" / "t5" / "tokenizer")
    single.save(elsewhere / "all" / "a.safetensors", single.stable_audio_original(audio))
    (base / "extra.yaml").write_text(
        f"mine:\n    base_path: {elsewhere}\n    diffusion_models: nets\n    vae: decoders\n"
        "    text_encoders: texts\n    checkpoints: all\n"
    )
    with serving(comfyui_path, root, base, None, ("--extra-model-paths-config", str(base / "extra.yaml"))) as server:
        yield server


def test_single_files_of_extra_model_paths_are_listed_and_run(comfyui_with_files, template, tmp_path):
    with urllib.request.urlopen(f"{comfyui_with_files.url}/object_info", timeout=180) as answer:
        info = json.load(answer)
    lists = {node: info[node]["input"]["required"][name][1]["options"] for node, name in LOADERS.items()}
    assert lists == {
        "T2SVLoadWanTower": ["pocket", "video/w.safetensors"],
        "T2SVLoadStableAudioTower": ["pocket", "a.safetensors"],
    }
    graph = changed(template, 500, node1={"video_model": "video/w.safetensors"}, node2={"audio_model": "a.safetensors"})
    del graph["3"], graph["4"]["inputs"]["bridge"]
    (clip,) = queue_workflow(comfyui_with_files.url, graph, output_dir=tmp_path).files
    info = probe(clip)
    assert (info.num_frames, info.width, info.height, info.sample_rate) == (5, 32, 32, 44_100)


def test_a_lora_of_extra_model_paths_is_found_and_used(watched_comfyui, template, small_models_dir, tmp_path):
    from diffusers import WanTransformer3DModel
    from lora_files import LAYOUTS, factors, mixed

    wan = WanTransformer3DModel.from_pretrained(small_models_dir / "wan/transformer")
    (folder,) = [
        Path(line.partition("base_path: ")[2]) / "styles"
        for line in (watched_comfyui.base / "extra.yaml").read_text().splitlines()
        if "base_path" in line
    ]
    LAYOUTS["kohya"](folder / "style.safetensors", factors(wan))
    mixed(folder / "mixed.safetensors")
    graph = changed(template, 400, **SMALL)
    plain = queue_workflow(watched_comfyui.url, graph, output_dir=tmp_path)
    inputs = {"model": ["4", 0], "lora_file": "style.safetensors", "strength": 0.5}
    graph["50"] = {"class_type": "T2SVLoadLora", "inputs": inputs}
    graph["7"]["inputs"]["model"] = ["50", 0]
    styled = queue_workflow(watched_comfyui.url, graph, output_dir=tmp_path)
    assert plain.files[0].read_bytes() != styled.files[0].read_bytes()
    # One that changes norms, modulation and the patch embedding too, in a chain, in any order.
    graph["51"] = {
        "class_type": "T2SVLoadLora",
        "inputs": {**inputs, "lora_file": "mixed.safetensors", "model": ["50", 0]},
    }
    graph["7"]["inputs"]["model"] = ["51", 0]
    chained = queue_workflow(watched_comfyui.url, graph, output_dir=tmp_path)
    graph["50"]["inputs"]["lora_file"], graph["51"]["inputs"]["lora_file"] = "mixed.safetensors", "style.safetensors"
    turned = queue_workflow(watched_comfyui.url, graph, output_dir=tmp_path)
    frames = [read_clip(run.files[0]).video.frames for run in (chained, turned, styled)]
    assert torch.equal(frames[0], frames[1]) and not torch.equal(frames[0], frames[2])
    # The joint models with and without the LoRA share their weights, and stand in the books once.
    assert list(memory(watched_comfyui)["models"]).count("JointModel") == 1
