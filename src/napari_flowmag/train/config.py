"""Typed settings of a training run.

Free of torch, so that the command line can list every setting without loading it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from napari_flowmag.errors import FlowmagError


@dataclass(frozen=True)
class LoopConfig:
    """How to optimise, for how long, and where results go.

    Parameters
    ----------
    out
        Folder of the run: weights, resumable state, metrics.
    steps
        Number of optimiser steps. Not used when `minutes` is given.
    minutes
        Wall-clock budget. The schedule then follows the clock instead of the step count.
    lr
        Peak learning rate of AdamW.
    weight_decay
        Decay of weights with two or more dimensions (biases and norms are left alone).
    warmup
        Number of steps over which the learning rate rises linearly from zero.
    schedule
        How the learning rate falls from its peak to zero.
    clip
        Largest gradient norm; 0 switches clipping off.
    ema
        Decay of the averaged weights that are exported; 0 exports the last weights.
    precision
        Arithmetic of the forward pass.
    accumulate
        Batches per optimiser step.
    workers
        Processes that prepare batches; 0 prepares them in the training process.
    save_every
        Steps between saves of state and weights.
    validate_every
        Steps between validations; 0 validates at the end only.
    log_every
        Steps between lines of metrics.
    seed
        Seed of everything random: batches are a function of (seed, step) alone.
    threads
        CPU threads of the training process; unset leaves torch's choice.
    device
        Where to train: auto takes a GPU when there is one.
    """

    out: Path
    steps: int = 20_000
    minutes: float | None = None
    lr: float = 3e-4
    weight_decay: float = 0.0
    warmup: int = 100
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    clip: float = 1.0
    ema: float = 0.999
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    accumulate: int = 1
    workers: int = 1
    save_every: int = 500
    validate_every: int = 1000
    log_every: int = 50
    seed: int = 0
    threads: int | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def __post_init__(self) -> None:
        for name in ("steps", "accumulate", "save_every", "log_every"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "must be at least 1")
        for name in ("weight_decay", "warmup", "clip", "workers", "validate_every", "seed"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "must not be negative")
        require(self.lr > 0, "lr", self.lr, "must be above 0")
        require(0 <= self.ema < 1, "ema", self.ema, "must be at least 0 and below 1")
        require(
            self.minutes is None or self.minutes > 0, "minutes", self.minutes, "must be above 0"
        )
        require(
            self.threads is None or self.threads >= 1, "threads", self.threads, "must be at least 1"
        )


def require(holds: bool, name: str, value: object, rule: str) -> None:
    """Refuse a setting.

    Raises
    ------
    FlowmagError
        When the rule does not hold, naming the setting, its value and the rule.
    """
    if not holds:
        raise FlowmagError(f"setting {name} = {value}: {rule}")
