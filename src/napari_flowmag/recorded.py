"""A magnifier's operations, recorded once for frames of a size and replayed without Python.

A light magnifier is thousands of small operations a frame. Python takes a fifth of their time to
call them, and while it does so no other thread can. Replayed by torch they are the same, in the
same order, and give the same to the bit.

A graphics card waits for them most of the time, and replays them on its own
(:mod:`napari_flowmag.captured`).
"""

from __future__ import annotations

import copy
import logging
import threading
import warnings
import weakref
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from napari_flowmag.captured import Captures
from napari_flowmag.device import is_out_of_memory
from napari_flowmag.errors import Cancelled
from napari_flowmag.models.base import Alpha, Magnifier, MaskedAlpha
from napari_flowmag.nested import filled, parts, tensors

_Act = Callable[..., tuple[Tensor, ...]]

_torch: Any = torch._C  # not all of which is declared
_jit: Any = torch.jit

_logger = logging.getLogger(__name__)

_NOTHING = torch.empty(0)


class _Replay(NamedTuple):
    """What gives the tensors that a method gave, and what it had them in."""

    act: _Act
    form: Any


class _Met(threading.local):
    """What a thread has been asked for."""

    def __init__(self) -> None:
        self.keys: set[Hashable] = set()


class Recorded:
    """Does what a magnifier does; what it has done with like inputs before, it replays.

    May be used from several threads at once: one records while the others wait.

    Parameters
    ----------
    magnifier : Magnifier
        Has methods that are ``recordable``. Its weights do not change as long as this is used, and
        each of its methods is called with the same precision.
    """

    def __init__(self, magnifier: Magnifier) -> None:
        # Recorded weights are constants, which must not ask for gradients.
        self._magnifier = copy.deepcopy(magnifier).requires_grad_(False)
        self._methods = {name: getattr(self._magnifier, name) for name in magnifier.recordable}
        this = weakref.proxy(self)  # or recordings would stay until garbage is collected
        for name in self._methods:
            setattr(self._magnifier, name, partial(Recorded._do, this, name))
        self._recordings: dict[Hashable, _Replay | None] = {}
        self._recording = threading.Lock()
        self._captures = Captures()
        self._met = _Met()

    def predict(self, prepared: Any, frame: Tensor, alpha: Alpha) -> Tensor:
        """See :meth:`napari_flowmag.models.base.Magnifier.predict`."""
        return self._magnifier.predict(prepared, frame, alpha)

    def render(self, prediction: Tensor, shown: Any, frame: Tensor, alpha: Alpha) -> Tensor:
        """See :meth:`napari_flowmag.models.base.Magnifier.render`."""
        return self._magnifier.render(prediction, shown, frame, alpha)

    def _do(self, name: str, *inputs: Any) -> Any:
        given = list(tensors(inputs))
        key = (name, _form(inputs))
        if key not in self._recordings:
            # On a card the first is computed: a clip's last batch, of fewer frames, comes once, and
            # libraries set themselves up in each thread, which cannot be captured.
            if given[0].is_cuda and key not in self._met.keys:
                self._met.keys.add(key)
                return self._methods[name](*inputs)
            with self._recording:
                if key not in self._recordings:
                    self._recordings[key] = self._record(name, inputs, given)
        replay = self._recordings[key]
        if replay is None:
            return self._methods[name](*inputs)
        return filled(replay.form, iter(replay.act(*given)))

    def _record(self, name: str, inputs: tuple[Any, ...], given: list[Tensor]) -> _Replay | None:
        """Return what replays a method, or None where torch cannot."""
        form = None

        def act(*others: Tensor) -> tuple[Tensor, ...]:
            nonlocal form
            result = self._methods[name](*filled(inputs, iter(others)))
            found = tuple(tensors(result))
            form = filled(result, iter([_NOTHING] * len(found)))
            return found

        replay_of = self._captures.capture if given[0].is_cuda else _replay_of
        try:
            return _Replay(replay_of(act, given), form)
        except Cancelled:
            raise
        except Exception as error:  # whatever torch's recorder, which it gives up, comes to raise
            if is_out_of_memory(error):
                raise
            _logger.info("operations cannot be recorded: %s", error)
            return None


def _replay_of(act: _Act, given: list[Tensor]) -> _Act:
    # That sizes become constants is what is wanted. For good, as what puts filters back does so
    # for all threads, whatever they have set meanwhile.
    warnings.filterwarnings("ignore", category=_jit.TracerWarning)
    # Not torch.jit.trace, which never frees the 50 MB that a recording takes.
    graph, *_ = _torch._create_graph_by_tracing(act, tuple(given), lambda _: "", True, False)
    _torch._jit_pass_constant_pooling(graph)
    recorded: _Act = _torch._create_function_from_graph("recorded", graph)

    def replay(*others: Tensor) -> tuple[Tensor, ...]:
        with _jit.optimized_execution(False):  # which would run slowly twice to learn little
            return recorded(*others)

    return replay


def _form(value: Any) -> Hashable:
    """Return what operations may depend on: all but the numbers in tensors."""
    if isinstance(value, Tensor):
        return value.dtype, tuple(value.shape), value.stride()
    if not isinstance(value, tuple | list | dict | MaskedAlpha):
        return repr(value)
    rest = value.outside if isinstance(value, MaskedAlpha) else None
    names = tuple(value) if isinstance(value, dict) else ()
    return type(value), rest, names, tuple(_form(part) for part in parts(value))
