"""A training run of a benchmark, from its beginning or on from its last checkpoint."""

from __future__ import annotations

from pathlib import Path

from sounding_video.cli.bar import StageBars
from sounding_video.cli.train import finish_the_step
from sounding_video.core.progress import Progress
from sounding_video.training.checkpoint import latest_checkpoint, step_of
from sounding_video.training.config import TrainConfig
from sounding_video.training.trainer import TrainReport, train


def is_done(folder: Path, num_steps: int) -> bool:
    """Whether a run has reached its last step, without opening it."""
    checkpoint = latest_checkpoint(folder)
    return checkpoint is not None and step_of(checkpoint) >= num_steps


def train_on(config: TrainConfig, folder: Path) -> TrainReport:
    """Train with bars; Ctrl-C ends the running step and writes a checkpoint. What was done is told in one line.

    Args:
        config: Of the run.
        folder: Where its state lies.
    """
    bars = StageBars()
    try:
        with finish_the_step() as check_cancelled:
            report = train(
                config,
                folder,
                resume=latest_checkpoint(folder) is not None,
                progress=Progress(bars.report, check_cancelled),
            )
    finally:
        bars.close()
    print(f"{config.recipe}: {report.num_steps} steps, {report.seconds_per_step:.2f} s a step, {report.losses}")
    return report
