"""AV-Link's training: one side is given, the other is made (laws 5 and 9 of its reference)."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
import torch
from sounding_video.core.errors import InputError
from sounding_video.core.pair import MODALITIES
from sounding_video.models.weights.bridges import load_bridges
from sounding_video.models.weights.find import find_models
from sounding_video.training.assembly import assemble, build_workbench, exported
from sounding_video.training.log import read_log
from sounding_video.training.objectives import TrainingBatch, add_noise
from sounding_video.training.recipes import recipe
from sounding_video.training.step import LATENT_KEYS
from sounding_video.training.tasks import TRAINING_TASKS
from sounding_video.training.trainer import train
from training_runs import bench_of

GIVEN = {"sound_for_picture": "video", "picture_for_sound": "audio"}
EITHER = "either_given"
TASKS = pytest.mark.parametrize("task", [*GIVEN, EITHER])
QUANTILES = torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)
LOGIT = "objective.draw=logit-normal"


def task_of(name: str, *overrides: str):
    """A task's decisions, without any model."""
    config = recipe("pocket_bridges", [f"task={name}", *overrides])
    return TRAINING_TASKS.get(name)(config)


def wake(bench, seed: int = 0) -> None:
    """Past the zero layers, behind which nothing has a gradient yet."""
    with torch.no_grad():
        for parameter in bench.parameters.values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)))


def noisy_of(tensors):
    return add_noise(
        TrainingBatch(**{key: tensors.get(key) for key in LATENT_KEYS}),
        t=tensors["t"],
        audio_t=tensors["audio_t"],
        video_noise=tensors["video_noise"],
        audio_noise=tensors["audio_noise"],
    )


def test_law_9_the_made_sides_times_have_the_papers_quantiles() -> None:
    """Flow: 0.344, 0.731, 0.934. The sound stands at the same ratio of signal to noise: 0.308, 0.776, 0.955."""
    drawn = {
        name: torch.stack([task_of_name.moment(i)[key] for i in range(20_000)]).double()
        for name, key in (("picture_for_sound", "t"), ("sound_for_picture", "audio_t"))
        for task_of_name in [task_of(name, LOGIT)]
    }
    flow, cosine = drawn.values()
    wanted = torch.tensor([0.344, 0.731, 0.934], dtype=torch.float64)
    torch.testing.assert_close(flow.quantile(QUANTILES), wanted, rtol=0, atol=0.01)
    wanted = torch.tensor([0.308, 0.776, 0.955], dtype=torch.float64)
    torch.testing.assert_close(cosine.quantile(QUANTILES), wanted, rtol=0, atol=0.01)
    ratio = torch.tan(cosine * math.pi / 2)
    torch.testing.assert_close(ratio, flow / (1 - flow), rtol=1e-3, atol=0)
    assert flow.min() > 0 and flow.max() < 1, "float32 keeps them inside"


def test_law_9_mean_and_deviation_of_the_normal_number_are_the_runs() -> None:
    task = task_of("picture_for_sound", LOGIT, "objective.logit_mean=-1", "objective.logit_std=0.5")
    numbers = torch.logit(torch.stack([task.moment(i)["t"] for i in range(4000)]).double())
    assert (float(numbers.mean()), float(numbers.std())) == pytest.approx((-1, 0.5), abs=0.03)
    still = task_of("picture_for_sound", LOGIT, "objective.logit_std=0")
    assert [float(still.moment(i)["t"]) for i in range(5)] == pytest.approx([1 / (1 + math.exp(-1))] * 5)


def test_the_given_side_has_one_time_and_its_own_noise() -> None:
    for name, key, other, wanted in (
        ("sound_for_picture", "t", "audio_t", 0.04),
        ("picture_for_sound", "audio_t", "t", 0.156),
    ):
        moments = [task_of(name, LOGIT).moment(i) for i in range(50)]
        assert [float(moment[key]) for moment in moments] == pytest.approx([wanted] * 50)
        assert len({float(moment[other]) for moment in moments}) == 50
    set_so = task_of("picture_for_sound", "objective.given_audio_time=0.1855", "objective.least_audio_time=0.1855")
    assert float(set_so.moment(3)["audio_t"]) == pytest.approx(0.1855)


