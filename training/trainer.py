"""The training loop, on accelerate: one process, many cards, FSDP or DeepSpeed by how it is launched.

A run's folder: ``config.json``, ``loss.jsonl``, ``loss.png``, ``checkpoints/step-…``, ``cache/``, and ``models/`` where
earlier runs were laid over the base models.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedType
from accelerate.utils import DistributedDataParallelKwargs, gather_object
from torch import Tensor

from ..core.disk import user_path
from ..core.errors import Cancelled, InputError, NonFiniteError
from ..core.optional import require
from ..core.progress import SILENT, Progress
from .assembly import Workbench, build_workbench, write_export
from .average import MovingAverage
from .batches import Batch, Batches, Share
from .checkpoint import (
    TrainState,
    held,
    latest_checkpoint,
    load_checkpoint,
    optimizer_tensors,
    restore,
    save_checkpoint,
)
from .config import TrainConfig
from .log import LOSS_LOG, LOSS_PICTURE, append_log, cut_log, plot_log
from .randomness import derived_seed
from .room import foretell
from .run_folder import find_start, model_folder, run_folder
from .schedule import learning_rate
from .tasks import TRAINING_TASKS
from .tasks.base import TrainingTask

SHARDED = (DistributedType.FSDP, DistributedType.DEEPSPEED)


@dataclass(frozen=True)
class TrainReport:
    """What a finished run leaves.

    Args:
        output: Its folder.
        checkpoint: The last one.
        num_steps: Finished steps.
        losses: Of the last step, by name.
        seconds_per_step: Mean over this call's steps; 0 when there was none to do.
        num_trainable: Trained parameters.
    """

    output: Path
    checkpoint: Path
    num_steps: int
    losses: dict[str, float]
    seconds_per_step: float
    num_trainable: int


def train(config: TrainConfig, output: str | Path, *, resume: bool = False, progress: Progress = SILENT) -> TrainReport:
    """Run a configuration from its beginning, or on from its last checkpoint.

    Args:
        config: What to do.
        output: The run's folder.
        resume: Go on from the last checkpoint there; the configuration must be the same.
        progress: Stages ``clips``, ``latents``, ``… texts`` and ``train``; a stop during ``train`` writes a checkpoint.

    Raises:
        InputError: the folder holds a run (or none, with ``resume``), or another configuration.
        NonFiniteError: a loss or gradient is NaN or infinite; names the step and the clips.
        PlacementError: a step does not fit the card's memory.
        Cancelled: the user stopped it.
    """
    output = user_path(output)
    if config.saving.plot:
        require("matplotlib", "drawing the loss curve (saving.plot)")
    alternates = _task_of(config).alternates
    accelerator = Accelerator(
        cpu=config.device == "cpu", gradient_accumulation_steps=config.accumulation,
        step_scheduler_with_optimizer=False,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)] if alternates else None,
    )  # fmt: skip
    _require_supported(config, accelerator)
    with held(output) if accelerator.is_main_process else nullcontext():
        start = find_start(config, output, resume)
        return _train(config, output, start, accelerator, progress)


def _train(
    config: TrainConfig, output: Path, start: Path | None, accelerator: Accelerator, progress: Progress
) -> TrainReport:
    models = model_folder(config, output, _task_of(config), accelerator)
    bench = build_workbench(config, models)
    cache = user_path(config.data.cache) if config.data.cache else output / "cache"
    batches = Batches(config, bench, cache)
    with run_folder(config, output) if accelerator.is_main_process else nullcontext():
        share = Share(accelerator.process_index, accelerator.num_processes, accelerator.wait_for_everyone)
        if accelerator.device.type != "cpu" and accelerator.distributed_type not in SHARDED:
            told = foretell(bench, batches.samples, config, accelerator.device, accelerator.num_processes)
            progress.tell(told)
        batches.prepare(accelerator.device, share, progress)
        run = _Run(config, output, accelerator, bench, batches)
        run.restore(start)
        # Every step seeds the global generator; the caller's is given back.
        with torch.random.fork_rng(devices=[]):
            return run.loop(progress)


def _require_supported(config: TrainConfig, accelerator: Accelerator) -> None:
    if accelerator.distributed_type in SHARDED and config.optimizer.ema_decay:
        raise InputError(
            "the moving average needs whole weights, which FSDP and DeepSpeed do not keep",
            got=f"optimizer.ema_decay={config.optimizer.ema_decay}",
            expected="optimizer.ema_decay=0 under FSDP and DeepSpeed",
        )
    if accelerator.distributed_type in SHARDED and _task_of(config).alternates:
        raise InputError(
            "parts that learn in turn need whole weights, which FSDP and DeepSpeed do not keep",
            got=f"trainable={','.join(config.trainable)}",
            expected="one process, or several without sharding (multi_gpu)",
        )


def _task_of(config: TrainConfig) -> TrainingTask:
    return TRAINING_TASKS.get(config.task)(config)


class _Run:
    """The state of one loop."""

    def __init__(
        self, config: TrainConfig, output: Path, accelerator: Accelerator, bench: Workbench, batches: Batches
    ) -> None:
        self.config, self.output, self.accelerator = config, output, accelerator
        self.bench, self.batches = bench, batches
        self.parameters, self.step = bench.parameters, 0
        self.unfed = set(self.parameters)  # whose first turn has not been
        optimizer = torch.optim.AdamW(
            self.parameters.values(),
            lr=config.optimizer.lr,
            betas=config.optimizer.betas,
            eps=config.optimizer.eps,
            weight_decay=config.optimizer.weight_decay,
        )
        if accelerator.distributed_type == DistributedType.DEEPSPEED:
            accelerator.state.deepspeed_plugin.deepspeed_config["train_micro_batch_size_per_gpu"] = config.batch_size
        self.model, self.optimizer = accelerator.prepare(bench.step, optimizer)
        self.sharded = accelerator.distributed_type in SHARDED
        decay = config.optimizer.ema_decay
        self.average = MovingAverage(self.parameters, decay) if decay else None

    def restore(self, start: Path | None) -> None:
        """Go on from a checkpoint."""
        log = self.output / LOSS_LOG
        if start is None:
            if self.accelerator.is_main_process:
                log.unlink(missing_ok=True)
            return
        state = load_checkpoint(start)
        if state.data != self.batches.digest:
            raise InputError(
                "the clips are not those that the run began with",
                got=f"data hash {self.batches.digest}",
                expected=f"{state.data}, as in {start / 'state.json'}",
                remedy="Bring back the same files and the same version of the world, or start a new --output.",
            )
        if self.sharded:
            self.accelerator.load_state(str(start / "accelerate"))
        else:
            restore(state, self.parameters, self._plain_optimizer(), start)
        if self.average is not None:
            self.average.load(state.average)
        self.step = state.step
        if self.accelerator.is_main_process:
            cut_log(log, state.step)

    def _plain_optimizer(self) -> torch.optim.Optimizer:
        return self.optimizer.optimizer

    def loop(self, progress: Progress) -> TrainReport:
        """Every step that is left."""
        first, started, losses = self.step, time.monotonic(), {}
        saved = latest_checkpoint(self.output)
        while self.step < self.config.num_steps:
            stop = _wants_to_stop(progress)
            began = time.monotonic()
            row = self._optimize(stop)
            if row is None:
                self.save()
                raise Cancelled(f"stopped by the user after step {self.step}; continue with --resume")
            losses = {k: v for k, v in row.items() if k not in ("lr", "grad_norm")}
            last = self.step == self.config.num_steps
            if self.accelerator.is_main_process and (last or self.step % self.config.saving.log_every == 0):
                seconds = round(time.monotonic() - began, 4)
                append_log(self.output / LOSS_LOG, {"step": self.step, **row, "seconds": seconds})
            if last or self.step % self.config.saving.every == 0:
                saved = self.save()
            progress.report("train", self.step, self.config.num_steps)
        done = self.step - first
        return TrainReport(
            output=self.output,
            checkpoint=saved,
            num_steps=self.step,
            losses=losses,
            seconds_per_step=(time.monotonic() - started) / done if done else 0.0,
            num_trainable=sum(parameter.numel() for parameter in self.parameters.values()),
        )

    def _optimize(self, stop: bool) -> dict[str, float] | None:
        """One optimizer step; None when any process wants to stop, and then nothing has changed."""
        config, accelerator = self.config, self.accelerator
        if self._agree(stop):
            return None
        lr = learning_rate(config.optimizer, self.step, config.num_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        # Nothing in the models draws now; if a layer ever does, it draws the same after a resume.
        torch.manual_seed(derived_seed(config.seed, "layers", self.step, accelerator.process_index))
        self.bench.task.turn(self.bench.step, self.parameters, self.step)
        sums: dict[str, Tensor] = {}
        names: list[str] = []
        norm = math.nan
        for micro in range(config.accumulation):
            batch = self._batch(micro)
            names += batch.names
            with accelerator.accumulate(self.model):
                losses = self.model(batch.tensors)
                self._require_finite(losses["total"], "the loss", names)
                accelerator.backward(losses["total"])
                if accelerator.sync_gradients:
                    norm = self._clip(names)
                self.optimizer.step()
                self.optimizer.zero_grad()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0) + value.detach().float() / config.accumulation
        self.step += 1
        if self.average is not None:
            self.average.update(self.step)
        means = accelerator.reduce(torch.stack(list(sums.values())), "mean").tolist()
        return {**dict(zip(sums, means, strict=True)), "lr": lr, "grad_norm": norm}

    def _batch(self, micro: int) -> Batch:
        """This process's part of one micro-step: places are counted over steps, micro-steps and processes."""
        config, accelerator = self.config, self.accelerator
        block = (self.step * config.accumulation + micro) * accelerator.num_processes + accelerator.process_index
        return self._moved(self.batches.at(block * config.batch_size, config.batch_size))

    def _clip(self, names: list[str]) -> float:
        """Check that every trained tensor learns, clip, and give the norm before clipping."""
        if self.unfed and not self.sharded:
            turn = {name: self.parameters[name] for name in self.unfed if self.parameters[name].requires_grad}
            starved = sorted(name for name, parameter in turn.items() if parameter.grad is None)
            self.unfed -= set(turn)
            if starved:
                raise InputError(
                    "trainable tensors get no gradient",
                    got=f"{len(starved)} of {len(self.parameters)}, for example {starved[0]}",
                    expected="a gradient for every tensor that the recipe names",
                )
        limit = self.config.optimizer.max_grad_norm or math.inf
        learning = self.model.parameters() if self.sharded else self.parameters.values()
        norm = self.accelerator.clip_grad_norm_(list(learning), limit)
        norm = torch.as_tensor(norm if norm is not None else 0.0)
        self._require_finite(norm, "the gradient", names)
        return float(norm)

    def _agree(self, flag: bool) -> bool:
        """Whether any process says so."""
        return bool(self.accelerator.reduce(torch.tensor(float(flag), device=self.accelerator.device), "sum") > 0)

    def _require_finite(self, value: Tensor, what: str, names: list[str]) -> None:
        """Stop every process when the value of one is not a number; nothing is written."""
        if not self._agree(not bool(torch.isfinite(value.detach()).all())):
            return
        saved = latest_checkpoint(self.output)
        raise NonFiniteError(
            f"{what} is NaN or infinite at step {self.step + 1}",
            got=f"{float(value.detach())} here, in a batch of {', '.join(gather_object(names))}",
            expected="finite numbers",
            remedy=f"The last good checkpoint is {saved}." if saved else "There is no checkpoint yet.",
        )

    def save(self) -> Path:
        """Write a checkpoint, its export and the loss picture."""
        accelerator, config = self.accelerator, self.config
        moments = averages = {}
        if not self.sharded:
            averages = {} if self.average is None else {k: t.cpu() for k, t in self.average.tensors.items()}
            moments = optimizer_tensors(self._plain_optimizer(), self.parameters)
        state = TrainState(
            self.step, self._weights(), moments, averages, config=config.as_dict(), data=self.batches.digest
        )
        export = self._export(state)
        if accelerator.is_main_process:
            save_checkpoint(self.output, state, keep=config.saving.keep, config_hash=config.hash, export=export)
        accelerator.wait_for_everyone()
        folder = latest_checkpoint(self.output)
        if self.sharded:
            accelerator.save_state(str(folder / "accelerate"))
        if accelerator.is_main_process and config.saving.plot:
            title = f"{config.recipe} {config.hash}"
            plot_log(self.output / LOSS_LOG, self.output / LOSS_PICTURE, title)
        accelerator.wait_for_everyone()
        return folder

    def _weights(self) -> dict[str, Tensor]:
        """Trained tensors on the CPU; sharded ones are gathered, by every process together."""
        if not self.sharded:
            return {name: p.detach().cpu().clone() for name, p in self.parameters.items()}
        whole = self.accelerator.get_state_dict(self.model)
        return {name: whole[name].cpu() for name in self.parameters} if whole else {}

    def _export(self, state: TrainState) -> Callable[[Path], None]:
        def write(folder: Path) -> None:
            values = self.average.tensors if self.average is not None else state.weights
            write_export(folder, self.bench, values, self._clip_at)

        return write

    def _clip_at(self, position: int) -> dict[str, Tensor]:
        """The tensors of one clip, on the run's device."""
        return self._moved(self.batches.at(position, 1)).tensors

    def _moved(self, batch: Batch) -> Batch:
        tensors = {key: tensor.to(self.accelerator.device) for key, tensor in batch.tensors.items()}
        return Batch(tensors, batch.names)


def _wants_to_stop(progress: Progress) -> bool:
    try:
        progress.check_cancelled()
    except Cancelled:
        return True
    return False
