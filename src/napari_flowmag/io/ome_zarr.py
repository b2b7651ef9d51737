"""Read and write OME-Zarr images: read versions 0.1 to 0.5 on Zarr 2 and 3, write 0.5.

The specification is at https://ngff.openmicroscopy.org. The metadata is read leniently, because
files in the wild are, and written strictly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_flowmag import units
from napari_flowmag.clip import AXES, Clip
from napari_flowmag.errors import FlowmagError
from napari_flowmag.io._facts import clip_name, facts_of, fitting_names, load_facts_of
from napari_flowmag.io._lazy import PerProcess, lazy_frames
from napari_flowmag.io._scale import number, pixel_size, rate

if TYPE_CHECKING:
    import zarr
    from numpy.typing import NDArray

_MARKERS = ("zarr.json", ".zgroup", ".zarray", ".zattrs")
_LARGEST_CHUNK = 1024  # rows and columns
_COLOURS: tuple[str, ...] = ("00FF00", "FF00FF", "00FFFF", "FFFF00", "FF0000", "0000FF", "FFFFFF")
_RGB: tuple[str, ...] = ("FF0000", "00FF00", "0000FF", "FFFFFF")


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr array or group."""
    return path.is_dir() and any((path / marker).is_file() for marker in _MARKERS)


def read(path: Path) -> Clip:
    """Read the full resolution of an OME-Zarr image lazily.

    Parameters
    ----------
    path
        The image's folder, or the folder that bioformats2raw wrote: its first image counts.

    Raises
    ------
    FlowmagError
        If there is no image, or its axes are not those of a clip.
    """
    image, attributes = _image(path)
    try:
        multiscale = attributes["multiscales"][0]
        dataset = multiscale["datasets"][0]
        names = [a if isinstance(a, str) else a["name"] for a in multiscale.get("axes", "tczyx")]
        zarray = PerProcess(partial(_open_array, image, str(dataset["path"])), _close_array)
        shape, dtype = zarray.get().shape, zarray.get().dtype
        file_axes = "".join(str(name).upper() for name in names)
        sizes = {"T": 1, **dict(zip(file_axes, shape, strict=True))}
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise FlowmagError(f"{path} has damaged OME-Zarr metadata: {error}") from error
    if not set(file_axes) <= set("TZCYX") or not {"Y", "X"} <= set(file_axes):
        raise FlowmagError(
            f"{path} has axes {', '.join(map(str, names))}: flowmag reads t, c, z, y, x"
        )
    facts = _facts(multiscale, dataset, file_axes, attributes)
    ours = load_facts_of(_attributes(image).get("flowmag"))
    axes, sizes = _clip_axes(sizes, ours)
    planes = _Planes(zarray, file_axes, sizes.get("S"), "C" in axes)
    # Each channel of colour samples has its name as often as it has samples. Without channels the
    # names are those of the samples, and only our note knows better.
    labels, channels = facts.pop("channel_names"), sizes.get("C", 1)
    if labels:
        labels = None if "S" in axes and "C" not in axes else labels[:: sizes.get("S", 1)]
    if ours.get("provenance"):
        facts["metadata"] = {"provenance": ours["provenance"]}
    return Clip(
        lazy_frames(planes.read, axes, tuple(sizes[a] for a in axes), dtype, path.name),
        axes,
        name=clip_name(path),
        channel_names=fitting_names(labels, channels)
        or fitting_names(ours.get("channel_names"), channels),
        **facts,
    )


@dataclass(frozen=True)
class _Planes:
    """The planes of an OME-Zarr array; colour samples lie in its channel axis."""

    array: PerProcess[zarr.Array[Any]]
    file_axes: str
    samples: int | None
    channels: bool

    def read(self, t: int, z: int) -> NDArray[Any]:
        at = {"T": t, "Z": z}
        plane = np.asarray(self.array.get()[tuple(at.get(a, slice(None)) for a in self.file_axes)])
        left = [a for a in self.file_axes if a not in at]
        plane = plane.transpose([left.index(a) for a in "CYX" if a in left])
        if self.samples:
            split = plane.reshape(-1, self.samples, *plane.shape[1:])
            plane = np.moveaxis(split, 1, -1)
            return plane if self.channels else plane[0]
        return plane


