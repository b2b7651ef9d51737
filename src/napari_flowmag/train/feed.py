"""Batches for the training loop, prepared ahead in another process."""

from __future__ import annotations

import contextlib
import itertools
import signal
from collections.abc import Callable, Generator, Iterator
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from napari_flowmag.errors import FlowmagError
from napari_flowmag.stop_signals import ending_signals

Batch = dict[str, Tensor]


@runtime_checkable
class DrawsOnDevice(Protocol):
    """A dataset part of whose batches may be drawn where they are used: on a graphics card."""

    def on(self, device: torch.device) -> tuple[Dataset[Batch], Callable[[Batch], Batch]]:
        """Return a dataset that leaves that part out, and what adds it to a batch on the device."""
        ...


def feed_device(
    dataset: Dataset[Batch], device: torch.device, start: int, workers: int
) -> Generator[Batch]:
    """Yield batches as :func:`feed` does, on a device.

    What a dataset can draw on a graphics card (:class:`DrawsOnDevice`) is drawn there: a scene
    costs a core of a CPU ten times and more what training on it costs such a card. They are then
    others than on the CPU, by the same rule.
    """
    finish: Callable[[Batch], Batch] | None = None
    if device.type != "cpu" and isinstance(dataset, DrawsOnDevice):
        dataset, finish = dataset.on(device)
    with contextlib.closing(feed(dataset, start, workers)) as batches:
        for batch in batches:
            there = {name: part.to(device) for name, part in batch.items()}
            yield finish(there) if finish is not None else there


def feed(dataset: Dataset[Batch], start: int, workers: int) -> Generator[Batch]:
    """Yield ``dataset[start]``, ``dataset[start + 1]`` and so on, without end.

    Close the generator to end the workers.

    Parameters
    ----------
    dataset
        Each item is one finished batch.
    start
        Number of the first batch.
    workers
        Processes that prepare batches; 0 prepares them here.

    Raises
    ------
    FlowmagError
        What the dataset raises, with its own message.
    """
    loader: DataLoader[Batch | FlowmagError] = DataLoader(
        _Sealed(dataset),
        batch_size=None,
        sampler=_From(start),
        num_workers=workers,
        worker_init_fn=_leave_signals_to_parent,
        generator=torch.Generator(),  # else it draws from the task's randomness
    )
    batches = iter(loader)
    try:
        for batch in batches:
            if isinstance(batch, FlowmagError):
                raise batch
            yield batch
    finally:
        # Not left to the garbage collector: an error's traceback may keep them until Python ends,
        # which would then wait for ever for workers that no signal ends.
        end_workers = getattr(batches, "_shutdown_workers", None)
        if end_workers is not None:
            end_workers()


@contextlib.contextmanager
def workers_needed() -> Iterator[None]:
    """Tell in a line that a process that prepares batches has gone; torch does so at any moment.

    Raises
    ------
    FlowmagError
        If one was ended from outside.
    """
    try:
        yield
    except RuntimeError as error:
        # "(pid 5) is killed by signal: Killed." or "(pid(s) 5, 6) exited unexpectedly"
        if not str(error).startswith("DataLoader worker (pid"):
            raise
        raise FlowmagError(
            "a process that prepares batches was ended from outside, as happens when memory is "
            "full: resume with fewer --workers"
        ) from error


def share(count: int, rank: int, ranks: int) -> range:
    """Return which of `count` places in a batch are a rank's.

    Raises
    ------
    FlowmagError
        If they cannot be shared evenly: the mean over ranks would not be that over the batch.
    """
    if count % ranks:
        raise FlowmagError(
            f"setting batch = {count}: give a multiple of {ranks}, the number of processes"
        )
    size = count // ranks
    return range(rank * size, (rank + 1) * size)


class _Sealed(Dataset[Batch | FlowmagError]):
    """Hands errors over as values: a worker that raises would bury the message in a traceback."""

    def __init__(self, dataset: Dataset[Batch]) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> Batch | FlowmagError:
        try:
            return self.dataset[index]
        except FlowmagError as error:
            return error


class _From(Sampler[int]):
    """The batch numbers from `start` on, without end: the budget ends the loop."""

    def __init__(self, start: int) -> None:
        self.start = start

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self.start)


def _leave_signals_to_parent(_: int) -> None:
    # Ctrl-C, a closed terminal, and a scheduler that ends a job, reach the whole process group. The
    # training process answers; workers, which end with it, must feed the step at hand.
    for number in (signal.SIGINT, *ending_signals()):
        signal.signal(number, signal.SIG_IGN)
