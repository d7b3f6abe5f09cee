"""What tests of training share: a recipe of every task, a run's first batch, its command line, and its death."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from sounding_video.core.progress import SILENT
from sounding_video.training.assembly import Workbench, build_workbench
from sounding_video.training.batches import Batch, Batches, Share
from sounding_video.training.config import TrainConfig
from sounding_video.training.recipes import RECIPES, recipe

# A recipe of every task that needs no clips from disk: the plain one, whose name comes first.
RECIPE_OF = {recipe(name).task: name for name in reversed(RECIPES.names()) if recipe(name).data.source == "world"}

# What makes a recipe a run on the small random models.
SMALL = (
    "models.text_length=16", "bridges.video_points=0,1", "bridges.audio_points=0,1", "bridges.qk_width=16",
    "bridges.num_heads=2", "data.num_frames=9", "data.width=32", "data.height=32", "data.num_clips=4",
    "data.scenes=ball", "saving.plot=false", "device=cpu", "batch_size=2", "num_steps=4", "optimizer.lr=0.01",
    "optimizer.warmup_steps=2", "data.sound_latents=encoded", "data.expanded_share=0", "objective.codes=learned",
    "objective.times=shared", "bridges.gate_bias=0", "bridges.moment_bias=0",
)  # fmt: skip


def bench_of(config: TrainConfig) -> tuple[Workbench, Batch]:
    """A run before its first step, and the first two clips."""
    bench = build_workbench(config, Path(config.models.root))
    batches = Batches(config, bench, Path(config.data.cache))
    batches.prepare(torch.device("cpu"), Share(), SILENT)
    return bench, batches.at(0, 2)


def command_line(config: TrainConfig) -> list[str]:
    """The command line that makes this configuration from its recipe."""
    flat = []
    for key, value in config.as_dict().items():
        for name, item in value.items() if isinstance(value, dict) else [("", value)]:
            text = ",".join(map(str, item)) if isinstance(item, list) else str(item)
            flat.append(f"{key}.{name}={text}" if name else f"{key}={text}")
    return ["train", config.recipe, *(item for item in flat if not item.startswith("recipe="))]


class Died(BaseException):
    """What nobody catches."""


def dying_at(step: int) -> Callable[..., None]:
    """A report of progress with which a run dies after a step."""

    def report(stage: str, done: int, total: int, preview: object = None) -> None:
        if (stage, done) == ("train", step):
            raise Died

    return report
