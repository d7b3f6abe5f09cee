"""SyncFlow's laws of training (shared/reference/SYNCFLOW.md, section 8, 12, 14 and 15), and its recipes."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from sounding_video.core.device import resolve_placement
from sounding_video.core.errors import InputError
from sounding_video.core.progress import SILENT
from sounding_video.core.types import Modality
from sounding_video.models.bridge_use import BridgeUse
from sounding_video.models.joint import JointModel
from sounding_video.models.points import placement
from sounding_video.models.weights.bridges import load_bridges
from sounding_video.models.weights.find import find_models
from sounding_video.models.weights.load import load_stable_audio
from sounding_video.pipeline import load_models
from sounding_video.sampling.schedules.lockstep import least_audio_time
from sounding_video.training.assembly import Workbench, assemble, build_workbench, exported
from sounding_video.training.batches import Batches, Share
from sounding_video.training.checkpoint import latest_checkpoint, load_checkpoint
from sounding_video.training.config import TrainConfig
from sounding_video.training.pairing import nearest_order, paired
from sounding_video.training.recipes import recipe
from sounding_video.training.tasks.base import LOADING
from sounding_video.training.trainer import train

SYNCFLOW = ("syncflow_audio", "syncflow_joint", "pocket_syncflow", "pocket_syncflow_audio", "pocket_syncflow_direct")
ADAPTOR = ("bridges.kind=modality_adaptor", "bridges.rope=time_aligned")


def prepared(config: TrainConfig) -> tuple[Workbench, Batches]:
    bench = build_workbench(config, Path(config.models.root))
    batches = Batches(config, bench, Path(config.data.cache))
    batches.prepare(torch.device("cpu"), Share(), SILENT)
    return bench, batches


def drawn(batch: int, *shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(seed))


def cost(clean: torch.Tensor, noise: torch.Tensor) -> float:
    return float((clean.double() - noise.double()).square().sum())


def both(batch: int, seed: int = 0) -> dict[str, torch.Tensor]:
    shapes = {"video": (4, 2, 3, 3), "audio": (6, 5)}
    tensors = {f"{side}_latents": drawn(batch, *shape, seed=seed) for side, shape in shapes.items()}
    tensors |= {f"{side}_noise": drawn(batch, *shape, seed=seed + 1) for side, shape in shapes.items()}
    return tensors | {"t": drawn(batch), "video_text": drawn(batch, 3, 2), "audio_text": drawn(batch, 3, 2)}


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_syncflow_law_12_only_noise_moves_and_all_of_it_stays(batch) -> None:
    before = both(batch)
    after = paired(before, "ot")
    assert list(after) == list(before)
    for name, tensor in before.items():
        if not name.endswith("_noise"):
            assert after[name] is tensor
            continue
        rows = [row.flatten().tolist() for row in tensor]
        assert sorted(rows) == sorted(row.flatten().tolist() for row in after[name])
    untouched = paired(before, "independent")
    assert all(untouched[name] is tensor for name, tensor in before.items())
    if batch == 1:
        assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_syncflow_law_12_no_order_costs_less() -> None:
    """Of all 120 of five, of a thousand random ones of twelve, and of the one it came in."""
    clean, noise = drawn(5, 30), drawn(5, 30, seed=1)
    best = cost(clean, noise[nearest_order(clean, noise)])
    assert best == pytest.approx(min(cost(clean, noise[list(order)]) for order in itertools.permutations(range(5))))
    clean, noise = drawn(12, 40), drawn(12, 40, seed=1)
    best = cost(clean, noise[nearest_order(clean, noise)])
    g = torch.Generator().manual_seed(2)
    others = [cost(clean, noise[torch.randperm(12, generator=g)]) for _ in range(1000)]
    assert best <= min(others) and best < cost(clean, noise)


def test_syncflow_law_12_what_is_known_is_found() -> None:
    """Noise that is the data in another order, and a little more; in one dimension the sorted order."""
    clean, order = drawn(9, 50), torch.randperm(9, generator=torch.Generator().manual_seed(3))
    noise = clean[order] + 0.05 * drawn(9, 50, seed=4)
    assert torch.equal(order[nearest_order(clean, noise)], torch.arange(9))
    line, points = drawn(20, 1), drawn(20, 1, seed=5)
    matched = points[nearest_order(line, points)]
    assert torch.equal(matched[line[:, 0].argsort()], points.sort(dim=0).values)


def test_syncflow_law_12_each_side_apart_costs_no_more_than_one_order_for_both() -> None:
    for seed in range(0, 40, 2):
        tensors = both(8, seed)
        apart = paired(tensors, "ot")
        sides = {side: (tensors[f"{side}_latents"], tensors[f"{side}_noise"]) for side in ("video", "audio")}
        joined = [torch.cat([pair[i].flatten(1) for pair in sides.values()], dim=1) for i in (0, 1)]
        common = nearest_order(*joined)
        together = sum(cost(clean, noise[common]) for clean, noise in sides.values())
        assert sum(cost(sides[side][0], apart[f"{side}_noise"]) for side in sides) <= together + 1e-9


def test_syncflow_law_12_of_real_batches_after_a_stop_too(small_run) -> None:
    """The batch of a place in the run is the same whoever asks; one clip alone keeps its noise."""
    plain, ot = (prepared(small_run("pocket_bridges", f"objective.pairing={how}"))[1] for how in ("independent", "ot"))
    moved = 0
    for first in range(0, 24, 4):
        before, after, again = plain.at(first, 4), ot.at(first, 4), ot.at(first, 4)
        assert before.names == after.names
        for name, tensor in before.tensors.items():
            assert torch.equal(after.tensors[name], again.tensors[name])
            if not name.endswith("_noise"):
                assert torch.equal(after.tensors[name], tensor)
            else:
                moved += not torch.equal(after.tensors[name], tensor)
                clean = before.tensors[name.replace("noise", "latents")]
                assert cost(clean, after.tensors[name]) <= cost(clean, tensor)
    assert moved > 3
    assert torch.equal(plain.at(3, 1).tensors["video_noise"], ot.at(3, 1).tensors["video_noise"])


def test_syncflow_law_12_a_run_goes_on_exactly(small_run, tmp_path) -> None:
    config = small_run(
        "pocket_syncflow", *ADAPTOR, "objective.times=flow", "num_steps=4", "saving.every=2", "batch_size=3"
    )
    assert config.objective.pairing == "ot"
    ends = []
    for name in ("whole", "stopped"):
        train(config, tmp_path / name)
        if name == "stopped":
            latest = latest_checkpoint(tmp_path / name)
            for path in sorted(latest.rglob("*"), reverse=True):
                path.unlink() if path.is_file() else path.rmdir()
            latest.rmdir()
            assert load_checkpoint(latest_checkpoint(tmp_path / name)).step == 2
            train(config, tmp_path / name, resume=True)
        ends.append(load_checkpoint(latest_checkpoint(tmp_path / name)).weights)
    assert all(torch.equal(ends[1][name], tensor) for name, tensor in ends[0].items())


def dropped(small_run, *overrides: str, count: int = 400) -> torch.Tensor:
    """Whether the video's and the audio's text is that of "", ``(count, 2)``."""
    _, batches = prepared(small_run("pocket_bridges", *overrides))
    empty = {side: cache.read("") for side, cache in batches.samples.texts.items()}
    rows = [batches.at(position, 1).tensors for position in range(count)]
    return torch.tensor([[torch.equal(row[f"{s}_text"][0], empty[s]) for s in ("video", "audio")] for row in rows])


def test_syncflow_law_14_both_texts_are_dropped_or_none(small_run) -> None:
    chances = ("objective.video_text_dropout=0.3", "objective.audio_text_dropout=0.3")
    together, apart = (dropped(small_run, *chances, f"objective.drop_together={on}") for on in ("true", "false"))
    assert torch.equal(together[:, 0], together[:, 1])
    rate, deviation = float(together[:, 0].float().mean()), math.sqrt(0.3 * 0.7 / 400)
    assert abs(rate - 0.3) < 4 * deviation
    assert torch.equal(together[:, 1], apart[:, 1]), "the first of the two draws, which the sound's text has"
    assert not torch.equal(apart[:, 0], apart[:, 1])


def test_syncflow_law_14_two_chances_are_refused_before_anything_is_prepared(small_run) -> None:
    config = small_run("pocket_bridges", "objective.drop_together=true", "objective.audio_text_dropout=0.3")
    bench = build_workbench(config, Path(config.models.root))
    with pytest.raises(InputError, match=r"dropped together need one chance: got 0.1 for the picture's and 0.3 for"):
        Batches(config, bench, Path(config.data.cache))
    alone = small_run("pocket_audio", "objective.drop_together=true", "objective.audio_text_dropout=0.3")
    Batches(alone, build_workbench(alone, Path(alone.models.root)), Path(alone.data.cache))
    roles = small_run("pocket_bridges", "task=either_given", "objective.drop_together=true")
    with pytest.raises(InputError, match="need one chance"):
        Batches(roles, build_workbench(roles, Path(roles.models.root)), Path(roles.data.cache))


def test_flow_times_are_one_level_for_both_and_weigh_the_sound_as_its_flow(small_run) -> None:
    least = least_audio_time()
    assert least == pytest.approx(0.1855, abs=5e-5)
    bench, batches = prepared(small_run("pocket_bridges", "objective.times=flow"))
    _, clipped = prepared(small_run("pocket_bridges", "objective.times=flow", f"objective.least_audio_time={least}"))
    rows, cut = (b.at(0, 64).tensors for b in (batches, clipped))
    level = rows["t"].double()
    assert 0 < float(level.min()) < 0.2 and 0.8 < float(level.max()) < 1
    exact = 2 / math.pi * torch.atan2(level, 1 - level)
    torch.testing.assert_close(rows["audio_t"].double(), exact, rtol=0, atol=1e-6)
    torch.testing.assert_close(rows["audio_weight"], 1 + torch.sin(math.pi * rows["audio_t"]))
    assert torch.equal(cut["t"], rows["t"])
    torch.testing.assert_close(cut["audio_t"], rows["audio_t"].clamp(min=least))
    assert float(cut["audio_t"].min()) == pytest.approx(least) and float(rows["audio_t"].min()) < least
    tensors = batches.at(0, 3).tensors
    with torch.no_grad():
        losses, plain = bench.step(tensors), bench.step({k: v for k, v in tensors.items() if k != "audio_weight"})
        each = [
            bench.step({k: v[i : i + 1] for k, v in tensors.items() if k != "audio_weight"})["audio"] for i in range(3)
        ]
    assert float(losses["video"]) == pytest.approx(float(plain["video"]))
    wanted = sum(w * one for w, one in zip(tensors["audio_weight"], each, strict=True)) / 3
    assert float(losses["audio"]) == pytest.approx(float(wanted), rel=1e-5)
    assert float(losses["audio"]) > float(plain["audio"])


def test_flow_times_serve_a_tower_alone(small_run) -> None:
    """The control of the ladder: the audio tower without a picture, at the same times and weights."""
    alone, joint = (prepared(small_run(name, "objective.times=flow")) for name in ("pocket_audio", "pocket_bridges"))
    rows = [batches.at(0, 2).tensors for _, batches in (alone, joint)]
    for name in ("t", "audio_t", "audio_weight"):
        assert torch.equal(rows[0][name], rows[1][name])
    assert alone[0].step(rows[0])["audio"].requires_grad


def test_syncflow_law_15_stage_2_trains_the_sound_and_leaves_the_picture(small_run, small_models_dir, tmp_path) -> None:
    config = small_run(
        "syncflow_audio", "objective.times=flow", "data.source=world", "optimizer.ema_decay=0", "num_steps=3",
        "data.crops_per_clip=1",
    )  # fmt: skip
    before, batches = prepared(config)
    train(config, tmp_path / "run")
    weights = load_checkpoint(latest_checkpoint(tmp_path / "run")).weights
    assert set(weights) == set(before.parameters)
    assert {name.split(".")[1] for name in weights} == {"bridges", "audio"}
    own = dict(before.step.named_parameters())
    still = [name for name, value in weights.items() if torch.equal(value, own[name])]
    assert [name for name in still if "along_time.k_proj.bias" not in name] == []
    written = {path.relative_to(exported(tmp_path / "run")).parts[0] for path in exported(tmp_path / "run").rglob("*")}
    assert written == {"bridge.safetensors", "stable_audio"}, "nothing of the picture's tower"
    models = assemble(small_models_dir, (tmp_path / "run",), tmp_path / "models")
    found, old = find_models(models), find_models(small_models_dir)
    for path in (old.video / "transformer").iterdir():
        if path.suffix == ".safetensors":
            assert path.read_bytes() == (found.video / "transformer" / path.name).read_bytes()
    stack = load_bridges(found.bridge).stack
    assert stack.kind == "modality_adaptor" and stack.hears("audio") and not stack.hears("video")
    assert load_bridges(found.bridge).use == BridgeUse("joint", one_level=True)
    loaded = JointModel(before.step.joint.video, load_stable_audio(found.audio, LOADING).tower, stack).eval()
    untrained = outputs(before.step.joint, batches)
    with torch.no_grad():
        for name, value in weights.items():
            own[name].copy_(value)
    trained = outputs(before.step.joint, batches)
    assert torch.equal(trained[0], untrained[0]) and not torch.equal(trained[1], untrained[1])
    for mine, theirs in zip(outputs(loaded, batches), trained, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-5)


def outputs(joint: JointModel, batches: Batches) -> tuple[torch.Tensor, torch.Tensor]:
    batch = batches.at(0, 1).tensors
    with torch.no_grad():
        return joint.eval()(
            Modality(batch["video_latents"], 1000 * batch["t"], batch["video_text"]),
            Modality(batch["audio_latents"], batch["audio_t"], batch["audio_text"], batch["duration"]),
            times=batches.timeline.times,
        )


@pytest.mark.parametrize("checkpointing", ["true", "false"])
def test_syncflow_law_15_stage_3_the_sounds_loss_reaches_the_pictures_blocks(small_run, checkpointing) -> None:
    """Those up to the last bridge, and none behind it; the picture's loss all of its own."""
    bench, batches = prepared(
        small_run(
            "syncflow_joint", "objective.times=flow", "data.source=world", "data.crops_per_clip=1",
            f"models.gradient_checkpointing={checkpointing}",
        )
    )  # fmt: skip
    with torch.no_grad():
        for name, parameter in bench.parameters.items():
            if "bridges" in name:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    bench.step(batches.at(0, 2).tensors)["audio"].backward()
    video = {name: p for name, p in bench.parameters.items() if name.startswith("joint.video.")}
    reached = {name for name, parameter in video.items() if parameter.grad is not None and parameter.grad.any()}
    blocks = {int(name.split(".")[4]) for name in reached if ".blocks." in name}
    assert blocks == {0, 1} and bench.step.joint.bridges.points.video == (0, 1)
    behind = [
        name for name in video if ".blocks.2." in name or "proj_out" in name or "scale_shift" in name.split(".")[3]
    ]
    assert behind and [name for name in behind if video[name].grad is not None] == []
    assert {name for name in video if ".blocks.0." in name or ".blocks.1." in name} <= reached
    bench.step(batches.at(0, 2).tensors)["total"].backward()
    assert [name for name, parameter in bench.parameters.items() if parameter.grad is None] == []


