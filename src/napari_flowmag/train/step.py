"""One step of the optimiser."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

from torch import Tensor

from napari_flowmag.train.config import LoopConfig
from napari_flowmag.train.distributed import mean_over_ranks, together
from napari_flowmag.train.feed import Batch
from napari_flowmag.train.guard import Guard
from napari_flowmag.train.monitor import Meter
from napari_flowmag.train.run import Run


def one_step(
    run: Run,
    batches: Iterator[Batch],
    config: LoopConfig,
    guard: Guard,
    meter: Meter | None = None,
) -> Tensor | None:
    """Move the weights by one step and return the norm of the gradient.

    Parameters
    ----------
    run
        Whose weights; its step is not counted up.
    batches
        `config.accumulate` of them are taken; on the run's device.
    config
        Settings of the run.
    guard
        Stops what is not finite.
    meter
        Gets the loss and the other scalars of each batch, means over all processes.

    Raises
    ------
    FlowmagError
        If data cannot be used, or what `guard` raises.
    """
    seen = []
    for number in range(config.accumulate):
        with meter.waiting() if meter is not None else contextlib.nullcontext():
            batch = together(run.fabric, lambda: next(batches))
            seen.append(batch)
        last = number == config.accumulate - 1
        with run.fabric.no_backward_sync(run.forward, enabled=not last):
            loss, terms = run.forward(batch)
            means = mean_over_ranks(run.fabric, [loss, *terms.values()])
            guard.loss(means[0], loss, batch)
            run.fabric.backward(loss / config.accumulate)
        if meter is not None:
            meter.add(**dict(zip(("loss", *terms), means, strict=True)))
    norm = run.fabric.clip_gradients(
        run.forward, run.optimiser, max_norm=config.clip or math.inf, error_if_nonfinite=False
    )
    guard.gradient(norm, seen)
    run.optimiser.step()
    run.optimiser.zero_grad()
    if run.averaged is not None:
        run.averaged.update_parameters(run.module)
    return norm
