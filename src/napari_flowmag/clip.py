"""A clip: frames in time with the physical facts that belong to them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_flowmag import units
from napari_flowmag.errors import FlowmagError

if TYPE_CHECKING:
    import dask.array as da
    from numpy.typing import ArrayLike, NDArray

AXES = "TZCYXS"
"""The axes a clip can have, in the order in which they come: time, depth, channel, rows, columns,
colour samples (RGB or RGBA)."""


@dataclass(frozen=True)
class Clip:
    """Frames in time, read lazily, with their physical scale.

    Parameters
    ----------
    frames
        Lazy array, one axis for each letter of `axes`. One chunk is one plane: one (T, Z) with all
        of its channels and colour samples.
    axes
        Letters of ``"TZCYXS"`` in that order; T, Y and X are always there.
    fps
        Frames a second, None if unknown.
    pixel_size
        Size of a pixel along each spatial axis there is, in (Z,) Y, X order; of Y and X alone where
        only the depth of a step is unknown; None if unknown.
    unit
        Unit of `pixel_size`, such as ``"µm"``; None just when that is.
    value_range
        Smallest and largest finite value; None until somebody computes it (:func:`finite_range`).
    name
        What to call the clip: the file's name without its suffix.
    channel_names
        One for each channel; None if they have no names.
    metadata
        What else the file told: ``"path"``, ``"format"``, flowmag's own ``"provenance"``, and the
        ``"pixel_aspect"`` of videos whose pixels are no squares, width over height as ``"4/3"``.

    Raises
    ------
    FlowmagError
        If the fields contradict one another, or the clip is empty or not of numbers.
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
        self._check_axes()
        self._check_scale()
        if self.dtype.kind not in "buif":
            raise FlowmagError(
                f"clip {self.name!r} holds values of type {self.dtype}: give whole or real numbers"
            )
        if 0 in self.shape:
            raise FlowmagError(f"clip {self.name!r} is empty: its shape is {self.shape}")

    def _check_axes(self) -> None:
        known = "".join(a for a in AXES if a in self.axes)
        if known != self.axes or not set("TYX") <= set(self.axes):
            raise FlowmagError(
                f"axes {self.axes!r} of clip {self.name!r}: give T, Y, X and any of Z, C, S, in "
                f"the order {AXES}"
            )
        if self.frames.ndim != len(self.axes):
            raise FlowmagError(
                f"clip {self.name!r}: axes {self.axes} do not fit frames of shape {self.shape}"
            )
        if self.sizes.get("S", 3) not in (3, 4):
            raise FlowmagError(
                f"clip {self.name!r}: {self.sizes['S']} colour samples are neither RGB nor RGBA: "
                f"call the axis C"
            )
        if self.channel_names is not None and len(self.channel_names) != self.sizes.get("C", 1):
            raise FlowmagError(
                f"clip {self.name!r}: {len(self.channel_names)} names for "
                f"{self.sizes.get('C', 1)} channels"
            )

    def _check_scale(self) -> None:
        if self.fps is not None and not (math.isfinite(self.fps) and self.fps > 0):
            raise FlowmagError(
                f"clip {self.name!r}: {self.fps} frames a second: give a number above 0"
            )
        if self.fps is not None:
            object.__setattr__(self, "fps", float(self.fps))
        if (self.unit is None) != (self.pixel_size is None):
            raise FlowmagError(
                f"clip {self.name!r}: pixel size {self.pixel_size} and unit {self.unit!r}: give "
                f"both or neither"
            )
        if self.unit is not None:
            unit = units.length(self.unit)
            if unit is None:
                raise FlowmagError(
                    f"clip {self.name!r}: {self.unit!r} is no unit of length: give one such as "
                    f"'µm', 'nm', 'mm' or none"
                )
            object.__setattr__(self, "unit", unit.symbol)
        if self.pixel_size is None:
            return
        if len(self.pixel_size) not in (2, len(self.spatial_axes)) or not all(
            math.isfinite(size) and size > 0 for size in self.pixel_size
        ):
            raise FlowmagError(
                f"clip {self.name!r}: pixel size {self.pixel_size}: give a length above 0 for each "
                f"of {', '.join(self.spatial_axes)}"
            )

    @classmethod
    def from_array(cls, frames: ArrayLike | da.Array, axes: str, **facts: Any) -> Clip:
        """Make a clip of an array in memory, a dask, zarr or other array-like one.

        Parameters
        ----------
        frames
            The array, one axis for each letter of `axes`.
        axes
            Letters of ``"TZCYXS"`` in that order.
        **facts
            The other fields of :class:`Clip`.
        """
        import dask.array as da

        lazy = frames if hasattr(frames, "shape") else np.asarray(frames)
        if len(lazy.shape) != len(axes):
            raise FlowmagError(f"axes {axes!r} do not fit an array of shape {tuple(lazy.shape)}")
        chunks = plane_chunks(axes, lazy.shape)
        if isinstance(lazy, da.Array):
            return cls(lazy.rechunk(chunks), axes, **facts)
        return cls(da.from_array(lazy, chunks=chunks, name=False, inline_array=True), axes, **facts)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the frames, in the order of `axes`."""
        return tuple(int(n) for n in self.frames.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the frames."""
        dtype: np.dtype[Any] = self.frames.dtype
        return dtype

    @property
    def sizes(self) -> dict[str, int]:
        """Length of each axis by its letter."""
        return dict(zip(self.axes, self.shape, strict=True))

    @property
    def spatial_axes(self) -> str:
        """The axes in space: ``"YX"`` or ``"ZYX"``."""
        return "".join(a for a in "ZYX" if a in self.axes)

    @property
    def lengths(self) -> dict[str, float]:
        """Size of a pixel in `unit` by the letter of each axis along which it is known."""
        size = self.pixel_size or ()
        return dict(zip("ZYX"[-len(size) :], size, strict=True)) if size else {}

    @property
    def pixel_shape(self) -> tuple[float, float]:
        """Height and width of a pixel in `unit`; 1 and 1, in px, where the size is unknown."""
        return (self.pixel_size[-2], self.pixel_size[-1]) if self.pixel_size else (1.0, 1.0)

    def __len__(self) -> int:
        """Return the number of time points."""
        return self.shape[0]

    def at_depth(self, z: int) -> Clip:
        """Return one slice of a clip with depth, as a clip without."""
        place = self.axes.index("Z")
        size = self.pixel_size
        return self.replace(
            frames=self.frames[(slice(None),) * place + (z,)],
            axes=self.axes.replace("Z", ""),
            pixel_size=None if size is None else size[-2:],
        )

    def frame(self, index: int) -> NDArray[Any]:
        """Read one time point: an array of all the axes after T."""
        # Without dask's threads: they gain nothing on one plane, and hang in a forked process.
        return np.asarray(self.frames[index].compute(scheduler="synchronous"))

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Read the time points one after the other."""
        return (self.frame(t) for t in range(len(self)))

    def replace(self, **changes: Any) -> Clip:
        """Return a copy with some fields changed."""
        return dataclasses.replace(self, **changes)


def plane_chunks(axes: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the chunk that a clip is read by: one (T, Z) with everything else of it."""
    return tuple(1 if a in "TZ" else int(n) for a, n in zip(axes, shape, strict=True))


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
    low, high = math.inf, -math.inf
    for frame in clip:
        values = frame[np.isfinite(frame)] if frame.dtype.kind == "f" else frame
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    if low > high:
        raise FlowmagError(
            f"clip {clip.name!r} has no finite value: every pixel is NaN or infinite"
        )
    return low, high
