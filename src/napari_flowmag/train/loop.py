"""The training loop: one for every task."""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import Dataset

from napari_flowmag.atomic import write_atomically
from napari_flowmag.checkpoint import read_pickle, save_checkpoint
from napari_flowmag.device import resolve_device
from napari_flowmag.errors import Cancelled, FlowmagError
from napari_flowmag.train.config import LoopConfig
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
        """`dataset[step]` is one finished batch, a function of the seed and `step` alone."""
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


def fit(task: Task, config: LoopConfig, resume: bool = False) -> Path:
    """Train a task's module until its budget of steps or minutes is spent.

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
        of a run that was never stopped (unless the schedule follows the clock).

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
    check_folder(config.out, resume)
    config.out.mkdir(parents=True, exist_ok=True)
    weights, saved = config.out / WEIGHTS, config.out / STATE

    run, forward = _start(task, config)
    if resume:
        run.restore(read_pickle(saved))

    def save() -> None:
        _write(saved, run.state())
        save_checkpoint(weights, run.exported(), **task.checkpoint())

    def progress() -> float:
        return run.clock() / (60 * config.minutes) if config.minutes else run.step / config.steps

    with (
        Monitor(config, run.step) as monitor,
        stop_signal() as stop,
        contextlib.closing(
            feed(task.dataset, run.step * config.accumulate, config.workers)
        ) as batches,
    ):
        while (done := progress()) < 1 and not stop.is_set():
            rate = config.lr * min(1, (run.step + 1) / max(1, config.warmup))
            rate *= SCHEDULES[config.schedule](done)
            for group in run.optimiser.param_groups:
                group["lr"] = rate
            # Seeding by step makes whatever the task draws a function of the step, as its data is.
            torch.manual_seed(config.seed + 1_000_003 * run.step)

            for _ in range(config.accumulate):
                with monitor.waiting():
                    batch = run.fabric.to_device(next(batches))
                loss, terms = forward(batch)
                _require_finite(loss, "the loss", run.step, batch, config)
                run.fabric.backward(loss / config.accumulate)
                monitor.add(loss=loss, **terms)
            norm = run.fabric.clip_gradients(
                forward, run.optimiser, max_norm=config.clip or math.inf, error_if_nonfinite=False
            )
            if config.precision != "16-mixed":  # its loss scaling skips such steps by itself
                _require_finite(norm, "the gradient", run.step, batch, config)
            run.optimiser.step()
            run.optimiser.zero_grad()
            if run.averaged is not None:
                run.averaged.update_parameters(run.module)

            run.step += 1
            monitor.add(gradient=norm)
            monitor.step(run.step, progress(), run.clock(), rate)
            if run.step % config.save_every == 0:
                save()
            if config.validate_every and run.step % config.validate_every == 0:
                _validate(task, run, monitor)
        save()
        if stop.is_set():
            raise Cancelled(f"stopped after step {run.step}; {config.out} can be resumed")
        _validate(task, run, monitor)
    return weights


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


class _Forward(nn.Module):
    """The task's loss as a module: what Fabric wraps for precision (and several processes)."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.module = task.module
        self.loss = task.loss

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        return self.loss(batch)


class _Mixed(MixedPrecision):
    """Mixed precision for the arithmetic alone: rounded pictures would lose sub-pixel motion."""

    def convert_input(self, data: Any) -> Any:
        return data


def _start(task: Task, config: LoopConfig) -> tuple[_Run, nn.Module]:
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    device = resolve_device(config.device).type
    mixed: list[Any] = [] if config.precision == "32-true" else [_Mixed(config.precision, device)]
    fabric = Fabric(accelerator=device, devices=1, plugins=mixed)
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


def _validate(task: Task, run: _Run, monitor: Monitor) -> None:
    with _exchanged(task.module, run.exported()):
        task.module.eval()
        with torch.no_grad():
            monitor.validation(run.step, task.validate(), task.pictures())
        task.module.train()


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
    value: Tensor | None, what: str, step: int, batch: Batch, config: LoopConfig
) -> None:
    if value is None or bool(torch.isfinite(value)):
        return
    path = config.out / BAD_BATCH
    _write(path, batch)
    raise FlowmagError(
        f"training stopped at step {step}: {what} is not finite (batch saved as {path}); "
        "resume from the last save with a smaller lr"
    )


def _write(path: Path, state: Any) -> None:
    """Write tensors and plain values."""
    content = io.BytesIO()
    torch.save(state, content)
    write_atomically(path, content.getvalue())
