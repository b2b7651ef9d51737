"""Kymographs: what lies along a line, over time.

The paper shows its results as such x-t slices (Figures 1, 4 and 5): motion across the line draws a
curve, whose swing grows with the magnification.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from napari_flowmag.errors import FlowmagError

if TYPE_CHECKING:
    from PIL.Image import Image

Line = Sequence[tuple[float, float]]
"""Two or more points of a line as (row, column), px; whole numbers are the middles of pixels."""

_SUPPORT = 12  # px around the line, beyond which a cubic spline does not feel the picture's values
_PANEL = (480, 320)  # px, about the width and height of a drawn slice
_INK, _PAPER = (32, 36, 40), (255, 255, 255)


def kymograph(
    frames: Iterable[ArrayLike],
    line: Line,
    width: int = 1,
    *,
    pixel_size: tuple[float, float] = (1.0, 1.0),
) -> NDArray[Any]:
    """Sample a line in every frame.

    Parameters
    ----------
    frames
        (T, H, W) or (T, H, W, C), any numeric type, array-like, dask or an iterator; read one
        frame at a time.
    line
        (row, column) of its ends, and of the corners between them if it is bent, px.
    width
        How many parallel lines, 1 px apart and centred on `line`, are averaged.
    pixel_size
        Height and width of a pixel, in any unit: where they differ, the samples are equally far
        apart, and the parallel lines lie across, in that unit.

    Returns
    -------
    ndarray
        (T, L) or (T, L, C) float32, in the units of the frames. L is the length of the line in
        px, rounded, plus one; the first and the last sample lie on its ends, and all are equally
        far apart (:func:`sample_distance`). NaN beside pixels that are not finite.

    Raises
    ------
    FlowmagError
        If the line has no length, `width` is less than 1, a pixel has no size, there are no
        frames, or any sample would lie outside the frames.
    """
    return sample_points(frames, line_points(line, width, pixel_size))


def sample_points(frames: Iterable[ArrayLike], points: NDArray[np.float64]) -> NDArray[Any]:
    """Sample a line in every frame, its points given.

    Parameters
    ----------
    frames
        As in :func:`kymograph`.
    points
        As :func:`line_points` returns them.

    Returns
    -------
    ndarray
        As of :func:`kymograph`.

    Raises
    ------
    FlowmagError
        If there are no frames, or a point lies outside them.
    """
    rows = [_sample(np.asarray(frame), points) for frame in frames]
    if not rows:
        raise FlowmagError("a kymograph needs at least one frame")
    return np.stack(rows)


def line_points(
    line: Line, width: int = 1, pixel_size: tuple[float, float] = (1.0, 1.0)
) -> NDArray[np.float64]:
    """Return where a line is sampled.

    Parameters
    ----------
    line, width, pixel_size
        As in :func:`kymograph`.

    Returns
    -------
    ndarray
        (2, width, L) rows and columns, px.

    Raises
    ------
    FlowmagError
        If the line has no length, `width` is less than 1, or a pixel has no size.
    """
    corners = _corners(line)
    lengths = _lengths(corners, pixel_size)
    if width < 1:
        raise FlowmagError(f"the width of a line must be at least 1 px, not {width}")
    ends = np.concatenate([[0.0], np.cumsum(lengths)])
    places = np.linspace(0, ends[-1], _intervals(corners) + 1)
    along = np.stack([np.interp(places, ends, corners[:, axis]) for axis in (0, 1)])
    segment = np.clip(np.searchsorted(ends, places, side="right") - 1, 0, len(lengths) - 1)
    size = np.array(pixel_size)[:, None]
    rows, columns = np.diff(corners, axis=0)[segment].T * size
    # At right angles where a pixel has its true shape, which need not be so in px.
    across = np.stack([-columns, rows]) / size
    across /= np.hypot(*across)
    offsets = np.arange(width) - (width - 1) / 2
    return np.asarray(along[:, None, :] + across[:, None, :] * offsets[None, :, None])


def sample_distance(line: Line, pixel_size: tuple[float, float] = (1.0, 1.0)) -> float:
    """Return how far apart the samples along a line are.

    Parameters
    ----------
    line
        As in :func:`kymograph`.
    pixel_size
        Height and width of a pixel; by default, lengths are in px.

    Returns
    -------
    float
        In the unit of `pixel_size`; nearly the size of a pixel where it is as high as wide.

    Raises
    ------
    FlowmagError
        If the line has no length, or a pixel has no size.
    """
    corners = _corners(line)
    return float(_lengths(corners, pixel_size).sum()) / max(_intervals(corners), 1)


def _corners(line: Line) -> NDArray[np.float64]:
    """Corners of a line, (N, 2) px, none of them twice."""
    corners = np.asarray(line, dtype=np.float64)
    if corners.ndim != 2 or corners.shape[1] != 2 or not np.isfinite(corners).all():
        raise FlowmagError(f"a line is two or more points (row, column), not {line}")
    apart = np.hypot(*np.diff(corners, axis=0).T) > 0
    corners = corners[np.concatenate([[True], apart])]
    if len(corners) < 2:
        point = ", ".join(f"{value:g}" for value in corners[0])
        raise FlowmagError(f"the line from ({point}) to the same point has no length")
    return np.asarray(corners)


def _lengths(corners: NDArray[np.float64], pixel_size: tuple[float, float]) -> NDArray[np.float64]:
    """Distances of corners from the next, (N - 1,), in the unit of the pixel's size."""
    if not all(size > 0 for size in pixel_size):
        raise FlowmagError(f"pixel size {pixel_size}: give a height and a width above 0")
    return np.asarray(np.hypot(*(np.diff(corners, axis=0) * pixel_size).T))