def test_stage_2_needs_no_gradient_through_the_picture(small_run) -> None:
    bench, batches = prepared(small_run("syncflow_audio", "objective.times=flow", "data.source=world"))
    seen = []
    bench.step.joint.video.model.blocks[0].register_forward_hook(lambda *call: seen.append(call[2].requires_grad))
    bench.step(batches.at(0, 2).tensors)["total"].backward()
    assert seen == [False]


def test_stage_3_goes_on_with_stage_2(small_run, small_models_dir, tmp_path) -> None:
    """As the recipe says it; what comes out is laid over the models, and the sound still hears the picture."""
    world = (
        "objective.times=flow",
        "data.source=world",
        "data.crops_per_clip=1",
        "optimizer.ema_decay=0",
        "num_steps=2",
    )
    train(small_run("syncflow_audio", *world), tmp_path / "second")
    start = exported(tmp_path / "second") / "bridge.safetensors"
    config = small_run("syncflow_joint", *world, f"models.overlays={tmp_path / 'second'}", f"bridges.start={start}")
    train(config, tmp_path / "third")
    models = assemble(small_models_dir, (tmp_path / "second", tmp_path / "third"), tmp_path / "models")
    written = {
        path.relative_to(exported(tmp_path / "third")).parts[0] for path in exported(tmp_path / "third").rglob("*")
    }
    assert written == {"bridge.safetensors", "stable_audio", "wan"}
    model = load_models(models, placement=resolve_placement(device="cpu"))
    assert model.hears == {"audio"} and model.use.one_level
    second, third = (
        load_bridges(exported(tmp_path / name) / "bridge.safetensors").stack for name in ("second", "third")
    )
    begun, ended = (dict(stack.named_parameters()) for stack in (second, third))
    assert all(not torch.equal(begun[name], ended[name]) for name in begun if "along_time.k_proj.bias" not in name)
    apart = max(float((begun[name] - ended[name]).detach().abs().max()) for name in begun)
    assert apart < 0.1, "it began from the second's bridges"