def test_a_tower_that_never_saw_less_noise_is_never_shown_less() -> None:
    """Of the sound that is made, and of a given one whose time is drawn; a time that is set stays what it is."""
    least = "objective.least_audio_time=0.1855"
    bounded, free = task_of("sound_for_picture", LOGIT, least), task_of("sound_for_picture", LOGIT)
    made, plain = (torch.stack([task.moment(i)["audio_t"] for i in range(4000)]) for task in (bounded, free))
    torch.testing.assert_close(made, plain.clamp(min=0.1855))
    assert float((made == made.min()).float().mean()) > 0.002
    drawn = task_of("picture_for_sound", least, "objective.given_draw=uniform")
    assert min(float(drawn.moment(i)["audio_t"]) for i in range(400)) == pytest.approx(0.1855)
    assert float(task_of("picture_for_sound", least).moment(0)["audio_t"]) == pytest.approx(0.156)


def test_law_9_a_uniform_given_time_fills_everything() -> None:
    for name, key in (("sound_for_picture", "t"), ("picture_for_sound", "audio_t")):
        task = task_of(name, LOGIT, "objective.given_draw=uniform")
        moments = [task.moment(i) for i in range(4000)]
        times = torch.stack([moment[key] for moment in moments]).double()
        if key == "audio_t":  # evenly in flow time
            times = torch.tan(times * math.pi / 2) / (1 + torch.tan(times * math.pi / 2))
        assert times.min() < 0.002 and times.max() > 0.998
        assert (float(times.mean()), float(times.var())) == pytest.approx((0.5, 1 / 12), abs=0.02)
        # The time of what is made is drawn for itself: it is what it was with a fixed one.
        other = {"t": "audio_t", "audio_t": "t"}[key]
        fixed = task_of(name, LOGIT)
        assert [float(m[other]) for m in moments[:20]] == [float(fixed.moment(i)[other]) for i in range(20)]


def test_either_side_is_given_by_an_even_chance_of_each_clips_own() -> None:
    task = task_of(EITHER, LOGIT)
    moments = [task.moment(i) for i in range(4000)]
    given = [task.given_in(moment) for moment in moments]
    assert given == [task.given_at(i) for i in range(4000)], "asked again, the same is drawn"
    assert given.count("video") == pytest.approx(2000, abs=130)
    for moment, side in zip(moments, given, strict=True):
        weights = {name: float(moment[f"{name}_weight"]) for name in MODALITIES}
        assert weights == {name: float(name != side) for name in MODALITIES}
        key, wanted = ("t", 0.04) if side == "video" else ("audio_t", 0.156)
        assert float(moment[key]) == pytest.approx(wanted)
    other = task_of(EITHER, LOGIT, "seed=1")
    assert given != [other.given_at(i) for i in range(4000)]


@TASKS
def test_law_9_the_loss_is_that_of_what_is_made_alone(small_run, task: str) -> None:
    bench, _ = bench_of(small_run("pocket_bridges", f"task={task}", LOGIT))
    wake(bench)
    batches = bench_batches(small_run, task, 6)
    losses = bench.step(batches)
    with torch.no_grad():
        noisy = noisy_of(batches)
        outputs = bench.step.joint(noisy.video, noisy.audio, times=bench.step.times)
        predicted = dict(zip(MODALITIES, outputs, strict=True))
    errors = {
        name: (predicted[name] - getattr(noisy, f"{name}_target")).square().flatten(1).mean(1) for name in MODALITIES
    }
    if task == EITHER:
        wanted = [float(errors["audio" if w else "video"][i]) for i, w in enumerate(batches["audio_weight"])]
        assert 0 < float(batches["audio_weight"].sum()) < 6, "both roles are among them"
        assert float(losses["total"]) == pytest.approx(sum(wanted) / 6, rel=1e-5)
        assert set(losses) == {"total", "video", "audio"}
    else:
        made = {"video": "audio", "audio": "video"}[GIVEN[task]]
        assert float(losses["total"]) == pytest.approx(float(errors[made].mean()), rel=1e-5)
        assert set(losses) == {"total", made}