def _intervals(corners: NDArray[np.float64]) -> int:
    """How many steps from sample to sample a line has: about one a pixel."""
    return round(float(_lengths(corners, (1.0, 1.0)).sum()))


def _sample(frame: NDArray[Any], points: NDArray[np.float64]) -> NDArray[np.float32]:
    if frame.ndim == 3:
        planes = [_sample(plane, points) for plane in np.moveaxis(frame, -1, 0)]
        return np.stack(planes, axis=-1)
    if frame.ndim != 2:
        raise FlowmagError(f"frames must be (H, W) or (H, W, C), but one is {frame.shape}")
    last = np.array(frame.shape) - 1
    low, high = points.min(axis=(1, 2)), points.max(axis=(1, 2))
    if (low < 0).any() or (high > last).any():
        raise FlowmagError(
            f"the line leaves the picture: rows {low[0]:.1f} to {high[0]:.1f} and columns "
            f"{low[1]:.1f} to {high[1]:.1f} in a picture of {frame.shape[0]} × {frame.shape[1]} px"
        )
    first = np.maximum(np.floor(low).astype(int) - _SUPPORT, 0)
    stop = np.ceil(high).astype(int) + _SUPPORT + 1
    near = frame[first[0] : stop[0], first[1] : stop[1]].astype(np.float32)
    places = points - first[:, None, None]
    blank = ~np.isfinite(near)
    if blank.any():  # a spline would spread each over the whole line
        nearest = ndimage.distance_transform_edt(blank, return_distances=False, return_indices=True)
        near = near[tuple(nearest)]
    # Cubic splines are exact at the pixels, and smooth where the line runs between them.
    values = ndimage.map_coordinates(near, places, order=3, mode="mirror")
    if blank.any():
        touched = ndimage.map_coordinates(blank.astype(np.float32), places, order=1, mode="mirror")
        values[touched > 0] = np.nan
    return np.asarray(values.mean(axis=0), dtype=np.float32)


@dataclass(frozen=True)
class _Axis:
    """`count` samples, `step` units of the label apart, of which the first lies at `first`."""

    count: int
    step: float
    label: str
    first: float = 0.0

    def ticks(self, length: int) -> list[tuple[float, str]]:
        """Return about five round values as (px from the start, text) for an axis `length` px long.

        A sample's own value belongs to the middle of the stripe that shows it.
        """
        largest = (self.count - 1) * self.step
        if not largest > 0:
            return []
        decade = 10.0 ** np.floor(np.log10(largest / 5))
        step = decade * next(m for m in (1, 2, 5, 10) if largest / (m * decade) <= 6)
        digits = max(0, -int(np.floor(np.log10(step) + 1e-9)))
        low = int(np.ceil(self.first / step - 1e-9))
        high = int(np.floor((self.first + largest) / step + 1e-9))
        values = [i * step for i in range(low, high + 1)]
        places = [((v - self.first) / self.step + 0.5) / self.count * length for v in values]
        return [(p, f"{v:.{digits}f}") for p, v in zip(places, values, strict=True)]


