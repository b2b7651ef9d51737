"""Napari's layers as clips, and clips as layers: no Qt, no pixel read.

Layers are taken as they come: any object with the attributes of a napari layer will do, so that
nothing here imports napari.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_flowmag import units
from napari_flowmag.clip import AXES, Clip, plane_chunks
from napari_flowmag.errors import FlowmagError

if TYPE_CHECKING:
    from napari.layers import Image, Layer
    from numpy.typing import NDArray

OWN = "flowmag"
"""Key of a layer's metadata under which flowmag keeps what it knows about the layer."""

_GREY_LOOKS = ("colormap", "contrast_limits", "gamma", "interpolation2d")
PLACE = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
"""What :func:`result_settings` takes over of where a layer lies; also the names of the events."""
LOOKS = ("opacity", "blending", *_GREY_LOOKS)
"""What :func:`result_settings` takes over beside the place; of RGB layers the first two."""


def clip_layers(layers: Iterable[Layer]) -> list[Image]:
    """Return the layers that hold a clip: images with a time axis, flowmag's previews left out."""
    return [layer for layer in layers if is_clip_layer(layer)]


def is_clip_layer(layer: Layer) -> bool:
    """Whether a layer is an image with a time axis, and none of flowmag's previews."""
    if type(layer).__name__ != "Image" or own(layer).get("role") == "preview":
        return False
    return not _refusal(layer)


def why_no_clip(layer: Layer | None) -> str:
    """Say why a layer is no clip, or what one is."""
    if layer is None or type(layer).__name__ != "Image":
        return "choose a clip: an image layer with a time axis"
    return _refusal(layer)


def _refusal(image: Layer) -> str:
    try:
        count = data_of(image).shape[axes_of(image).index("T")]
    except FlowmagError as error:
        return str(error)
    return "" if count > 1 else f"layer {image.name!r} has one frame: a clip needs several"


def own(layer: Layer) -> dict[str, Any]:
    """Return what flowmag knows about a layer; empty for a layer that it never saw."""
    known = layer.metadata.get(OWN)
    return known if isinstance(known, dict) else {}


def data_of(layer: Layer) -> Any:
    """Return the layer's array; of a multiscale layer the one of full resolution."""
    return layer.data[0] if getattr(layer, "multiscale", False) else layer.data


def axes_of(layer: Layer) -> str:
    """Return the letters of a layer's axes, in the order of its data.

    The last two are Y and X, followed by S if it is RGB. In front of them axes go by their labels
    where these are t, z or c. Of those without such a label the first is time (unless one is
    called so), and one more is depth.

    Raises
    ------
    FlowmagError
        If the layer has no axis in front of Y and X, or more than can be told apart.
    """
    labels = [str(label).lower() for label in layer.axis_labels[:-2]]
    found: list[str] = [label.upper() if label in ("t", "z", "c") else "" for label in labels]
    for place, letter in enumerate(found):
        if not letter:
            found[place] = next((a for a in "TZ" if a not in found), "")
    if found and "T" not in found:
        found[0] = "T"
    axes = "".join(found)
    if not axes:
        raise FlowmagError(f"layer {layer.name!r} has no time axis: a clip needs frames over time")
    if len(axes) < len(labels) or len(set(axes)) < len(axes):
        raise FlowmagError(
            f"layer {layer.name!r} of shape {tuple(data_of(layer).shape)}: name its axes t, z and "
            f"c (its labels are {tuple(layer.axis_labels)})"
        )
    return axes + ("YXS" if getattr(layer, "rgb", False) else "YX")


def clip_of(*layers: Image, frames: Any = None) -> Clip:
    """Return layers as one clip, lazily.

    Parameters
    ----------
    *layers
        One image layer; or the channels of one clip, each a layer of the same shape without colour
        samples, which become the axis C in that order.
    frames
        What :func:`frames_of` gave of the same layers, if it is known.

    Returns
    -------
    Clip
        Axes in the order ``TZCYXS``, whatever the order of the layer's. Frame rate and pixel size
        come from its scale and units. Channels have the names that the file gave them; those of
        several layers, where it gave none or the user renamed a layer, the layer's. The metadata
        holds the file if all layers are of one that flowmag's reader opened (``"path"``), and which
        of its channels they are (``"channels"``).

    Raises
    ------
    FlowmagError
        If a layer is no clip, or the layers do not fit together.
    """
    first = layers[0]
    axes = _axes_together(layers)
    if frames is None:
        frames = frames_of(layers)
    size, unit = _pixel_size(first)
    return Clip.from_array(
        frames,
        "".join(sorted(axes, key=AXES.index)),
        fps=_fps(first),
        pixel_size=size,
        unit=unit,
        name=first.name,
        channel_names=_channel_names(layers, axes),
        metadata=_origin(layers),
    )


