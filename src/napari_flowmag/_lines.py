"""Lines drawn in napari, and what lies along them in layers: no Qt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_flowmag._layers import axes_of, clip_of, data_of
from napari_flowmag.errors import FlowmagError

if TYPE_CHECKING:
    from napari.layers import Image, Shapes

    from napari_flowmag.kymograph_files import Kymograph


@dataclass(frozen=True, eq=False)
class Sampling:
    """A line on layers.

    Attributes
    ----------
    layers : tuple of Image
        The clip, and others of the same frame size.
    line : list of (float, float)
        (row, column) of its corners, px of the clip.
    width : int
        px across.
    view : dict
        Slice and channel in view, by the letter of the axis.
    """

    layers: tuple[Image, ...]
    line: list[tuple[float, float]]
    width: int
    view: dict[str, int]


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
    chosen = max(shapes.selected_data, default=len(shapes.data) - 1)
    kind = shapes.shape_type[min(chosen, len(shapes.data) - 1)]
    if kind not in ("line", "path"):
        raise FlowmagError(f"the selected shape is of type {kind}: draw a line or a path")
    corners = shapes.data[min(chosen, len(shapes.data) - 1)]
    points = []
    for corner in corners:
        world = np.zeros(clip.ndim)
        world[-2:] = shapes.data_to_world(corner)[-2:]
        place = clip.world_to_data(world)[-2:]
        points.append((float(place[0]), float(place[1])))
    return points


def sample_layers(sampling: Sampling, check: Callable[[], None]) -> Kymograph:
    """Return the kymographs of a line in all layers.

    Parameters
    ----------
    sampling
        The line and the layers.
    check
        Called before each frame; may raise to stop.

    Raises
    ------
    FlowmagError
        If the line leaves the picture.
    """
    from napari_flowmag.kymograph import kymograph, sample_distance
    from napari_flowmag.kymograph_files import Kymograph

    first = clip_of(sampling.layers[0])
    slices = {
        layer.name: kymograph(_pictures(layer, sampling.view, check), sampling.line, sampling.width)
        for layer in sampling.layers
    }
    size = first.pixel_size[-1] if first.pixel_size else 1.0
    return Kymograph(
        slices,
        fps=first.fps,
        distance=sample_distance(sampling.line) * size,
        unit=first.unit or "px",
    )


def _pictures(layer: Image, view: dict[str, int], check: Callable[[], None]) -> Iterator[Any]:
    """Yield grey pictures (H, W) of a layer's frames at the slice and channel in view."""
    data, axes = data_of(layer), axes_of(layer)
    time = axes.index("T")
    for t in range(data.shape[time]):
        check()
        index = tuple(
            t if a == "T" else min(view.get(a, 0), n - 1) if a in "ZC" else slice(None)
            for a, n in zip(axes, data.shape, strict=True)
        )
        picture = np.asarray(data[index])
        yield _grey(picture) if "S" in axes else picture


def _grey(picture: np.ndarray) -> np.ndarray:
    # Several times as fast as the mean along an axis of three.
    red, green, blue = (picture[..., c].astype(np.float32) for c in range(3))
    return np.asarray((red + green + blue) / 3)
