"""The training loop: one for every task."""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import nn

from napari_flowmag.atomic import discard_parts
from napari_flowmag.checkpoint import read_pickle, save_checkpoint, write_pickle
from napari_flowmag.errors import Cancelled, FlowmagError
from napari_flowmag.stop_signals import stop_signal
from napari_flowmag.train.config import LoopConfig
from napari_flowmag.train.distributed import mean_over_ranks, start_fabric, together
from napari_flowmag.train.feed import Batch, feed_device, workers_needed
from napari_flowmag.train.guard import Guard
from napari_flowmag.train.monitor import Monitor
from napari_flowmag.train.run import Run, Task, start_run
from napari_flowmag.train.step import one_step

WEIGHTS, STATE = "model.safetensors", "state.pt"

SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
    "linear": lambda progress: 1 - progress,
    "constant": lambda progress: 1.0,
}


def fit(
    task: Task,
    config: LoopConfig,
    resume: bool = False,
    fabric: Fabric | None = None,
    begin: Callable[[], None] | None = None,
) -> Path:
    """Train a task's module until its budget of steps or minutes is spent.

    Several processes share each batch and end with the same weights: those that one process would
    have, but for rounding. The first of them writes. What stops one of them stops all.

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
    begin
        Called by the first process before the first step, once nothing speaks against it.

    Returns
    -------
    Path
        The exported weights.

    Raises
    ------
    Cancelled
        After SIGINT, SIGTERM or SIGHUP; the step at hand was finished and saved.
    FlowmagError
        When loss or gradient is no longer finite (see :class:`~napari_flowmag.train.guard.Guard`),
        when there is no state to resume, or when the folder already holds a run and `resume` is
        not set.
    """
    fabric = start_fabric(config) if fabric is None else fabric
    check_folder(config.out, resume)
    fabric.barrier()  # before the first of them writes
    config.out.mkdir(parents=True, exist_ok=True)
    if fabric.is_global_zero:
        discard_parts(config.out / STATE, config.out / WEIGHTS)
    run = start_run(task, config, fabric)
    if resume:
        run.restore(read_pickle(config.out / STATE))
    together(fabric, lambda: begin() if begin is not None and fabric.is_global_zero else None)
    with (
        Monitor(config, run.step) if fabric.is_global_zero else contextlib.nullcontext() as monitor,
        stop_signal() as stop,
        workers_needed(),
        contextlib.closing(_batches(task, run, config)) as batches,
    ):
        loop = _Loop(task, config, run, Guard(task, run, config), monitor)
        stopped = loop.train(batches, stop)
        loop.save()
        if stopped:
            raise Cancelled(f"stopped after step {run.step}; {config.out} can be resumed")
        if not loop.is_validated():
            loop.validate()
    return config.out / WEIGHTS


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


def _batches(task: Task, run: Run, config: LoopConfig) -> Generator[Batch]:
    """Feed this process its share of each batch, from the step at which the run is."""
    dataset, fabric = task.dataset, run.fabric
    if fabric.world_size > 1:
        dataset = dataset.part(fabric.global_rank, fabric.world_size)  # type: ignore[attr-defined]
    return feed_device(dataset, fabric.device, run.step * config.accumulate, config.workers)


@dataclass(frozen=True)
class _Loop:
    task: Task
    config: LoopConfig
    run: Run
    guard: Guard
    monitor: Monitor | None

    def train(self, batches: Iterator[Batch], stop: threading.Event) -> bool:
        """Train until the budget is spent, or return True because somebody asked to stop."""
        config, run, monitor = self.config, self.run, self.monitor
        # All processes follow the same clock, and stop together.
        clock = float(mean_over_ranks(run.fabric, [run.clock()])[0])
        done, stopped = run.progress(config, clock), False
        while done < 1 and not stopped:
            rate = config.lr * min(1, (run.step + 1) / max(1, config.warmup))
            rate *= SCHEDULES[config.schedule](done)
            for group in run.optimiser.param_groups:
                group["lr"] = rate
            # Seeding by step makes what the task draws a function of the step, as its data is.
            torch.manual_seed(config.seed + 1_000_003 * run.step)
            norm = one_step(run, batches, config, self.guard, monitor)
            run.step += 1
            clock, asked = mean_over_ranks(run.fabric, [run.clock(), float(stop.is_set())]).tolist()
            done, stopped = run.progress(config, clock), asked > 0
            if monitor is not None:
                monitor.add(gradient=norm)
                monitor.step(run.step, done, clock, rate)
            if run.step % config.save_every == 0:
                self.save()
            if self.is_validated():
                self.validate()
        return stopped

    def is_validated(self) -> bool:
        """Whether the step at which the run is has a validation of its own."""
        return self.config.validate_every > 0 and self.run.step % self.config.validate_every == 0

    def save(self) -> None:
        """Write state and weights; the other processes wait."""
        self.guard.weights()
        together(self.run.fabric, self._write)

    def _write(self) -> None:
        run, out = self.run, self.config.out
        if run.fabric.is_global_zero:
            write_pickle(out / STATE, run.state())
            save_checkpoint(out / WEIGHTS, run.exported(), **self.task.checkpoint())

    def validate(self) -> None:
        """Measure what would be exported; the other processes wait."""
        together(self.run.fabric, self._measure)

    def _measure(self) -> None:
        if self.monitor is None:
            return
        module = self.task.module
        with _exchanged(module, self.run.exported()):
            module.eval()
            with torch.no_grad():
                self.monitor.validation(self.run.step, self.task.validate(), self.task.pictures())
            module.train()


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
