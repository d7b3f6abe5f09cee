"""The row of training: a step in which the bridges learn, as the recipe ``bridgedit`` runs it."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping

import torch
from card_bench import Bench, Measured
from sounding_video.core.device import Placement
from sounding_video.core.pair import Pair
from sounding_video.models.parts import AudioParts, VideoParts
from sounding_video.models.plan.training import training_needs
from sounding_video.training.recipes import recipe
from sounding_video.training.tasks import TRAINING_TASKS
from sounding_video.training.trainable import select
from torch import Tensor, nn


def training_step(bench: Bench) -> Measured:
    """Forward, backward and the optimizer's step of one clip: float32 weights, bfloat16 passes, checkpointing."""
    row = row_of(bench)
    with bench.aside():
        planned = bridges_step(bench, (bench.outlined or bench.model).sides)
        empty = {name: torch.empty(size, device="meta") for name, size in row.items()}
        foretold = training_needs(planned, empty, batch_size=1, device=bench.device, averaged=False).peak_bytes
    bench.only()
    bench.require(foretold)
    bench.only(bench.model.joint.video)
    base = bench.stock()
    bench.only()
    step = (bridges_step(bench, bench.model.sides) if bench.outlined else planned).to(bench.device)
    bench.meter.start()
    seconds = run_steps(bench, step, row)
    peak = bench.meter.peak()
    step.to("cpu")
    return Measured(seconds, seconds / base, peak, foretold, "beside a stock forward in the type of sampling")


def bridges_step(bench: Bench, sides: Pair[VideoParts | AudioParts]) -> nn.Module:
    """What the recipe trains, of its own towers in float32."""
    stack = bench.model.joint.bridges
    config = recipe(
        "bridgedit",
        [
            "trainable=bridges",
            f"bridges.kind={stack.kind}",
            f"bridges.qk_width={stack.config.qk_width}",
            f"bridges.num_heads={stack.config.num_heads}",
            f"bridges.video_points={','.join(map(str, stack.points.video))}",
            f"bridges.audio_points={','.join(map(str, stack.points.audio))}",
        ],
    )
    task = TRAINING_TASKS.get(config.task)(config)
    rest = {"codec": None, "text": None, "placement": Placement(torch.device("cpu"), torch.float32), "name": ""}
    kinds = {"video": VideoParts, "audio": AudioParts}
    towers = {side: type(one.tower)(copy.deepcopy(one.tower.model).float()) for side, one in sides.present.items()}
    step = task.make_step(Pair(**{side: kinds[side](tower, **rest) for side, tower in towers.items()}), bench.timeline)
    select(config.trainable, step, task.parts(step))
    for parameter in task.idle(step):
        parameter.requires_grad_(False)
    return step.train()


def row_of(bench: Bench) -> dict[str, tuple[int, ...]]:
    """Shapes of one clip's tensors, without the batch."""
    texts = bench.texts()
    row: dict[str, tuple[int, ...]] = {"t": (), "duration": tuple(texts.audio.duration.shape[1:])}
    for side, text in Pair.of(texts).present.items():
        shape = tuple(bench.shapes[side][1:])
        row |= {f"{side}_latents": shape, f"{side}_noise": shape, f"{side}_text": tuple(text.positive.shape[1:])}
    return row


def run_steps(bench: Bench, step: nn.Module, row: Mapping[str, tuple[int, ...]], count: int = 2) -> float:
    """Seconds of the last of some steps."""
    learning = [parameter for parameter in step.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning, foreach=bench.device.type != "cpu")
    seconds = 0.0
    for _ in range(count):
        bench.clock.check()
        batch: dict[str, Tensor] = {name: torch.rand((1, *size), device=bench.device) for name, size in row.items()}
        bench.meter.wait()
        started = time.perf_counter()
        loss = step(batch)["total"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        bench.meter.wait()
        seconds = time.perf_counter() - started
    return seconds
