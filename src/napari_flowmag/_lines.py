"""Lines drawn in napari, on the pixels of a clip: no Qt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_flowmag.errors import FlowmagError

if TYPE_CHECKING:
    from napari.layers import Image, Shapes


def new_lines(clip: Image) -> Shapes:
    """Return an empty layer for lines that lies on a clip, whatever the frame."""
    from napari.layers import Shapes

    return Shapes(
        ndim=2,
        name=f"{clip.name} line",
        scale=tuple(clip.scale)[-2:],
        translate=tuple(clip.translate)[-2:],
        units=tuple(clip.units)[-2:],
        axis_labels=tuple(clip.axis_labels)[-2:],
        edge_color="#ffb000",
        face_color="transparent",
        edge_width=1,
    )


def line_on(shapes: Shapes, clip: Image) -> list[tuple[float, float]]:
    """Return the selected line, or the last one, in px of a clip.

    Raises
    ------
    FlowmagError
        If the shape is no line.
    """
    points = []
    for corner in shapes.data[_chosen(shapes)]:
        world = np.zeros(clip.ndim)
        world[-2:] = shapes.data_to_world(corner)[-2:]
        place = clip.world_to_data(world)[-2:]
        points.append((float(place[0]), float(place[1])))
    return points


def set_ends(shapes: Shapes, clip: Image, ends: Sequence[tuple[float, float]]) -> None:
    """Move the ends of the line that :func:`line_on` returns; where there is none, add one.

    Parameters
    ----------
    shapes
        The layer of the line.
    clip
        On which it lies.
    ends
        (row, column) of both ends, px of the clip.

    Raises
    ------
    FlowmagError
        If the shape is no line.
    """
    if not len(shapes.data):
        corners = np.zeros((2, shapes.ndim))
        shapes.add_lines(_ended(corners, shapes, clip, ends), edge_width=1)
        return
    index = _chosen(shapes)
    lines, selected = list(shapes.data), set(shapes.selected_data)
    lines[index] = _ended(lines[index], shapes, clip, ends)
    shapes.data = lines  # of as many shapes, napari keeps the types and colours
    shapes.selected_data = selected


def _chosen(shapes: Shapes) -> int:
    last = len(shapes.data) - 1
    chosen = min(max(shapes.selected_data, default=last), last)
    kind = shapes.shape_type[chosen]
    if kind not in ("line", "path"):
        raise FlowmagError(f"the selected shape is of type {kind}: draw a line or a path")
    return int(chosen)


def _ended(
    corners: NDArray[Any], shapes: Shapes, clip: Image, ends: Sequence[tuple[float, float]]
) -> NDArray[np.float64]:
    """Corners, of which the first and the last are moved within the plane."""
    moved = np.array(corners, dtype=np.float64)
    for place, end in zip((0, -1), ends, strict=True):
        world = np.array(shapes.data_to_world(moved[place]))
        world[-2:] = clip.data_to_world(np.concatenate([np.zeros(clip.ndim - 2), end]))[-2:]
        moved[place] = shapes.world_to_data(world)
    return moved