def frames_of(layers: Sequence[Image]) -> Any:
    """Return layers as one dask array, with the axes, their order and the chunks of a clip.

    To stack layers of tens of thousands of planes takes a second: not to be done often.

    Raises
    ------
    FlowmagError
        If a layer is no clip, or the layers do not fit together.
    """
    import dask.array as da

    axes = _axes_together(layers)
    lazy = [_lazy(layer) for layer in layers]
    frames = lazy[0] if len(lazy) == 1 else da.stack(lazy)
    order = "".join(sorted(axes, key=AXES.index))
    frames = frames.transpose([axes.index(a) for a in order])
    return frames.rechunk(plane_chunks(order, frames.shape))


def _axes_together(layers: Sequence[Image]) -> str:
    axes = axes_of(layers[0])
    if len(layers) == 1:
        return axes
    _check_channels(layers, axes)
    return "C" + axes


def _lazy(layer: Image) -> Any:
    """Return a layer's data as a dask array, a chunk a plane, without reading or copying them."""
    import dask.array as da

    data, axes = data_of(layer), axes_of(layer)
    if isinstance(data, da.Array):
        return data
    chunks = plane_chunks(axes, data.shape)
    return da.from_array(_Opaque(data), chunks=chunks, name=False, inline_array=True)


class _Opaque:
    """An array that dask does not know for one: it would copy all the chunks of a numpy array."""

    def __init__(self, data: Any) -> None:
        self._data = data
        self.shape, self.dtype, self.ndim = data.shape, data.dtype, len(data.shape)

    def __getitem__(self, index: Any) -> Any:
        return self._data[index]


def _check_channels(layers: Sequence[Image], axes: str) -> None:
    if "S" in axes or "C" in axes:
        raise FlowmagError(
            f"layer {layers[0].name!r} has colours or channels of its own: choose it alone"
        )
    for layer in layers[1:]:
        if axes_of(layer) != axes or data_of(layer).shape != data_of(layers[0]).shape:
            raise FlowmagError(
                f"layers {layers[0].name!r} and {layer.name!r} are not channels of one clip: their "
                f"shapes are {tuple(data_of(layers[0]).shape)} and {tuple(data_of(layer).shape)}"
            )
        if data_of(layer).dtype != data_of(layers[0]).dtype:
            raise FlowmagError(
                f"layers {layers[0].name!r} and {layer.name!r} are not channels of one clip: they "
                f"hold {data_of(layers[0]).dtype} and {data_of(layer).dtype}"
            )


def _channel_names(layers: Sequence[Image], axes: str) -> tuple[str, ...] | None:
    if len(layers) > 1:
        return tuple(channel_name(layer) or layer.name for layer in layers)
    name = None if "C" in axes else channel_name(layers[0])
    return None if name is None else (name,)


def channel_name(layer: Image) -> str | None:
    """Return the name that the file gave a layer's channel, unless the user gave it another."""
    known = own(layer)
    # Layers that go by one name get a number from napari: "beat DAPI [1]".
    is_renamed = not layer.name.startswith(known.get("layer_name", ""))
    return None if is_renamed else known.get("channel_name")


def _origin(layers: Sequence[Image]) -> dict[str, Any]:
    """Return the file that the layers were read from, if all show a whole channel of the same."""
    paths = {own(layer).get("path") for layer in layers}
    intact = all(own(layer).get("array") == getattr(layer.data, "name", None) for layer in layers)
    path = paths.pop()
    if paths or path is None or not intact:
        return {}
    channels = [own(layer).get("channel") for layer in layers]
    found: dict[str, Any] = {"path": path}
    if None not in channels:
        found["channels"] = tuple(channels)
    return found


def _fps(layer: Image) -> float | None:
    place = axes_of(layer).index("T")
    seconds = in_unit(layer.units[place], "second")
    step = abs(float(layer.scale[place]))
    return None if seconds is None or step == 0 else 1 / (step * seconds)


def _pixel_size(layer: Image) -> tuple[tuple[float, ...] | None, str | None]:
    unit = units.length(str(layer.units[-1]))
    if unit is None:
        return None, None
    axes = axes_of(layer).rstrip("S")
    sizes: list[float] = []
    for letter in (a for a in "ZYX" if a in axes):
        place = axes.index(letter)
        factor = in_unit(layer.units[place], unit.pint)
        if factor is not None:
            sizes.append(factor * abs(float(layer.scale[place])))
        elif letter != "Z":  # of a clip, the step in depth alone may be unknown
            return None, None
    return tuple(sizes), unit.symbol


def in_unit(unit: Any, name: str) -> float | None:
    """How many of the unit called `name` one `unit` is; None if it measures something else."""
    other = unit._REGISTRY.Unit(name)
    if unit.dimensionality != other.dimensionality:
        return None
    return float((1 * unit).to(other).magnitude)


