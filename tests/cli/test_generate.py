"""``sounding-video generate`` on small real models: what it writes, says and refuses."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from sounding_video import pipeline
from sounding_video.cli import generate as generate_module
from sounding_video.cli import models
from sounding_video.core import device
from sounding_video.core.errors import MissingModelError
from sounding_video.media.probe import probe, read_clip
from sounding_video.models.weights.find import pocket_folder
from sounding_video.sampling import schedules, words


def test_a_prompt_becomes_a_clip(generate, tmp_path):
    outcome = generate("a dog barks", "--seed", 3)
    assert (outcome.code, outcome.err.count("Traceback")) == (0, 0)
    assert str(tmp_path / "clip.mp4") in outcome.out and "5 frames 32x32 at 15 fps" in outcome.out
    info = probe(tmp_path / "clip.mp4")
    assert (info.video_codec, info.audio_codec) == ("h264", "aac")
    assert (info.num_frames, info.width, info.height, info.num_samples) == (5, 32, 32, 2667)
    assert "untrained" not in outcome.err
    # one line a stage, since this is no terminal
    assert [line.split(":")[0] for line in outcome.err.splitlines()[:4]] == [
        "loading",
        "reading captions",
        "sampling",
        "decoding",
    ]
    assert list(tmp_path.iterdir()) == [tmp_path / "clip.mp4"]


def test_json_is_one_object_and_nothing_else(generate, tmp_path):
    outcome = generate("a dog barks", "--json")
    values = outcome.json
    assert outcome.err == ""
    assert values["path"] == str(tmp_path / "clip.mp4") and Path(values["path"]).is_file()
    assert {name: values[name] for name in ("num_frames", "fps", "width", "height", "num_samples", "sample_rate")} == {
        "num_frames": 5,
        "fps": "15",
        "width": 32,
        "height": 32,
        "num_samples": 2667,
        "sample_rate": 8000,
    }
    assert values["trained"] is True and "dual_cross" in values["model"]
    assert values["seconds"] == pytest.approx(1 / 3) and values["wall_seconds"] > 0


def test_quiet_says_nothing(generate):
    outcome = generate("a dog barks", "--quiet")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")


def test_the_clip_is_what_the_pipeline_makes(generate, small_models_dir, tmp_path):
    """The options arrive where they should: the same clip as from ``pipeline.generate`` with the same values."""
    options = ["--video-caption", "waves", "--audio-caption", "surf", "--negative-audio", "", "--schedule", "coupled"]
    options += ["--video-cfg", 2.5, "--audio-cfg", 1, "--seed", 11, "--fps", "30000/1001", "--bridge", "none"]
    assert generate(*options, "-o", tmp_path / "clip.mkv").code == 0
    model = pipeline.load_models(small_models_dir, placement=device.resolve_placement(device="auto"), bridge="none")
    clip = pipeline.generate(
        model,
        pipeline.Captions("waves", "surf"),
        negatives=pipeline.Captions(pipeline.DEFAULT_NEGATIVES.video, ""),
        timeline=pipeline.Timeline(5, "30000/1001", 32, 32, model.geometry),
        options=pipeline.SamplingOptions(2, 2.5, 1.0, 11, "coupled"),
    )
    written = read_clip(tmp_path / "clip.mkv")
    assert written.video.fps == clip.video.fps
    peak = max(1.0, float(clip.audio.waveform.abs().max()))
    torch.testing.assert_close(written.audio.waveform, clip.audio.waveform / peak, atol=2e-4, rtol=0)
    assert float((written.video.frames - clip.video.frames).abs().mean()) < 0.05


def test_the_prompt_tag_runs_again_and_gives_the_same_clip(generate, command, small_models_dir, tmp_path):
    made = generate("rain on a roof", "-o", tmp_path / "first.mkv", "--seed", 5, "--video-cfg", 3)
    assert made.code == 0
    tags = probe(tmp_path / "first.mkv").tags
    (tmp_path / "again.json").write_text(tags["prompt"])
    outcome = command(
        "run", tmp_path / "again.json", "--models", small_models_dir, "--output-dir", tmp_path / "out", "--json"
    )
    assert outcome.code == 0, outcome.err
    (second,) = outcome.json["files"]
    first, second = read_clip(tmp_path / "first.mkv"), read_clip(second)
    torch.testing.assert_close(second.video.frames, first.video.frames, atol=0, rtol=0)
    torch.testing.assert_close(second.audio.waveform, first.audio.waveform, atol=0, rtol=0)


def test_tags_hold_every_setting(generate, tmp_path):
    generate("rain", "--audio-caption", "a soft hiss", "--steps", 3, "--seed", 2**64 - 1, "--bridge", "none")
    tags = probe(tmp_path / "clip.mp4").tags
    settings = json.loads(tags["sounding_video"])
    assert settings["captions"] == {"video": "rain", "audio": "a soft hiss"}
    assert settings["negatives"]["audio"] == pipeline.DEFAULT_NEGATIVES.audio
    assert (settings["num_steps"], settings["seed"], settings["fps"]) == (3, 2**64 - 1, "15")
    assert settings["models"] == {"video": "wan", "audio": "stable_audio", "bridge": None}
    graph = json.loads(tags["prompt"])
    kinds = {node["class_type"]: node["inputs"] for node in graph.values()}
    assert "T2SVLoadBridge" not in kinds and "bridge" not in kinds["T2SVJoinTowers"]
    assert kinds["T2SVEncodeCaptions"]["audio_caption"] == "a soft hiss"
    assert kinds["T2SVJointSampler"]["seed"] == 2**64 - 1
    page = json.loads(tags["workflow"])
    assert {node["type"] for node in page["nodes"]} == set(kinds)


def test_a_clip_that_no_workflow_can_describe_still_carries_its_settings(generate, tmp_path):
    """The nodes take 1 to 120 frames per second; the command takes any rate and says what the file lacks."""
    outcome = generate("a slow tide", "--fps", "1/2", "-o", tmp_path / "slow.mkv")
    assert outcome.code == 0
    assert "the file will hold its settings but no workflow" in outcome.err and "fps: out of range" in outcome.err
    info = probe(tmp_path / "slow.mkv")
    assert set(info.tags) == {"sounding_video"} and info.seconds == 10 and info.num_samples == 80_000
    assert json.loads(info.tags["sounding_video"])["fps"] == "1/2"


@pytest.fixture(autouse=True)
def nothing_downloaded(monkeypatch, tmp_path_factory) -> Path:
    """A home of its own: a folder of downloads and a Hugging Face cache, neither of which exists yet."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setattr(models, "DOWNLOADED", home / "models")
    monkeypatch.setattr("sounding_video.models.weights.hub.hub_cache", lambda: home / "hub")
    monkeypatch.delenv("SOUNDING_VIDEO_MODELS", raising=False)
    return home


