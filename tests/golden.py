"""Check a directory of golden numbers: ``python tests/golden.py DIR``.

The directory's ``manifest.json`` says what each file holds (sizes, seeds, tolerances); everything here is driven by
it, so other directories of the same format can be checked. Prints ``case  max_abs_error  tolerance  ok|FAIL`` a
line, and exits with 1 when any case fails.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

if importlib.util.find_spec("sounding_video") is None:  # a checkout that is not installed: load it from where it lies
    _root = Path(__file__).resolve().parents[1]
    _spec = importlib.util.spec_from_file_location(
        "sounding_video", _root / "__init__.py", submodule_search_locations=[str(_root)]
    )
    sys.modules["sounding_video"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["sounding_video"])

from sounding_video.core.types import Conditioning, JointLatents, Modality, ModalityConditioning
from sounding_video.models.bridges.base import BridgeInputs
from sounding_video.models.bridges.config import BridgeConfig
from sounding_video.models.joint import BridgePoints, BridgeStack, JointModel
from sounding_video.models.patching import with_tuned_blocks
from sounding_video.models.rope import flat_rope
from sounding_video.models.towers.stable_audio import StableAudioTower
from sounding_video.models.towers.wan import WanTower
from sounding_video.models.weights.bridges import OFFICIAL_KINDS, BridgeOptions, load_bridges
from sounding_video.sampling.guidance import dual_guidance
from sounding_video.sampling.loop import sample
from sounding_video.sampling.noise import draw_noise
from sounding_video.sampling.schedule import build_schedule
from sounding_video.training.objectives import TrainingBatch, add_noise, joint_loss

ONE_ULP = 2.4e-7  # a tolerance of 0.0 in the manifest asks for exact or 1-ulp


@dataclass(frozen=True)
class Case:
    """One compared tensor; ``tolerance`` is absolute."""

    name: str
    error: float
    tolerance: float

    @property
    def ok(self) -> bool:
        return self.error <= self.tolerance


def compare(name: str, ours: Tensor, golden: Tensor, relative: float, absolute: float | None = None) -> Case:
    """Largest deviation; NaN, a wrong shape and a wrong integer all fail."""
    if tuple(ours.shape) != tuple(golden.shape):
        return Case(f"{name} (shape {tuple(ours.shape)} instead of {tuple(golden.shape)})", float("inf"), 0.0)
    if not golden.is_floating_point():
        return Case(name, float((ours.long() - golden.long()).abs().max()) if golden.numel() else 0.0, 0.0)
    ours, wanted = ours.detach().double(), golden.double()
    error = float((ours - wanted).abs().max()) if wanted.numel() else 0.0
    scale = float(wanted.abs().max()) if wanted.numel() else 0.0
    tolerance = absolute if absolute is not None else (relative or ONE_ULP) * scale
    return Case(name, float("inf") if error != error else error, tolerance)


class Golden:
    """A golden directory: its manifest, its files and the small models in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.manifest = json.loads((root / "manifest.json").read_text(encoding="utf-8"))
        self.config = self.manifest["config"]

    @property
    def files(self) -> dict[str, dict[str, Any]]:
        return self.manifest["files"]

    def tensors(self, name: str) -> dict[str, Tensor]:
        return load_file(self.root / name)

    def tolerance(self, name: str) -> float:
        return float(self.files[name].get("tolerance_rel_to_max", 0.0))

    @cached_property
    def wan(self) -> torch.nn.Module:
        from diffusers import WanTransformer3DModel

        return WanTransformer3DModel.from_pretrained(self.root / "hf/wan/transformer").eval()

    @cached_property
    def audio(self) -> torch.nn.Module:
        from diffusers import StableAudioDiTModel

        return StableAudioDiTModel.from_pretrained(self.root / "hf/sao/transformer").eval()

    @property
    def points(self) -> BridgePoints:
        return BridgePoints(tuple(self.config["video_bridge_points"]), tuple(self.config["audio_bridge_points"]))

    @property
    def joint_config(self) -> BridgeConfig:
        return bridge_config(self.config["bridge"])

    def joint(self, official_kind: str | None) -> JointModel:
        """The base towers with the golden bridges of one kind, or none."""
        stack = None
        if official_kind is not None:
            stack = BridgeStack(OFFICIAL_KINDS[official_kind], self.joint_config, self.points)
            weights = "joint/bridges_add.safetensors" if official_kind == "add" else "joint/bridges_attn.safetensors"
            stack.load_state_dict(self.tensors(weights), strict=True)
        return JointModel(WanTower(self.wan), StableAudioTower(self.audio), stack).eval()