def unit_factors(units: Sequence[Any], others: Sequence[Any]) -> NDArray[np.float64]:
    """How many of its counterpart in `others` each unit is; 1 where they measure other things."""
    factors = [in_unit(unit, str(other)) for unit, other in zip(units, others, strict=True)]
    return np.array([1.0 if factor is None else factor for factor in factors])


def result_settings(
    layer: Image, start: int = 0, z: int | None = None, *, covers: bool = False
) -> dict[str, Any]:
    """Return keyword arguments with which a result lies over its source and looks like it.

    Parameters
    ----------
    layer
        The source; a single picture will do where neither a frame nor a slice is given.
    start
        The source's frame that is the result's first.
    z
        The source's slice that is all of the result's depth; None: all slices.
    covers
        Whether nothing below is to be seen through it, however the source is blended. So it is for
        the lowest layer of a result: else clip and result are seen added up.
    """
    from napari.utils.transforms import Affine

    offset = np.zeros(layer.ndim)
    if start:
        offset[axes_of(layer).index("T")] = start
    if z is not None and "Z" in axes_of(layer):
        offset[axes_of(layer).index("Z")] = z
    axes_matrix = Affine(scale=layer.scale, rotate=layer.rotate, shear=layer.shear)
    settings: dict[str, Any] = {
        "rgb": layer.rgb,
        "scale": tuple(layer.scale),
        # The translation is of pixel (0, …): moved along scaled and rotated axes.
        "translate": tuple(layer.translate + axes_matrix.linear_matrix @ offset),
        "rotate": layer.rotate,
        "shear": layer.shear,
        "affine": layer.affine,
        "units": layer.units,
        "axis_labels": layer.axis_labels,
        "opacity": 1.0 if covers else layer.opacity,
        "blending": "translucent_no_depth" if covers else layer.blending,
    }
    if not layer.rgb:
        settings |= {name: getattr(layer, name) for name in _GREY_LOOKS}
    return settings


def in_plane(settings: dict[str, Any]) -> dict[str, Any]:
    """Return what :func:`result_settings` gave, for pictures of the last two axes alone."""
    from napari.utils.transforms import Affine

    names = ("scale", "translate", "rotate", "shear")
    own_axes = Affine(**{name: settings[name] for name in names})
    count = len(settings["scale"])
    plane = settings["affine"].compose(own_axes).set_slice([count - 2, count - 1])
    rest = {name: value for name, value in settings.items() if name not in (*names, "affine")}
    rest |= {name: tuple(settings[name])[-2:] for name in ("units", "axis_labels")}
    across = plane.linear_matrix - np.diag(np.diag(plane.linear_matrix))
    if np.any(across):  # turned or sheared
        return rest | {"affine": plane.affine_matrix}
    scale = tuple(np.diag(plane.linear_matrix))
    return rest | {"scale": scale, "translate": tuple(plane.translate)}


def lay_over(layer: Layer, source: Image) -> None:
    """Move a layer of two axes to where the pixels of another are in the world now."""
    plain = {"scale": (1, 1), "translate": (0, 0), "affine": np.eye(3)}
    settings = plain | in_plane(result_settings(source))
    for name in ("units", *plain):
        now, wanted = getattr(layer, name), settings[name]
        if not np.array_equal(np.asarray(now), np.asarray(wanted)):
            setattr(layer, name, wanted)


def to_layer_order(frames: Any, axes: str, wanted: str) -> Any:
    """Return frames of a clip, whose axes are ``axes``, with their axes in a layer's order.

    Depth that the clip has lost comes back with length 1.
    """
    if "Z" in wanted and "Z" not in axes:
        frames, axes = frames[:, None], axes[0] + "Z" + axes[1:]
    return frames.transpose([axes.index(a) for a in wanted])


def in_view(
    point: Sequence[float], layer: Layer, units: Sequence[Any] | None = None
) -> dict[str, int]:
    """Return the frame of a layer that is in view, and the slice and channel where it has them.

    Parameters
    ----------
    point
        Where the viewer's sliders are in the world (``viewer.dims.point``).
    layer
        A clip.
    units
        Those of the sliders (``viewer.dims.units``), which are not the layer's where another layer
        has smaller ones. None: the layer's, which is what napari does without units in common.

    Returns
    -------
    dict
        Index along each of the axes T, Z and C that the layer has.
    """
    place = np.asarray(point, dtype=np.float64)[-layer.ndim :]
    # When layers go or a window closes, its sliders change before their units do.
    if units is not None and layer.ndim <= len(units) == len(point):
        place = place * unit_factors(units[-layer.ndim :], layer.units)
    place = layer.world_to_data(place)
    shape = data_of(layer).shape
    return {
        axis: int(np.clip(np.rint(place[i]), 0, shape[i] - 1))
        for i, axis in enumerate(axes_of(layer))
        if axis in "TZC"
    }