def bench_batches(small_run, task: str, count: int):
    """The first clips of a run."""
    from sounding_video.core.progress import SILENT
    from sounding_video.training.batches import Batches, Share

    config = small_run("pocket_bridges", f"task={task}", LOGIT)
    bench = build_workbench(config, Path(config.models.root))
    batches = Batches(config, bench, Path(config.data.cache))
    batches.prepare(torch.device("cpu"), Share(), SILENT)
    return batches.at(0, count).tensors


@TASKS
def test_law_9_texts_are_dropped_by_role(task: str) -> None:
    decided = task_of(task, LOGIT)
    for position in range(20):
        moment = decided.moment(position)
        given, chances = decided.given_at(position), decided.dropouts(moment)
        made = {"video": "audio", "audio": "video"}[given]
        assert (chances[made], chances[given]) == (0.5, 0.2)
    own = task_of(task, "objective.generated_text_dropout=0.9", "objective.given_text_dropout=0")
    chances = own.dropouts(own.moment(0))
    assert sorted(chances) == [0, 0.9]


@pytest.mark.parametrize("task", GIVEN)
def test_law_9_the_dropouts_reach_the_texts(small_run, task: str) -> None:
    overrides = ("objective.generated_text_dropout=1", "objective.given_text_dropout=0")
    bench, batch = bench_of(small_run("pocket_bridges", f"task={task}", *overrides))
    for side in MODALITIES:
        empty = getattr(bench, side).text.encode([""])[0]
        dropped = [torch.equal(text, empty) for text in batch.tensors[f"{side}_text"]]
        assert dropped == [side != GIVEN[task]] * 2


@TASKS
@pytest.mark.parametrize("kind", ["dual_cross", "fusion_block"])
def test_law_5_what_cannot_learn_is_left_out_and_all_else_has_a_gradient(small_run, task: str, kind: str) -> None:
    """Where a side is given, the last block's way to it ends nowhere; where either may be, everything learns."""
    bench, _ = bench_of(small_run("pocket_bridges", f"task={task}", LOGIT, f"bridges.kind={kind}"))
    stack = bench.step.joint.bridges
    left_out = {name for name, parameter in stack.named_parameters() if not parameter.requires_grad}
    assert {name.split(".")[0] for name in left_out} == (set() if task == EITHER else {"1"})
    if task != EITHER and kind == "fusion_block":
        number = 1 + MODALITIES.index(GIVEN[task])
        layers = (f"attn.q_proj_{number}", f"attn.q_norm_{number}", f"mlp_{number}.fc1", f"mlp_{number}.fc2")
        assert {name.rpartition(".")[0] for name in left_out} == {f"1.{layer}" for layer in layers}
    wake(bench)
    bench.step(bench_batches(small_run, task, 6))["total"].backward()
    assert [n for n, p in bench.step.named_parameters() if (p.grad is None) == p.requires_grad] == []
    assert [n for n, p in bench.parameters.items() if not p.grad.any()] == [], "and no gradient is all zeros"


@pytest.mark.parametrize("kind", ["full", "video_to_audio", "fusion_block"])
def test_bridges_of_any_kind_that_lead_there_train_for_a_given_picture(small_run, kind: str, tmp_path) -> None:
    train(small_run("pocket_bridges", "task=sound_for_picture", LOGIT, f"bridges.kind={kind}", "num_steps=2"), tmp_path)
    assert [set(row) & {"video", "audio"} for row in read_log(tmp_path / "loss.jsonl")] == [{"audio"}] * 2


@TASKS
def test_law_9_a_run_goes_on_with_the_same_roles_times_and_losses(small_run, tmp_path, task: str) -> None:
    config = small_run("pocket_bridges", f"task={task}", LOGIT, "num_steps=3", "saving.every=1", "saving.keep=3")
    train(config, tmp_path)
    whole = read_log(tmp_path / "loss.jsonl")
    shutil.rmtree(tmp_path / "checkpoints" / "step-0000003")
    train(config, tmp_path, resume=True)
    assert [row["total"] for row in read_log(tmp_path / "loss.jsonl")] == [row["total"] for row in whole]


