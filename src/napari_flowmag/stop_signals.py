"""Stopping a long job at a point where its work can be saved."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def stop_signal() -> Iterator[threading.Event]:
    """Set an event on SIGINT and on what asks to end, instead of what they do otherwise.

    The second signal of a kind acts as ever, so a job that hangs can still be stopped. Outside
    the main thread, which alone can handle signals, the event stays unset.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    # getsignal gives None for a handler that Python did not install and cannot put back.
    before = {
        number: signal.getsignal(number) or signal.SIG_DFL
        for number in (signal.SIGINT, *ending_signals())
    }

    def handle(number: int, _: FrameType | None) -> None:
        stop.set()
        if not outlive_terminal(number):
            signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def outlive_terminal(number: int) -> bool:
    """Go on without the terminal if a signal says that it was closed; tell whether it does.

    Shell and system may both say so, and what is written to it from now on would be an error.
    """
    if number != getattr(signal, "SIGHUP", None):
        return False
    signal.signal(number, signal.SIG_IGN)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISCHR(os.fstat(stream).st_mode):  # no file, and no other program
                os.dup2(nowhere, stream)
    os.close(nowhere)
    return True


def ending_signals() -> list[signal.Signals]:
    """Return the signals that ask to end: SIGTERM, and that the terminal was closed (not nohup)."""
    hang_up = getattr(signal, "SIGHUP", None)  # Windows has none
    if hang_up is None or signal.getsignal(hang_up) is signal.SIG_IGN:
        return [signal.SIGTERM]
    return [signal.SIGTERM, hang_up]
