"""How far something moved, to a hundredth of a pixel, and by what factor its motion was magnified.

The displacement of a region is where its correlation with the reference is largest. It is found in
Fourier space, as in phase correlation, but by moving the frame back and measuring again until
nothing is left: at that point the window lies on the same piece of the object in both pictures and
no longer pulls the result towards zero, as it does in a single phase correlation.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft, ndimage, signal

from napari_flowmag.errors import FlowmagError

FloatArray = NDArray[np.float64]

_SMALLEST = 0.01  # px: motion below this is too small to divide by
_PASSBAND = 0.25  # cycles/px: above it interpolated frames hold more aliasing than signal
_TAPER = 16.0  # px over which the window rises from the edge of a region
_STILL = 1e-9  # px: less is rounding
_MARGIN = 8  # px around the region that the spline looks at beyond the search


@dataclass(frozen=True)
class Factor:
    """By how much motion was magnified.

    Attributes
    ----------
    value
        Median over the frames (or pixels) of magnified by original displacement, weighted by the
        square of the original one.
    low, high
        Weighted 16th and 84th percentile: between them lie two thirds of the evidence.
    motion
        Largest original displacement, px.
    count
        How many displacements it rests on: frames, or pixels of a flow.
    """

    value: float
    low: float
    high: float
    motion: float
    count: int = 1


class UnmeasurableError(FlowmagError):
    """A frame shows nothing that could be the region."""


def displacement(
    reference: ArrayLike, frame: ArrayLike, mask: ArrayLike | None = None, *, search: int = 16
) -> FloatArray:
    """Measure how far a region has moved as a whole from one picture to another.

    Parameters
    ----------
    reference, frame
        (H, W) or (H, W, C), same shape, any numeric type. A change of brightness or contrast
        between the two does not matter.
    mask
        (H, W), non-zero where the region lies in `reference`; the whole picture by default. Its
        own outline is left out, so include only what moves together.
    search
        Largest displacement in either direction that is looked for, px.

    Returns
    -------
    ndarray
        (2,) float64 px, (dx, dy). Where structure runs in one direction only, the component
        along it cannot be seen and is 0.

    Raises
    ------
    FlowmagError
        If shapes do not fit, the mask is empty, the region has no structure or holds NaN, or
        nothing in the frame resembles it.
    """
    return _Region(reference, mask, search).displacement(frame)


def displacements(
    reference: ArrayLike,
    frames: Iterable[ArrayLike],
    mask: ArrayLike | None = None,
    *,
    search: int = 16,
    start: int = 0,
) -> FloatArray:
    """Measure the displacement of a region in each frame; see `displacement`.

    Parameters
    ----------
    reference, frames, mask, search
        As there; `frames` one after the other.
    start
        Number of the first frame, for what is said of one that cannot be measured.

    Returns
    -------
    ndarray
        (T, 2) float64 px, (dx, dy).

    Raises
    ------
    FlowmagError
        As in `displacement`.
    """
    return _Region(reference, mask, search).displacements(frames, start)


def achieved_factor(
    reference: ArrayLike,
    frames: Iterable[ArrayLike],
    magnified: Iterable[ArrayLike],
    mask: ArrayLike | None = None,
    *,
    search: int = 32,
) -> Factor:
    """Measure by what factor the motion of a region was magnified.

    Parameters
    ----------
    reference
        The frame that motion is relative to, (H, W) or (H, W, C).
    frames, magnified
        The clip before and after, frame by frame.
    mask, search
        As in `displacement`.

    Returns
    -------
    Factor
        Its value is what was asked for where magnification is perfect.

    Raises
    ------
    FlowmagError
        As in `displacement`, and if the region moves by less than 0.01 px in every frame.
    """
    region = _Region(reference, mask, search)
    return factor_between(region.displacements(frames), region.displacements(magnified))


def factor_between(before: ArrayLike, after: ArrayLike, *, floor: float = _SMALLEST) -> Factor:
    """Return the robust ratio of two series of displacements.

    Parameters
    ----------
    before, after
        (T, 2) px each: original and magnified displacement. Only the part of the magnified
        displacement along the original one counts.
    floor
        Smallest original displacement that gives a factor, px; those below half of it are left
        out.

    Raises
    ------
    FlowmagError
        If the shapes differ, or no displacement in `before` reaches the floor.
    """
    b, a = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if b.shape != a.shape or b.ndim != 2 or b.shape[1] != 2:
        raise FlowmagError(f"displacements must both be (T, 2), but are {b.shape} and {a.shape}")
    weight = (b**2).sum(axis=1)
    motion = float(np.sqrt(weight.max(initial=0.0)))
    if motion < floor:
        raise FlowmagError(
            f"no factor can be measured: the region moves by {motion:.3f} px at most "
            f"(at least {floor} px are needed); choose a region that moves"
        )
    seen = weight > (floor / 2) ** 2
    ratio, weight = (a * b).sum(axis=1)[seen] / weight[seen], weight[seen]
    value, low, high = _weighted_quantiles(ratio, weight, (0.5, 0.16, 0.84))
    return Factor(value, low, high, motion, int(seen.sum()))


def _weighted_quantiles(
    values: FloatArray, weights: FloatArray, shares: tuple[float, ...]
) -> list[float]:
    order = np.argsort(values)
    below = np.cumsum(weights[order]) - weights[order] / 2
    return [float(v) for v in np.interp(shares, below / weights.sum(), values[order])]


class _Region:
    """A window on the reference, prepared once, against which frames are measured."""

    def __init__(self, reference: ArrayLike, mask: ArrayLike | None, search: int) -> None:
        planes = _planes(reference)
        self._shape = planes.shape
        window = _window(planes.shape[1:], mask)
        rows, columns = (np.flatnonzero(window.any(axis=axis)) for axis in (1, 0))
        self._top, self._left = int(rows[0]), int(columns[0])
        size = int(rows[-1]) - self._top + 1, int(columns[-1]) - self._left + 1
        self._reach, self._search = search + _MARGIN, search
        self._inside = (slice(None), *(slice(self._reach, self._reach + n) for n in size))
        self._window = window[self._top : self._top + size[0], self._left : self._left + size[1]]
        self._reference = self._windowed(self._surroundings(planes)[self._inside])
        self._spectrum = fft.rfft2(self._reference).conj()
        fy, fx = np.meshgrid(np.fft.fftfreq(size[0]), np.fft.rfftfreq(size[1]), indexing="ij")
        passed = np.hypot(fx, fy) <= _PASSBAND
        # A real picture's spectrum is symmetric: what rfft2 leaves out counts through its twin.
        twins = np.where((fx > 0) & (fx < 0.5), 2.0, 1.0)
        self._weight = passed * twins
        self._wave = 2 * np.pi * np.stack([fx, fy])
        if self._is_flat(self._reference, planes):
            raise FlowmagError("no displacement can be measured: the region is of one value only")

    def displacements(self, frames: Iterable[ArrayLike], start: int = 0) -> FloatArray:
        """(T, 2) px; a frame that cannot be measured is named, counting from `start`."""
        found = []
        for number, frame in enumerate(frames, start):
            try:
                found.append(self.displacement(frame))
            except UnmeasurableError as error:
                raise UnmeasurableError(f"frame {number}: {error}") from error
        return np.array(found).reshape(-1, 2)

    def displacement(self, frame: ArrayLike) -> FloatArray:
        planes = _planes(frame)
        if planes.shape != self._shape:
            raise FlowmagError(
                f"a frame of shape {np.shape(frame)} cannot be measured against a reference of "
                f"another shape"
            )
        surroundings = self._surroundings(planes)
        if self._is_flat(surroundings - surroundings.mean(axis=(1, 2), keepdims=True), planes):
            raise UnmeasurableError("no displacement can be measured: it is of one value there")
        moved = self._nearest(surroundings)
        spline = np.stack([ndimage.spline_filter(plane, order=5) for plane in surroundings])
        for _ in range(30):
            back = [
                ndimage.shift(plane, -moved[::-1], order=5, prefilter=False) for plane in spline
            ]
            step = self._remainder(np.stack(back)[self._inside])
            moved = np.clip(moved + step, -self._reach, self._reach)
            if np.abs(step).max() < 1e-4:
                break
        return np.where(np.abs(moved) < _STILL, 0.0, moved)

    def _remainder(self, aligned: FloatArray) -> FloatArray:
        """One Newton step to the maximum of the band-limited correlation.

        The slope of the phase over frequency, in least squares with the spectrum's power as
        weight, with the sine in place of the phase so that no outlier counts for much.
        """
        cross = (self._spectrum * fft.rfft2(self._windowed(aligned))).sum(axis=0) * self._weight
        slope = -(self._wave * cross.imag).sum(axis=(1, 2))
        curvature = np.einsum("ihw,jhw,hw->ij", self._wave, self._wave, np.abs(cross))
        step = np.linalg.pinv(curvature, rcond=1e-3, hermitian=True) @ slope
        return np.asarray(np.clip(step, -1, 1))

    def _nearest(self, surroundings: FloatArray) -> FloatArray:
        """Whole-pixel displacement of highest normalised correlation within the search."""
        near = surroundings[:, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
        weight = self._window**2
        total = weight.sum()
        score: FloatArray = np.zeros(1)
        power: FloatArray = np.zeros(1)
        for reference, plane in zip(self._reference, near, strict=True):
            mean = _correlate(plane, weight) / total
            power = power + _correlate(plane**2, weight) - total * mean**2
            score = score + _correlate(plane, reference * self._window)
            score = score - mean * (reference * self._window).sum()
        floor = 1e-6 * np.max(power) + np.finfo(float).tiny
        score = score / np.sqrt(np.maximum(power, floor))
        if not score.max() > 0:
            raise UnmeasurableError(
                "no displacement can be measured: nothing there resembles the region"
            )
        # Along stripes all displacements fit alike: the smallest of equals is the one to take.
        offset = np.arange(-self._search, self._search + 1) / max(self._search, 1)
        score -= 1e-3 * score.max() * (offset[:, None] ** 2 + offset**2)
        dy, dx = np.unravel_index(np.argmax(score), score.shape)
        return np.array([dx, dy], dtype=np.float64) - self._search

    @staticmethod
    def _is_flat(change: FloatArray, planes: FloatArray) -> bool:
        # Not 0: the mean of equal values is off by a rounding error.
        return not np.abs(change).max() > 1e-12 * np.abs(planes).max()

    def _windowed(self, planes: FloatArray) -> FloatArray:
        mean = (planes * self._window).sum(axis=(1, 2)) / self._window.sum()
        return np.asarray((planes - mean[:, None, None]) * self._window)

    def _surroundings(self, planes: FloatArray) -> FloatArray:
        """Cut the region with what the search can reach around it; the frame's edge repeats."""
        reach, (height, width) = self._reach, planes.shape[1:]
        rows = np.arange(self._top - reach, self._top + self._window.shape[0] + reach)
        columns = np.arange(self._left - reach, self._left + self._window.shape[1] + reach)
        cut = planes[:, rows.clip(0, height - 1)][:, :, columns.clip(0, width - 1)]
        if not np.isfinite(cut).all():
            raise FlowmagError("no displacement can be measured: the region holds NaN or infinity")
        return cut


def _correlate(plane: FloatArray, kernel: FloatArray) -> FloatArray:
    return np.asarray(signal.correlate(plane, kernel, mode="valid", method="fft"))


def _planes(picture: ArrayLike) -> FloatArray:
    array = np.asarray(picture, dtype=np.float64)
    if array.ndim == 2:
        return array[None]
    if array.ndim == 3:
        return np.moveaxis(array, -1, 0)
    raise FlowmagError(f"a picture must be (H, W) or (H, W, C), but its shape is {array.shape}")


def _window(shape: tuple[Any, ...], mask: ArrayLike | None) -> FloatArray:
    """Weights that rise smoothly from 0 outside the region to 1 inside."""
    inside = np.ones(shape, dtype=bool) if mask is None else np.asarray(mask) != 0
    if inside.shape != shape:
        raise FlowmagError(f"the mask's shape {inside.shape} is not that of the picture, {shape}")
    if not inside.any():
        raise FlowmagError("no displacement can be measured: the mask is empty")
    depth = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
    rise = np.clip(depth / min(_TAPER, 0.75 * depth.max()), 0, 1)
    return np.asarray(np.sin(np.pi / 2 * rise) ** 2)
