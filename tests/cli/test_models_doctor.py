"""The commands ``models``, ``doctor``, ``convert`` and ``download``."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import small_models as small
import torch
from huggingface_hub import HfApi
from sounding_video.cli import doctor
from sounding_video.core.device import resolve_placement
from sounding_video.core.errors import IncompatibleWeightsError, InputError, MissingModelError, OutputError
from sounding_video.media import codecs as media_codecs
from sounding_video.models.ropes import ROPES
from sounding_video.models.weights import download as downloads
from sounding_video.models.weights.bridges import load_bridges
from sounding_video.models.weights.convert import convert_bridges, hash_file, hash_tower
from sounding_video.pipeline import load_models

_spec = importlib.util.spec_from_file_location("single_files", Path(__file__).parents[1] / "models" / "single_files.py")
single = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(single)


@pytest.fixture(autouse=True)
def no_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine's Hugging Face cache holds is no matter of these tests."""
    monkeypatch.setattr("sounding_video.models.weights.hub.hub_cache", lambda: tmp_path / "hub")


def test_models_lists_what_is_there_and_what_is_not(command, small_models_dir, tmp_path) -> None:
    root = tmp_path / "models"
    shutil.copytree(small_models_dir / "wan", root / "wan")
    folders = single.write_folders(tmp_path / "folders")
    single.save(root / "vae" / "x.safetensors", single.cast(single.vae_original(folders / "wan"), torch.float16))
    shutil.copy(small_models_dir / "bridge.safetensors", root / "b.safetensors")
    single.save(root / "loras" / "l.safetensors", {"x.lora_up.weight": torch.zeros(3)})
    outcome = command("models", "--models", root, "--json")
    assert outcome.code == 0
    found = {row["kind"]: row for row in outcome.json["found"]}
    assert set(found) == {"pocket", "wan", "wan_vae", "bridge"}
    vae = found["wan_vae"]
    assert vae["dtype"] == "float16"
    assert vae["bytes"] == (root / "vae" / "x.safetensors").stat().st_size
    assert vae["layout"] == "original names, safetensors"
    assert vae["licence"] == "Apache-2.0"
    assert found["wan"]["path"] == str(root / "wan")
    assert found["wan"]["dtype"] == "float32"
    missing = {row["kind"]: row for row in outcome.json["missing"]}
    assert set(missing) == {"stable_audio", "t5"}, "the diffusers folder brings UMT5 and the VAE"
    assert missing["stable_audio"]["gated"]
    assert missing["stable_audio"]["bytes"] > 4e9
    assert [Path(row["path"]).name for row in outcome.json["others"]] == ["l.safetensors"]
    text = command("models", "--models", root).out
    assert "sounding-video download stable-audio" in text
    assert "Stability AI Community License" in text
    assert "other files: 1 (--all lists them)" in text
    assert "a LoRA" in command("models", "--models", root, "--all").out


def test_models_in_an_empty_and_in_no_folder(command, tmp_path, monkeypatch) -> None:
    outcome = command("models", "--models", tmp_path, "--json")
    assert {row["kind"] for row in outcome.json["missing"]} == {
        "wan", "wan_vae", "umt5", "stable_audio", "t5", "bridge",
    }  # fmt: skip
    monkeypatch.setenv("SOUNDING_VIDEO_MODELS", str(tmp_path))
    assert command("models", "--json").json["folders"] == [str(tmp_path)]
    gone = command("models", "--models", tmp_path / "gone")
    assert gone.code == 3
    assert "model folder was not found" in gone.err


def test_models_in_the_cache_are_listed_once_by_whatever_name(command, small_models_dir, tmp_path, monkeypatch) -> None:
    snapshot = tmp_path / "hub" / "models--Wan-AI--Wan2.1" / "snapshots" / ("a" * 40)
    shutil.copytree(small_models_dir / "wan", snapshot)
    monkeypatch.delenv("SOUNDING_VIDEO_MODELS", raising=False)
    for place in ((), ("--models", "Wan-AI/Wan2.1"), ("--models", tmp_path / "hub")):
        report = command("models", *place, "--json").json
        found = [(row["name"], row["path"]) for row in report["found"] if row["kind"] == "wan"]
        assert found == [("Wan-AI/Wan2.1", str(snapshot))], place
    assert f"    Wan-AI/Wan2.1  ({snapshot})" in command("models").out
    gone = command("models", "--models", "Wan-AI/Wan2.2")
    assert (gone.code, "model folder was not found" in gone.err) == (3, True)


