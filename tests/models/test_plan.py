"""What the planner foretells is what the real modules take, and the plan it picks is the first that fits.

The witness for memory is PyTorch's own record of every allocation and release on the CPU (the profiler), which knows
nothing of how the planner counts.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from fake_card import PUBLISHED_FIGURES
from sounding_video.core.clock import Timeline
from sounding_video.core.device import OFFLOAD_MODES, resolve_placement
from sounding_video.core.errors import InputError, PlacementError
from sounding_video.core.types import Modality
from sounding_video.models.bridges.config import BridgeConfig
from sounding_video.models.codecs.wan_vae import WanVAECodec
from sounding_video.models.joint import BridgePoints, BridgeStack, JointModel
from sounding_video.models.plan.needs import STAGES, Needs, Workload, num_bytes, streamed_bytes
from sounding_video.models.plan.outline import Outline, outline_loaded, outline_models, without_weights
from sounding_video.models.plan.plans import Plan, StagePeak, choose, iter_plans, plans, required_bytes
from sounding_video.models.plan.published import SHAPES, outline_shapes
from sounding_video.models.plan.tracking import LiveBytes
from sounding_video.models.towers.stable_audio import StableAudioTower
from sounding_video.models.towers.wan import WanTower
from sounding_video.models.weights.find import find_models
from sounding_video.models.weights.layouts import StableAudioFiles, WanFiles
from torch import nn

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
# Real proportions at a small size; large enough that small change does not count.
WIDTH, TEXT = 128, 64
VIDEO_LATENT, AUDIO_LATENT = (1, 4, 3, 16, 24), (1, 8, 40)


def allocated_peak(run: Callable[[], Any]) -> int:
    """The most bytes that ``run`` really held at once, beside what was there before."""
    from torch._C._profiler import _EventType
    from torch.profiler import ProfilerActivity, profile

    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        result = run()
    del result
    sizes, stack = [], list(record.profiler.kineto_results.experimental_event_tree())
    while stack:
        event = stack.pop()
        stack += event.children
        if event.typed[0] == _EventType.Allocation:
            sizes.append((event.start_time_ns, event.typed[1].alloc_size))
    live = peak = 0
    for _, size in sorted(sizes, key=lambda entry: entry[0]):
        live += size
        peak = max(peak, live)
    return peak


def joint_model(kind: str | None = "dual_cross", *, video: bool = True, audio: bool = True) -> JointModel:
    from diffusers import StableAudioDiTModel, WanTransformer3DModel

    wan = WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=WIDTH // 2, in_channels=4, out_channels=4, text_dim=TEXT,
        freq_dim=32, ffn_dim=6 * WIDTH, num_layers=2,
    )  # fmt: skip
    dit = StableAudioDiTModel(
        sample_size=64, in_channels=8, out_channels=8, num_layers=2, attention_head_dim=32, num_attention_heads=4,
        num_key_value_attention_heads=2, cross_attention_dim=64, cross_attention_input_dim=64, time_proj_dim=32,
        global_states_input_dim=128,
    )  # fmt: skip
    config = BridgeConfig(WIDTH, WIDTH, WIDTH, WIDTH, 2, WIDTH, WIDTH)
    stack = BridgeStack(kind, config, BridgePoints((0, 1), (0, 1))) if kind else None
    towers = WanTower(wan) if video else None, StableAudioTower(dit) if audio else None
    return JointModel(*towers, stack).eval()


def inputs(joint: JointModel, rows: int) -> list[Modality | None]:
    """As the sampling loop makes them."""
    found: list[Modality | None] = [None, None]
    like = {"dtype": next(joint.parameters()).dtype}
    if joint.video is not None:
        view = torch.zeros(VIDEO_LATENT, **like)
        found[0] = Modality(torch.cat([view] * rows), torch.tensor([500.0]), torch.zeros(rows, 32, TEXT, **like))
    if joint.audio is not None:
        view, text = torch.zeros(AUDIO_LATENT, **like), torch.zeros(rows, 16, 64, **like)
        duration = torch.zeros(rows, 1, 128, **like)
        found[1] = Modality(torch.cat([view] * rows), torch.tensor([0.5]), text, duration)
    return found


def needs_of(joint: JointModel, *, guided: bool = False) -> Needs:
    outline = Outline("", without_weights(joint), None, None, None, None, 32, 16)
    shapes = (VIDEO_LATENT if joint.video else None, AUDIO_LATENT if joint.audio else None)
    return Needs(outline, Workload(*shapes, guided=guided))


@pytest.mark.parametrize(
    ("kind", "sides", "batched"),
    [
        ("dual_cross", (True, True), False),
        ("dual_cross", (True, True), True),
        ("full", (True, True), False),
        ("video_to_audio", (True, True), False),
        ("additive", (True, True), False),
        (None, (True, True), False),
        (None, (True, False), False),
        (None, (False, True), True),
    ],
)
def test_a_sampling_step_takes_what_is_foretold(kind, sides, batched) -> None:
    joint = joint_model(kind, video=sides[0], audio=sides[1])
    foretold = needs_of(joint, guided=batched).activations("sample", batched=batched)
    measured = allocated_peak(lambda: joint(*inputs(joint, 2 if batched else 1)))
    assert foretold == pytest.approx(measured, rel=0.10)


def test_half_precision_takes_what_is_foretold() -> None:
    joint = joint_model().to(torch.bfloat16)
    foretold = needs_of(joint).activations("sample")
    # Where a CPU multiplies such numbers itself, oneDNN lays weights out anew for it, which no card does.
    with torch.backends.mkldnn.flags(enabled=False):
        taken = allocated_peak(lambda: joint(*inputs(joint, 1)))
    assert foretold == pytest.approx(taken, rel=0.10)
    assert foretold < 0.75 * needs_of(joint_model()).activations("sample")


def test_inference_mode_hides_nothing() -> None:
    expected = needs_of(joint_model()).activations("sample")
    with torch.inference_mode():
        assert needs_of(joint_model()).activations("sample") == expected


def test_one_pass_at_a_time_takes_about_half() -> None:
    needs = needs_of(joint_model(), guided=True)
    one, both = needs.activations("sample"), needs.activations("sample", batched=True)
    assert 0.45 < one / both < 0.65


@pytest.fixture(scope="module")
def wan_codec() -> WanVAECodec:
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    vae = AutoencoderKLWan(
        base_dim=16, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=[0.0] * 4, latents_std=[1.0] * 4
    )
    vae.tile_sample_min_height = vae.tile_sample_min_width = 128
    vae.tile_sample_stride_height = vae.tile_sample_stride_width = 96
    return WanVAECodec(vae.eval())


def test_decoding_a_picture_takes_what_is_foretold(wan_codec) -> None:
    """Counted on real tensors; the finished frames, which a card would not hold, are taken off."""
    vae, shape = wan_codec.vae, (1, 4, 3, 10, 12)
    outline = Outline("", None, None, None, WanVAECodec(without_weights(vae)), None)
    foretold = Needs(outline, Workload(shape, None)).activations("decode video")
    peaks, finished = [], 0
    counter = LiveBytes((*vae.parameters(), *vae.buffers()), device_type="cpu")

    def begin(*_: object) -> None:
        counter.peak_bytes = counter.live_bytes

    def end(_: nn.Module, args: tuple[torch.Tensor], frames: torch.Tensor) -> None:
        nonlocal finished
        peaks.append(counter.peak_bytes - counter.base_bytes - finished)
        finished += frames.nbytes

    handles = [vae.decoder.register_forward_pre_hook(begin), vae.decoder.register_forward_hook(end)]
    with torch.no_grad(), counter:
        vae.decode(torch.zeros(shape))
    for handle in handles:
        handle.remove()
    assert len(peaks) == 3
    assert foretold == pytest.approx(max(peaks), rel=0.10)


def test_a_tile_takes_as_much_as_a_picture_of_its_size(wan_codec) -> None:
    outline = Outline("", None, None, None, WanVAECodec(without_weights(wan_codec.vae)), None)
    large, tile = (Needs(outline, Workload((1, 4, 4, *size), None)) for size in ((60, 104), (16, 16)))
    whole, tiled = large.activations("decode video"), large.activations("decode video", tiling="on")
    assert tiled == pytest.approx(tile.activations("decode video"), rel=0.10)
    assert whole > 20 * tiled


def test_the_decoder_does_not_keep_finished_frames_on_the_device(wan_codec) -> None:
    outline = Outline("", None, None, None, WanVAECodec(without_weights(wan_codec.vae)), None)
    peaks = [Needs(outline, Workload((1, 4, n, 16, 16), None)).activations("decode video") for n in (3, 30)]
    assert peaks[1] < 1.05 * peaks[0]


def test_encoding_a_picture_takes_what_is_foretold(wan_codec) -> None:
    """Counted on real tensors, from the pictures on: whole, and in tiles of a larger one."""
    vae = wan_codec.vae
    outline = Outline("", None, None, None, WanVAECodec(without_weights(vae)), None)
    for (height, width), tiled in (((10, 12), False), ((28, 28), True)):
        work = Workload((1, 4, 4, height, width), None, encoded=("video",), decoded=())
        foretold = Needs(outline, work)
        assert foretold.stages() == ("encode video",)
        vae.use_tiling = tiled
        with LiveBytes((*vae.parameters(), *vae.buffers()), device_type="cpu") as counter, torch.no_grad():
            vae.encode(torch.zeros(1, 3, 13, 8 * height, 8 * width)).latent_dist.mode()
        vae.use_tiling = False
        measured = counter.peak_bytes - counter.base_bytes
        assert foretold.activations("encode video", tiling="on" if tiled else "off") == pytest.approx(
            measured, rel=0.10
        )


@pytest.fixture(scope="module")
def audio_vae() -> nn.Module:
    from diffusers import AutoencoderOobleck

    return AutoencoderOobleck(
        encoder_hidden_size=16, downsampling_ratios=[2, 4, 4], channel_multiples=[1, 2, 4], decoder_channels=32,
        decoder_input_channels=8, audio_channels=2, sampling_rate=8000,
    ).eval()  # fmt: skip


def test_decoding_sound_takes_what_is_foretold(audio_vae) -> None:
    from sounding_video.models.plan.outline import rebuilt

    shape = (1, 8, 120)
    foretold = Needs(Outline("", None, None, None, None, rebuilt(audio_vae)), Workload(None, shape))
    with LiveBytes((*audio_vae.parameters(), *audio_vae.buffers()), device_type="cpu") as counter, torch.no_grad():
        audio_vae.decode(torch.zeros(shape))
    assert foretold.activations("decode audio") == pytest.approx(counter.peak_bytes - counter.base_bytes, rel=0.02)
    # What the allocator saw holds the CPU convolutions' scratch memory too, which is not counted; one thread has none.
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        measured = allocated_peak(lambda: audio_vae.decode(torch.zeros(shape)).sample)
    finally:
        torch.set_num_threads(threads)
    assert 0.7 * measured < foretold.activations("decode audio") < measured


def test_encoding_sound_takes_what_is_foretold(audio_vae) -> None:
    from sounding_video.models.plan.outline import rebuilt

    outline = Outline("", None, None, None, None, rebuilt(audio_vae))
    foretold = Needs(outline, Workload(None, (1, 8, 120), encoded=("audio",)))
    assert foretold.stages() == ("encode audio", "decode audio")
    with LiveBytes((*audio_vae.parameters(), *audio_vae.buffers()), device_type="cpu") as counter, torch.no_grad():
        audio_vae.encode(torch.zeros(1, 2, 121 * 32)).latent_dist.mode()
    assert foretold.activations("encode audio") == pytest.approx(counter.peak_bytes - counter.base_bytes, rel=0.02)


def test_encoding_a_caption_takes_what_is_foretold() -> None:
    from transformers import UMT5Config, UMT5EncoderModel

    config = UMT5Config(vocab_size=300, d_model=128, d_kv=32, d_ff=320, num_layers=2, num_heads=4)
    model = UMT5EncoderModel(config).eval()
    outline = Outline("", None, without_weights(model), None, None, None, video_text_length=96)
    ids = torch.zeros(1, 96, dtype=torch.int64)
    mask = (torch.arange(96) < 7).long()[None]
    measured = allocated_peak(lambda: model(ids, attention_mask=mask).last_hidden_state)
    assert Needs(outline, Workload(None, None)).activations("encode") == pytest.approx(measured, rel=0.10)


def _weights(outline: Outline) -> dict[str, int]:
    return Needs(outline, Workload(None, None)).weights()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "official-bf16"])
def test_an_outline_from_disk_weighs_what_the_loaded_model_weighs(small_models_dir: Path, dtype) -> None:
    from sounding_video.pipeline import load_models

    placement = resolve_placement(device="cpu", dtype=dtype)
    found = find_models(small_models_dir)
    outline = outline_models(found, placement, bridge=found.bridge)
    model = load_models(small_models_dir, placement=placement)
    assert _weights(outline) == _weights(outline_loaded(model.joint, model.video, model.audio))
    loaded = {
        "video tower": model.video.tower,
        "bridges": model.joint.bridges,
        "video text": model.video.text.model,
        "video codec": model.video.codec,
        "audio codec": model.audio.codec,
    }
    for name, module in loaded.items():
        assert _weights(outline)[name] == num_bytes(module)
        assert {str(t.dtype) for t in outline.parts()[name].parameters()} == {str(t.dtype) for t in module.parameters()}
    assert all(tensor.is_meta for tensor in outline.tensors())
    assert (outline.video_text_length, outline.audio_text_length) == (model.video.text.max_length, 32)


@pytest.mark.parametrize("layout", ["folders", "files"])
@pytest.mark.parametrize("options", [{}, {"storage": "fp8"}, {"dtype": "official-bf16"}], ids=str)
def test_encoders_that_are_read_later_are_outlined_from_their_headers(
    small_models_dir: Path, single_files: tuple[WanFiles, StableAudioFiles], layout, options
) -> None:
    from sounding_video.models.weights.load import load_stable_audio, load_wan
    from sounding_video.pipeline import join_towers

    folders = small_models_dir / "wan", small_models_dir / "stable_audio"
    placement = resolve_placement(device="cpu", **options)
    video, audio = folders if layout == "folders" else single_files
    outlines = []
    for free in (False, True):
        sides = load_wan(video, placement, free_text=free), load_stable_audio(audio, placement, free_text=free)
        outlines.append(outline_loaded(join_towers(*sides).joint, *sides))
        assert not free or not any(side.text.is_loaded for side in sides)
    kept, later = outlines
    assert later.freed == ("video text", "audio text") and kept.freed == ()
    assert _weights(later) == _weights(kept)
    assert (later.video_text_length, later.audio_text_length) == (kept.video_text_length, kept.audio_text_length)
    needs = [Needs(outline, Workload(None, None)) for outline in outlines]
    assert needs[0].activations("encode") == needs[1].activations("encode")


@pytest.fixture(scope="module")
def single_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[WanFiles, StableAudioFiles]:
    """Small models in single files, with the tokenizers of their folders."""
    single = _module_at(Path(__file__).with_name("single_files.py"))
    root = tmp_path_factory.mktemp("single")
    folders = single.write_folders(root / "folders")
    wan, audio = folders / "wan", folders / "stable_audio"
    states = {
        "wan": single.wan_original(wan),
        "vae": single.vae_original(wan),
        "umt5": single.part(wan / "text_encoder"),
        "stable_audio": single.stable_audio_original(audio),
        "t5": single.part(audio / "text_encoder"),
    }
    paths = {name: single.save(root / f"{name}.safetensors", state) for name, state in states.items()}
    return (
        WanFiles(paths["wan"], paths["vae"], paths["umt5"], wan / "tokenizer"),
        StableAudioFiles(paths["stable_audio"], paths["t5"], audio / "tokenizer"),
    )


def _module_at(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def test_the_published_sizes_are_those_of_the_reference() -> None:
    assert SHAPES == ("wan-1.3b", "wan-14b")
    placement = resolve_placement(device="cpu", dtype="bfloat16")
    small, large = (outline_shapes(name, placement).parts() for name in SHAPES)
    count = {name: sum(p.numel() for p in module.parameters()) for name, module in small.items()}
    assert count["video tower"] == 1_418_996_800
    assert count["audio tower"] == 1_056_939_136
    assert count["bridges"] == 339_922_944
    assert sum(p.numel() for p in large["video tower"].parameters()) == 14_288_491_584
    assert sum(p.numel() for p in large["bridges"].parameters()) == 4 * 441_015_296
    with pytest.raises(InputError, match="wan-2b"):
        outline_shapes("wan-2b", placement)


def _resident_peak(joint: JointModel, mode: str) -> int:
    """The most bytes of weights that are anywhere but at rest while a step runs in an offload mode."""
    from sounding_video.models import placement as room

    placement = replace(resolve_placement(device="cpu"), offload=mode)
    peak = 0
    with room.running(joint, placement) as model:
        leaves = [module for module in model.modules() if not list(module.children())]

        def look(*_: object) -> None:
            nonlocal peak
            tensors = {p.untyped_storage()._cdata: p for p in model.parameters() if not p.is_meta}
            peak = max(peak, sum(tensor.nbytes for tensor in tensors.values()))

        for leaf in leaves:
            if hasattr(leaf, "_hf_hook"):  # accelerate's own wrapper brings the weights and calls this

                def forward(*args: Any, _own: Callable[..., Any] = leaf._old_forward, **kwargs: Any) -> Any:
                    look()
                    return _own(*args, **kwargs)

                leaf._old_forward = forward
        with torch.no_grad():
            model(*inputs(joint, 1))
    return peak


def test_sequential_offload_holds_the_weights_that_are_foretold() -> None:
    joint = joint_model()
    buffers = sum(buffer.nbytes for buffer in joint.buffers())
    foretold = streamed_bytes([joint.video, joint.audio, joint.bridges])
    measured = _resident_peak(joint, "sequential")
    assert foretold == pytest.approx(measured + buffers, rel=0.10)
    assert foretold < 0.4 * num_bytes(joint)


@pytest.fixture(scope="module")
def benchmark(root: Path) -> ModuleType:
    return _module_at(root / "benchmarks" / "peak_memory.py")


STAGE_WORK = Workload((1, 4, 2, 8, 8), (1, 6, 20))


def test_every_mode_holds_in_every_stage_the_weights_that_are_foretold(benchmark, small_models_dir: Path) -> None:
    """The stages really run in each mode; account is kept over towers, bridges, text encoders and codecs."""
    from sounding_video.pipeline import load_models

    model = load_models(small_models_dir, placement=resolve_placement(device="cpu"))
    rows = {(mode, stage): sizes for mode, stage, *sizes in benchmark.resident_rows(model, STAGE_WORK)}
    assert set(rows) == {(mode, stage) for mode in OFFLOAD_MODES for stage in STAGES}
    for place, (foretold, kept) in rows.items():
        assert foretold == pytest.approx(kept, rel=0.10), place
    held = {place: kept for place, (_, kept) in rows.items()}
    for stage in ("encode", "sample"):
        assert held["none", stage] > held["model", stage] > held["group", stage] >= held["sequential", stage] > 0
    parts = (model.joint, model.video.text, model.audio.text, model.video.codec, model.audio.codec)
    assert held["none", "sample"] == sum(num_bytes(part) for part in parts)
    assert held["model", "decode video"] == num_bytes(model.video.codec) == held["group", "decode video"]


@pytest.mark.slow
def test_the_benchmark_of_a_card_runs_every_stage_of_every_plan(benchmark, small_models_dir: Path) -> None:
    """On a CPU, where only its way is checked: fp8, tiles and streamed text encoders are among what is run."""
    from sounding_video.pipeline import load_models

    placement = resolve_placement(device="cpu", offload="auto", storage="auto")
    model = load_models(small_models_dir, placement=resolve_placement(device="cpu"))
    outline = outline_loaded(model.joint, model.video, model.audio)
    candidates = plans(
        lambda storage: outline.stored(storage, torch.float32), STAGE_WORK, replace(placement, device=CUDA)
    )
    rows = benchmark.card_rows(model, STAGE_WORK, candidates, CPU)
    ran = {(row.stage, row.offload, row.storage, row.tiling) for row in rows}
    assert len(ran) == len(rows) and all(row.foretold_bytes > 0 and row.seconds > 0 for row in rows)
    modes = {stage: {(row.offload, row.storage) for row in rows if row.stage == stage} for stage in STAGES}
    assert modes["encode"] == {("none", "native"), *((m, s) for m in OFFLOAD_MODES[1:] for s in ("native", "fp8"))}
    assert modes["sample"] == modes["encode"]
    assert {("decode video", "none", "native", "on"), ("decode video", "model", "native", "on")} < ran
    peaks = {peak.bytes for plan in candidates for peak in plan.stages}
    assert peaks == {row.foretold_bytes for row in rows}, "no plan has a stage that is not measured"
    table = benchmark.report(2, [("none", "encode", 5, 4)], rows, (candidates, Needs(outline, STAGE_WORK)))
    assert sum(line.startswith("| sample |") for line in table.splitlines()) == len(modes["sample"])


@pytest.fixture(scope="module")
def published() -> list[Plan]:
    placement = replace(resolve_placement(device="cpu", dtype="bfloat16", offload="auto"), device=CUDA)
    outline = outline_shapes("wan-1.3b", placement)
    return plans(lambda _: outline, Workload.of(Timeline()), placement)


@PUBLISHED_FIGURES
def test_a_tight_card_streams_and_tiles_and_a_large_one_keeps_everything(published) -> None:
    picks = {size: choose(published, int(size * 1e9), CUDA).plan for size in (7.5, 12, 16, 24, 48)}
    assert [(p.offload, p.text_offload, p.tiling) for p in picks.values()] == [
        ("group", "group", "on"),
        ("model", "group", "off"),
        ("model", "model", "off"),
        ("none", "none", "on"),
        ("none", "none", "off"),
    ]
    assert picks[7.5].peak_bytes < 7.5e9
    peaks = {peak.stage: peak for peak in picks[48].stages}
    assert set(peaks) == {"encode", "sample", "decode video", "decode audio"}
    # All parts in bfloat16, the codecs in float32.
    assert peaks["sample"].weights_bytes == pytest.approx(2 * (1.419 + 1.057 + 0.340 + 5.681 + 0.110) * 1e9, rel=0.08)


def test_the_choice_says_which_and_why(published) -> None:
    choice = choose(published, int(16e9), CUDA)
    assert (
        "offload model, native bfloat16 weights, guidance sequential, picture decoded whole: needs" in choice.sentence
    )
    assert "of 16.0 GB free memory; the next faster plan (offload none" in choice.sentence
    assert required_bytes(choice.plan.peak_bytes, CUDA) <= 16e9


def test_no_plan_fits_says_what_the_smallest_needs(published) -> None:
    with pytest.raises(PlacementError) as caught:
        choose(published, int(1e9), CUDA)
    text = str(caught.value)
    assert "no plan fits the memory of cuda: got 1.0 GB free" in text
    assert "which the smallest plan needs (offload sequential" in text and "stage encode" in text


def test_explicit_words_are_kept(published) -> None:
    placement = replace(resolve_placement(device="cpu", offload="group"), device=CUDA)
    outline = Outline("", without_weights(joint_model()), None, None, None, None, 32, 16)
    work = Workload(VIDEO_LATENT, AUDIO_LATENT)
    assert {(p.offload, p.text_offload) for p in plans(lambda _: outline, work, placement)} == {("group", "group")}
    [plan] = plans(lambda _: outline, work, replace(placement, device=CPU, offload="auto"))
    assert (plan.offload, plan.storage) == ("none", "native")
    open_offload = plans(lambda _: outline, work, replace(placement, offload="auto"), stays=False)
    assert {p.offload for p in open_offload} == {"model", "group", "sequential"}


def test_a_plan_is_one_value_for_people_and_machines() -> None:
    plan = Plan("model", "group", "native", "bfloat16", "auto", "sequential", "on", (StagePeak("sample", 5, 7),), 3)
    assert plan.worst.stage == "sample" and plan.peak_bytes == 12
    told = {"stage": "sample", "weights_bytes": 5, "activation_bytes": 7, "operations": 0}
    assert plan.as_json()["stages"] == (told,)
    assert plan.on(resolve_placement(device="cpu"), "encode").offload == "group"
    assert plan.on(resolve_placement(device="cpu"), "sample").offload == "model"


def test_ways_behind_the_first_that_fits_are_not_counted(small_models_dir: Path, monkeypatch) -> None:
    """A dry run takes seconds of a start: on a roomy device one of sampling and one of decoding are enough."""
    from sounding_video.pipeline import load_models

    model = load_models(small_models_dir, placement=resolve_placement(device="cpu"))
    outline, counted = outline_loaded(model.joint, model.video, model.audio), []
    cost = type(outline).cost

    def watched(self: object, stage: str, work: Workload, *, batched: bool, tiling: str) -> object:
        counted.append((stage, batched, tiling))
        return cost(self, stage, work, batched=batched, tiling=tiling)

    monkeypatch.setattr(type(outline), "cost", watched)
    ways = {"batchings": ("batched", "sequential"), "tilings": ("off", "on")}
    candidates = iter_plans(lambda _: outline, STAGE_WORK, replace(model.placement, offload="auto"), **ways)
    assert choose(candidates, 10**12, CPU).plan.guidance_batching == "batched"
    assert len(counted) == len(STAGES) and all(tiling == "off" for _, _, tiling in counted)
    assert [batched for stage, batched, _ in counted if stage == "sample"] == [True]
    assert len(list(candidates)) == 3 and len(counted) == len(STAGES) + 2