def bridge_config(values: dict[str, int]) -> BridgeConfig:
    return BridgeConfig(
        video_width=values["num_input_channels_1"],
        audio_width=values["num_input_channels_2"],
        qk_width=values["num_qk_channels"],
        v_width=values["num_v_channels"],
        num_heads=values["num_heads"],
        video_time_width=values["t_emb_dim_1"],
        audio_time_width=values["t_emb_dim_2"],
    )


def joint_inputs(case: dict[str, Tensor], count: int | None = None) -> tuple[Modality, Modality]:
    """``in.*`` of a joint or checkpoint case; ``count=1`` shares the first timestep over the batch."""
    return (
        Modality(case["in.video_latents"], case["in.t_video"][:count], case["in.video_text"]),
        Modality(case["in.audio_latents"], case["in.t_audio"][:count], case["in.audio_text"], case["in.global"]),
    )


@torch.no_grad()
def check_bridge(golden: Golden) -> Iterator[Case]:
    """``bridge/``: one block of every kind, alone."""
    name = "bridge/cases.safetensors"
    data, tolerance = golden.tensors(name), golden.tolerance(name)
    config = bridge_config(golden.files[name]["config"])
    ropes = {key: (data[f"{key}.cos"], data[f"{key}.sin"]) for key in ("rope_1", "rope_2", "rope_concat")}
    lengths = (data["in.x_1"].shape[1], data["in.x_2"].shape[1])
    for index, length in ((1, lengths[0]), (2, lengths[1])):
        for part, table in zip(("cos", "sin"), flat_rope(config.head_width, length), strict=True):
            yield compare(f"bridge rope_{index}.{part}", table, data[f"rope_{index}.{part}"], 0.0)
    for case in sorted({key.rsplit(".", 1)[0] for key in data if key.endswith((".out_1", ".out_2"))}):
        kind, _, variant = case.partition(".")
        stack = BridgeStack(OFFICIAL_KINDS[kind], config, BridgePoints((0,), (0,)))
        weights = golden.tensors(f"bridge/weights_{'add' if kind == 'add' else 'attn'}.safetensors")
        block = stack[0].eval()
        block.load_state_dict(weights, strict=True)
        scale = 1.5e-3 if variant == "small" else 1.0
        rope_1, rope_2 = ropes["rope_1"], ropes["rope_2"]
        if variant == "concat_rope":
            rope_1, rope_2 = zip(*(table.split(lengths) for table in ropes["rope_concat"]), strict=True)
        audio_time = data["in.emb_2_broadcast"] if variant == "bcast" else data["in.emb_2"]
        x_1, x_2 = data["in.x_1"] * scale, data["in.x_2"] * scale
        if variant == "attn_only":
            out = block.cross(x_1, x_2, rope_1, rope_2)
        else:
            out = block(BridgeInputs(x_1, x_2, data["in.emb_1"], audio_time, rope_1, rope_2))
        for stream in (1, 2):
            yield compare(f"bridge {case}.out_{stream}", out[stream - 1], data[f"{case}.out_{stream}"], tolerance)