def test_doctor_plans_for_a_model_of_the_cache(command, small_models_dir, tmp_path, monkeypatch) -> None:
    for name in ("wan", "stable_audio"):
        shutil.copytree(small_models_dir / name, tmp_path / "hub" / f"models--small--{name}" / "snapshots" / ("a" * 40))
    monkeypatch.delenv("SOUNDING_VIDEO_MODELS", raising=False)
    clip = ("--frames", 5, "--width", 32, "--height", 32, "--json")
    for place in ((), ("--models", "small/wan"), ("--models", tmp_path / "hub")):
        outcome = command("doctor", "--plan", *place, *clip)
        assert outcome.code == 0, outcome.err
        assert outcome.json["choice"]


def test_doctor_tries_things_and_says_what_it_found(command, tmp_path, monkeypatch) -> None:
    checkout = tmp_path / "ComfyUI"
    checkout.mkdir()
    (checkout / "comfyui_version.py").write_text('__version__ = "0.3.10"\n')
    outcome = command("doctor", "--models", tmp_path, "--comfyui", checkout, "--json")
    assert outcome.code == 0
    report = outcome.json
    assert report["versions"]["torch"] == torch.__version__
    cpu = report["devices"][0]
    assert (cpu["device"], cpu["dtypes"]["float32"], cpu["attention"]["sdpa"]) == ("cpu", "works", "works")
    assert report["encoders"] == dict.fromkeys(("libx264", "libvpx-vp9", "aac", "libopus", "flac"), "works")
    assert report["codecs"]["h264"] is report["codecs"]["pcm_s16"] is True
    assert report["packages"]["diffusers"]["version"]
    for row in report["packages"].values():
        assert bool(row["version"]) != bool(row["pip"])
    assert report["comfyui"] == {"path": str(checkout), "version": "0.3.10", "is_new_enough": False}
    assert report["problems"] == ["ComfyUI 0.3.10 is older than 0.3.64; update it."]
    monkeypatch.setitem(media_codecs.CODECS, "hevc", media_codecs.Codec("libnothing"))
    text = command("doctor", "--models", tmp_path).out
    assert "no problems found" in text and re.search(
        r"^codecs to choose: h264, .*; not here: hevc$", text, re.MULTILINE
    )
    wrong = command("doctor", "--models", tmp_path, "--comfyui", tmp_path)
    assert wrong.code == 3
    assert "not a ComfyUI checkout" in wrong.err


