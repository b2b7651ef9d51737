"""What lies along a line in several layers, each where it lies in the world: no Qt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_flowmag._layers import axes_of, clip_of, data_of, in_unit
from napari_flowmag.errors import FlowmagError

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_flowmag.kymograph_files import Kymograph


@dataclass(frozen=True, eq=False)
class Track:
    """A line in one layer.

    Attributes
    ----------
    name, axes : str
        Of the layer.
    data : array-like
        Of the layer.
    view : dict
        Slice and channel to sample, by the letter of the axis.
    points : ndarray
        (2, width, N) rows and columns to sample, px of this layer.
    inside : ndarray
        (L,) bool: the N of the line's L samples that lie in the layer.
    shift : int
        Number of the layer's frame that belongs to the clip's first one.
    """

    name: str
    axes: str
    data: Any
    view: dict[str, int]
    points: NDArray[np.float64]
    inside: NDArray[np.bool_]
    shift: int = 0

    def __len__(self) -> int:
        """Return the number of the layer's frames."""
        return int(self.data.shape[self.axes.index("T")])


@dataclass(frozen=True, eq=False)
class Sampling:
    """A line on layers, which later changes of the layers do not touch.

    Attributes
    ----------
    tracks : tuple of Track
        The clip's, and those of other layers at the same places in the world.
    line : list of (float, float)
        (row, column) of its corners, px of the clip.
    fps, distance, unit, start
        As of the :class:`~napari_flowmag.kymograph_files.Kymograph` that is to be.
    """

    tracks: tuple[Track, ...]
    line: list[tuple[float, float]]
    fps: float | None
    distance: float
    unit: str
    start: float


def lay_line(
    layers: Sequence[Image],
    line: list[tuple[float, float]],
    width: int,
    views: Sequence[dict[str, int]],
) -> Sampling:
    """Find where a line lies in layers; no pixel is read.

    Parameters
    ----------
    layers
        The clip, and others that lie somewhere on it.
    line
        (row, column) of its corners, px of the clip.
    width
        px of the clip, across the line.
    views
        What of each layer is in view (:func:`~napari_flowmag._layers.in_view`).

    Raises
    ------
    FlowmagError
        If the line has no length, or nothing of another layer lies where the clip and the line do.
    """
    from napari_flowmag.kymograph import line_points, sample_distance

    clip, *others = layers
    facts = clip_of(clip)
    size = facts.pixel_shape
    points = line_points(line, width, size)
    everywhere = np.ones(points.shape[-1], dtype=bool)
    first = Track(clip.name, axes_of(clip), data_of(clip), views[0], points, everywhere)
    tracks = (_beside(clip, o, first, view) for o, view in zip(others, views[1:], strict=True))
    return Sampling(
        (first, *tracks),
        line,
        fps=facts.fps,
        distance=sample_distance(line, size),
        unit=facts.unit or "px",
        start=_start(clip),
    )


def _start(clip: Image) -> float:
    """Where a clip's first frame lies in the world, in frames: a part of a clip begins later."""
    axis = axes_of(clip).index("T")
    ends = np.zeros((2, clip.ndim))
    ends[1, axis] = 1
    first, second = (clip.data_to_world(end)[axis] for end in ends)
    return round(float(first / abs(second - first)), 6)


def _beside(clip: Image, other: Image, first: Track, view: dict[str, int]) -> Track:
    """Find the points and frames of a clip's track in another layer, by where both lie."""
    data, axes = data_of(other), axes_of(other)
    shape = dict(zip(axes, data.shape, strict=True))
    factors = _factors(clip, other)
    frame = dict(zip(first.axes, first.data.shape, strict=True))
    if any(factors[a] is None and frame[a] != shape[a] for a in "YX"):
        raise _refusal(clip, other, "their sizes and units differ: set the scale and units of both")
    origin = first.view | {"T": 0, "Y": 0, "X": 0}
    places = origin, origin | {"T": len(first) - 1}, origin | {"Y": 1}, origin | {"X": 1}
    start, end, *units = (_across(clip, other, factors, place) for place in places)
    if abs(end["T"] - start["T"] - (len(first) - 1)) > 0.5:
        raise _refusal(clip, other, "its frames are not as far apart in time")
    shift = int(np.floor(start["T"] + 0.5))
    if not -len(first) < shift < shape["T"]:
        raise _refusal(clip, other, "it has no frame at the same time")
    depth = round(start.get("Z", 0))
    if "Z" in start and not 0 <= depth < shape["Z"]:
        raise _refusal(clip, other, "it does not reach the slice in view")
    view = view | ({"Z": depth} if "Z" in start else {})
    if "C" in start:
        view["C"] = min(first.view["C"], shape["C"] - 1)
    slopes = np.array([[unit[a] - start[a] for unit in units] for a in "YX"])
    points = np.einsum("ij,jwl->iwl", slopes, first.points)
    points += np.array([start["Y"], start["X"]])[:, None, None]
    # Whole numbers are the middles of pixels: a picture ends half a pixel beyond the last.
    last = np.array([shape["Y"], shape["X"]])[:, None, None] - 1
    inside = ((points >= -0.5) & (points <= last + 0.5)).all(axis=(0, 1))
    if not inside.any():
        raise _refusal(clip, other, "the line lies outside of it")
    return Track(other.name, axes, data, view, points[..., inside].clip(0, last), inside, shift)