@torch.no_grad()
def check_rope(golden: Golden) -> Iterator[Case]:
    """``rope/``: rows of the tables at full size."""
    name = "rope/real_size.safetensors"
    data, tolerance = golden.tensors(name), golden.tolerance(name)
    rows, audio_rows = data["rows"], data["audio_rows"]
    for part, table in zip(("cos", "sin"), flat_rope(data["bridge.cos"].shape[1], int(rows.max()) + 1), strict=True):
        yield compare(f"rope bridge.{part}", table[rows], data[f"bridge.{part}"], tolerance)
    from diffusers import StableAudioDiTModel, WanTransformer3DModel

    width = data["audio_tower.cos"].shape[1]
    audio = StableAudioTower(
        StableAudioDiTModel(
            num_layers=1,
            attention_head_dim=2 * width,
            num_attention_heads=1,
            num_key_value_attention_heads=1,
            cross_attention_dim=2 * width,
        )
    )
    for part, table in zip(("cos", "sin"), audio.rotary(int(audio_rows.max()) + 1, torch.device("cpu")), strict=True):
        yield compare(f"rope audio_tower.{part}", table[audio_rows], data[f"audio_tower.{part}"], tolerance)
    head_width = 2 * data["wan_tower.real"].shape[1]
    wan = WanTransformer3DModel(
        num_attention_heads=1,
        attention_head_dim=head_width,
        ffn_dim=8,
        num_layers=1,
        in_channels=1,
        text_dim=8,
        freq_dim=8,
    )
    cos, sin = wan.rope(torch.zeros(1, 1, 21, 60, 104))  # the published clip: 21 x 30 x 52 tokens
    for part, table, wanted in (("real", cos, data["wan_tower.real"]), ("imag", sin, data["wan_tower.imag"])):
        ours = table[0, rows, 0, ::2]
        yield compare(
            f"rope wan_tower.{part}", ours, wanted, 1e-6
        )  # stock Wan keeps float32 tables, the golden is float64


@torch.no_grad()
def check_joint(golden: Golden) -> Iterator[Case]:
    """``joint/``: one joint forward of every kind, and what stands around each bridge."""
    name = "joint/cases.safetensors"
    data, tolerance = golden.tensors(name), golden.tolerance(name)
    kinds = sorted(
        {key.split(".")[0] for key in data if key.endswith(("out_video", "out_audio")) and ".tap." not in key}
    )
    for kind in kinds:
        model = golden.joint(None if kind == "towers_only" else kind)
        taps = tap_bridges(model)
        for variant, count in (("", None), (".shared_t", 1)):
            if f"{kind}{variant}.out_video" not in data:
                continue
            out = model(*joint_inputs(data, count))
            if not variant:
                recorded = dict(taps)
            for side, tensor in zip(("video", "audio"), out, strict=True):
                yield compare(
                    f"joint {kind}{variant}.out_{side}", tensor, data[f"{kind}{variant}.out_{side}"], tolerance
                )
        for key in sorted(key for key in data if key.startswith(f"{kind}.tap.")):
            yield compare(f"joint {key}", recorded[key.removeprefix(f"{kind}.tap.")], data[key], tolerance)
    if "joint/bf16_case.safetensors" in golden.files:
        yield from check_bf16(golden, data)


def tap_bridges(model: JointModel) -> dict[str, Tensor]:
    """Record each bridge's inputs and outputs of the last forward."""
    taps: dict[str, Tensor] = {}

    def record(index: int) -> Callable[..., None]:
        def hook(module: torch.nn.Module, args: tuple[BridgeInputs], out: tuple[Tensor, Tensor]) -> None:
            x = args[0]
            taps.update(
                {
                    f"bridge{index}.in_video": x.video,
                    f"bridge{index}.in_audio": x.audio,
                    f"bridge{index}.temb_video": x.video_time,
                    f"bridge{index}.temb_audio": x.audio_time,
                    f"bridge{index}.out_video": out[0],
                    f"bridge{index}.out_audio": out[1],
                }
            )

        return hook

    for index, bridge in enumerate(model.bridges or ()):
        bridge.register_forward_hook(record(index))
    return taps


