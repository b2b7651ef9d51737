"""Save layers as clips: the writers that the manifest names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_flowmag._layers import axes_of, clip_of, own
from napari_flowmag.clip import Clip
from napari_flowmag.errors import FlowmagError
from napari_flowmag.io import write_clip

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_flowmag._reader import LayerData


def write_tiff(path: str, layers: list[LayerData]) -> list[str]:
    """Write image layers as a TIFF stack, several as the channels of one clip.

    Parameters
    ----------
    path
        Gets the suffix ``.tif`` if it has none of TIFF's.
    layers
        Data, attributes and type of each.

    Returns
    -------
    list of str
        The file.

    Raises
    ------
    FlowmagError
        If a layer is no clip, the layers do not fit together, or the format cannot hold them.
    """
    return _write_stack(path, layers, (".tif", ".tiff"))


def write_zarr(path: str, layers: list[LayerData]) -> list[str]:
    """Write image layers as an OME-Zarr image; as :func:`write_tiff`."""
    return _write_stack(path, layers, (".ome.zarr", ".zarr"))


def write_video(path: str, layers: list[LayerData]) -> list[str]:
    """Write one image layer as an MP4 video, or two beside each other.

    A result stands to the right of its source, whatever the order of the layers; of any other two
    the lower one is on the left. Where two layers do not begin and end together, the frames that
    both have are written. Anything but 8 bit is shown as the contrast limits of the layer on the
    right show it.

    Raises
    ------
    FlowmagError
        If the layers are no clips, do not fit beside each other, or have depth.
    """
    images = _images(layers)
    path = _with_suffix(path, (".mp4",))
    if len(images) == 1:
        return [str(write_clip(_as_shown(images[0]), path, provenance=_provenance(images)))]
    left, right = sorted(images, key=lambda layer: own(layer).get("role") == "result")
    shown = [clip_of(left), _as_shown(right)]
    if shown[0].axes == shown[1].axes:
        shown = _in_common(left, right, *shown)
    written = write_clip(
        shown[1], path, side_by_side=shown[0], provenance=_provenance([right, left])
    )
    return [str(written)]


def _write_stack(path: str, layers: list[LayerData], suffixes: tuple[str, ...]) -> list[str]:
    images = _images(layers)
    path = _with_suffix(path, suffixes)
    return [str(write_clip(clip_of(*images), path, provenance=_provenance(images)))]


def _images(layers: list[LayerData]) -> list[Image]:
    from napari.layers import Layer

    return [Layer.create(*layer) for layer in layers]


def _with_suffix(path: str, suffixes: tuple[str, ...]) -> str:
    """Return the path with the format's suffix: the dialog lets users leave it to the format."""
    return path if path.lower().endswith(suffixes) else path + suffixes[0]


def _provenance(images: list[Image]) -> dict[str, Any] | None:
    """Return how the first of the layers that was computed came to be."""
    return next(
        (own(layer)["provenance"] for layer in images if own(layer).get("provenance")), None
    )


def _as_shown(layer: Image) -> Clip:
    clip = clip_of(layer)
    if layer.rgb or clip.dtype == np.uint8:
        return clip
    low, high = layer.contrast_limits
    return clip.replace(value_range=(float(low), float(high)))


def _in_common(left: Image, right: Image, *clips: Clip) -> list[Clip]:
    """Return the frames, and slices in depth, that both have, by where they lie in the world."""
    first, second = clips
    place = left.world_to_data(right.data_to_world((0,) * right.ndim))
    for axis, start in zip(axes_of(left), np.rint(place).astype(int), strict=False):
        if axis not in "TZ":
            continue
        i, j = max(start, 0), max(-start, 0)
        length = min(first.sizes[axis] - i, second.sizes[axis] - j)
        if length < 1:
            raise FlowmagError(
                f"layers {left.name!r} and {right.name!r} have no "
                f"{'frame' if axis == 'T' else 'slice'} in common: save them one by one"
            )
        first, second = _part(first, axis, i, length), _part(second, axis, j, length)
    return [first, second]


def _part(clip: Clip, axis: str, start: int, length: int) -> Clip:
    before = (slice(None),) * clip.axes.index(axis)
    return clip.replace(frames=clip.frames[(*before, slice(start, start + length))])