def test_recipes_are_as_printed() -> None:
    second, third, pocket, after, direct = (recipe(name) for name in SYNCFLOW)
    for config in (second, third, pocket, after, direct):
        objective = config.objective
        assert (objective.times, objective.drop_together, objective.pairing) == ("flow", True, "ot")
        assert (objective.video_text_dropout, objective.audio_text_dropout, objective.draw) == (0.1, 0.1, "uniform")
        assert config.bridges.rope == "time_aligned"
    points = placement("layerwise_8")
    for config, parts, steps, batch in (
        (second, ("bridges", "audio_tower"), 150_000, 16),
        (third, ("bridges", "video_tower", "audio_tower"), 20_000, 2),
    ):
        assert (config.trainable, config.num_steps, config.batch_size) == (parts, steps, batch)
        assert (config.bridges.video_points, config.bridges.audio_points) == (points.video, points.audio)
        assert config.bridges.kind == "modality_adaptor"
        data = config.data
        assert (data.num_frames, data.fps, data.width, data.height) == (33, "16", 256, 256)
    for config in (pocket, after, direct):
        assert config.bridges.video_points == config.bridges.audio_points == tuple(range(8))
    assert (pocket.bridges.kind, direct.bridges.kind) == ("modality_adaptor", "video_features")
    assert pocket.trainable == ("bridges",) and after.trainable == ("bridges", "audio_tower")
    assert pocket.objective.least_audio_time == least_audio_time() and after.objective.least_audio_time == 0
    plain = recipe("pocket_bridges").objective
    assert (plain.drop_together, plain.pairing) == (False, "independent"), "the defaults"