def _open_array(image: Path, dataset: str) -> zarr.Array[Any]:
    import zarr

    return zarr.open_array(image / dataset, mode="r")


def _close_array(array: zarr.Array[Any]) -> None:
    array.store.close()


def _attributes(folder: Path) -> dict[str, Any]:
    import zarr

    try:
        return dict(zarr.open_group(folder, mode="r").attrs)
    except Exception as error:  # zarr has no base class for what it says about damaged metadata
        raise FlowmagError(f"{folder} is not an OME-Zarr image, or damaged: {error}") from error


def _image(path: Path) -> tuple[Path, dict[str, Any]]:
    """Return the image's folder and its OME attributes, which 0.5 has below the key ``ome``."""
    for image in (path, path / "0"):
        attributes = _attributes(image)
        ome: dict[str, Any] = attributes.get("ome", attributes)
        if "multiscales" in ome:
            return image, ome
        if "bioformats2raw.layout" not in ome:
            break
    raise FlowmagError(f"{path} holds no OME-Zarr image: its metadata names no multiscales")


def _clip_axes(sizes: dict[str, int], ours: dict[str, Any]) -> tuple[str, dict[str, int]]:
    """Return axes and sizes of the clip; our own note tells colour samples from channels."""
    samples = int(ours.get("samples") or 0)
    if samples and sizes.get("C", 0) % samples == 0:
        sizes = {**sizes, "C": sizes["C"] // samples, "S": samples}
        if sizes["C"] == 1 and "C" not in str(ours.get("axes")):
            del sizes["C"]
    return "".join(a for a in AXES if a in sizes), sizes


def _facts(
    multiscale: dict[str, Any], dataset: dict[str, Any], axes: str, ome: dict[str, Any]
) -> dict[str, Any]:
    scale = np.ones(len(axes))
    told = False
    for transformation in (
        *dataset.get("coordinateTransformations", ()),
        *multiscale.get("coordinateTransformations", ()),
    ):
        if transformation.get("type") == "scale" and "scale" in transformation:
            scale *= np.asarray(transformation["scale"], float)
            told = True
    by_axis = dict(zip(axes, map(float, scale), strict=True))
    unit_of = {
        str(a["name"]).upper(): a.get("unit")
        for a in multiscale.get("axes", ())
        if not isinstance(a, str)
    }
    spatial = "".join(a for a in "ZYX" if a in axes)
    # Files in the wild name one unit for all; the specification has one for each axis.
    length_of = {a: unit_of.get(a) or unit_of.get("X") for a in spatial}
    if by_axis.get("Z") == 1 and not unit_of.get("Z"):
        length_of["Z"] = None  # a number is asked for even where the step is unknown
    size, symbol = pixel_size(by_axis, length_of, spatial) if told else (None, None)
    second = units.seconds(unit_of.get("T")) if told else None
    channels = ome.get("omero", {}).get("channels", ())
    labels = [channel.get("label") for channel in channels]
    return {
        "fps": rate(number(by_axis.get("T")) * (second or 0)),
        "pixel_size": size,
        "unit": symbol,
        "channel_names": tuple(map(str, labels)) if labels and all(labels) else None,
    }


def check(path: Path, like: Clip) -> None:
    """Raise FlowmagError if `path` cannot hold such a clip: it can hold each."""


@contextmanager
def sink(
    temporary: Path, path: Path, like: Clip, provenance: dict[str, Any] | None
) -> Iterator[Callable[[NDArray[Any]], None]]:
    """Open an OME-Zarr folder for the frames of a clip, given one after the other."""
    import zarr

    sizes = like.sizes
    channels = sizes.get("C", 1) * sizes.get("S", 1)
    has_channels = "C" in like.axes or "S" in like.axes
    stored = {"T": sizes["T"]} | ({"C": channels} if has_channels else {})
    stored |= {a: sizes[a] for a in like.spatial_axes}
    facts = {**facts_of(like, provenance), "samples": sizes.get("S")}
    attributes = _ome_attributes(like, "".join(stored), path)
    group = zarr.create_group(
        temporary, zarr_format=3, attributes={"ome": attributes, "flowmag": facts}
    )
    array = group.create_array(
        "0",
        shape=tuple(stored.values()),
        chunks=tuple(min(n, _LARGEST_CHUNK) if a in "YX" else 1 for a, n in stored.items()),
        dtype=np.dtype(like.dtype.str),  # Zarr knows only one of the two names of 64-bit integers
        dimension_names=[a.lower() for a in stored],
    )
    named = like.channel_names is not None or ("S" in like.axes and "C" not in like.axes)
    ranges = _Ranges(sizes.get("C", 1))
    count = 0

    def write(frame: NDArray[Any]) -> None:
        nonlocal count
        array[count] = ordered = _channels_first(frame, like.axes[1:])
        if named:
            ranges.add(ordered.reshape(sizes.get("C", 1), -1))
        count += 1

    yield write
    if named:
        group.attrs["ome"] = attributes | {"omero": {"channels": _omero_channels(like, ranges)}}


def _channels_first(frame: NDArray[Any], axes: str) -> NDArray[Any]:
    """Reorder ([Z], [C], Y, X, [S]) to ([C·S], [Z], Y, X)."""
    order = [axes.index(a) for a in "CSZYX" if a in axes]
    moved = frame.transpose(order)
    if "C" in axes and "S" in axes:
        return moved.reshape(-1, *moved.shape[2:])
    return moved


def _ome_attributes(like: Clip, axes: str, path: Path) -> dict[str, Any]:
    unit = units.length(like.unit)
    size = like.lengths
    scale = [1 / (like.fps or 1.0) if a == "T" else size.get(a, 1.0) for a in axes]
    kinds = {"T": "time", "C": "channel"}
    described: list[dict[str, str]] = []
    for a in axes:
        described.append({"name": a.lower(), "type": kinds.get(a, "space")})
        if a == "T" and like.fps:
            described[-1]["unit"] = "second"
        elif a in size and unit:
            described[-1]["unit"] = unit.zarr
    multiscale = {
        "name": path.name.removesuffix(".zarr").removesuffix(".ome"),
        "axes": described,
        "datasets": [
            {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        ],
    }
    return {"version": "0.5", "multiscales": [multiscale]}


class _Ranges:
    """Smallest and largest finite value of each channel, of all its colour samples together."""

    def __init__(self, channels: int) -> None:
        self.low = np.full(channels, np.inf)
        self.high = np.full(channels, -np.inf)

    def add(self, frame: NDArray[Any]) -> None:
        """Take in a frame, as an array of all values of each channel."""
        for c, plane in enumerate(frame):
            values = plane[np.isfinite(plane)] if plane.dtype.kind == "f" else plane
            if values.size:
                self.low[c] = min(self.low[c], values.min())
                self.high[c] = max(self.high[c], values.max())

    def window(self, channel: int, dtype: np.dtype[Any]) -> dict[str, float]:
        """Return how to show a channel: 8 bits as they are, all else with full contrast."""
        low, high = float(self.low[channel]), float(self.high[channel])
        limits = np.iinfo(dtype) if dtype.kind in "ui" else None
        whole = (limits.min, limits.max) if limits else (min(low, 0), max(high, 1))
        if dtype == np.uint8 or not low < high:
            low, high = whole
        return {"min": float(whole[0]), "max": float(whole[1]), "start": low, "end": high}


def _omero_channels(like: Clip, ranges: _Ranges) -> list[dict[str, Any]]:
    """Return names, and with them what the specification asks for: a colour and a window."""
    samples = like.sizes.get("S", 1)
    if like.channel_names:
        labels = [n for n in like.channel_names for _ in range(samples)]
    else:
        labels = ["red", "green", "blue", "alpha"][:samples]
    if "S" in like.axes:
        colours = _RGB[:samples]
    elif len(labels) == 1:
        colours = ("FFFFFF",)
    else:
        colours = _COLOURS
    return [
        {
            "label": label,
            "color": colours[i % len(colours)],
            "window": ranges.window(i // samples, like.dtype),
            "active": True,
        }
        for i, label in enumerate(labels)
    ]