def test_doctor_reports_failures_as_it_sees_them(monkeypatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torchsde", None)
    monkeypatch.setitem(doctor.VIDEO_ENCODERS, "no_such_encoder", "nothing")
    packages, encoders = doctor.packages(), doctor.encoders()
    assert packages["torchsde"]["version"] is None
    assert packages["torchsde"]["pip"] == "pip install torchsde"
    assert encoders["no_such_encoder"].startswith("fails: ")
    report = {"packages": packages, "encoders": encoders, "devices": doctor.devices(), "comfyui": None}
    found = doctor.problems(report)
    assert "The package torchsde is missing (the audio sampler): pip install torchsde" in found
    assert any("no_such_encoder (nothing) fails" in problem for problem in found)
    kernels = report["devices"][0]["attention"]
    assert kernels["flash"].startswith("fails: cpu"), "flash attention has no CPU kernel"


@pytest.fixture
def lightning(small_models_dir: Path, tmp_path: Path) -> Path:
    """A checkpoint as the authors' trainer writes it: one flat dict with tuned tower blocks, kind in a folder name."""
    bridge = load_bridges(small_models_dir / "bridge.safetensors")
    state = dict(bridge.stack.state_dict())
    for folder, stem in (("wan", "blocks.0."), ("stable_audio", "transformer_blocks.1.")):
        tower = single.part(small_models_dir / folder / "transformer")
        state |= {name: tensor + 0.5 for name, tensor in tower.items() if name.startswith(stem)}
    file = tmp_path / "bicross-small" / "epoch=0-step=2.ckpt"
    file.parent.mkdir()
    torch.save({"epoch": 0, "global_step": 2, "state_dict": state, "hyper_parameters": {"config_path": "x"}}, file)
    return file


def test_convert_makes_a_file_that_says_all_and_equals_the_checkpoint(
    command, lightning, small_models_dir, tmp_path
) -> None:
    target = tmp_path / "out" / "bridge.safetensors"
    wan = small_models_dir / "wan"
    outcome = command(
        *("convert", lightning, "-o", target, "--num-heads", 2, "--points", "0,2/0,1"), "--video-tower", wan, "--json"
    )
    assert outcome.code == 0, outcome.err
    metadata = outcome.json["metadata"]
    assert metadata["fusion"] == "dual_cross"
    assert json.loads(metadata["points"]) == {"video": [0, 2], "audio": [0, 1]}
    assert json.loads(metadata["config"])["num_heads"] == 2
    assert metadata["source_sha256"] == hash_file(lightning)
    assert metadata["video_tower"] == "wan"
    assert "Stability AI Community License" in metadata["licence"]
    (name, digest) = next(iter(json.loads(metadata["video_tower_sha256"]).items()))
    assert digest == hash_file(wan / "transformer" / name)
    original = torch.load(lightning, weights_only=True)["state_dict"]
    written = load_bridges(target)
    stored = written.stack.state_dict() | written.tower_weights["video"] | written.tower_weights["audio"]
    assert set(stored) == set(original)
    assert all(torch.equal(stored[name], tensor) for name, tensor in original.items())
    assert outcome.json["tower_tensors"] == {name: len(w) for name, w in written.tower_weights.items()}
    again = tmp_path / "again.safetensors"
    convert_bridges(target, again)
    assert load_bridges(again).stack.points == written.stack.points


def test_convert_notes_how_the_bridges_were_trained_and_keeps_what_was_noted(
    command, lightning, small_models_dir, tmp_path
) -> None:
    once, twice, named = (tmp_path / f"{name}.safetensors" for name in ("once", "twice", "named"))
    how = ("--num-heads", 2, "--points", "0,1/0,1")
    first = command("convert", lightning, "-o", once, *how, "--models", small_models_dir, "--json").json["metadata"]
    assert first["recipe"] == "epoch 0, global_step 2"
    for modality, folder in (("video", "wan"), ("audio", "stable_audio")):
        (name, digest) = next(iter(json.loads(first[f"{modality}_tower_sha256"]).items()))
        assert (first[f"{modality}_tower"], digest) == (
            folder,
            hash_file(small_models_dir / folder / "transformer" / name),
        )
    second = command("convert", once, "-o", twice, "--json").json["metadata"]
    assert second == first, "the source, its hash, the recipe and the towers stay"
    assert load_bridges(twice).notes.items() >= {"recipe": first["recipe"], "source": lightning.name}.items()
    said = command("convert", lightning, "-o", named, *how, "--recipe", "VGGSound, 3 epochs", "--json").json["metadata"]
    assert (said["recipe"], said["global_step"]) == ("VGGSound, 3 epochs", "2")
    missing = command("convert", lightning, "-o", named, *how, "--models", tmp_path / "gone", "--overwrite")
    assert (missing.code, "model folder was not found" in missing.err) == (3, True)


def test_convert_takes_deepspeed_s_folder(command, lightning, tmp_path) -> None:
    flat = torch.load(lightning, weights_only=True)["state_dict"]
    stems = {"blocks.": "video_diffusion.", "transformer_blocks.": "audio_diffusion."}
    prefix = lambda name: next((p for stem, p in stems.items() if name.startswith(stem)), "dual_dit_blocks.")  # noqa: E731
    file = tmp_path / "bicross-x.ckpt" / "checkpoint" / "mp_rank_00_model_states.pt"
    file.parent.mkdir(parents=True)
    torch.save({"module": {prefix(name) + name: tensor for name, tensor in flat.items()}}, file)
    how = ("--num-heads", 2, "--points", "0,1/0,1", "--json")
    outcome = command("convert", tmp_path / "bicross-x.ckpt", "-o", tmp_path / "b.safetensors", *how)
    assert outcome.code == 0, outcome.err
    assert outcome.json["metadata"]["source_sha256"] == hash_file(file)
    assert outcome.json["metadata"]["source"] == "bicross-x.ckpt"
    assert "recipe" not in outcome.json["metadata"], "nothing says it"


def test_a_sharded_tower_is_hashed_whole(lightning, small_models_dir, tmp_path) -> None:
    index = single.save_sharded(tmp_path / "wan", "m", single.part(small_models_dir / "wan" / "transformer"))
    assert set(hash_tower(index)) == {"m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors"}


@pytest.mark.parametrize("rope", ROPES)
def test_convert_writes_the_positions_that_it_is_told(command, lightning, tmp_path, rope) -> None:
    target = tmp_path / "bridge.safetensors"
    told = ("convert", lightning, "-o", target, "--num-heads", 2, "--points", "0,1/0,1", "--rope", rope)
    assert json.loads(command(*told, "--json").json["metadata"]["config"])["rope"] == rope
    assert load_bridges(target).stack.config.rope == rope
    wrong = command(*told[:3], tmp_path / "other.safetensors", *told[4:-1], "time")
    assert (wrong.code, "unknown bridge rope: got 'time'; expected one of " in wrong.err) == (2, True)


def test_convert_refuses_what_it_cannot_do_right(command, lightning, tmp_path) -> None:
    target = tmp_path / "bridge.safetensors"
    plain = shutil.copy(lightning, tmp_path / "x.ckpt")
    cases = [
        ((plain, "-o", target), 2, "does not say which fusion kind"),
        ((lightning, "-o", tmp_path / "bridge.ckpt"), 2, "not a safetensors file"),
        ((lightning, "-o", target, "--placement", "early", "--points", "0/0"), 2, "given twice"),
        ((lightning, "-o", target, "--points", "0,1"), 2, "with /"),
        ((lightning, "-o", target, "--points", "a/0"), 2, "the block number cannot be used: got a"),
        ((tmp_path / "none.ckpt", "-o", target), 3, "bridge file was not found"),
        ((lightning, "-o", target, "--num-heads", 2, "--points", "0,1/0,1", "--audio-tower", tmp_path), 2, "to hash"),
    ]
    for arguments, code, words in cases:
        outcome = command("convert", *arguments)
        assert (outcome.code, words in outcome.err) == (code, True), outcome.err
        assert not target.exists()
    target.write_bytes(b"mine")
    outcome = command("convert", lightning, "-o", target, "--num-heads", 2, "--points", "0,1/0,1")
    assert outcome.code == 2
    assert "the target exists" in outcome.err
    assert target.read_bytes() == b"mine"
    assert command("convert", lightning, "-o", target, "--num-heads", 2, "--points", "0,1/0,1", "--overwrite").code == 0


class _Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_convert_runs_nothing_of_a_malicious_checkpoint(command, tmp_path) -> None:
    file, canary = tmp_path / "bicross-x.ckpt", tmp_path / "ran"
    torch.save({"state_dict": {"0.attn.q_proj_1.weight": torch.zeros(2, 2)}, "x": _Canary(canary)}, file)
    outcome = command("convert", file, "-o", tmp_path / "b.safetensors")
    assert outcome.code == 2
    assert "wants to run code" in outcome.err
    assert "pathlib" in outcome.err
    assert not canary.exists()


def test_bridges_for_wider_towers_are_refused(small_models_dir, tmp_path) -> None:
    """As the 14B bridges on the 1.3B towers: the same names, other widths."""
    from sounding_video.models.bridges.config import BridgeConfig
    from sounding_video.models.joint import BridgePoints, BridgeStack
    from sounding_video.models.weights.bridges import save_bridges

    config = BridgeConfig(
        video_width=3 * small.VIDEO_WIDTH, audio_width=small.AUDIO_WIDTH, qk_width=16, v_width=16, num_heads=2,
        video_time_width=3 * small.VIDEO_WIDTH, audio_time_width=small.AUDIO_WIDTH,
    )  # fmt: skip
    wide = tmp_path / "wide.safetensors"
    save_bridges(wide, BridgeStack("dual_cross", config, BridgePoints((0, 1), (0, 1))))
    with pytest.raises(IncompatibleWeightsError, match=f"{3 * small.VIDEO_WIDTH}.*{small.VIDEO_WIDTH}"):
        load_models(small_models_dir, placement=resolve_placement(device="cpu"), bridge=wide)


FILES = {
    "split_files/diffusion_models/wan2.1_t2v_1.3B_fp16.safetensors": b"w" * 5000,
    "split_files/vae/wan_2.1_vae.safetensors": b"v" * 300,
    "split_files/text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors": b"t" * 4000,
    "split_files/text_encoders/umt5_xxl_fp16.safetensors": b"not wanted",
}
COMMIT = "d" * 40


class _Hub(BaseHTTPRequestHandler):
    """The part of the hub's interface that a download uses."""

    def do_HEAD(self) -> None:
        self._answer(send_body=False)

    def do_GET(self) -> None:
        self._answer(send_body=True)

    def log_message(self, *args: object) -> None:
        pass

    def _answer(self, *, send_body: bool) -> None:
        self.server.seen.append((self.command, self.path, self.headers.get("Range")))
        headers, status = {"X-Repo-Commit": COMMIT}, 200
        if "gated" in self.server.mode or "stabilityai" in self.path:
            status, body = 403, b"{}"
            headers |= {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to model is restricted."}
        elif self.path.startswith("/api/models/"):
            siblings = [{"rfilename": name, "size": len(data)} for name, data in FILES.items()]
            repository = self.path.removeprefix("/api/models/").split("?")[0].split("/revision")[0]
            body = json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings}).encode()
        else:
            name = self.path.split("/resolve/")[1].split("/", 1)[1]
            body = FILES[name]
            headers["ETag"] = f'"{self.server.etags.get(name, f"{hash(name) & 0xFFFF:040x}")}"'
            start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
            if start:
                status, headers["Content-Range"] = 206, f"bytes {start}-{len(body) - 1}/{len(body)}"
                body = body[start:]
        self.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(key, value)
        self.end_headers()
        if send_body:
            self.wfile.write(body)


