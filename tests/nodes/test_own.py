"""Nodes that follow the loaded model, and workflows of before, which must not."""

from __future__ import annotations

import shutil

import pytest
from sounding_video.core.errors import InputError
from sounding_video.headless.graph import read_workflow
from sounding_video.headless.runner import run_workflow
from sounding_video.headless.ui_format import ui_workflow
from sounding_video.models.own import PUBLISHED
from sounding_video.models.weights.find import pocket_folder
from sounding_video.nodes import sampling
from sounding_video.nodes.conditioning import EmptyAVLatent, EncodeCaptions
from sounding_video.nodes.host import standalone
from sounding_video.nodes.loaders import FREE_TEXT, JoinTowers, LoadStableAudioTower, LoadWanTower
from sounding_video.nodes.options import SAMPLING
from sounding_video.nodes.own import AS_SET, FROM_MODEL, settled
from sounding_video.nodes.sampling import JointSampler
from sounding_video.nodes.telling import REPORT_KEY

NODES = (EmptyAVLatent, EncodeCaptions, JointSampler)


def fresh(node) -> dict:
    """The widgets of a node as it is dropped."""
    ports = node.GET_SCHEMA().inputs
    return {port.id: port.options["default"] for port in ports if "default" in port.options}


@pytest.fixture(scope="module")
def sides(small_models_dir, tmp_path_factory):
    """Both towers of a copy of the pocket model in a models folder, and of a model without a note."""
    root = tmp_path_factory.mktemp("models")
    shutil.copytree(pocket_folder(), root / "copy")
    (root / "plain").symlink_to(small_models_dir, target_is_directory=True)
    ask = {"dtype": "auto", "attention": "auto", "offload": "none", "text_encoder": FREE_TEXT}
    with standalone.session(standalone.Session((root,), device="cpu")):
        yield {
            name: (
                LoadWanTower.execute(f"{name}/wan", **ask).args[0],
                LoadStableAudioTower.execute(f"{name}/stable_audio", **ask).args[0],
            )
            for name in ("copy", "plain")
        }


def test_every_default_that_may_follow_is_the_published_one():
    """Otherwise a value that the user left alone would not be recognised."""
    told = {"steps": PUBLISHED.num_steps}
    for node in NODES:
        for name, default in fresh(node).items():
            own = getattr(PUBLISHED, name, told.get(name, default))
            assert own == default, f"{name} of {node.__name__}"
        assert fresh(node)["defaults"] == FROM_MODEL


def test_a_new_empty_latent_fits_the_loaded_model(sides):
    video, audio = sides["copy"]
    made = EmptyAVLatent.execute(**fresh(EmptyAVLatent), video_codec=video, audio_codec=audio)
    assert made.args[0]["samples"].shape == (1, 16, 9, 8, 8) and made.args[1]["samples"].shape[:2] == (1, 64)
    assert made.args[2:4] == (15.0, 2.2)
    [said] = made.ui[REPORT_KEY]
    assert said == "num_frames 33, width 64, height 64: from the model"
    wide = EmptyAVLatent.execute(**{**fresh(EmptyAVLatent), "width": 128}, video_codec=video, audio_codec=audio)
    assert wide.args[0]["samples"].shape[-2:] == (8, 16), "what the user changed stays"
    alone = EmptyAVLatent.execute(**fresh(EmptyAVLatent), audio_codec=audio)
    assert alone.args[2:4] == (15.0, 2.2)


def test_a_model_without_a_note_is_taken_as_published(sides):
    video, audio = sides["plain"]
    made = EmptyAVLatent.execute(**fresh(EmptyAVLatent), video_codec=video, audio_codec=audio)
    assert made.args[0]["samples"].shape[2:] == (21, 60, 104)
    assert not [sentence for sentence in made.ui[REPORT_KEY] if "model" in sentence], "only how long it takes"
    assert EmptyAVLatent.execute(**fresh(EmptyAVLatent)).args[0]["samples"].shape[2:] == (21, 60, 104)


