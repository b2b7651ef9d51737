"""The training loop: one for every task."""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricModule
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import Dataset

from napari_flowmag.atomic import write_atomically
from napari_flowmag.checkpoint import read_pickle, save_checkpoint
from napari_flowmag.device import peak_memory
from napari_flowmag.errors import Cancelled, FlowmagError
from napari_flowmag.train.config import LoopConfig
from napari_flowmag.train.distributed import mean_over_ranks, start_fabric, synchronise_norms
from napari_flowmag.train.feed import Batch, feed
from napari_flowmag.train.interrupt import stop_signal
from napari_flowmag.train.monitor import Monitor

WEIGHTS, STATE, BAD_BATCH = "model.safetensors", "state.pt", "bad_batch.pt"

SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
    "linear": lambda progress: 1 - progress,
    "constant": lambda progress: 1.0,
}


class Task(Protocol):
    """What to train, on what, by which loss."""

    @property
    def module(self) -> nn.Module:
        """What is trained."""
        ...

    @property
    def dataset(self) -> Dataset[Batch]:
        """`dataset[step]` is one finished batch, a function of the seed and `step` alone.

        Where several processes train, its method ``part(rank, ranks)`` gives a dataset of the
        share of each batch that is a process's own; the loss is a mean over the batch.
        """
        ...

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the scalar to minimise and scalars to log; `batch` lies on the module's device."""
        ...

    def validate(self) -> dict[str, float]:
        """Measure the module (in eval mode, with the weights that are exported)."""
        ...

    def pictures(self) -> dict[str, np.ndarray]:
        """Return pictures to look at, (H, W, 3) uint8; may be empty."""
        ...

    def checkpoint(self) -> dict[str, Any]:
        """Return `kind`, `architecture`, `config` and `training` of the exported weights."""
        ...


@dataclass
class _Run:
    """Everything a resumed run must find as it was left."""

    module: nn.Module
    averaged: AveragedModel | None
    optimiser: torch.optim.Optimizer
    fabric: Fabric
    step: int = 0
    elapsed: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def clock(self) -> float:
        """Seconds of training so far, those before a resume included."""
        return self.elapsed + time.monotonic() - self.started

    def progress(self, config: LoopConfig, clock: float) -> float:
        """Share of the budget that is spent; `clock` in seconds."""
        return clock / (60 * config.minutes) if config.minutes else self.step / config.steps

    def exported(self) -> nn.Module:
        return self.module if self.averaged is None else self.averaged.module

    def state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "elapsed": self.clock(),
            "module": self.module.state_dict(),
            "averaged": None if self.averaged is None else self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        if (self.averaged is None) != (state["averaged"] is None):
            raise FlowmagError("ema: a resumed run keeps averaging on or off, as it was started")
        try:
            self.module.load_state_dict(state["module"])
            if self.averaged is not None:
                self.averaged.load_state_dict(state["averaged"])
            self.optimiser.load_state_dict(state["optimiser"])
        except (RuntimeError, ValueError) as error:
            raise FlowmagError(
                f"{STATE} does not fit the model: resume with the settings the run began with"
            ) from error
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.step, self.elapsed = state["step"], state["elapsed"]


def fit(task: Task, config: LoopConfig, resume: bool = False, fabric: Fabric | None = None) -> Path:
    """Train a task's module until its budget of steps or minutes is spent.

    Several processes share each batch and end with the same weights: those that one process would
    have, but for rounding. The first of them writes.

    Parameters
    ----------
    task
        What to train.
    config
        How to train it. The run's folder `config.out` receives `model.safetensors` (the
        exported weights), `state.pt` (everything needed to go on), `metrics.jsonl` and, where
        tensorboard is installed, its event files.
    resume
        Go on from the state in `config.out`. On the CPU the result equals, bit for bit, that
        of a run that was never stopped (unless the schedule follows the clock). The number of
        processes may be another one.
    fabric
        What :func:`~napari_flowmag.train.distributed.start_fabric` gave; unset calls it.

    Returns
    -------
    Path
        The exported weights.

    Raises
    ------
    Cancelled
        After SIGINT or SIGTERM; the step at hand was finished and saved.
    FlowmagError
        When the loss is no longer finite, when there is no state to resume, or when the folder
        already holds a run and `resume` is not set.
    """
    fabric = start_fabric(config) if fabric is None else fabric
    check_folder(config.out, resume)
    fabric.barrier()  # before the first of them writes
    config.out.mkdir(parents=True, exist_ok=True)
    run, forward = _start(task, config, fabric)
    if resume:
        run.restore(read_pickle(config.out / STATE))
    dataset = task.dataset
    if fabric.world_size > 1:
        dataset = dataset.part(fabric.global_rank, fabric.world_size)  # type: ignore[attr-defined]
    with (
        Monitor(config, run.step) if fabric.is_global_zero else contextlib.nullcontext() as monitor,
        stop_signal() as stop,
        contextlib.closing(feed(dataset, run.step * config.accumulate, config.workers)) as batches,
    ):
        stopped = _train(task, run, forward, batches, monitor, config, stop)
        _save(task, run, config)
        if stopped:
            raise Cancelled(f"stopped after step {run.step}; {config.out} can be resumed")
        _validate(task, run, monitor)
    return config.out / WEIGHTS