@pytest.fixture
def hub(monkeypatch) -> Iterator[SimpleNamespace]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    server.seen, server.mode, server.etags = [], "", {}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    api = HfApi(endpoint=f"http://127.0.0.1:{server.server_port}", token=False)
    yield SimpleNamespace(api=api, server=server)
    server.shutdown()
    server.server_close()


def test_download_puts_files_where_comfyui_and_this_program_look(hub, tmp_path) -> None:
    steps = []
    progress = SimpleNamespace(step=lambda stage, done, total: steps.append((stage, done, total)))
    files = downloads.download("wan-1.3b", tmp_path, api=hub.api, progress=progress)
    assert sorted(str(file.relative_to(tmp_path)) for file in files) == [
        "diffusion_models/wan2.1_t2v_1.3B_fp16.safetensors",
        "text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors",
        "vae/wan_2.1_vae.safetensors",
    ]
    for file in files:
        assert file.read_bytes() == next(data for name, data in FILES.items() if name.endswith(file.name))
    assert not (tmp_path / downloads.STAGING).exists()
    assert steps == sorted(steps) and len(steps) >= 4
    before = len(hub.server.seen)
    (tmp_path / "vae" / "wan_2.1_vae.safetensors").unlink()
    downloads.download("wan-1.3b", tmp_path, api=hub.api)
    fetched = [path for method, path, _ in hub.server.seen[before:] if method == "GET" and "/resolve/" in path]
    assert len(fetched) == 1, "what is there in full is not fetched again"
    assert fetched[0].endswith("wan_2.1_vae.safetensors")


