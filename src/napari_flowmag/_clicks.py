"""Clicks and boxes in napari's layers as prompts, and layers for masks: no Qt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_flowmag._layers import OWN, axes_of, data_of, in_plane, in_view, result_settings
from napari_flowmag.segment import Prompt

if TYPE_CHECKING:
    from napari.layers import Image, Labels, Layer, Points, Shapes
    from numpy.typing import NDArray


def new_clicks(clip: Image) -> Points:
    """Return an empty layer for clicks that lies on a clip."""
    from napari.layers import Points

    return Points(
        ndim=2,
        name=f"{clip.name} clicks",
        features={"inside": np.zeros(0, bool)},
        size=8,
        border_width=0.15,
        **_plane(clip),
    )


def new_boxes(clip: Image) -> Shapes:
    """Return an empty layer for boxes that lies on a clip."""
    from napari.layers import Shapes

    return Shapes(
        ndim=2,
        name=f"{clip.name} boxes",
        edge_color="#2dd36f",
        face_color="transparent",
        edge_width=1,
        **_plane(clip),
    )


def new_labels(clip: Image) -> Labels:
    """Return an empty mask that lies on a clip and serves for all of its frames."""
    from napari.layers import Labels

    return Labels(_empty(clip), name=f"{clip.name} mask", opacity=0.5, **_plane(clip))


def preview_labels(clip: Image, found: NDArray[np.bool_]) -> Labels:
    """Return a layer that shows a mask before it is accepted."""
    from napari.layers import Labels

    return Labels(
        found.astype(np.uint8),
        name=f"{clip.name} mask preview",
        opacity=0.4,
        metadata={OWN: {"role": "preview"}},
        **_plane(clip),
    )


def prompt_of(points: Points | None, boxes: Shapes | None, clip: Image) -> Prompt:
    """Return what clicks and boxes say, in px of a clip.

    Raises
    ------
    FlowmagError
        If there is neither a click on the object nor a box.
    """
    inside: list[tuple[float, float]] = []
    outside: list[tuple[float, float]] = []
    corners: list[tuple[float, float, float, float]] = []
    if points is not None:
        for place, kind in zip(points.data, points.features["inside"], strict=True):
            (inside if kind else outside).append(_on(points, clip, place))
    if boxes is not None:
        for shape in boxes.data:
            found = np.array([_on(boxes, clip, corner) for corner in shape])
            (top, left), (bottom, right) = found.min(axis=0), found.max(axis=0)
            corners.append((float(top), float(left), float(bottom), float(right)))
    return Prompt(tuple(inside), tuple(outside), tuple(corners))


def frame_in_view(
    point: Sequence[float], clip: Image, units: Sequence[Any] | None = None
) -> tuple[Callable[[], NDArray[Any]], tuple[Any, ...], dict[str, int]]:
    """Return how to read the picture in view, a key that names it, and where it is.

    The key is the picture's until the clip gets other pixels.

    Parameters
    ----------
    point
        ``viewer.dims.point``.
    clip
        The layer.
    units
        ``viewer.dims.units``.
    """
    data, axes, place = data_of(clip), axes_of(clip), in_view(point, clip, units)
    index = tuple(place[a] if a in "TZC" else slice(None) for a in axes)
    key = (clip.unique_id, *sorted(place.items()))
    return lambda: np.asarray(data[index]), key, place


def _on(layer: Layer, clip: Image, place: NDArray[Any]) -> tuple[float, float]:
    world = np.zeros(clip.ndim)
    world[-2:] = layer.data_to_world(place)[-2:]
    row, column = clip.world_to_data(world)[-2:]
    return float(row), float(column)


def _empty(clip: Image) -> NDArray[np.uint16]:
    axes, shape = axes_of(clip), data_of(clip).shape
    return np.zeros((shape[axes.index("Y")], shape[axes.index("X")]), np.uint16)


def _plane(clip: Image) -> dict[str, Any]:
    settings = in_plane(result_settings(clip))
    names = ("scale", "translate", "affine", "units", "axis_labels")
    return {name: settings[name] for name in names if name in settings}
