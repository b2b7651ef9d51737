"""Operations on a graphics card, captured once and replayed by the card alone (CUDA graphs).

A light magnifier is thousands of small operations, which a card is done with sooner than a
processor has asked for them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_Act = Callable[..., tuple[Tensor, ...]]


class Captures:
    """Captures operations that share memory, and replays one of them at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: Any = None  # torch's name for some memory of the card

    def capture(self, act: _Act, given: list[Tensor]) -> _Act:
        """Return what does the same with other numbers.

        Parameters
        ----------
        act : callable
            Tensors to a tuple of tensors; this thread has called it with such ones before, as
            libraries set themselves up the first time. What it does depends on no number in them.
        given : list of Tensor
            On a card.
        """
        places = [_place(tensor) for tensor in given]
        device = given[0].device
        # A capture that fails may leave its stream behind; this puts back the one that was.
        with (
            self._lock,
            torch.cuda.device(device),
            torch.cuda.stream(torch.cuda.current_stream(device)),
        ):
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            graph = torch.cuda.CUDAGraph()
            # Other threads may use the card meanwhile.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                results = act(*places)

        def replay(*others: Tensor) -> tuple[Tensor, ...]:
            # What comes out lies where the next replay, of whatever it is, may compute.
            with self._lock, torch.cuda.device(others[0].device):
                for place, tensor in zip(places, others, strict=True):
                    _once(place).copy_(_once(tensor))
                graph.replay()
                return tuple(result.clone() for result in results)

        return replay


def _place(tensor: Tensor) -> Tensor:
    """Copy a tensor; what is repeated in it (one reference for many frames) is so in the copy."""
    once = _once(tensor)
    place = torch.empty_strided(once.shape, once.stride(), dtype=once.dtype, device=once.device)
    return place.copy_(once).expand(tensor.shape)


def _once(tensor: Tensor) -> Tensor:
    """Return a view without what is repeated."""
    for axis, stride in enumerate(tensor.stride()):
        if stride == 0:
            tensor = tensor.narrow(axis, 0, min(1, tensor.shape[axis]))
    return tensor