@pytest.fixture(scope="module")
def pocket_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pocket")


@pytest.mark.parametrize("name", SYNCFLOW)
def test_each_recipe_runs_on_the_pocket_model(name, pocket_cache, tmp_path) -> None:
    """Two real steps; the bridges can be loaded, and begin the next run."""
    sizes = (
        "models.root=pocket", "models.text_length=128", "models.gradient_checkpointing=false", "bridges.qk_width=192",
        "bridges.num_heads=6", "bridges.video_points=0,1,2,3,4,5,6,7", "bridges.audio_points=0,1,2,3,4,5,6,7",
        "data.source=world", "data.num_clips=2", "data.num_frames=33", "data.width=64", "data.height=64",
        "data.sound_latents=cepstral", "data.keep_media=true", "data.crops_per_clip=1", f"data.cache={pocket_cache}",
        "batch_size=2", "num_steps=2", "saving.every=2", "saving.plot=false", "device=cpu", "precision=float32",
    )  # fmt: skip
    config = recipe(name, sizes)
    report = train(config, tmp_path / "run")
    assert report.num_steps == 2 and all(math.isfinite(loss) for loss in report.losses.values())
    stack = load_bridges(exported(tmp_path / "run") / "bridge.safetensors").stack
    assert (stack.kind, len(stack), stack.points.video) == (config.bridges.kind, 8, tuple(range(8)))
    towers = {path.parent.name for path in exported(tmp_path / "run").glob("*/transformer")}
    names = {"audio_tower": "stable_audio", "video_tower": "wan"}
    assert towers == {names[part] for part in config.trainable if part in names}
    start = f"bridges.start={exported(tmp_path / 'run') / 'bridge.safetensors'}"
    bench = build_workbench(recipe(name, [*sizes, start]), find_models("pocket").video.parent)
    assert all(
        torch.equal(a, b) for a, b in zip(bench.step.joint.bridges.parameters(), stack.parameters(), strict=True)
    )
