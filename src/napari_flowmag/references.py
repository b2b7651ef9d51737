"""The frame from which motion is measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_flowmag.errors import FlowmagError
from napari_flowmag.frames import Frames

_MEDIAN_BYTES = 2**27


def reference_index(reference: int, count: int) -> int:
    """Return the place, from 0, of a reference frame in a clip of `count` frames.

    Parameters
    ----------
    reference : int
        An index into the clip, negative from its end.
    count : int
        Number of frames.

    Raises
    ------
    FlowmagError
        If the clip has no such frame.
    """
    if not -count <= reference < count:
        raise FlowmagError(
            f"reference frame {reference}: the clip has {count} frames, counted from 0"
        )
    return reference % count


def used_frames(reference: int | str, selected: range, count: int) -> set[int]:
    """Return the frames of a clip that a magnification is made from.

    Parameters
    ----------
    reference, selected
        As in :func:`fixed_reference`.
    count : int
        Number of frames of the clip.

    Raises
    ------
    FlowmagError
        If the clip has no such reference.
    """
    own = {reference_index(reference, count)} if isinstance(reference, int) else set()
    return {*selected, *own}


def fixed_reference(
    frames: Frames,
    reference: int | str,
    selected: range,
    check: Callable[[], None] = lambda: None,
) -> NDArray[Any] | None:
    """Planes of the reference that all frames share, or None if each has its own.

    Parameters
    ----------
    frames : Frames
        The clip.
    reference : int or str
        An index into the clip, negative from its end; ``first``, ``mean`` or ``median`` of the
        selected frames; or ``previous``, which differs for each frame.
    selected : range
        The frames that are magnified.
    check : callable
        Called before each frame that is read; may raise to stop.

    Returns
    -------
    ndarray or None
        (Z, Y, X, channels): in the clip's type if it is a frame, else float64.

    Raises
    ------
    FlowmagError
        If the clip has no such frame.
    """
    if isinstance(reference, int):
        return frames.planes(reference_index(reference, len(frames)))
    return _NAMED[reference](frames, selected, check)


def _first(frames: Frames, selected: range, check: Callable[[], None]) -> NDArray[Any]:
    return frames.planes(selected[0])


def _mean(frames: Frames, selected: range, check: Callable[[], None]) -> NDArray[Any]:
    total = np.zeros(frames.planes(selected[0]).shape)
    for index in selected:
        check()
        total += frames.planes(index)
    return total / len(selected)


def _median(frames: Frames, selected: range, check: Callable[[], None]) -> NDArray[Any]:
    # A median needs all frames at once, but only of its own pixel: a band of rows at a time,
    # with the clip read again for each band, so that memory does not grow with the clip.
    depth, height, width, channels = frames.planes(selected[0]).shape
    row_bytes = len(selected) * depth * width * channels * frames.dtype.itemsize
    rows = max(_MEDIAN_BYTES // row_bytes, 1)
    median = np.empty((depth, height, width, channels))
    for top in range(0, height, rows):
        band = np.empty((len(selected), *median[:, top : top + rows].shape), frames.dtype)
        for place, index in enumerate(selected):
            check()
            band[place] = frames.planes(index)[:, top : top + rows]
        median[:, top : top + rows] = np.median(band, axis=0)
    return median


def _previous(frames: Frames, selected: range, check: Callable[[], None]) -> None:
    return None


_NAMED: dict[str, Callable[[Frames, range, Callable[[], None]], NDArray[Any] | None]] = {
    "first": _first,
    "mean": _mean,
    "median": _median,
    "previous": _previous,
}
