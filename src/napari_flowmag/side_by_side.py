"""Work on several threads at once, each with its share of the threads that torch computes with."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

_sharing = threading.Lock()


def side_by_side(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> list[Result]:
    """Do some work for each item, on threads that end with it.

    torch's number of threads is the process's: a thread takes it up when it first computes, and
    keeps it. So it is lowered only while the workers take it up, before any work, and one call at
    a time: whatever else computes in the process, then or later, has as many threads as before.

    Parameters
    ----------
    work : callable
        Called with an item.
    items : sequence
        As many as there are workers, or more.
    workers : int
        Number of threads; they share the process's.

    Returns
    -------
    list
        What the work gave for each item, in their order.
    """
    everyone = threading.Barrier(workers + 1)

    def take_share() -> None:
        torch.get_num_threads()
        everyone.wait()  # all have their share
        everyone.wait()  # and the process has its number again

    with ThreadPoolExecutor(workers, "flowmag", take_share) as pool:
        try:
            with _share_of(workers):
                results = pool.map(work, items)
                everyone.wait()
            everyone.wait()
        except BaseException:
            everyone.abort()  # or those that wait already would wait for ever
            raise
        return list(results)


def process_threads() -> int:
    """Return the number of threads that torch computes with in this process.

    A thread keeps the number that it finds when it first computes: where others were sharing
    theirs, a share. The calling thread has the process's from now on.
    """
    with _sharing:
        return _process_threads()


def _process_threads() -> int:
    with ThreadPoolExecutor(1) as new:
        threads = new.submit(torch.get_num_threads).result()
    torch.set_num_threads(threads)
    return threads


@contextmanager
def _share_of(workers: int) -> Iterator[None]:
    """Lower the process's number of threads to a worker's share."""
    with _sharing:
        threads = _process_threads()
        torch.set_num_threads(max(threads // workers, 1))
        try:
            yield
        finally:
            torch.set_num_threads(threads)