def _refusal(clip: Image, other: Image, reason: str) -> FlowmagError:
    return FlowmagError(f"layer {other.name!r} cannot be shown beside {clip.name!r}: {reason}")


def _across(
    clip: Image, other: Image, factors: dict[str, float | None], place: dict[str, int]
) -> dict[str, float]:
    """Take a place in the data of one layer to that of another, by the letters of their axes.

    Along an axis whose units cannot be compared, such as pixel and µm, it keeps its number.
    """
    axes, others = (axes_of(layer).rstrip("S") for layer in (clip, other))
    world = dict(zip(axes, clip.data_to_world([place[a] for a in axes]), strict=True))
    there = other.world_to_data([world.get(a, 0.0) * (factors.get(a) or 0.0) for a in others])
    found = dict(zip(others, there, strict=True))
    return {a: place[a] if factor is None else float(found[a]) for a, factor in factors.items()}


def _factors(clip: Image, other: Image) -> dict[str, float | None]:
    """How many of another layer's units one of the clip's is, by each axis that both have.

    None where one cannot be told in the other.
    """
    ours, theirs = (
        dict(zip(axes_of(layer).rstrip("S"), layer.units, strict=True)) for layer in (clip, other)
    )
    return {a: in_unit(unit, str(theirs[a])) for a, unit in ours.items() if a in theirs}


def sample_layers(sampling: Sampling, check: Callable[[], None]) -> Kymograph:
    """Return the kymographs of a line in all layers.

    Parameters
    ----------
    sampling
        The line and the layers.
    check
        Called before each frame; may raise to stop.

    Returns
    -------
    Kymograph
        A row for each of the clip's frames; NaN where another layer has no frame at that time, or
        does not reach.

    Raises
    ------
    FlowmagError
        If the line leaves the clip's picture, or runs along pixels without a value only.
    """
    from napari_flowmag.kymograph_files import Kymograph

    clip = sampling.tracks[0]
    slices = {track.name: _slice(track, len(clip), check) for track in sampling.tracks}
    if np.isnan(slices[clip.name]).all():
        raise FlowmagError(f"layer {clip.name!r} has no values along the line: they are all NaN")
    return Kymograph(
        slices,
        fps=sampling.fps,
        distance=sampling.distance,
        unit=sampling.unit,
        start=sampling.start,
    )


def _slice(track: Track, count: int, check: Callable[[], None]) -> NDArray[np.float32]:
    """(count, L) of a track; its row 0 belongs to the clip's first frame."""
    from napari_flowmag.kymograph import sample_points

    values = np.full((count, len(track.inside)), np.nan, dtype=np.float32)
    rows = range(max(0, -track.shift), min(count, len(track) - track.shift))
    pictures = _pictures(track, (row + track.shift for row in rows), check)
    values[rows.start : rows.stop, track.inside] = sample_points(pictures, track.points)
    return values


def _pictures(track: Track, frames: Iterable[int], check: Callable[[], None]) -> Iterator[Any]:
    """Yield grey pictures (H, W) of a layer's frames at the slice and channel of a track."""
    for t in frames:
        check()
        place = track.view | {"T": t}
        picture = np.asarray(track.data[tuple(place.get(a, slice(None)) for a in track.axes)])
        yield _grey(picture) if "S" in track.axes else picture


def _grey(picture: np.ndarray) -> np.ndarray:
    # Several times as fast as the mean along an axis of three.
    red, green, blue = (picture[..., c].astype(np.float32) for c in range(3))
    return np.asarray((red + green + blue) / 3)