def check_bf16(golden: Golden, data: dict[str, Tensor]) -> Iterator[Case]:
    """The official rounding: everything bfloat16, also what diffusers would keep in float32."""
    import copy

    name = "joint/bf16_case.safetensors"
    wanted, tolerance = golden.tensors(name), golden.tolerance(name)
    model = copy.deepcopy(golden.joint("bicross"))
    for module in (model.video.model, model.audio.model, model.bridges):
        torch.nn.Module.to(module, torch.bfloat16)
    inputs = {k: v.to(torch.bfloat16) if v.is_floating_point() else v for k, v in data.items() if k.startswith("in.")}
    out = model(*joint_inputs(inputs))
    for side, tensor in zip(("video", "audio"), out, strict=True):
        yield compare(f"joint bf16.out_{side}", tensor.float(), wanted[f"out_{side}"].float(), tolerance)


@torch.no_grad()
def check_text(golden: Golden) -> Iterator[Case]:
    """``text/``: tokens, embeddings, durations."""
    from diffusers import StableAudioProjectionModel
    from sounding_video.models.conditioning import encode_audio, encode_video
    from sounding_video.models.text.t5 import T5TextEncoder
    from sounding_video.models.text.umt5 import UMT5TextEncoder
    from transformers import AutoTokenizer, T5EncoderModel, UMT5EncoderModel

    name = "text/cases.safetensors"
    data, tolerance, entry = golden.tensors(name), golden.tolerance(name), golden.files[name]
    prompts, hf = entry["prompts"], golden.root / "hf"
    video = UMT5TextEncoder(
        AutoTokenizer.from_pretrained(hf / "wan/tokenizer"),
        UMT5EncoderModel.from_pretrained(hf / "wan/text_encoder").eval(),
        max_length=entry["video_max_length"],
    )
    audio = T5TextEncoder(
        AutoTokenizer.from_pretrained(hf / "sao/tokenizer"),
        T5EncoderModel.from_pretrained(hf / "sao/text_encoder").eval(),
        StableAudioProjectionModel.from_pretrained(hf / "sao/projection_model").eval(),
    )
    for key, text in (("prompt", prompts["prompt_v"]), ("negative", prompts["neg_v"]), ("empty", "")):
        ids, mask = video.tokenize([text])
        yield compare(f"text video.{key}.input_ids", ids, data[f"video.{key}.input_ids"], 0.0)
        yield compare(f"text video.{key}.attention_mask", mask, data[f"video.{key}.attention_mask"], 0.0)
        yield compare(f"text video.{key}_embeds", video.encode([text]), data[f"video.{key}_embeds"], tolerance)
    for key, text in (("prompt", prompts["prompt_a"]), ("negative", prompts["neg_a"])):
        ids, mask = audio.tokenize([text])
        yield compare(f"text audio.{key}.input_ids", ids, data[f"audio.{key}.input_ids"], 0.0)
        yield compare(f"text audio.{key}.attention_mask", mask, data[f"audio.{key}.attention_mask"], 0.0)
    seconds = entry["audio_end_in_s"]
    sound = encode_audio(audio, prompts["prompt_a"], prompts["neg_a"], seconds=seconds)
    picture = encode_video(video, prompts["prompt_v"], prompts["neg_v"])
    yield compare("text conditioning.video.positive", picture.positive, data["video.prompt_embeds"], tolerance)
    yield compare("text conditioning.video.negative", picture.negative, data["video.negative_embeds"], tolerance)
    yield compare(
        "text audio.cfg_embeds", torch.cat([sound.negative, sound.positive]), data["audio.cfg_embeds"], tolerance
    )
    yield compare(
        "text audio.nocfg_embeds",
        audio.encode([prompts["prompt_a"], prompts["neg_a"]]),
        data["audio.nocfg_embeds"],
        tolerance,
    )
    rows = data["audio.global"].shape[0]
    yield compare("text audio.global", sound.duration.expand(rows, -1, -1), data["audio.global"], tolerance)
    tokens = audio.duration_tokens(0.0, seconds, rows)
    for index, key in enumerate(("seconds_start", "seconds_end")):
        yield compare(f"text audio.{key}", tokens[:, index : index + 1], data[f"audio.{key}"], tolerance)


