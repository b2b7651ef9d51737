"""All frames of a request, magnified into memory or into a file that stands in for it."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_flowmag._layers import OWN
from napari_flowmag._preload import preload_torch
from napari_flowmag.errors import FlowmagError

if TYPE_CHECKING:
    import threading

    from numpy.typing import NDArray

    from napari_flowmag._request import Request

_SHARE = 4  # results of more than a quarter of the free memory go to a file

_numbers = itertools.count(1)


class Reporter(Protocol):
    """How a run reports and is stopped."""

    cancelled: threading.Event

    def progress(self, done: int, total: int) -> None:
        """Report frames done and frames in all."""

    def produce(self, value: Any) -> None:
        """Report a line for the user."""


def run_request(request: Request, reporter: Reporter) -> list[tuple[Any, dict[str, Any]]]:
    """Magnify all frames.

    Returns
    -------
    list of (array, dict)
        Data and keyword arguments of the layers that show the result; see
        :meth:`~napari_flowmag._request.Request.result_layers`.

    Raises
    ------
    FlowmagError
        If settings, clip and model do not fit together, or there is no room for the result.
    Cancelled
        If the reporter says so.
    """
    preload_torch()
    job = request.magnification(notify=reporter.produce)
    try:
        record = job.provenance()
        frames = _room(job.shape, job.dtype)
        for place, frame in enumerate(job.frames(reporter.progress, reporter.cancelled)):
            frames[place] = frame
        layers = request.result_layers(frames, record)
    finally:
        job.close()
    number = next(_numbers)
    for _, settings in layers:
        settings["metadata"][OWN]["number"] = number
    return layers


def _room(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an array to fill, in memory if that is large enough."""
    size = int(np.prod(shape)) * dtype.itemsize
    if size <= _free_memory() // _SHARE:
        return np.empty(shape, dtype)
    with tempfile.NamedTemporaryFile(prefix="flowmag-", suffix=".raw", delete=False) as file:
        path = Path(file.name)
    try:
        _reserve(path, size)
    except FlowmagError:
        path.unlink()
        raise
    array = np.memmap(path, dtype, "r+", shape=shape)
    weakref.finalize(array, _remover(path))
    return array


def _reserve(path: Path, size: int) -> None:
    """Give a file all of its bytes: a full disk under a mapped file ends the whole process."""
    full = (
        f"no room for the result in {path.parent}: it takes {size / 1e9:.3g} GB; free some, or set "
        "TMPDIR to a folder on a larger disk"
    )
    if shutil.disk_usage(path.parent).free < size:
        raise FlowmagError(full)
    with path.open("r+b") as file:
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(file.fileno(), 0, size)
                return
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                    raise FlowmagError(full) from error
        file.truncate(size)  # neither this system nor this file system reserves


def _remover(path: Path) -> Callable[[], None]:
    return lambda: path.unlink(missing_ok=True)


def _free_memory() -> int:
    import psutil

    return int(psutil.virtual_memory().available)
