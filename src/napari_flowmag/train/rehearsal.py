"""What a training run would cost, told without writing anything."""

from __future__ import annotations

import contextlib
import time

from napari_flowmag.device import peak_memory
from napari_flowmag.train.config import LoopConfig
from napari_flowmag.train.distributed import start_fabric
from napari_flowmag.train.feed import feed_device
from napari_flowmag.train.guard import Guard
from napari_flowmag.train.monitor import Meter
from napari_flowmag.train.run import Task, start_run
from napari_flowmag.train.step import one_step


def rehearse(task: Task, config: LoopConfig) -> dict[str, float]:
    """Do three steps without writing anything, and tell what a step costs.

    Returns
    -------
    dict
        ``loss``, ``seconds_per_step`` and ``seconds_waiting`` for data, means of the second and
        the third step; ``memory`` at its peak in MiB: of the graphics card, or else of this
        process, in which data are then prepared too.

    Raises
    ------
    FlowmagError
        If the data cannot be read, or loss or gradient are not finite.
    """
    run, meter = start_run(task, config, start_fabric(config)), Meter()
    guard = Guard(task, run, config, writes=False)
    with contextlib.closing(feed_device(task.dataset, run.fabric.device, 0, 0)) as batches:
        one_step(run, batches, config, guard)  # warms up
        began = time.monotonic()
        for _ in range(2):
            one_step(run, batches, config, guard, meter)
        loss = meter.means()["loss"]  # waits for the graphics card
    return {
        "loss": loss,
        "seconds_per_step": (time.monotonic() - began) / 2,
        "seconds_waiting": meter.waited / 2,
        "memory": peak_memory(run.fabric.device) / 2**20,
    }