def test_a_prompt_of_before_means_what_it_meant(sides):
    video, audio = sides["copy"]
    before = {name: value for name, value in fresh(EmptyAVLatent).items() if name != "defaults"}
    made = EmptyAVLatent.execute(**before, video_codec=video, audio_codec=audio)
    assert made.args[0]["samples"].shape[2:] == (21, 60, 104)
    [said] = made.ui[REPORT_KEY]  # slower or faster, it says what the model was made for
    assert said.endswith("this model was made for 64×64 pixels, 33 frames at 15 fps") or "no plan fits" in said
    with pytest.raises(InputError, match="unknown defaults: got 'mine'; expected one of from the model, as set here"):
        settled("mine", PUBLISHED, {})


def test_the_page_s_form_of_a_prompt_of_before_keeps_its_meaning(template):
    for node in template.values():
        node["inputs"].pop("defaults", None)
    page = {node["type"]: node["widgets_values"] for node in ui_workflow(template)["nodes"]}
    assert all(page[node.GET_SCHEMA().node_id].count(AS_SET) == 1 for node in NODES)


def test_the_sampler_and_the_negatives_follow(sides, monkeypatch):
    from sounding_video import pipeline

    seen = {}

    def encode(*args, negatives, **rest):
        seen["negatives"] = negatives
        raise InputError("seen")

    def sample(*args, options, **rest):
        seen["options"] = options
        raise InputError("seen")

    monkeypatch.setattr(sampling, "require_sides", lambda *_: None)  # nothing is sampled here
    monkeypatch.setattr(pipeline, "encode_captions", encode)
    monkeypatch.setattr(pipeline, "sample_latents", sample)
    for name, scale, negative in (("copy", 3.0, ""), ("plain", 6.0, PUBLISHED.audio_negative)):
        video, audio = sides[name]
        texts = {**fresh(EncodeCaptions), "video_negative": "rain"}
        with pytest.raises(InputError, match="seen"):
            EncodeCaptions.execute(**texts, video_text_encoder=video, audio_text_encoder=audio)
        assert (seen["negatives"].video, seen["negatives"].audio) == ("rain", negative)
        model = JoinTowers.execute(video, audio).args[0]
        with pytest.raises(InputError, match="seen"):
            JointSampler.execute(model, None, **{**fresh(JointSampler), "steps": 7})
        options = seen["options"]
        assert (options.num_steps, options.video_guidance_scale, options.audio_guidance_scale) == (7, scale, scale)
        assert options.flow_shift == (1.0 if name == "copy" else 3.0)
        before = {key: value for key, value in fresh(JointSampler).items() if key != "defaults"}
        with pytest.raises(InputError, match="seen"):
            JointSampler.execute(model, None, **before)
        assert (seen["options"].flow_shift, seen["options"].audio_guidance_scale) == (3.0, 6.0)


def test_a_graph_of_new_nodes_makes_a_pocket_clip(root, tmp_path):
    """As somebody would build it: every widget left alone, the captions written."""
    graph = read_workflow(root / "workflows" / "api" / "text_to_sounding_video_pocket.json")
    for node in graph.values():
        for kind in NODES:
            if node["class_type"] == kind.GET_SCHEMA().node_id:
                links = {key: value for key, value in node["inputs"].items() if isinstance(value, list)}
                texts = {key: value for key, value in node["inputs"].items() if key.endswith("caption")}
                node["inputs"] = {**fresh(kind), **texts, **links}
    overrides = {"T2SVJointSampler.steps": 1, "T2SVEncodeCaptions.seconds": ["5", 3]}
    graph["6"]["inputs"]["seconds"] = overrides.pop("T2SVEncodeCaptions.seconds")
    report = run_workflow(graph, overrides=overrides, output_dir=tmp_path, device="cpu")
    from sounding_video.media.probe import probe

    info = probe(report.files[0])
    assert (info.width, info.height, info.num_frames) == (64, 64, 33)


