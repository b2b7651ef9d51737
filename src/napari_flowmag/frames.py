"""A clip as the engine reads it: one frame at a time, as planes with their channels last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from napari_flowmag.clip import AXES
from napari_flowmag.errors import FlowmagError

_USUAL_AXES = {3: "TYX", 4: "TYXC"}


class ArrayLike(Protocol):
    """What dask, zarr, h5py and numpy arrays have in common."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""

    @property
    def dtype(self) -> Any:
        """Type of the values."""

    def __getitem__(self, index: int, /) -> Any:
        """Return a frame."""


@dataclass(frozen=True, eq=False)
class Frames:
    """Array-like frames whose axes are known.

    Attributes
    ----------
    data : array-like
        Time first. Read a frame at a time, whatever its kind.
    axes : str
        A letter of ``TZCYXS`` for each axis, T first.

    Raises
    ------
    FlowmagError
        If the frames cannot be a clip: wrong axes, no pixels, values that are not real
        numbers.
    """

    data: ArrayLike
    axes: str

    def __post_init__(self) -> None:
        axes, shape = self.axes, self.shape
        if len(set(axes)) < len(axes) or not set("TYX") <= set(axes) <= set(AXES) or axes[0] != "T":
            raise FlowmagError(
                f"axes '{axes}': give T first, Y and X, and any of Z, C and S, each once"
            )
        if len(axes) != len(shape):
            raise FlowmagError(f"axes {axes} do not fit frames of shape {shape}")
        if 0 in shape:
            raise FlowmagError(f"the clip is empty: its shape is {shape}")
        if self.dtype.kind not in "buif":
            raise FlowmagError(
                f"pixels of type {self.dtype} cannot be magnified: convert them to real numbers"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return tuple(int(n) for n in self.data.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        dtype: np.dtype[Any] = np.dtype(self.data.dtype)
        return dtype

    @property
    def sizes(self) -> dict[str, int]:
        """Length of each axis by its letter."""
        return dict(zip(self.axes, self.shape, strict=True))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a plane in px."""
        return self.sizes["Y"], self.sizes["X"]

    @property
    def channels(self) -> tuple[int, ...]:
        """The channels of a plane that are magnified; all but the opacity of RGBA pictures."""
        count, samples = self.sizes.get("C", 1), self.sizes.get("S", 1)
        return tuple(
            c * samples + s for c in range(count) for s in range(3 if samples == 4 else samples)
        )

    @property
    def group(self) -> int:
        """How many neighbouring channels are one colour picture: 3 for RGB, 4 for RGBA, else 1."""
        return self.sizes.get("S", 1)

    def __len__(self) -> int:
        return self.shape[0]

    def at_depth(self, z: int) -> Frames:
        """Return one slice of frames with depth, as frames without.

        Raises
        ------
        FlowmagError
            If there is no such slice.
        """
        if "Z" not in self.axes:
            raise FlowmagError(f"slice {z}: the clip has no depth (its axes are {self.axes})")
        if not 0 <= z < self.sizes["Z"]:
            raise FlowmagError(f"slice {z}: the clip has {self.sizes['Z']}, counted from 0")
        return Frames(_Slice(self.data, self.axes.index("Z"), z), self.axes.replace("Z", ""))

    def planes(self, index: int) -> NDArray[Any]:
        """Read a frame as (Z, Y, X, channels), C-contiguous, in the clip's values.

        Raises
        ------
        FlowmagError
            If a pixel is NaN or infinite: no model can tell where such a pixel moves.
        """
        frame = self.data[index]
        if hasattr(frame, "compute"):
            # Without dask's threads: they gain nothing on one frame.
            frame = frame.compute(scheduler="synchronous")
        frame = np.asarray(frame)
        if not isinstance(self.data, np.ndarray):
            frame = frame.copy()  # it may be a buffer that the next frame is read into
        if frame.dtype.kind == "f" and not np.isfinite(frame).all():
            count = frame.size - np.count_nonzero(np.isfinite(frame))
            raise FlowmagError(
                f"frame {index} has {count} NaN or infinite pixels: fill them first, "
                "for example with numpy.nan_to_num"
            )
        present = [a for a in "ZYXCS" if a in self.axes]
        frame = frame.transpose([self.axes.index(a) - 1 for a in present])
        z, (y, x) = self.sizes.get("Z", 1), self.size
        return np.ascontiguousarray(frame.reshape(z, y, x, -1))

    def frame(self, planes: NDArray[Any]) -> NDArray[Any]:
        """Bring planes back into the shape, axes and type of a frame: undoes :meth:`planes`."""
        present = [a for a in "ZYXCS" if a in self.axes]
        frame = planes.reshape([self.sizes[a] for a in present])
        frame = frame.transpose([present.index(a) for a in self.axes[1:]])
        return np.ascontiguousarray(frame, dtype=self.dtype)


@dataclass(frozen=True, eq=False)
class _Slice:
    """Array-like frames of which one slice along an axis is taken when a frame is read."""

    data: ArrayLike
    axis: int
    index: int

    @property
    def shape(self) -> tuple[int, ...]:
        shape = tuple(self.data.shape)
        return shape[: self.axis] + shape[self.axis + 1 :]

    @property
    def dtype(self) -> Any:
        return self.data.dtype

    def __getitem__(self, index: int, /) -> Any:
        frame = self.data[index]  # lazy where the data are: dask then reads just the slice
        return frame[(slice(None),) * (self.axis - 1) + (self.index,)]


def as_frames(data: Any, axes: str | None = None) -> Frames:
    """Take anything that holds frames.

    Parameters
    ----------
    data : array-like
        numpy, dask, zarr, h5py, …: has ``shape``, ``dtype`` and gives a frame for an index; or
        nested sequences.
    axes : str, optional
        A letter of ``TZCYXS`` for each axis. None: (T, H, W) or (T, H, W, C).

    Raises
    ------
    FlowmagError
        If that is not a clip (see :class:`Frames`).
    """
    if not isinstance(getattr(data, "dtype", None), np.dtype):
        data = np.asarray(data)
    if axes is None:
        axes = _USUAL_AXES.get(len(data.shape))
    if axes is None:
        raise FlowmagError(
            f"frames of shape {tuple(data.shape)}: give (T, H, W) or (T, H, W, C), or name the axes"
        )
    return Frames(cast("ArrayLike", data), axes)