def test_download_explains_a_gated_model(hub, tmp_path) -> None:
    with pytest.raises(MissingModelError, match=r"accepted its licence.*Stability AI.*hf auth login") as caught:
        downloads.download("stable-audio", tmp_path, api=hub.api)
    assert "huggingface.co/stabilityai/stable-audio-open-1.0" in caught.value.remedy


def test_download_checks_name_room_file_and_network(hub, tmp_path, monkeypatch) -> None:
    with pytest.raises(InputError, match=r"unknown download: got 'wan'; expected one of wan-1\.3b"):
        downloads.download("wan", tmp_path, api=hub.api)
    with pytest.raises(MissingModelError, match=r"no such file: got nothing\.bin in Comfy-Org"):
        downloads.download("wan-1.3b", tmp_path, api=hub.api, file="nothing.bin")
    one = downloads.download("wan-1.3b", tmp_path, api=hub.api, file="wan_2.1_vae.safetensors")
    assert [file.name for file in one] == ["wan_2.1_vae.safetensors"]
    monkeypatch.setattr(downloads, "SPARE_BYTES", 10**18)
    with pytest.raises(OutputError, match=r"too little room .* GB free .*another disk"):
        downloads.download("wan-1.3b", tmp_path, api=hub.api)
    hub.server.shutdown()
    hub.server.server_close()
    with pytest.raises(MissingModelError, match=r"hub cannot be reached.*everything else works offline"):
        downloads.download("wan-1.3b", tmp_path, api=hub.api)


def test_download_without_a_name_lists_the_choices_and_fetches_nothing(command, tmp_path) -> None:
    outcome = command("download", "--models", tmp_path, "--json")
    assert set(outcome.json["downloads"]) == set(downloads.DOWNLOADS)
    assert list(tmp_path.iterdir()) == []
    wrong = command("download", "wan-2", "--models", tmp_path)
    assert wrong.code == 2
    assert "unknown download" in wrong.err