def test_what_the_pocket_model_cannot_know_is_said_by_encode_captions(sides):
    def said(name: str, video: str, audio: str) -> list[str]:
        texts = {"video_caption": video, "audio_caption": audio, "video_negative": "", "audio_negative": ""}
        towers = dict(zip(("video_text_encoder", "audio_text_encoder"), sides[name], strict=True))
        return EncodeCaptions.execute(**texts, seconds=2.2, **towers).ui[REPORT_KEY]

    [sentence] = [one for one in said("copy", "a dog runs along a beach", "a bark") if "cannot know" in one]
    assert "a ball that bounces" in sentence and "rain on a house" in sentence
    assert not any("know" in one for one in said("copy", "a red ball bounces", "a dull thud"))
    assert not any("know" in one for one in said("plain", "a dog runs along a beach", "a bark"))


@pytest.fixture(scope="module")
def v2a(tmp_path_factory):
    """The bundled model's bridges, said to be trained for a given picture."""
    from sounding_video.models.weights.bridges import load_bridges, save_bridges

    path = tmp_path_factory.mktemp("bridge") / "v2a.safetensors"
    stack = load_bridges(pocket_folder() / "bridge.safetensors").stack
    save_bridges(path, stack, notes={"task": "v2a", "given_video_time": "0.1"})
    return load_bridges(path)


@pytest.mark.parametrize(
    ("task", "wanted"),
    [
        ("sound for the picture", (64, "euler", "flow", "alone", "fixed", 5.0, 1.0)),
        ("picture for the sound", (50, "auto", "lockstep", "texts", "replace", 3.0, 3.0)),
        ("both", (50, "auto", "lockstep", "texts", "replace", 3.0, 3.0)),
    ],
)
def test_the_sampler_follows_the_bridges_for_what_they_were_trained_for(sides, v2a, task, wanted):
    video, audio = sides["copy"]
    model = JoinTowers.execute(video, audio, v2a).args[0]
    given = {key: value for key, value in fresh(JointSampler).items() if key in {p.port for p in SAMPLING.values()}}
    asked, told = sampling._options(model, FROM_MODEL, given, task)
    found = (asked.num_steps, asked.solver, asked.schedule, asked.unconditional, asked.given_how)
    assert (*found, asked.audio_guidance_scale, asked.audio_modality_scale) == wanted
    assert ("solver euler" in told) == (wanted[0] == 64)
    asked, _ = sampling._options(model, FROM_MODEL, {**given, "steps": 9, "audio_guidance_scale": 2.5}, task)
    assert (asked.num_steps, asked.audio_guidance_scale) == (9, 2.5)
    assert sampling._options(model, AS_SET, given, task)[0].num_steps == PUBLISHED.num_steps


def test_the_bundled_models_other_bridges_are_listed_and_load(monkeypatch, tmp_path, v2a):
    from sounding_video.models.weights import find
    from sounding_video.nodes.host import folders
    from sounding_video.nodes.loaders import LoadBridge

    copy = shutil.copytree(pocket_folder(), tmp_path / "pocket")
    for file in copy.glob("bridge_*.safetensors"):
        file.unlink()
    shutil.copy(v2a.source, copy / "bridge_v2a.safetensors")
    for module in (find, folders):
        monkeypatch.setattr(module, "pocket_folder", lambda: copy)
    listed = folders.list_models("bridge")
    assert listed[0] == "pocket" and "pocket/bridge_v2a.safetensors" in listed
    assert "pocket/bridge.safetensors" not in listed, "that one is called pocket"
    assert folders.resolve_model("bridge", "pocket") == copy / "bridge.safetensors"
    loaded = LoadBridge.execute("pocket/bridge_v2a.safetensors", "from file")
    assert loaded.args[0].use.task == "v2a"
    assert "; for the sound of a given picture (v2a, picture given at 0.1)" in loaded.ui[REPORT_KEY][0]