def draw_kymographs(
    slices: Mapping[str, ArrayLike],
    *,
    fps: float | None = None,
    pixel_size: float | None = None,
    unit: str | None = None,
    value_range: tuple[float, float] | None = None,
    start: float = 0,
) -> Image:
    """Draw x-t slices side by side, time to the right and position along the line downwards.

    What is NaN stays blank.

    Parameters
    ----------
    slices
        Title of each slice and the slice itself, (T, L) or (T, L, 3), all of the same shape.
    fps
        Frames per second; without it the time axis counts frames.
    pixel_size, unit
        Distance of two samples along the line; without it the other axis counts pixels.
    value_range
        Values drawn black and white; by default the 0.1 and 99.9 percentiles of all slices.
    start
        Number of the first frame, from which the time axis counts.

    Returns
    -------
    PIL.Image.Image
        RGB.

    Raises
    ------
    FlowmagError
        If there are no slices or their shapes differ.
    """
    from PIL import Image

    arrays = {title: np.asarray(values, dtype=np.float64) for title, values in slices.items()}
    shapes = {array.shape for array in arrays.values()}
    if len(shapes) != 1:
        raise FlowmagError("slices drawn together must be at least one and of the same shape")
    length, samples = shapes.pop()[:2]
    across, down = _time_axis(length, fps, start), _position_axis(samples, pixel_size, unit)
    low, high = value_range or np.nanpercentile(list(arrays.values()), (0.1, 99.9))
    panels = []
    for title, array in arrays.items():
        # A box filter repeats pixels where it enlarges and averages where it shrinks.
        size = _drawn(length, _PANEL[0]), _drawn(samples, _PANEL[1])
        shown = (array - low) / max(high - low, 1e-12)
        picture = Image.fromarray(_colours(shown)).resize(size, Image.Resampling.BOX)
        panels.append(_panel(picture, title, across, down))
    sheet = Image.new("RGB", (sum(p.width for p in panels), panels[0].height), _PAPER)
    for index, panel in enumerate(panels):
        sheet.paste(panel, (index * panel.width, 0))
    return sheet


def _colours(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """(L, T, 3) of a slice (T, L) or (T, L, 3) whose values are 0 for black and 1 for white."""
    rgb = values[..., None].repeat(3, axis=-1) if values.ndim == 2 else values
    blank = np.isnan(rgb).any(axis=-1)
    drawn = np.round(np.nan_to_num(rgb).clip(0, 1) * 255).astype(np.uint8)
    drawn[blank] = _PAPER
    return drawn.swapaxes(0, 1)


def _time_axis(length: int, fps: float | None, start: float) -> _Axis:
    if fps is None:
        return _Axis(length, 1.0, "frame", start)
    if (start + length) / fps < 0.5:
        return _Axis(length, 1000 / fps, "time (ms)", 1000 * start / fps)
    return _Axis(length, 1 / fps, "time (s)", start / fps)


def _position_axis(samples: int, pixel_size: float | None, unit: str | None) -> _Axis:
    if pixel_size is None or unit is None:
        return _Axis(samples, 1.0, "position (px)")
    return _Axis(samples, pixel_size, f"position ({unit})")


def _drawn(samples: int, wanted: int) -> int:
    """Size at which to draw an axis: a whole multiple where it is enlarged, so pixels are alike."""
    return samples * round(wanted / samples) if samples < wanted else wanted


def _panel(picture: Image, title: str, across: _Axis, down: _Axis) -> Image:
    """Frame a picture with a title and two axes."""
    from PIL import Image, ImageDraw, ImageFont

    font, heading = ImageFont.load_default(15), ImageFont.load_default(18)
    left, top, right, bottom = 78, 40, 24, 62
    width, height = picture.size
    panel = Image.new("RGB", (left + width + right, top + height + bottom), _PAPER)
    panel.paste(picture, (left, top))
    draw = ImageDraw.Draw(panel)
    draw.text((left + width / 2, top / 2), _plain(title), _INK, heading, anchor="mm")
    draw.rectangle((left - 1, top - 1, left + width, top + height), outline=_INK)
    for x, text in across.ticks(width):
        draw.line((left + x, top + height, left + x, top + height + 6), _INK)
        draw.text((left + x, top + height + 9), text, _INK, font, anchor="mt")
    draw.text((left + width / 2, top + height + 34), across.label, _INK, font, anchor="mt")
    for y, text in down.ticks(height):
        draw.line((left - 7, top + y, left - 1, top + y), _INK)
        draw.text((left - 11, top + y), text, _INK, font, anchor="rm")
    label = Image.new("RGB", (height, 22), _PAPER)
    ImageDraw.Draw(label).text((height / 2, 11), _plain(down.label), _INK, font, anchor="mm")
    panel.paste(label.rotate(90, expand=True), (8, top))
    return panel


def _plain(text: str) -> str:
    """Spell what the font inside Pillow, the only one sure to be there, cannot draw."""
    return text.translate(str.maketrans("µμ×α", "uuxa"))
