"""Labels on the pixels of a clip, and masks of a clip on the pixels of labels: no Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_flowmag._layers import axes_of, data_of, in_unit, unit_factors
from napari_flowmag.errors import FlowmagError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from napari.layers import Image, Labels, Layer
    from numpy.typing import NDArray

_ADVICE = {
    "Z": "choose 'Only the slice in view', or draw in one slice, which then serves for all",
    "C": "draw in one channel, which then serves for all",
}


def labels_on(labels: Labels, image: Image, z: int | None = None) -> NDArray[np.integer[Any]]:
    """Return a Labels layer on the pixel grid of an image layer.

    Where both lie in the world counts, nearest neighbours are taken, and 0 where there are no
    labels; without common units, layers of one size lie pixel on pixel. Labels drawn in one slice
    of a clip with depth serve for all of its slices.

    Parameters
    ----------
    labels
        With axes (Y, X), or as many axes as the image has without its colours.
    image
        Whose grid to take.
    z
        The only slice of the image that the labels are for: its own or, where nothing is drawn
        in it, those of the nearest slice with labels. None: they are for all slices.

    Returns
    -------
    ndarray
        (H, W), or (T, H, W) if the labels have a time axis.

    Raises
    ------
    FlowmagError
        If the labels have other axes, are not the same in all slices that they are for, or lie
        beside the image.
    """
    data, axes = np.asarray(data_of(labels)), _axes(labels, image)
    drawn = bool(data.any())
    for letter, chosen in (("Z", z), ("C", None)):
        if letter in axes:
            data = _serving(data, labels, image, letter, axes, chosen)
            axes = axes.replace(letter, "")
    if "T" in axes:
        frames = _along("T", labels, image)
        inside = (frames >= 0) & (frames < len(data))
        stack = np.zeros((len(frames), *data.shape[1:]), data.dtype)
        stack[inside] = data[frames[inside]]
        data = stack
    found = _resample(data, labels, image)
    if drawn and not found.any():
        raise FlowmagError(
            f"labels {labels.name!r} lie beside the clip {image.name!r}: give them its scale, "
            "units and translation"
        )
    return found


def mask_on(
    labels: Labels, image: Image, mask: NDArray[np.bool_], frame: Mapping[str, int]
) -> tuple[tuple[int, ...], NDArray[np.bool_]]:
    """Return where a mask, found in a frame of an image layer, lies in a Labels layer.

    Parameters
    ----------
    labels
        As for :func:`labels_on`.
    image
        The clip.
    mask
        (H, W) on the image's grid.
    frame
        Index along each of the axes T, Z and C that the image has.

    Returns
    -------
    place : tuple of int
        Index along each axis that the labels have in front of Y and X.
    inside : ndarray
        (H, W) on the labels' grid.

    Raises
    ------
    FlowmagError
        If the labels have other axes, or do not reach to where the mask is.
    """
    axes = _axes(labels, image)
    place = tuple(int(_along(letter, labels, image)[frame[letter]]) for letter in axes[:-2])
    inside = _resample(mask, image, labels)
    there = all(0 <= i < n for i, n in zip(place, data_of(labels).shape, strict=False))
    if not there or (mask.any() and not inside.any()):
        raise FlowmagError(
            f"labels {labels.name!r} do not reach to the place of the object in {image.name!r}: "
            "choose other labels, or a new layer"
        )
    return place, inside


def check_takes(labels: Labels, number: int) -> None:
    """Refuse labels into which a number cannot be written.

    Raises
    ------
    FlowmagError
        If they are read only or computed as needed, or their type has no such number.
    """
    data = labels.data
    if labels.multiscale or hasattr(data, "numblocks") or not _writable(data):
        raise FlowmagError(
            f"labels {labels.name!r} cannot be written to: choose other labels, or a new layer"
        )
    highest = int(np.iinfo(data.dtype).max)
    if number > highest:
        raise FlowmagError(
            f"labels {labels.name!r} are of type {data.dtype}: choose an object up to {highest}, "
            "or a new layer"
        )


def _writable(data: Any) -> bool:
    return not isinstance(data, np.ndarray) or bool(data.flags.writeable)


def key_frames(labels: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
    """Make labels that were drawn in some frames serve for all of them.

    Parameters
    ----------
    labels
        (H, W), or (T, H, W) of which any number of frames hold labels.

    Returns
    -------
    ndarray
        (H, W) if one frame or none was drawn in: it serves for all. Else (T, H, W), where a frame
        without labels has those of the nearest frame with labels, the earlier of two.
    """
    if labels.ndim == 2:
        return labels
    drawn = np.flatnonzero(labels.reshape(len(labels), -1).any(axis=1))
    if len(drawn) < 2:
        return np.asarray(labels[drawn[0] if len(drawn) else 0])
    distance = np.abs(np.arange(len(labels))[:, None] - drawn)
    return np.asarray(labels[drawn[distance.argmin(axis=1)]])


def labels_in(data: Any, check: Callable[[], None] = lambda: None) -> list[int]:
    """Return the labels above 0 that are anywhere in an array, in order.

    Parameters
    ----------
    data
        (…, H, W) whole numbers. All of it is looked at, a part at a time: of a dask array a chunk,
        else a picture.
    check
        Called before each part; may raise to stop.
    """
    if hasattr(data, "numblocks"):
        parts = (data.blocks[place] for place in np.ndindex(*data.numblocks))
    else:
        parts = (data[place] for place in np.ndindex(*data.shape[:-2]))
    found = np.zeros(0, dtype=np.intp)
    for part in parts:
        check()
        found = np.union1d(found, _labels_of(np.asarray(part)))
    return [int(label) for label in found]


def _labels_of(values: NDArray[np.integer[Any]]) -> NDArray[Any]:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= 2**20:  # seldom: sorting takes ten times as long as ticking off
        return np.unique(values[values > 0])
    there = np.zeros(high + 1, bool)
    there[values.ravel()] = True
    return np.flatnonzero(there[1:]) + 1


def _axes(labels: Labels, image: Image) -> str:
    """Return the letters of the labels' axes, which are the image's where they are more than two.

    Labels for all channels lack that axis.
    """
    every = axes_of(image).replace("S", "")
    for axes in ("YX", every.replace("C", ""), every):
        if labels.ndim == len(axes):
            return axes
    raise FlowmagError(
        f"labels {labels.name!r} have {labels.ndim} axes, but the clip {image.name!r} has "
        f"{len(every)}: draw them with 2 axes or with as many as the clip"
    )


def _serving(
    data: NDArray[Any], labels: Labels, image: Image, letter: str, axes: str, chosen: int | None
) -> NDArray[Any]:
    """Return the labels that serve along an axis, which they thereby lose."""
    slices = np.moveaxis(data, axes.index(letter), 0)
    places = enumerate(_along(letter, labels, image))
    # By their place in the image; what was drawn beyond it is not seen in it either.
    drawn = {i: int(k) for i, k in places if 0 <= k < len(slices) and slices[k].any()}
    if not drawn:
        return np.zeros_like(slices[0])
    if chosen is not None:
        nearest = min(drawn, key=lambda i: (abs(i - chosen), i))
        return np.asarray(slices[drawn[nearest]])
    first, *others = dict.fromkeys(drawn.values())
    if not all(np.array_equal(slices[first], slices[k]) for k in others):
        what = "slice to slice" if letter == "Z" else "channel to channel"
        raise FlowmagError(f"labels {labels.name!r} differ from {what}: {_ADVICE[letter]}")
    return np.asarray(slices[first])


def _along(letter: str, labels: Labels, image: Image) -> NDArray[np.intp]:
    """Index along an axis of the labels for each index along the same axis of an image."""
    axes = axes_of(image)
    there, here = axes.index(letter), _axes(labels, image).index(letter)
    count = data_of(image).shape[there]
    if data_of(labels).shape[here] == count and _share_none(image, labels, (there,), (here,)):
        return np.arange(count)
    factor = unit_factors(image.units[there : there + 1], labels.units[here : here + 1])[0]
    ends = []
    for end in (0, 1):
        place, world = np.zeros(image.ndim), np.zeros(labels.ndim)
        place[there] = end
        world[here] = image.data_to_world(place)[there] * factor
        ends.append(labels.world_to_data(world)[here])
    return np.asarray(np.rint(ends[0] + (ends[1] - ends[0]) * np.arange(count)), dtype=np.intp)


def _share_none(layer: Layer, other: Layer, axes: Sequence[int], others: Sequence[int]) -> bool:
    """Whether units of two layers have nothing in common along axes, such as pixel and µm.

    Layers of one size then lie pixel on pixel, as their numbers in the world say nothing.
    """
    pairs = zip(axes, others, strict=True)
    return all(in_unit(layer.units[a], str(other.units[b])) is None for a, b in pairs)


def _resample(data: NDArray[Any], source: Layer, target: Layer) -> NDArray[Any]:
    """Return pictures on the grid of one layer on that of another: the nearest pixel, else 0.

    The layers may be scaled, turned and sheared in the plane, by their own axes or an affine; of
    the same size, and without common units, they lie pixel on pixel.
    """
    shape = data_of(target).shape
    height, width = shape[-3:-1] if getattr(target, "rgb", False) else shape[-2:]
    if data.shape[-2:] == (height, width) and _share_none(source, target, (-2, -1), (-2, -1)):
        return data
    factors = unit_factors(target.units[-2:], source.units[-2:])
    found = []
    for corner in ((0, 0), (1, 0), (0, 1)):
        place, world = np.zeros(target.ndim), np.zeros(source.ndim)
        place[-2:] = corner
        world[-2:] = target.data_to_world(place)[-2:] * factors
        found.append(source.world_to_data(world)[-2:])
    origin, down, right = np.array(found)
    y, x = np.arange(height)[:, None], np.arange(width)
    rows, columns = (
        np.rint(origin[i] + (down - origin)[i] * y + (right - origin)[i] * x).astype(np.intp)
        for i in (0, 1)
    )
    if data.shape[-2:] == (height, width) and (rows == y).all() and (columns == x).all():
        return data
    inside = (rows >= 0) & (rows < data.shape[-2]) & (columns >= 0) & (columns < data.shape[-1])
    result = np.zeros((*data.shape[:-2], height, width), data.dtype)
    result[..., inside] = data[..., rows[inside], columns[inside]]
    return result