NOTES = {
    "joint": {"task": "joint"},
    "sound_for_picture": {"task": "v2a", "given_video_time": "0.1", "given_draw": "fixed"},
    "picture_for_sound": {"task": "a2v", "given_audio_time": "0.156", "given_draw": "fixed"},
    EITHER: {"task": "both", "given_video_time": "0.1", "given_audio_time": "0.156", "given_draw": "fixed"},
}


@pytest.mark.parametrize("task", NOTES)
def test_the_bridge_file_says_what_it_is_for(small_run, tmp_path, task: str) -> None:
    train(small_run("pocket_bridges", f"task={task}", "num_steps=1", "objective.given_video_time=0.1"), tmp_path)
    notes = load_bridges(exported(tmp_path) / "bridge.safetensors").notes
    own = {key: value for key, value in notes.items() if key == "task" or key.startswith("given_")}
    assert own == NOTES[task]


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("objective.given_draw=normal", "unknown objective.given_draw: got 'normal'; expected one of fixed, uniform"),
        ("objective.given_video_time=1.5", "objective.given_video_time is out of range: got 1.5; expected 0 to 1"),
        ("objective.given_audio_time=-0.1", "objective.given_audio_time is out of range"),
        ("objective.least_audio_time=2", "objective.least_audio_time is out of range"),
        ("objective.generated_text_dropout=2", "objective.generated_text_dropout is out of range"),
        ("objective.given_text_dropout=-1", "objective.given_text_dropout is out of range"),
        ("objective.logit_std=-1", "objective.logit_std is out of range"),
        ("trainable=video_tower", "a trainable part is not in this task: got 'video_tower'"),
    ],
)
def test_what_makes_no_sense_is_refused(small_run, override: str, sentence: str) -> None:
    with pytest.raises(InputError) as error:
        config = small_run("pocket_bridges", "task=sound_for_picture", override)
        build_workbench(config, Path(config.models.root))
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("task", "kind", "sentence"),
    [
        (
            "sound_for_picture",
            "audio_to_video",
            "from the given picture to the sound, so nothing would learn: got audio_",
        ),
        ("picture_for_sound", "video_to_audio", "nothing leads from the given sound to the picture"),
        (EITHER, "modality_adaptor", "nothing leads from the given sound to the picture"),
    ],
)
def test_bridges_that_lead_the_other_way_are_refused(small_run, task: str, kind: str, sentence: str) -> None:
    with pytest.raises(InputError, match=r"expected .*fusion_block") as error:
        config = small_run("pocket_bridges", f"task={task}", f"bridges.kind={kind}", "bridges.rope=clock")
        build_workbench(config, Path(config.models.root))
    assert sentence in str(error.value)


def test_a_joint_run_may_draw_its_times_so_too(small_run) -> None:
    _, batch = bench_of(small_run("pocket_bridges", LOGIT))
    _, plain = bench_of(small_run("pocket_bridges"))
    assert not torch.equal(batch.tensors["t"], plain.tensors["t"])
    assert torch.equal(batch.tensors["video_noise"], plain.tensors["video_noise"])


def test_bridges_for_something_else_are_laid_beside_those_that_are_there(small_run, small_models_dir, tmp_path) -> None:
    """And over earlier ones for the same; each keeps the model's others."""
    runs = []
    for number, task in enumerate(("sound_for_picture", "picture_for_sound", "sound_for_picture", "joint")):
        runs.append(tmp_path / f"{number}")
        train(small_run("pocket_bridges", f"task={task}", f"seed={number}", "num_steps=1"), runs[-1])
    models = assemble(small_models_dir, tuple(runs[:3]), tmp_path / "models")
    own = small_models_dir / "bridge.safetensors"
    laid = {path.name: path.read_bytes() for path in models.glob("*.safetensors")}
    latest = {number: (exported(runs[number]) / "bridge.safetensors").read_bytes() for number in range(4)}
    assert laid == {
        "bridge.safetensors": own.read_bytes(),
        "bridge_v2a.safetensors": latest[2],
        "bridge_a2v.safetensors": latest[1],
    }
    again = assemble(models, (runs[3],), tmp_path / "again")
    laid["bridge.safetensors"] = latest[3]
    assert {path.name: path.read_bytes() for path in again.glob("*.safetensors")} == laid
    assert find_models(again, made="a2v").bridge == again / "bridge_a2v.safetensors"