def flow_sigmas_of(name: str) -> str:
    return "diffusers-0.36" if "036" in name else "diffusers-0.37"


def check_schedules(golden: Golden) -> Iterator[Case]:
    """``sampling/schedules``: timesteps exact, sigmas to 1e-6."""
    data = golden.tensors("sampling/schedules.safetensors")
    for key in sorted(data):
        if key == "audio.init_noise_sigma":
            solver = build_schedule("lockstep", 6).audio.start()
            yield compare(
                "schedule audio.init_noise_sigma",
                torch.tensor(float(solver.init_noise_sigma)).double(),
                data[key],
                1e-6,
            )
            continue
        side, steps, field = key.split(".")
        schedule = build_schedule("lockstep", int(steps), flow_sigmas=flow_sigmas_of(side))
        plan = schedule.audio if side == "audio" else schedule.video
        ours = plan.sigmas if field == "sigmas" else plan.timesteps
        exact = field == "timesteps"
        yield compare(f"schedule {key}", ours, data[key], 0.0, None if exact else 1e-6)


@torch.no_grad()
def check_sampling(golden: Golden, name: str) -> Iterator[Case]:
    """``sampling/{kind}_{n}steps[_sched036]``: the whole loop, step by step."""
    data, tolerance, entry = golden.tensors(name), golden.tolerance(name), golden.files[name]
    short = Path(name).stem
    match = re.match(r"(.+)_(\d+)steps", short)
    model = golden.joint(match.group(1))
    conditioning = golden_conditioning(golden, data)
    seed = int(entry["seed"])
    noise = draw_noise(
        seed, video_shape=tuple(data["init.video_noise"].shape), audio_shape=tuple(data["init.audio_noise"].shape)
    )
    yield compare(f"{short} init.audio_noise", noise.audio, data["init.audio_noise"], 0.0)
    yield compare(f"{short} init.video_noise", noise.video, data["init.video_noise"], 0.0)
    calls: list[dict[str, Tensor]] = []

    def record(video: Modality, audio: Modality) -> tuple[Tensor, Tensor]:
        out = model(video, audio)
        calls.append(
            {
                "in_video": video.latents[:1],
                "in_audio": audio.latents[:1],
                "t_video": video.timestep[:1],
                "t_audio": audio.timestep[:1],
                "pred_video": out[0],
                "pred_audio": out[1],
            }
        )
        return out

    steps: list[JointLatents] = []
    final = sample(
        record,
        conditioning,
        noise,
        schedule=build_schedule("lockstep", int(entry["steps"]), flow_sigmas=flow_sigmas_of(short)),
        guidance=dual_guidance(float(entry["v_scale"]), float(entry["a_scale"]), "batched"),
        seed=seed,
        on_step=lambda index, latents: steps.append(latents),
    )
    for key in sorted(data):
        step = re.match(r"step(\d+)\.(\w+)$", key)
        if step is None:
            continue
        index, field = int(step.group(1)), step.group(2)
        ours = (
            getattr(steps[index], field.removeprefix("latent_")) if field.startswith("latent_") else calls[index][field]
        )
        yield compare(f"{short} {key}", ours.reshape(data[key].shape), data[key], tolerance)
    yield compare(f"{short} final.video_latent", final.video, data["final.video_latent"], tolerance)
    yield compare(f"{short} final.audio_latent", final.audio, data["final.audio_latent"], tolerance)
    if "decoded.video" in data:
        yield from check_decoded(golden, short, final, data)