def test_no_metadata_on_request(generate, tmp_path):
    assert generate("a dog barks", "--no-metadata").code == 0
    assert not {"prompt", "workflow", "sounding_video"} & set(probe(tmp_path / "clip.mp4").tags)


def test_the_environment_names_the_models(small_models_dir, monkeypatch, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("SOUNDING_VIDEO_MODELS", f"{empty}:{tmp_path / 'gone'}:{small_models_dir}")
    found = models.choose_models(None)
    assert (found.video, found.notes) == (small_models_dir / "wan", ())
    assert models.choose_models("pocket").name == "pocket"
    monkeypatch.setenv("SOUNDING_VIDEO_MODELS", f"{empty}")
    with pytest.raises(MissingModelError, match=r"no Wan 2\.1 model was found"):
        models.choose_models(None)


def test_with_nothing_named_and_nothing_downloaded_the_bundled_model_runs_and_says_so(
    nothing_downloaded, small_models_dir, monkeypatch
):
    monkeypatch.setenv("SOUNDING_VIDEO_MODELS", "")
    found = models.choose_models(None)
    assert found.name == "pocket" and found.bridge.name == "bridge.safetensors"
    (note,) = found.notes
    assert "bundled small model is used, since no Wan 2.1 model was found" in note and "sounding-video models" in note
    shutil.copytree(small_models_dir / "wan", nothing_downloaded / "hub/models--small--wan/snapshots" / ("a" * 40))
    found = models.choose_models(None)
    assert found.name == "pocket" and "no Stable Audio Open model was found" in found.notes[0]
    with pytest.raises(MissingModelError, match="no Stable Audio Open model was found"):
        models.choose_models(None, video="small/wan")


def test_what_was_downloaded_is_taken_before_the_bundled_model(command, nothing_downloaded, small_models_dir, tmp_path):
    """First the folder of ``download``, then Hugging Face's cache, the bridge too; what was taken is said."""
    shutil.copytree(small_models_dir / "wan", nothing_downloaded / "models" / "wan")
    shutil.copytree(small_models_dir, nothing_downloaded / "hub/models--small--pair/snapshots" / ("a" * 40))
    small = ("--frames", 5, "--size", "32x32", "--steps", 1, "--no-expand")
    outcome = command("generate", "a dog", "-o", tmp_path / "clip.mp4", *small)
    assert outcome.code == 0, outcome.err
    assert "note: wan + small/pair/stable_audio is used, which was downloaded; --models pocket takes" in outcome.err
    assert "note: Wan 2.1 is wan; --wan chooses another: small/pair/wan" in outcome.err
    settings = json.loads(probe(tmp_path / "clip.mp4").tags["sounding_video"])
    assert settings["models"] == {"video": "wan", "audio": "small/pair/stable_audio", "bridge": "bridge.safetensors"}


def test_a_tower_is_chosen_beside_the_model_folder(generate, small_models_dir, tmp_path):
    from small_models import write_wan_folder

    other = write_wan_folder(tmp_path / "another wan", seed=9)
    outcome = generate("a dog", "--wan", other, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["model"].startswith("another wan + stable_audio")
    wrong = generate("a dog", "--stable-audio", "nothing", "--json")
    assert (wrong.code, wrong.json["error"]["expected"]) == (3, "one of stable_audio")


def test_the_report_lists_the_bridges_and_the_tuned_blocks(generate, small_models_dir, tmp_path):
    from safetensors.torch import load_file
    from sounding_video.models.weights.bridges import load_bridges, save_bridges

    loaded = load_bridges(small_models_dir / "bridge.safetensors")
    tower = load_file(small_models_dir / "wan/transformer/diffusion_pytorch_model.safetensors")
    tuned = {name: tensor + 0.1 for name, tensor in tower.items() if name.startswith("blocks.1.")}
    save_bridges(tmp_path / "tuned.safetensors", loaded.stack, tower_weights={"video": tuned})
    outcome = generate("a dog", "--bridge", tmp_path / "tuned.safetensors")
    assert (
        "model: wan + stable_audio; 2 dual_cross bridges (kind from metadata) after video blocks [0, 1]" in outcome.out
    )
    assert "and audio blocks [0, 1]; fine-tuned video blocks [1] (27 tensors)" in outcome.out
    assert "no bridges" in generate("a dog", "--bridge", "none").out


def test_pickles_among_the_models_do_not_stand_in_for_the_bridge(generate, broken_models):
    """A ComfyUI models folder has embeddings; each may be a pickle that nothing here reads."""
    (broken_models / "embeddings").mkdir()
    file = broken_models / "embeddings" / "x.pt"
    torch.save({"emb": torch.nn.Linear(2, 2)}, file, _use_new_zipfile_serialization=False)
    outcome = generate("a dog", "--models", broken_models)
    assert outcome.code == 0 and "2 dual_cross bridges" in outcome.out and "x.pt" not in outcome.err
    (broken_models / "bridge.safetensors").unlink()
    outcome = generate("a dog", "--models", broken_models)
    assert outcome.code == 0 and "no bridges" in outcome.out
    assert f"note: no bridge was found; {file} cannot be read (one of 1)" in outcome.err
    assert "no bridge was found" not in generate("a dog", "--models", broken_models, "--bridge", "none").err


def test_an_untrained_model_says_so(generate, tmp_path, small_models_dir):
    from small_models import write_bridge

    bridge = write_bridge(tmp_path / "random.safetensors", trained=False)
    outcome = generate("a dog", "--bridge", bridge, "--json")
    assert outcome.json["trained"] is False
    assert "UNTRAINED" in outcome.json["model"]
    assert "untrained" in outcome.err and "noise" in outcome.err


BAD_INPUT = [
    (["", "--seed", 0], 2, "the prompt is empty"),
    (["  ", "--video-caption", "waves"], 2, "Give a prompt, or both --video-caption and --audio-caption"),
    (["a", "--audio-caption", " "], 2, "the audio caption is empty"),
    (
        ["a", "--frames", 6],
        2,
        "the number of frames does not fit the video codec: got 6; expected 4k+1, for example 5 or 9",
    ),
    (["a", "--frames", 0], 2, "the number of frames cannot be used"),
    (["a", "--size", "40x32"], 2, "the width does not fit the video tower: got 40; expected a multiple of 16 pixels"),
    (["a", "--size", "32x33"], 2, "for example 32 or 48"),
    (["a", "--size", "big"], 2, "argument --size: 'big' is not a size such as 832x480"),
    (["a", "--steps", 0], 2, "the number of steps cannot be used: got 0"),
    (
        ["a", "--steps", "many"],
        2,
        "argument --steps: the number of steps cannot be used: got many; expected a whole number from 1 to 1000. See",
    ),
    (["a", "--seed", -1], 2, "the seed cannot be used: got -1; expected a whole number from 0 to"),
    (["a", "--seed", 2**64], 2, "the seed cannot be used"),
    (["a", "--fps", "0"], 2, "the frame rate is out of range"),
    (["a", "--fps", "fast"], 2, "the frame rate is not a number"),
    (["a", "--video-cfg", "nan"], 2, "the video guidance scale cannot be used"),
    (["a", "--audio-cfg", -1], 2, "the audio guidance scale cannot be used"),
    (["a", "--video-modality-cfg", "inf"], 2, "the video modality scale cannot be used"),
    (["a", "--audio-modality-cfg", -1], 2, "the audio modality scale cannot be used"),
    (["a", "--schedule", "lock"], 2, "unknown schedule: got 'lock'; expected one of coupled, flow, lockstep"),
    (["a", "--flow-sigmas", "0.36"], 2, "unknown flow sigmas"),
    (["a", "--guidance-batching", "both"], 2, "unknown guidance batching"),
    (["a", "--dtype", "fp8"], 2, "unknown dtype"),
    (["a", "--offload", "disk"], 2, "unknown offload mode"),
    (["a", "--attention", "fast"], 2, "unknown attention kernel"),
    (["a", "--device", "cuda:77"], 2, "the device cannot be used: got cuda:77"),
    (["a", "--fusion", "aditive"], 2, "unknown bridge kind: got 'aditive'; expected one of additive, audio_to_video"),
    (["a", "--fusion", "full"], 2, "the chosen fusion kind is not the file's"),
    (["a", "--fusion", "full", "--bridge", "none"], 2, "a bridge is described but none is loaded"),
    (
        ["a", "--placement", "everywhere"],
        2,
        "unknown bridge placement: got 'everywhere'; expected one of early, middle",
    ),
    (["a", "--placement", "uniform"], 2, "the bridge points do not match the file"),
    (["a", "--placement", "early", "--bridge", "none"], 2, "a bridge is described but none is loaded"),
    (["a", "--rope", "time"], 2, "unknown bridge rope: got 'time'; expected one of clock, official, time_aligned"),
    (["a", "--rope", "clock"], 2, "the chosen rope is not the file's: got clock; expected official"),
    (["a", "--rope", "clock", "--bridge", "none"], 2, "a bridge is described but none is loaded"),
    (["a", "--flow-shift", 0], 2, "the flow shift cannot be used"),
    (["a", "--bridge", "nowhere.safetensors"], 3, "the bridge file was not found"),
    (["a", "--models", "no/such/folder"], 3, "the model folder was not found"),
    (["a", "--models", "pocket", "--wan", "x"], 2, "the bundled model has towers of its own: got x beside it"),
    (["a", "--wan", "x"], 3, "no Wan 2.1 of that name was found: got 'x'; expected one of wan"),
    (["a", "--writer", "ffmpeg"], 2, "unknown video writer: got 'ffmpeg'; expected one of moviepy, pyav"),
    (["a", "--tiling", "some"], 2, "unknown tiling: got 'some'; expected one of auto, on, off"),
    (["a", "--no-such-option"], 2, "unrecognized arguments: --no-such-option"),
]


@pytest.mark.parametrize(("arguments", "code", "sentence"), BAD_INPUT, ids=lambda value: str(value)[:40])
def test_bad_input_is_one_sentence_and_an_exit_code(generate, tmp_path, arguments, code, sentence):
    outcome = generate(*arguments)
    assert sentence in outcome.err
    assert outcome.code == code
    assert "sampling" not in outcome.err  # nothing that takes minutes came before
    assert outcome.err.splitlines()[-1].startswith("error: ") and "Traceback" not in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_no_output_is_refused(command):
    outcome = command("generate", "a dog")
    assert (outcome.code, outcome.out) == (2, "")
    assert "the following arguments are required: -o/--output" in outcome.err


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("clip.avi", "expected a name ending in .mp4, .webm, .mkv"),
        ("clip", "no video format goes with this file name: got 'clip'"),
        ("clip.mp3", "no video format goes with this file name"),
        ("folder.mp4", "the output is a folder"),
        ("file.txt/clip.mp4", "a part of the path is a file, not a folder"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_before_loading(generate, tmp_path, name, sentence):
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file.txt").write_text("")
    before = sorted(tmp_path.rglob("*"))
    outcome = generate("a dog", "-o", tmp_path / name)
    assert outcome.code == 2 and sentence in outcome.err
    assert "loading" not in outcome.err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a file system that refuses files even for root")
def test_a_folder_that_refuses_files_is_refused_before_loading(generate):
    outcome = generate("a dog", "-o", "/proc/self/clip.mp4")
    assert outcome.code == 2 and "/proc/self/clip.mp4" in outcome.err and "loading" not in outcome.err


def test_new_folders_are_made_for_the_clip_but_not_for_a_failure(generate, tmp_path):
    target = tmp_path / "new" / "folder" / "clip.webm"
    assert generate("a dog", "-o", target, "--frames", 6).code == 2
    assert list(tmp_path.iterdir()) == []
    assert generate("a dog", "-o", target).code == 0
    assert probe(target).container == "webm" and probe(target).sample_rate == 48_000


@pytest.fixture
def broken_models(small_models_dir, tmp_path) -> Path:
    """A copy that may be damaged."""
    shutil.copytree(small_models_dir, tmp_path / "models")
    return tmp_path / "models"


def test_a_truncated_weight_file(generate, broken_models):
    file = broken_models / "wan" / "transformer" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    outcome = generate("a dog", "--models", broken_models)
    assert outcome.code == 2 and "wan/transformer" in outcome.err
    assert "error: the weight file is cut short" in outcome.err and "Download or copy it again" in outcome.err


def test_a_truncated_bridge(generate, broken_models):
    file = broken_models / "bridge.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    outcome = generate("a dog", "--models", broken_models)
    assert outcome.code == 2
    assert "error: the weight file is cut short" in outcome.err and "Download or copy it again" in outcome.err


def test_a_pickle_where_weights_are_expected(generate, broken_models):
    folder = broken_models / "stable_audio" / "transformer"
    weights = torch.nn.Linear(2, 2)
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(weights, folder / "diffusion_pytorch_model.bin")
    outcome = generate("a dog", "--models", broken_models)
    assert outcome.code == 2 and "pickle" in outcome.err and "Get the safetensors version" in outcome.err


def test_a_pickle_as_bridge_is_not_run(generate, tmp_path):
    file = tmp_path / "bridge.ckpt"
    torch.save({"state_dict": torch.nn.Linear(2, 2)}, file)
    outcome = generate("a dog", "--bridge", file)
    assert outcome.code == 2 and "wants to run code, so it was not loaded" in outcome.err


@pytest.mark.parametrize("missing", ["wan/vae", "stable_audio/projection_model", "stable_audio"])
def test_a_missing_part(generate, broken_models, missing):
    shutil.rmtree(broken_models / missing)
    outcome = generate("a dog", "--models", broken_models)
    assert outcome.code == 3
    assert missing.rpartition("/")[2].replace("stable_audio", "Stable Audio") in outcome.err


def test_bad_input_as_json(generate):
    outcome = generate("a dog", "--frames", 6, "--json")
    error = outcome.json["error"]
    assert outcome.code == error["exit_code"] == 2 and outcome.err == ""
    assert error["type"] == "GeometryError" and error["got"] == "6"
    assert error["expected"] == "4k+1, for example 5 or 9"
    assert error["message"].startswith(error["what"])
    wrong = generate("a dog", "--frames", "six", "--json").json["error"]
    assert wrong["type"] == "InputError" and "cannot be used: got" in wrong["message"]


def test_the_help_names_every_choice(command, capsys):
    with pytest.raises(SystemExit) as caught:
        command("generate", "--help")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for choices in (
        device.OFFLOAD_MODES,
        device.ATTENTION_KERNELS,
        device.DTYPE_NAMES,
        schedules.SCHEDULES,
        words.FLOW_SIGMAS,
        words.BATCHING,
    ):
        assert [choice for choice in choices if choice not in text] == []


@pytest.mark.parametrize("as_json", [False, True])
def test_ctrl_c_while_sampling_leaves_nothing(python_with_package, small_models_dir, tmp_path, as_json):
    code = "from sounding_video.cli import main\nsys.exit(main(sys.argv[1:]))"
    arguments = ["generate", "a dog", "-o", str(tmp_path / "clip.mp4"), "--models", str(small_models_dir), "--verbose"]
    arguments += ["--frames", "5", "--size", "32x32", "--steps", "1000", *(["--json"] if as_json else [])]
    process = python_with_package(code, arguments)
    if as_json:
        time.sleep(1.0)  # somewhere in the imports
    else:
        while "reading captions" not in process.stderr.readline():
            assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    if as_json:
        assert json.loads(out)["error"]["type"] == "Cancelled"
    else:
        assert err.splitlines()[-1] == "stopped by the user." and "sampling" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_copy_of_the_pocket_folder_is_sampled_as_the_pocket_model(command, tmp_path):
    shutil.copytree(pocket_folder(), tmp_path / "mine")
    rest = ("--no-expand", "--steps", 1, "--frames", 5, "--json")
    outcome = command("generate", "a dog barks", "-o", tmp_path / "clip.mkv", "--models", tmp_path / "mine", *rest)
    assert outcome.code == 0, outcome.err
    assert "warning: This model cannot know what is asked for: it knows ten scenes: " in outcome.err
    assert outcome.json["caption_notes"][0].startswith("This model cannot know")
    assert (outcome.json["width"], outcome.json["height"]) == (64, 64)
    tags = probe(tmp_path / "clip.mkv").tags
    settings = json.loads(tags["sounding_video"])
    assert settings["negatives"] == {"video": "", "audio": ""} and settings["models"]["video"] == "wan"
    assert (settings["flow_shift"], settings["audio_modality_scale"], settings["video_guidance_scale"]) == (
        1.0,
        3.0,
        3.0,
    )
    nodes = [node["inputs"] for node in json.loads(tags["prompt"]).values()]
    assert [inputs["defaults"] for inputs in nodes if "defaults" in inputs] == ["as set here"] * 3


def test_a_run_of_hours_is_told_once_and_before_it_begins(generate, monkeypatch):
    from sounding_video.models.plan import duration

    monkeypatch.setattr(duration, "_QUICK_OPERATIONS", 0)
    monkeypatch.setattr(duration, "operations_a_second", lambda device, dtype: 1e3)
    lines = generate("a dog barks").err.splitlines()
    told = [index for index, line in enumerate(lines) if line.startswith("note: sampling 5 frames of 32×32 in 2 steps")]
    assert len(told) == 1 and " takes about " in lines[told[0]] and lines[told[0]].endswith(" on cpu")
    assert told[0] < next(index for index, line in enumerate(lines) if line.startswith("reading captions"))
    assert generate("a dog barks", "--json").err == ""


@pytest.mark.slow
def test_the_pocket_model_with_its_own_defaults(command, tmp_path):
    outcome = command("generate", "a dog barks", "-o", tmp_path / "clip.mp4", "--models", "pocket", "--json")
    assert outcome.code == 0
    values = outcome.json
    note = json.loads((generate_module.Path(pipeline.__file__).parent / "models/pocket/pocket.json").read_text())
    assert (values["num_frames"], values["width"], values["height"]) == (note["frames"], note["size"], note["size"])
    assert values["trained"] is note["trained"]
    assert ("untrained" in outcome.err) is not note["trained"]
    assert json.loads(probe(tmp_path / "clip.mp4").tags["sounding_video"])["num_steps"] == note["num_steps"]


def test_two_devices_share_the_guidance_and_one_of_both_options_is_named(generate, tmp_path):
    one = generate("rain", "-o", tmp_path / "one.mkv", "--seed", 3)
    two = generate("rain", "-o", tmp_path / "two.mkv", "--seed", 3, "--devices", "cpu,cpu", "--json")
    assert (one.code, two.code) == (0, 0), two.err
    assert any("cpu has towers and bridges once more" in note for note in two.json["plan"])
    frames = [read_clip(tmp_path / f"{name}.mkv").video.frames for name in ("one", "two")]
    torch.testing.assert_close(*frames, rtol=0, atol=0.02)
    for flags in (("--devices", "cpu,cpu", "--device", "cpu"), ("--devices", "cpu"), ("--devices", "cpu,cuda:77")):
        refused = generate("rain", *flags)
        assert refused.code == 2 and not (tmp_path / "clip.mp4").exists(), refused.err
