"""Both stages of SAVA's training: laws 7, 10, 11, 12 and 14 of its reference on the small models."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_models import write_alignment
from sounding_video.core.errors import IncompatibleWeightsError, InputError
from sounding_video.core.pair import MODALITIES
from sounding_video.core.types import Modality
from sounding_video.models.alignment.selective import OTHER, Alignment, AlignmentConfig
from sounding_video.models.joint import JointModel
from sounding_video.models.lora.apply import with_lora
from sounding_video.models.weights.alignment import factors_of, load_alignment, save_alignment
from sounding_video.models.weights.find import find_models
from sounding_video.models.weights.load import load_stable_audio
from sounding_video.training.assembly import build_workbench, exported
from sounding_video.training.exports import ALIGNMENT_FILE
from sounding_video.training.log import read_log
from sounding_video.training.lora import laid_aside, loras_of
from sounding_video.training.recipes import recipe
from sounding_video.training.step import JointStep
from sounding_video.training.tasks import TRAINING_TASKS
from sounding_video.training.tasks.base import LOADING
from sounding_video.training.trainer import train
from training_runs import bench_of

ALIGN = ("alignment.width=8", "alignment.hidden=12", "alignment.grid=2", "alignment.positions=2")
STAGE_2 = pytest.mark.parametrize("made", MODALITIES)


def wake(parameters: dict[str, torch.nn.Parameter]) -> None:
    """Past the zero layers."""
    with torch.no_grad():
        for number, parameter in enumerate(parameters.values()):
            generator = torch.Generator().manual_seed(number)
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def test_law_12_stage_one_has_no_tower_in_memory(small_run) -> None:
    bench, batch = bench_of(small_run("pocket_sava_align", *ALIGN))
    assert bench.video.tower is None and bench.audio.tower is None
    assert bench.video.text is None and bench.audio.text is None
    assert {name.split(".")[0] for name, _ in bench.step.named_parameters()} == {"selection"}
    assert set(batch.tensors) == {"video", "audio", "ramp"}
    assert tuple(batch.tensors["video"].shape) == (2, 3, 4 * 4) and tuple(batch.tensors["audio"].shape) == (2, 3, 12)


def test_vectors_are_standardised_over_all_clips(small_run) -> None:
    bench, _ = bench_of(small_run("pocket_sava_align", *ALIGN))
    alignment, samples = bench.step.selection.alignment, bench.task.samples
    for side in MODALITIES:
        vectors = torch.cat([alignment.standardised(side, kept[side]) for kept in samples._kept.values()])
        assert len(vectors) == 4 * 3
        torch.testing.assert_close(vectors.mean(0), torch.zeros(vectors.shape[1]), rtol=0, atol=1e-4)
        torch.testing.assert_close(vectors.std(0, unbiased=False), torch.ones(vectors.shape[1]), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("mask", "mask_input"), [("bernoulli", "both"), ("hard", "own"), ("soft", "both"),
                                                  ("bernoulli", "none")])  # fmt: skip
def test_stage_one_writes_its_file_with_support_and_leak(small_run, tmp_path, mask: str, mask_input: str) -> None:
    words = (f"alignment.mask={mask}", f"alignment.mask_input={mask_input}", "alignment.segment=2")
    report = train(small_run("pocket_sava_align", *ALIGN, *words), tmp_path)
    rows = read_log(tmp_path / "loss.jsonl")
    told = {"total", "sound", "picture", "pull", "kept_video", "kept_audio", "leak_video", "leak_audio"}
    assert told <= set(rows[0]) and report.num_steps == 4
    assert all(0 <= row["kept_video"] <= 8 and 0 <= row["leak_audio"] <= 1 for row in rows)
    loaded = load_alignment(exported(tmp_path) / ALIGNMENT_FILE)
    assert loaded.notes["mask"] == mask and loaded.notes["recipe"] == "pocket_sava_align"
    numbers = [
        float(loaded.notes[f"{what}_{thing}"]) for what in ("leak", "explained") for thing in ("sound", "picture")
    ]
    assert all(number <= 1 for number in numbers)
    for side in MODALITIES:
        opened = getattr(loaded.alignment, f"{side}_open")
        assert torch.equal(getattr(loaded.alignment, f"{side}_support"), (opened > 0.5).float())
        assert bool((opened == 1).all()) == (mask_input == "none")
    assert loaded.alignment.config.segment == 2 and not loaded.loras


def test_the_price_rises_over_the_first_tenth(small_run) -> None:
    config = small_run("pocket_sava_align", *ALIGN, "num_steps=100", "batch_size=2")
    bench, _ = bench_of(config)
    from sounding_video.training.samples import Place

    samples = bench.task.samples
    samples._vectors = lambda source, crop: {}
    ramps = [float(samples.row(Place(None, 0, position, torch.Generator()))["ramp"]) for position in (0, 10, 20, 150)]
    assert ramps == pytest.approx([0, 0.5, 1, 1])


def test_law_15_stage_one_goes_on_bit_for_bit(small_run, tmp_path) -> None:
    config = small_run("pocket_sava_align", *ALIGN, "num_steps=4", "saving.every=2", "saving.keep=3")
    train(config, tmp_path)
    whole, file = read_log(tmp_path / "loss.jsonl"), (exported(tmp_path) / ALIGNMENT_FILE).read_bytes()
    shutil.rmtree(tmp_path / "checkpoints" / "step-0000004")
    train(config, tmp_path, resume=True)
    assert [row["total"] for row in read_log(tmp_path / "loss.jsonl")] == [row["total"] for row in whole]
    assert (exported(tmp_path) / ALIGNMENT_FILE).read_bytes() == file


@STAGE_2
def test_law_12_stage_two_loads_one_tower_and_learns_beside_it_only(small_run, tmp_path, made: str) -> None:
    config = small_run(f"pocket_sava_{made}", f"trainable={made}_tokens,{made}_lora:2::attn2")
    bench, batch = bench_of(config)
    assert bench.sides[OTHER[made]].tower is None and bench.sides[OTHER[made]].text is None
    assert {name for name in MODALITIES if getattr(bench.step.joint, name) is not None} == {made}
    before = {name: tensor.clone() for name, tensor in bench.step.state_dict().items() if name not in bench.parameters}
    wake(bench.parameters)
    optimizer = torch.optim.Adam(bench.parameters.values(), lr=0.1)
    batch.tensors["condition_dropped"] = torch.tensor([1.0, 0.0])
    for _ in range(3):
        optimizer.zero_grad()
        losses = bench.step(batch.tensors)
        losses["total"].backward()
        optimizer.step()
    assert set(losses) == {"total", made}
    learned = {name for name, parameter in bench.step.named_parameters() if parameter.grad is not None}
    assert learned == set(bench.parameters)
    assert all(parameter.grad.any() for parameter in bench.parameters.values()), "tokens, null token, A and B"
    words = {word for name in learned for word in (".null", ".latent.", ".time.", ".down_0", ".up_0") if word in name}
    assert len(words) == 5
    state = bench.step.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in before.items())
    layers = {name.split(".", 2)[2].rsplit(".", 1)[0] for name in loras_of(bench.step.joint)}
    assert {name.split(".attn2.")[1] for name in loras_of(bench.step.joint)} == {"to_q", "to_k", "to_v", "to_out.0"}
    assert layers


@STAGE_2
def test_law_10_tokens_stand_behind_the_text_and_drop_as_null_tokens(small_run, made: str) -> None:
    bench, batch = bench_of(small_run(f"pocket_sava_{made}"))
    wake(bench.parameters)
    seen = []
    plain = JointStep.forward

    def forward(self, given):
        seen.append(given[f"{made}_text"].detach())
        return plain(self, given)

    batch.tensors["condition_dropped"] = torch.tensor([1.0, 0.0])
    try:
        JointStep.forward = forward
        bench.step(batch.tensors)
    finally:
        JointStep.forward = plain
    (text,), length = seen, batch.tensors[f"{made}_text"].shape[1]
    assert text.shape[1] == length + 3
    assert torch.equal(text[:, :length], batch.tensors[f"{made}_text"])
    null = bench.step.alignment.reader_for(made).null
    assert torch.equal(text[0, length:], null.detach().expand(3, -1))
    assert len(text[1, length:].unique(dim=0)) == 3, "each moment has its own"


@STAGE_2
def test_law_11_a_new_lora_changes_nothing_and_off_is_stock(small_run, made: str) -> None:
    bench, batch = bench_of(small_run(f"pocket_sava_{made}", f"trainable={made}_tokens,{made}_lora:2::attn2"))
    with torch.no_grad():
        new = bench.step(batch.tensors)["total"]
        with laid_aside(bench.step):
            assert torch.equal(bench.step(batch.tensors)["total"], new)
            stock = bench.step(batch.tensors)["total"]
        wake(bench.parameters)
        changed = bench.step(batch.tensors)["total"]
        for layer in loras_of(bench.step).values():
            whole = layer.factors[1] @ layer.factors[0]
            assert torch.linalg.matrix_rank(whole) <= 2
    assert torch.equal(stock, new) and not torch.equal(changed, new)


def test_one_draw_decides_what_is_dropped(small_run) -> None:
    config = small_run("pocket_sava_audio")
    task = TRAINING_TASKS.get(config.task)(config)
    moments = [task.moment(position) for position in range(4000)]
    both = sum(float(m["condition_dropped"]) for m in moments) / 4000
    text = sum(float(m["text_dropped"]) for m in moments) / 4000
    assert (both, text) == pytest.approx((0.1, 0.2), abs=0.02)
    assert all(m["text_dropped"] >= m["condition_dropped"] for m in moments)
    assert {task.dropouts(m).audio for m in moments} == {0.0, 1.0}
    assert [task.moment(7)["condition_dropped"]] == [moments[7]["condition_dropped"]]


@STAGE_2
def test_the_condition_is_noised_and_the_made_side_is_not_read(small_run, made: str) -> None:
    quiet, batch = bench_of(small_run(f"pocket_sava_{made}", "alignment.condition_noise=0"))
    loud, _ = bench_of(small_run(f"pocket_sava_{made}", "alignment.condition_noise=0.5"))
    given = OTHER[made]
    batch = {**batch.tensors, "condition_dropped": torch.zeros(2)}
    for bench in (quiet, loud):
        wake(bench.parameters)
    with torch.no_grad():
        plain = quiet.step._told(batch, given)
        assert torch.equal(quiet.step._told({**batch, f"{given}_noise": torch.zeros(1)}, given), plain)
        assert not torch.equal(loud.step._told(batch, given), plain)
        again = {**batch, f"{made}_latents": torch.randn_like(batch[f"{made}_latents"])}
        assert torch.equal(quiet.step._told(again, given), plain)


@STAGE_2
def test_law_14_the_file_of_the_second_stage_is_whole(small_run, small_models_dir, tmp_path, made: str) -> None:
    """What it says goes on bit for bit; the tower's LoRA is in it and nowhere else; the other tower's is passed on."""
    start = write_alignment(tmp_path / "start.safetensors", reads=(OTHER[made],), seed=3)
    words = (f"alignment.start={start}", "num_steps=3", "saving.every=1", "saving.keep=4", "optimizer.ema_decay=0")
    config = small_run(f"pocket_sava_{made}", *words, f"trainable={made}_tokens,{made}_lora:2::attn2")
    train(config, tmp_path / "run")
    export = exported(tmp_path / "run")
    assert [path.name for path in export.iterdir()] == [ALIGNMENT_FILE]
    whole, file = read_log(tmp_path / "run" / "loss.jsonl"), (export / ALIGNMENT_FILE).read_bytes()
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-0000003")
    train(config, tmp_path / "run", resume=True)
    assert [r["total"] for r in read_log(tmp_path / "run" / "loss.jsonl")] == [r["total"] for r in whole]
    assert (exported(tmp_path / "run") / ALIGNMENT_FILE).read_bytes() == file
    before, after = load_alignment(start), load_alignment(exported(tmp_path / "run") / ALIGNMENT_FILE)
    assert set(after.loras) == set(MODALITIES) and after.notes["recipe"] == f"pocket_sava_{made}"
    for name, tensor in before.alignment.state_dict().items():
        assert torch.equal(after.alignment.state_dict()[name], tensor), name
    kept, passed = factors_of(before)[OTHER[made]], factors_of(after)[OTHER[made]]
    assert kept[0] == passed[0] and all(
        torch.equal(a, b) for n in kept[1] for a, b in zip(kept[1][n], passed[1][n], strict=True)
    )
    assert bool(after.alignment.reader_for(made).latent.weight.any())


def test_law_11_the_loaded_lora_is_what_was_trained(small_run, tmp_path) -> None:
    """Beside the tower as the sampler has it, it predicts as in training, to 1e-6; without, as the stock tower."""
    words = ("num_steps=3", "optimizer.ema_decay=0", "optimizer.lr=0.1", "optimizer.warmup_steps=0")
    config = small_run("pocket_sava_audio", *words, "trainable=audio_tokens,audio_lora:2:3:attn2")
    train(config, tmp_path)
    loaded = load_alignment(exported(tmp_path) / ALIGNMENT_FILE)
    tower = load_stable_audio(find_models(config.models.root).audio, LOADING).tower
    plain = JointModel(None, tower, None).eval()
    joint, report = with_lora(plain, loaded.loras["audio"], part="audio")
    assert len(report.matched) == 3 * 4 and not report.unmatched
    bench, batch = bench_of(config)
    with torch.no_grad():
        from sounding_video.training.checkpoint import latest_checkpoint, load_checkpoint

        for name, weight in load_checkpoint(latest_checkpoint(tmp_path)).weights.items():
            bench.parameters[name].copy_(weight)
        text = torch.cat([batch.tensors["audio_text"], torch.randn(2, 3, 16)], 1)
        said = Modality(batch.tensors["audio_latents"], batch.tensors["t"], text, batch.tensors["duration"])
        wanted = bench.step.joint.eval()(None, said)[1]
        torch.testing.assert_close(joint(None, said)[1], wanted, rtol=1e-5, atol=1e-6)
        with laid_aside(bench.step):
            assert torch.equal(plain(None, said)[1], bench.step.joint(None, said)[1])
        assert not torch.equal(plain(None, said)[1], wanted)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("alignment.start=", "a tower needs an alignment to read: got alignment.start="),
        ("trainable=audio_tower", "a trainable part is not in this task: got 'audio_tower'; expected audio_tokens"),
        ("trainable=video_tokens", "a trainable part is not in this task"),
        ("alignment.condition_dropout=2", "alignment.condition_dropout is out of range"),
        ("alignment.text_dropout=-1", "alignment.text_dropout is out of range"),
        ("alignment.condition_noise=-1", "alignment.condition_noise is out of range"),
    ],
)
def test_what_makes_no_sense_is_refused(small_run, override: str, sentence: str) -> None:
    with pytest.raises(InputError) as error:
        config = small_run("pocket_sava_audio", override)
        build_workbench(config, Path(config.models.root))
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("alignment.mask=gumbel", "unknown alignment.mask: got 'gumbel'; expected one of bernoulli, hard, soft"),
        ("alignment.mask_input=all", "unknown alignment.mask_input"),
        ("alignment.sparsity=-1", "alignment.sparsity is out of range"),
        ("alignment.segment=0", "alignment.segment is out of range"),
        ("alignment.start=x.safetensors", "an alignment begins anew"),
    ],
)
def test_a_first_stage_that_makes_no_sense_is_refused(small_run, override: str, sentence: str) -> None:
    with pytest.raises(InputError) as error:
        config = small_run("pocket_sava_align", override)
        build_workbench(config, Path(config.models.root))
    assert sentence in str(error.value)


def test_an_alignment_of_other_codecs_is_refused(small_run, tmp_path) -> None:
    config = AlignmentConfig(width=8, hidden=12, grid=2, video_channels=16, audio_channels=6)
    save_alignment(tmp_path / "x.safetensors", Alignment(config))
    run = small_run("pocket_sava_audio", f"alignment.start={tmp_path / 'x.safetensors'}")
    with pytest.raises(
        IncompatibleWeightsError, match=r"made for other codecs: got video_channels 16 in .*; expected 4"
    ):
        build_workbench(run, Path(run.models.root))


def test_recipes_are_as_printed() -> None:
    first = recipe("sava_align")
    section = first.alignment
    assert (section.sparsity, section.pull, section.width, section.mask_input) == (5.0, 0.1, 512, "both")
    assert recipe("sava_audio").trainable == ("audio_tokens", "audio_lora:16::attn2")
    assert recipe("pocket_sava_video").trainable == ("video_tokens", "video_lora:8::attn2")
    assert json.loads(json.dumps(first.as_dict()))["alignment"]["mask"] == "bernoulli"
    assert replace(first, alignment=replace(section, sparsity=1.0)).hash != first.hash