def golden_conditioning(golden: Golden, data: dict[str, Tensor]) -> Conditioning:
    """The conditioning of a sampling case: stored with it, or that of the text cases (same prompts)."""
    if "cond.video_text" in data:
        video, audio, duration = data["cond.video_text"], data["cond.audio_text"], data["cond.global"]
    else:
        text = golden.tensors("text/cases.safetensors")
        video = torch.cat([text["video.negative_embeds"], text["video.prompt_embeds"]])
        audio, duration = text["audio.cfg_embeds"], text["audio.global"]
    return Conditioning(
        ModalityConditioning(video[1:2], video[0:1]), ModalityConditioning(audio[1:2], audio[0:1], duration[1:2])
    )


def check_decoded(golden: Golden, short: str, final: JointLatents, data: dict[str, Tensor]) -> Iterator[Case]:
    """Both codecs on the sampled latents."""
    from diffusers import AutoencoderKLWan, AutoencoderOobleck
    from sounding_video.models.codecs.oobleck import OobleckCodec
    from sounding_video.models.codecs.wan_vae import WanVAECodec

    hf = golden.root / "hf"
    frames = WanVAECodec(AutoencoderKLWan.from_pretrained(hf / "wan/vae").eval()).decode(final.video)
    waveform = OobleckCodec(AutoencoderOobleck.from_pretrained(hf / "sao/vae").eval()).decode(final.audio)
    yield compare(f"{short} decoded.video", frames[None], data["decoded.video"], 0.0, 2e-3)
    # Relative to the peak, like every tolerance of the manifest but the picture's: the tiny codec amplifies rounding.
    yield compare(f"{short} decoded.audio", waveform[None], data["decoded.audio"], 5e-3)


def check_training(golden: Golden, name: str) -> Iterator[Case]:
    """``training/{kind}``: one step's losses and gradients, as the official objective computes them."""
    data, tolerance = golden.tensors(name), golden.tolerance(name)
    kind = Path(name).stem
    model = golden.joint(kind).train()
    trainable = {f"dual_dit_blocks.{n}": p for n, p in model.bridges.named_parameters()}
    for prefix, tower, count in (
        ("video_diffusion", model.video, golden.config["video_train_num"]),
        ("audio_diffusion", model.audio, golden.config["audio_train_num"]),
    ):
        tower.model.requires_grad_(False)
        for index in range(count):
            for n, p in tower.blocks[index].named_parameters():
                trainable[f"{prefix}.{tower.block_names}.{index}.{n}"] = p
    for parameter in trainable.values():
        parameter.requires_grad_(True).grad = None
    batch = TrainingBatch(*(data[k] for k in ("video_latents", "audio_latents", "video_text", "audio_text", "global")))
    noisy = add_noise(
        batch, t=data["t"], video_noise=data["video_noise"], audio_noise=data["audio_noise"], reading="official"
    )
    predictions: list[tuple[Tensor, Tensor]] = []

    def record(video: Modality, audio: Modality) -> tuple[Tensor, Tensor]:
        predictions.append(model(video, audio))
        return predictions[-1]

    loss = joint_loss(record, noisy)
    loss.total.backward()
    ours = {
        "loss": loss.total,
        "loss_video": loss.video,
        "loss_audio": loss.audio,
        "fw.video_noisy": noisy.video.latents,
        "fw.audio_noisy": noisy.audio.latents,
        "fw.t_video": noisy.video.timestep,
        "fw.t_audio": noisy.audio.timestep,
        "fw.pred_video": predictions[0][0],
        "fw.pred_audio": predictions[0][1],
        **{f"grad.{n}": p.grad for n, p in trainable.items()},
    }
    for key in sorted(k for k in data if k in ours):
        strict = key.startswith(("loss", "fw."))
        yield compare(f"training {kind} {key}", ours[key], data[key], min(tolerance, 1e-4) if strict else tolerance)
    norms = json.loads((golden.root / f"training/{kind}_gradnorms.json").read_text(encoding="utf-8"))["full"]
    for key, wanted in norms.items():
        norm = trainable[key].grad.norm() if trainable[key].grad is not None else torch.tensor(float("nan"))
        yield compare(
            f"training {kind} gradnorm {key}",
            norm.reshape(1),
            torch.tensor([wanted]),
            tolerance,
            max(tolerance * wanted, 1e-7),
        )
    model.requires_grad_(False).eval()