@pytest.fixture(scope="module")
def pocket_cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("pocket_cache")


@pytest.mark.parametrize("name", ["pocket_avlink_v2a", "pocket_avlink_a2v", "pocket_avlink_both"])
def test_the_pocket_recipes_learn_on_the_bundled_towers(pocket_cache, tmp_path, name: str) -> None:
    overrides = ("num_steps=2", "batch_size=2", "data.num_clips=2", "saving.plot=false", "device=cpu")
    config = recipe(name, [*overrides, f"data.cache={pocket_cache}", "optimizer.warmup_steps=0"])
    report, made = train(config, tmp_path), name.rpartition("_")[2]
    # In the last block a given picture (or sound) has no queries and no MLP that could learn.
    assert report.num_trainable < 2.43e6 * 0.99 or made == "both"
    assert report.num_trainable == pytest.approx(2.43e6, rel=0.2 if made != "both" else 0.005)
    loaded = load_bridges(exported(tmp_path) / "bridge.safetensors")
    assert (loaded.stack.kind, loaded.stack.points.video, loaded.use.task) == ("fusion_block", (1, 3, 5), made)
    assert loaded.use.least_audio_time == pytest.approx(0.18555, abs=1e-5)
    wanted = {"v2a": (0.04, None), "a2v": (None, 0.185547), "both": (0.04, 0.185547)}[loaded.use.task]
    assert (loaded.use.given_video_time, loaded.use.given_audio_time) == wanted
    assert [tower for tower in loaded.tower_weights.values() if tower] == []
    rows = read_log(tmp_path / "loss.jsonl")
    assert len(rows) == 2 and all(math.isfinite(row["total"]) and row["grad_norm"] > 0 for row in rows)
    learned = {number for number in (1, 2) if any(getattr(b, f"mlp_{number}").fc2.weight.any() for b in loaded.stack)}
    assert learned == {1, 2}, "symmetric: what is given hears too, but for the last block"
    assert bool(loaded.stack[-1].mlp_1.fc2.weight.any()) == (made != "v2a")
    assert bool(loaded.stack[-1].mlp_2.fc2.weight.any()) == (made != "a2v")


AV_LINK = {"lr": 3e-4, "weight_decay": 0.01, "betas": (0.9, 0.99), "eps": 1e-8, "warmup_steps": 10_000,
           "decay": "constant", "max_grad_norm": 0.0, "ema_decay": 0.0}  # fmt: skip


@pytest.mark.parametrize("name", ["avlink_v2a", "avlink_a2v", "avlink_both"])
def test_the_recipes_are_as_printed_and_run_on_small_models(small_run, tmp_path, name: str) -> None:
    printed = recipe(name)
    assert {key: getattr(printed.optimizer, key) for key in AV_LINK} == AV_LINK
    assert (printed.batch_size * 16, printed.num_steps, printed.trainable) == (256, 50_000, ("bridges",))
    assert printed.bridges.video_points == (1, 5, 9, 13, 16, 20, 24, 28)
    assert printed.bridges.audio_points == (1, 4, 7, 10, 13, 16, 19, 22)
    assert (printed.bridges.qk_width, printed.bridges.num_heads, printed.bridges.settings) == (1024, 16, ())
    small = ("data.source=world", "data.keep_media=true", "precision=float32", "num_steps=2")
    report = train(small_run(name, *small), tmp_path)
    assert (
        report.num_steps == 2 and load_bridges(exported(tmp_path) / "bridge.safetensors").stack.kind == "fusion_block"
    )