def rehearse(task: Task, config: LoopConfig) -> dict[str, float]:
    """Do three steps without writing anything, and tell what a step costs.

    Returns
    -------
    dict
        ``loss`` of the third step, ``seconds_per_step`` and ``seconds_waiting`` for data (of the
        second and third), ``memory`` at its peak in MiB: of the graphics card, or else of this
        process, in which data are then prepared too.

    Raises
    ------
    FlowmagError
        If the data cannot be read.
    """
    fabric = start_fabric(config)
    run, forward = _start(task, config, fabric)
    waited, loss = 0.0, torch.zeros(())
    with contextlib.closing(feed(task.dataset, 0, 0)) as batches:
        for step in range(3):
            if step == 1:  # the first one warms up
                began, waited = time.monotonic(), 0.0
            asked = time.monotonic()
            batch = fabric.to_device(next(batches))
            waited += time.monotonic() - asked
            loss, _ = forward(batch)
            fabric.backward(loss)
            run.optimiser.step()
            run.optimiser.zero_grad()
            loss = loss.detach().cpu()  # waits for the graphics card
    return {
        "loss": float(loss),
        "seconds_per_step": (time.monotonic() - began) / 2,
        "seconds_waiting": waited / 2,
        "memory": peak_memory(fabric.device) / 2**20,
    }


def check_folder(out: Path, resume: bool) -> None:
    """Check that a run can begin, or go on, in a folder.

    Raises
    ------
    FlowmagError
        When there is no state to resume, or when there is one and `resume` is not set.
    """
    saved = out / STATE
    if resume and not saved.is_file():
        raise FlowmagError(f"{out}: nothing to resume here ({STATE} is missing)")
    if saved.is_file() and not resume:
        raise FlowmagError(f"{out}: holds a training run; resume it or choose another folder")


def _train(
    task: Task,
    run: _Run,
    forward: _FabricModule,
    batches: Iterator[Batch],
    monitor: Monitor | None,
    config: LoopConfig,
    stop: threading.Event,
) -> bool:
    """Train until the budget is spent, or return True because somebody asked to stop."""
    done, stopped = run.progress(config, run.clock()), False
    while done < 1 and not stopped:
        rate = config.lr * min(1, (run.step + 1) / max(1, config.warmup))
        rate *= SCHEDULES[config.schedule](done)
        for group in run.optimiser.param_groups:
            group["lr"] = rate
        # Seeding by step makes whatever the task draws a function of the step, as its data is.
        torch.manual_seed(config.seed + 1_000_003 * run.step)
        norm = _step(run, forward, batches, monitor, config)
        run.step += 1
        # All processes stop together, and follow the same clock.
        clock, asked = mean_over_ranks(run.fabric, [run.clock(), float(stop.is_set())]).tolist()
        done, stopped = run.progress(config, clock), asked > 0
        if monitor is not None:
            monitor.add(gradient=norm)
            monitor.step(run.step, done, clock, rate)
        if run.step % config.save_every == 0:
            _save(task, run, config)
        if config.validate_every and run.step % config.validate_every == 0:
            _validate(task, run, monitor)
    return stopped


