"""Stopping in the middle of a network: a check before each layer, for one thread alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

_thread = threading.local()


@contextmanager
def interruptible(check: Callable[[], None]) -> Iterator[None]:
    """Call a check before each layer that this thread computes in the meantime.

    A heavy network takes seconds for a tile, and a minute for a step of its training.

    torch tells of the layers of all networks. Hooks on the layers themselves would be called in
    other threads that compute with the same network, and would be copied along with it.

    Parameters
    ----------
    check : callable
        May raise to stop.
    """
    before = getattr(_thread, "check", None)
    _thread.check = check
    _watch.begin()
    try:
        yield
    finally:
        _watch.end()
        _thread.check = before


def _ask(layer: nn.Module, inputs: Any) -> None:
    check = getattr(_thread, "check", None)
    if check is not None:
        check()


class _Watch:
    """Has torch tell of each layer as long as anyone wants to know: it costs others a little."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    def begin(self) -> None:
        with self._lock:
            if self._count == 0:
                self._hook = register_module_forward_pre_hook(_ask)
            self._count += 1

    def end(self) -> None:
        with self._lock:
            self._count -= 1
            if self._count == 0:
                self._hook.remove()


_watch = _Watch()
