"""The same work on many things by several processes, any of which may die."""

from __future__ import annotations

import multiprocessing
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Died:
    """In place of a result: the process that worked on it is no more.

    Attributes
    ----------
    code : int or None
        Its exit status; −9 for one that the system killed, as for want of memory.
    """

    code: int | None


def work_through(
    start: Callable[[], Callable[[Item], Result]], items: Sequence[Item], workers: int
) -> Iterator[tuple[Item, Result | Died]]:
    """Do each item, and give its result as soon as it is there.

    The processes end with the iterator, whether it was used up or closed, and leave Ctrl+C to this
    one. What one of them raises is raised here.

    Parameters
    ----------
    start
        Called once in each process; what it returns is called with each item. Both travel to the
        processes.
    items
        What to do.
    workers
        Number of processes; 0 works in this one.
    """
    if not items:
        return
    if not workers:
        do = start()
        yield from ((item, do(item)) for item in items)
        return
    queue = deque(items)
    crew: list[_Worker[Item]] = []
    try:
        while queue or crew:
            while queue and len(crew) < workers:
                crew.append(_Worker(start, queue.popleft()))
            ready = wait([worker.connection for worker in crew])
            for worker in [worker for worker in crew if worker.connection in ready]:
                item, answer = worker.item, worker.answer()
                if isinstance(answer, Died) or not queue:
                    worker.stop()
                    crew.remove(worker)
                else:
                    worker.give(queue.popleft())
                yield item, answer
    finally:
        for worker in crew:
            worker.stop()


class _Worker(Generic[Item]):
    """A process with an item to do."""

    def __init__(self, start: Callable[[], Callable[[Item], Any]], item: Item) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, start), daemon=True)
        with _interrupts_ignored():
            self._process.start()
        theirs.close()  # so that the connection ends with the process
        self.give(item)

    def give(self, item: Item) -> None:
        self.item = item
        with suppress(OSError):  # that it has died is seen when it should answer
            self.connection.send(item)

    def answer(self) -> Any:
        try:
            answer = self.connection.recv()
        except (EOFError, OSError):
            self._process.join()
            return Died(self._process.exitcode)
        if isinstance(answer, _Raised):
            raise answer.error
        return answer

    def stop(self) -> None:
        self._process.terminate()
        self._process.join()
        self.connection.close()


@dataclass(frozen=True)
class _Raised:
    error: Exception


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Let a process that is started now never see Ctrl+C, not even while it imports."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _serve(connection: Connection, start: Callable[[], Callable[[Any], Any]]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        do = start()
        while True:
            connection.send(do(connection.recv()))
    except (EOFError, BrokenPipeError):  # the other side is no more
        return
    except Exception as error:
        error.add_note(traceback.format_exc())
        connection.send(_Raised(error))