def _step(
    run: _Run,
    forward: _FabricModule,
    batches: Iterator[Batch],
    monitor: Monitor | None,
    config: LoopConfig,
) -> Tensor | None:
    """Move the weights by one step and return the norm of the gradient."""
    for number in range(config.accumulate):
        with monitor.waiting() if monitor is not None else contextlib.nullcontext():
            batch = run.fabric.to_device(next(batches))
        last = number == config.accumulate - 1
        with run.fabric.no_backward_sync(forward, enabled=not last):
            loss, terms = forward(batch)
            run.fabric.backward(loss / config.accumulate)
        means = mean_over_ranks(run.fabric, [loss, *terms.values()])
        _require_finite(means[0], "the loss", loss, run, batch, config)
        if monitor is not None:
            monitor.add(**dict(zip(("loss", *terms), means, strict=True)))
    norm = run.fabric.clip_gradients(
        forward, run.optimiser, max_norm=config.clip or math.inf, error_if_nonfinite=False
    )
    if config.precision != "16-mixed":  # its loss scaling skips such steps by itself
        _require_finite(norm, "the gradient", norm, run, batch, config)
    run.optimiser.step()
    run.optimiser.zero_grad()
    if run.averaged is not None:
        run.averaged.update_parameters(run.module)
    return norm


def _save(task: Task, run: _Run, config: LoopConfig) -> None:
    if run.fabric.is_global_zero:
        _write(config.out / STATE, run.state())
        save_checkpoint(config.out / WEIGHTS, run.exported(), **task.checkpoint())
    run.fabric.barrier()


class _Forward(nn.Module):
    """The task's loss as a module: what Fabric wraps for precision (and several processes)."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.module = task.module
        self.loss = task.loss

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        return self.loss(batch)


def _start(task: Task, config: LoopConfig, fabric: Fabric) -> tuple[_Run, _FabricModule]:
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    synchronise_norms(task.module, fabric)
    task.module.train()
    trained = [p for p in task.module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    forward, optimiser = fabric.setup(_Forward(task), torch.optim.AdamW(groups, lr=config.lr))
    averaged = _averaged(task.module, config.ema) if config.ema else None
    return _Run(task.module, averaged, optimiser, fabric), forward


def _averaged(module: nn.Module, decay: float) -> AveragedModel:
    """Average weights and buffers; the decay starts low, so that a short run forgets its start."""

    def update(averaged: Any, current: Any, n: Tensor | int) -> None:
        now = min(decay, (1 + int(n)) / (10 + int(n)))
        get_ema_multi_avg_fn(now)(averaged, current, n)  # type: ignore[no-untyped-call]

    return AveragedModel(module, multi_avg_fn=update, use_buffers=True)


def _validate(task: Task, run: _Run, monitor: Monitor | None) -> None:
    if monitor is not None:
        with _exchanged(task.module, run.exported()):
            task.module.eval()
            with torch.no_grad():
                monitor.validation(run.step, task.validate(), task.pictures())
            task.module.train()
    run.fabric.barrier()


@contextlib.contextmanager
def _exchanged(module: nn.Module, other: nn.Module) -> Iterator[None]:
    """Lend `module` the weights of `other`."""

    def exchange() -> None:
        for ours, theirs in zip(
            itertools.chain(module.parameters(), module.buffers()),
            itertools.chain(other.parameters(), other.buffers()),
            strict=True,
        ):
            ours.data, theirs.data = theirs.data, ours.data

    exchange()
    try:
        yield
    finally:
        exchange()


def _require_finite(
    shared: Tensor | None,
    what: str,
    own: Tensor | None,
    run: _Run,
    batch: Batch,
    config: LoopConfig,
) -> None:
    """Stop all processes together; those whose own value is at fault leave their batch."""
    if shared is None or bool(torch.isfinite(shared)):
        return
    rank = run.fabric.global_rank
    path = config.out / (BAD_BATCH if rank == 0 else f"rank{rank}_{BAD_BATCH}")
    if own is None or not bool(torch.isfinite(own)):
        _write(path, batch)
    raise FlowmagError(
        f"training stopped at step {run.step}: {what} is not finite (batch saved as {path}); "
        "resume from the last save with a smaller lr"
    )


def _write(path: Path, state: Any) -> None:
    """Write tensors and plain values."""
    content = io.BytesIO()
    torch.save(state, content)
    write_atomically(path, content.getvalue())
