"""From a function that reads one plane to a lazy array of all of them."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import uuid4

import numpy as np

from napari_flowmag.clip import plane_chunks
from napari_flowmag.errors import FlowmagError

if TYPE_CHECKING:
    import dask.array as da
    from numpy.typing import NDArray

Handle = TypeVar("Handle")


class PerProcess(Generic[Handle]):
    """Something opened on first use, anew in every process, and closed when nobody needs it.

    File handles and decoders neither travel in a pickle nor survive a fork, while clips are given
    to the worker processes of data loaders.
    """

    def __init__(self, open_: Callable[[], Handle], close: Callable[[Handle], None]) -> None:
        self._open = open_
        self._close = close
        self._opened: tuple[int, Handle] | None = None

    def get(self) -> Handle:
        """Return the handle of this process."""
        if self._opened is None or self._opened[0] != os.getpid():
            handle = self._open()
            self._opened = (os.getpid(), handle)
            weakref.finalize(self, _close_here, os.getpid(), self._close, handle)
        return self._opened[1]

    def __getstate__(self) -> dict[str, Any]:
        return {"_open": self._open, "_close": self._close, "_opened": None}


_inherited: list[object] = []


def _close_here(process: int, close: Callable[[Any], None], handle: object) -> None:
    if os.getpid() == process:
        close(handle)
    else:
        # A forked process has its parent's decoders without their threads. To free one would wait
        # for these for ever.
        _inherited.append(handle)


@dataclass(frozen=True)
class _ReadBlock:
    """Reads one chunk; a class and no closure, so that a clip can be pickled."""

    read: Callable[[int, int], NDArray[Any]]
    leading: int
    plane_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    name: str

    def __call__(self, block_id: tuple[int, ...]) -> NDArray[Any]:
        t, z = block_id[0], block_id[1] if self.leading == 2 else 0
        try:
            plane = self.read(t, z)
        except (FlowmagError, MemoryError):
            raise
        except Exception as error:  # every library has errors of its own for damaged data
            reason = " ".join(str(error).split()) or type(error).__name__
            raise FlowmagError(f"frame {t} of {self.name} cannot be read: {reason}") from error
        plane = plane.astype(plane.dtype.newbyteorder("="), copy=False)
        if plane.shape != self.plane_shape or plane.dtype != self.dtype:
            raise FlowmagError(
                f"frame {t} of {self.name} has shape {plane.shape} and type {plane.dtype}, the "
                f"first one {self.plane_shape} and {self.dtype}: a clip needs frames of one kind"
            )
        return plane[(np.newaxis,) * self.leading]


def lazy_frames(
    read: Callable[[int, int], NDArray[Any]],
    axes: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    name: str,
) -> da.Array:
    """Return an array whose planes are read when they are asked for.

    Parameters
    ----------
    read
        ``read(t, z)`` gives one plane: an array of the axes after T and Z.
    axes, shape, dtype
        What the whole array is, letters of ``"TZCYXS"``; it comes in the machine's byte order.
    name
        The clip's name, for messages.
    """
    import dask.array as da

    leading = 2 if "Z" in axes else 1
    dtype = dtype.newbyteorder("=")
    frames: da.Array = da.map_blocks(
        _ReadBlock(read, leading, shape[leading:], dtype, name),
        chunks=tuple(
            (c,) * (n // c) for c, n in zip(plane_chunks(axes, shape), shape, strict=True)
        ),
        dtype=dtype,
        meta=np.empty((0,) * len(shape), dtype),
        name=f"clip-{uuid4().hex}",
    )
    return frames
