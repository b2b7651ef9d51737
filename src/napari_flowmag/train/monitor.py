"""What a training run shows while it runs: progress, metrics.jsonl, TensorBoard."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from torch import Tensor

from napari_flowmag.train.config import LoopConfig

METRICS = "metrics.jsonl"


class Meter:
    """Collects scalars of batches, and the time that was spent waiting for data.

    Attributes
    ----------
    waited : float
        Seconds.
    """

    def __init__(self) -> None:
        self._values: defaultdict[str, list[Tensor]] = defaultdict(list)
        self.waited = 0.0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time inside as spent waiting for data."""
        began = time.monotonic()
        yield
        self.waited += time.monotonic() - began

    def add(self, **values: Tensor | None) -> None:
        """Take scalars of one batch."""
        for name, value in values.items():
            if value is not None:
                self._values[name].append(value.detach())

    def means(self) -> dict[str, float]:
        """Return the mean of each scalar so far."""
        return {name: float(sum(values) / len(values)) for name, values in self._values.items()}

    def clear(self) -> None:
        """Begin anew."""
        self._values.clear()
        self.waited = 0.0


class Monitor(Meter):
    """Writes means every `config.log_every` steps.

    Parameters
    ----------
    config
        Settings of the run.
    step
        Steps already done; metrics of later steps, left by a killed run, are dropped.
    """

    def __init__(self, config: LoopConfig, step: int) -> None:
        super().__init__()
        self._every = config.log_every
        self._since, self._since_step = time.monotonic(), step
        path = config.out / METRICS
        _drop_after(path, step)
        self._file = path.open("a")
        self._board = _board(config.out, step)
        self._bar = _bar(step) if sys.stderr.isatty() else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        if self._bar:
            self._bar.stop()
        if self._board:
            self._board.close()

    def step(self, step: int, progress: float, elapsed: float, rate: float) -> None:
        """Tell that `step` steps are done, after `elapsed` seconds."""
        if self._bar:
            self._bar.update(self._bar.task_ids[0], completed=min(progress, 1.0))
        if step % self._every:
            return
        now, steps = time.monotonic(), step - self._since_step
        metrics = {
            "step": step,
            "elapsed": elapsed,
            "lr": rate,
            **self.means(),
            "seconds_per_step": (now - self._since) / steps,
            "seconds_waiting": self.waited / steps,
        }
        self._write(metrics)
        left = elapsed * (1 - progress) / progress if progress else 0.0
        line = f"step {step}  loss {metrics['loss']:.4g}  left {timedelta(seconds=round(left))}"
        if self._bar:
            self._bar.update(self._bar.task_ids[0], description=line)
        else:
            print(line, file=sys.stderr, flush=True)
        self.clear()
        self._since, self._since_step = now, step

    def validation(
        self, step: int, metrics: dict[str, float], pictures: dict[str, np.ndarray]
    ) -> None:
        """Record what a validation after `step` steps measured and drew."""
        if metrics:
            self._write({"step": step, **{f"val_{name}": v for name, v in metrics.items()}})
            line = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
            (self._bar.console.print if self._bar else _print)(f"validation {step}  {line}")
        if self._board:
            for name, picture in pictures.items():
                self._board.add_image(name, picture, step, dataformats="HWC")

    def _write(self, metrics: dict[str, float]) -> None:
        self._file.write(json.dumps(metrics) + "\n")
        self._file.flush()
        if self._board:
            for name, value in metrics.items():
                if name != "step":
                    self._board.add_scalar(name, value, int(metrics["step"]))


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _drop_after(path: Path, step: int) -> None:
    """Drop metrics of steps that a killed run did not save, and a line it did not finish."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
    part = path.with_name(f"{path.name}.part")
    part.write_text("".join(kept))
    part.replace(path)


def _board(out: Path, step: int) -> Any:
    """Return a TensorBoard writer, or None where tensorboard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(out), purge_step=step + 1)


def _bar(step: int) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(
        BarColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )
    bar.add_task(f"step {step}", total=1.0)
    bar.start()
    return bar