@torch.no_grad()
def check_checkpoint(golden: Golden) -> Iterator[Case]:
    """``checkpoint/``: the authors' two file layouts, fine-tuned tower blocks included."""
    name = "checkpoint/cases.safetensors"
    data, tolerance = golden.tensors(name), golden.tolerance(name)
    root = golden.root / "checkpoint"
    lightning = sorted(root.glob("*.ckpt"))[0]
    deepspeed = sorted(root.glob("deepspeed/**/*model_states.pt"))[0]
    for case in sorted({key.split(".")[0] for key in data if not key.startswith("in.")}):
        if case == "base":
            model = golden.joint("bicross")
        else:
            model = from_checkpoint(golden, deepspeed if case.startswith("deepspeed") else lightning, case)
        for side, tensor in zip(("video", "audio"), model(*joint_inputs(data)), strict=True):
            yield compare(f"checkpoint {case}.out_{side}", tensor, data[f"{case}.out_{side}"], tolerance)


def from_checkpoint(golden: Golden, path: Path, case: str) -> JointModel:
    """Load a checkpoint the way the product does; the kind is what the case was run with."""
    kind = case.partition("_loaded_as_")[2] or "bicross"
    options = BridgeOptions(
        fusion=kind,
        num_heads=golden.config["bridge"]["num_heads"],
        points=golden.points,
        tuned_blocks=(golden.config["video_train_num"], golden.config["audio_train_num"]),
    )
    loaded = load_bridges(path, options)
    video = with_tuned_blocks(WanTower(golden.wan), loaded.tower_weights.get("video", {}))
    audio = with_tuned_blocks(StableAudioTower(golden.audio), loaded.tower_weights.get("audio", {}))
    return JointModel(video, audio, loaded.stack.float()).eval()


def all_cases(golden: Golden) -> Iterator[Case]:
    """Every case the manifest names."""
    sections: list[tuple[str, Callable[[Golden], Iterator[Case]]]] = [
        ("bridge/cases.safetensors", check_bridge),
        ("rope/real_size.safetensors", check_rope),
        ("joint/cases.safetensors", check_joint),
        ("text/cases.safetensors", check_text),
        ("sampling/schedules.safetensors", check_schedules),
        ("checkpoint/cases.safetensors", check_checkpoint),
    ]
    for name, check in sections:
        if name in golden.files:
            yield from check(golden)
    for name in sorted(golden.files):
        if re.match(r"sampling/.+_\d+steps.*\.safetensors$", name):
            yield from check_sampling(golden, name)
        elif re.match(r"training/[^/]+\.safetensors$", name):
            yield from check_training(golden, name)


def main(argv: list[str] | None = None) -> int:
    """Run every case; 0 when all pass, 1 when any fails, 2 without a golden directory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="a folder with manifest.json")
    parser.add_argument("--failures", action="store_true", help="print failing cases only")
    args = parser.parse_args(argv)
    if not (args.directory / "manifest.json").is_file():
        print(f"golden.py: no manifest.json in {args.directory}", file=sys.stderr)
        return 2
    cases = []
    for case in all_cases(Golden(args.directory)):
        cases.append(case)
        if not (args.failures and case.ok):
            print(f"{case.name}  {case.error:.3e}  {case.tolerance:.3e}  {'ok' if case.ok else 'FAIL'}")
    failed = [case for case in cases if not case.ok]
    print(f"{len(cases) - len(failed)} of {len(cases)} cases pass")
    return 1 if failed or not cases else 0


if __name__ == "__main__":
    sys.exit(main())
