"""A clip: frames in time with the physical facts that belong to them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_flowmag.errors import FlowmagError

if TYPE_CHECKING:
    import dask.array as da
    from numpy.typing import NDArray

AXES = "TZCYXS"
"""The axes a clip can have, in the order in which they come: time, depth, channel, rows, columns,
colour samples (RGB or RGBA)."""


@dataclass(frozen=True)
class Clip:
    """Frames in time, read lazily, with their physical scale.

    Parameters
    ----------
    frames
        Lazy array, one axis for each letter of `axes`. One chunk is one plane, that is one (T, Z)
        with all of its channels and colour samples.
    axes
        Letters of ``"TZCYXS"`` in that order; T, Y and X are always there.
    fps
        Frames a second, None if unknown.
    pixel_size
        Size of a pixel along each spatial axis there is, in (Z,) Y, X order; None if unknown.
    unit
        Unit of `pixel_size`, such as ``"µm"``; None if unknown.
    value_range
        Smallest and largest finite value, None until somebody computes it
        (:func:`finite_range`).
    name
        What to call the clip: the file's name without its suffix.
    channel_names
        One for each channel, None if the file names none.
    metadata
        Whatever else the file told, such as ``"path"`` and flowmag's own ``"provenance"``.
    """

    frames: da.Array
    axes: str
    fps: float | None = None
    pixel_size: tuple[float, ...] | None = None
    unit: str | None = None
    value_range: tuple[float, float] | None = None
    name: str = "clip"
    channel_names: tuple[str, ...] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if "".join(a for a in AXES if a in self.axes) != self.axes or not set("TYX") <= {*self.axes}:
            raise FlowmagError(
                f"axes {self.axes!r} of clip {self.name!r}: give T, Y, X and any of Z, C, S, in the "
                f"order {AXES}"
            )
        if self.frames.ndim != len(self.axes):
            raise FlowmagError(
                f"clip {self.name!r}: axes {self.axes} do not fit frames of shape "
                f"{tuple(self.frames.shape)}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the frames, in the order of `axes`."""
        return tuple(int(n) for n in self.frames.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the frames."""
        return np.dtype(self.frames.dtype)

    @property
    def sizes(self) -> dict[str, int]:
        """Length of each axis by its letter."""
        return dict(zip(self.axes, self.shape, strict=True))

    def __len__(self) -> int:
        return self.shape[0]

    def frame(self, index: int) -> NDArray[Any]:
        """Read one time point: an array of all axes after T."""
        return np.asarray(self.frames[index])

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self.frame(t) for t in range(len(self)))

    def replace(self, **changes: Any) -> Clip:
        """Return a copy with some fields changed."""
        return dataclasses.replace(self, **changes)


def finite_range(clip: Clip) -> tuple[float, float]:
    """Return the smallest and the largest finite value of a clip, read frame by frame.

    Parameters
    ----------
    clip
        The clip. NaN and infinities are passed over.

    Raises
    ------
    FlowmagError
        If no value of the clip is finite.
    """
    low, high = np.inf, -np.inf
    for frame in clip:
        values = frame[np.isfinite(frame)] if frame.dtype.kind == "f" else frame
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    if low > high:
        raise FlowmagError(f"clip {clip.name!r} has no finite value: every pixel is NaN or infinite")
    return low, high
