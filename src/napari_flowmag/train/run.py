"""What a training run is made of: the task, its weights, their average and the optimiser."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricModule
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import Dataset

from napari_flowmag.errors import FlowmagError
from napari_flowmag.train.config import LoopConfig
from napari_flowmag.train.distributed import synchronise_norms
from napari_flowmag.train.feed import Batch


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
class Run:
    """Everything a resumed run must find as it was left.

    Attributes
    ----------
    module : nn.Module
        What is trained.
    forward : module
        The task's loss, wrapped for precision and for several processes.
    averaged : AveragedModel or None
        The average that is exported.
    optimiser, fabric
        What moves the weights, and what connects the processes.
    step : int
        Steps done.
    elapsed : float
        Seconds of training before this start.
    """

    module: nn.Module
    forward: _FabricModule
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
        """Return what is written: the average where there is one."""
        return self.module if self.averaged is None else self.averaged.module

    def state(self) -> dict[str, Any]:
        """Return all of it as tensors and plain values."""
        return {
            "step": self.step,
            "elapsed": self.clock(),
            "module": self.module.state_dict(),
            "averaged": None if self.averaged is None else self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state` gave.

        Raises
        ------
        FlowmagError
            If it is of another model, or of a run with other settings.
        """
        if (self.averaged is None) != (state["averaged"] is None):
            raise FlowmagError("ema: a resumed run keeps averaging on or off, as it was started")
        try:
            self.module.load_state_dict(state["module"])
            if self.averaged is not None:
                self.averaged.load_state_dict(state["averaged"])
            self.optimiser.load_state_dict(state["optimiser"])
        except (RuntimeError, ValueError) as error:
            raise FlowmagError(
                "the saved state does not fit the model: resume with the settings it began with"
            ) from error
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.step, self.elapsed = state["step"], state["elapsed"]


class _Forward(nn.Module):
    """The task's loss as a module: what Fabric wraps for precision (and several processes)."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.module = task.module
        self.loss = task.loss

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        return self.loss(batch)


def start_run(task: Task, config: LoopConfig, fabric: Fabric) -> Run:
    """Return a run before its first step."""
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    synchronise_norms(task.module, fabric)
    task.module.train()
    if fabric.device.type == "cuda":
        # Half precision is twice as fast where channels lie side by side.
        task.module.to(memory_format=torch.channels_last)
    trained = [p for p in task.module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    forward, optimiser = fabric.setup(_Forward(task), torch.optim.AdamW(groups, lr=config.lr))
    averaged = _averaged(task.module, config.ema) if config.ema else None
    return Run(task.module, forward, averaged, optimiser, fabric)


def _averaged(module: nn.Module, decay: float) -> AveragedModel:
    """Average weights and buffers; the decay starts low, so that a short run forgets its start."""

    def update(averaged: Any, current: Any, n: Tensor | int) -> None:
        now = min(decay, (1 + int(n)) / (10 + int(n)))
        get_ema_multi_avg_fn(now)(averaged, current, n)  # type: ignore[no-untyped-call]

    return AveragedModel(module, multi_avg_fn=update, use_buffers=True)
