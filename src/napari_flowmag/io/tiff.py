"""Read TIFF stacks: plain, ImageJ, OME-TIFF, compressed, tiled, BigTIFF, pyramids at full size."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from napari_flowmag import units
from napari_flowmag.clip import AXES, Clip
from napari_flowmag.errors import FlowmagError
from napari_flowmag.io._facts import clip_name, fitting_names, load_facts
from napari_flowmag.io._lazy import PerProcess, lazy_frames
from napari_flowmag.io._photometric import Shown, shown
from napari_flowmag.io._scale import number, pixel_size, rate

if TYPE_CHECKING:
    import tifffile
    from numpy.typing import NDArray

_DROPPED = "-"  # an axis of the file that a clip does not have; its length is 1
_GREY = (0, 1)  # photometric: white or black is zero
_OPACITY = ((1,), (2,))  # extra samples: opacity that is, or is not, multiplied in


def read(path: Path) -> Clip:
    """Read a TIFF file, or the set of OME-TIFF files that it belongs to, lazily.

    Parameters
    ----------
    path
        The file. An image pyramid gives its full resolution; a file of several images the first.

    Raises
    ------
    FlowmagError
        If it is no TIFF, is cut off or damaged, or holds something else than a clip.
    """
    with _opened(path) as tif:
        series = tif.series[0]
        _check_one_size(tif, series, path)
        file_axes = _clip_axes(tif, series, path)
        facts = _facts(tif, "ZYX" if "Z" in file_axes else "YX")
        meaning = shown(tif, path)
        file_shape, dtype = series.shape, meaning.dtype(np.dtype(series.dtype))
    planes = _Planes(PerProcess(partial(_OpenStack, path), _OpenStack.close), file_axes, meaning)
    axes = meaning.axes("".join(a for a in AXES if a in file_axes or a == "T"))
    sizes = {"T": 1, "S": 3, **dict(zip(file_axes, file_shape, strict=True))}
    names = fitting_names(facts.pop("channel_names", None), sizes.get("C", 1))
    return Clip(
        lazy_frames(planes.read, axes, tuple(sizes[a] for a in axes), dtype, path.name),
        axes,
        name=clip_name(path),
        channel_names=names,
        **facts,
    )


def read_picture(path: Path) -> tuple[str, NDArray[Any]]:
    """Read a TIFF file that is one frame of a clip.

    Returns
    -------
    axes : str
        Letters of ``"CYXS"`` in that order. Opacity beside a single grey is left out.
    picture : ndarray
        Of these axes.

    Raises
    ------
    FlowmagError
        If the file holds several frames or planes, or something else than a picture.
    """
    import tifffile

    with tifffile.TiffFile(path) as tif:
        series, page = tif.series[0], tif.pages.first
        letters = _clip_axes(tif, series, path)
        meaning = shown(tif, path)
        values = series.asarray()
    sizes = dict(zip(letters, values.shape, strict=True))
    if sizes.get("T", 1) * sizes.get("Z", 1) > 1:
        raise FlowmagError(
            f"{path} is a stack of shape {values.shape}: open it by itself, or give a folder of "
            f"single pictures"
        )
    at = {"T": 0, "Z": 0, _DROPPED: 0}
    if "S" in series.axes and sizes.get("C") == 2 and page.extrasamples[:1] in _OPACITY:
        at["C"] = 0
    picture = values[tuple(at.get(a, slice(None)) for a in letters)]
    left = [a for a in letters if a not in at]
    axes = "".join(a for a in AXES if a in left)
    values = meaning.values(picture.transpose([left.index(a) for a in axes]))
    return meaning.axes(axes), values


@dataclass(frozen=True)
class _Planes:
    """The planes of a TIFF series whose axes come in the file's own order."""

    stack: PerProcess[_OpenStack]
    file_axes: str
    meaning: Shown

    def read(self, t: int, z: int) -> NDArray[Any]:
        at = {"T": t, "Z": z, _DROPPED: 0}
        where = tuple(at.get(a, slice(None)) for a in self.file_axes)
        plane = np.asarray(self.stack.get().array[where])
        left = [a for a in self.file_axes if a not in at]
        return self.meaning.values(plane.transpose([left.index(a) for a in AXES if a in left]))


class _OpenStack:
    """An open file, its first series as an array that reads a page when it is asked for."""

    def __init__(self, path: Path) -> None:
        import tifffile
        import zarr

        self._tif = tifffile.TiffFile(path)
        store = self._tif.series[0].aszarr(level=0, chunkmode="page")
        self.array = zarr.open_array(store, mode="r")

    def close(self) -> None:
        self._tif.close()


@contextmanager
def _opened(path: Path) -> Iterator[tifffile.TiffFile]:
    """Open a TIFF file; what tifffile only logs about damaged pages becomes an error."""
    import tifffile

    complaints: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: complaints.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("tifffile")
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        with tifffile.TiffFile(path) as tif:
            whole = bool(tif.series) and _is_whole(tif)
            if not whole or any("offset" in c or "series" in c for c in complaints):
                raise FlowmagError(
                    f"{path} is cut off or damaged: some of its frames are not there; "
                    f"copy or save it anew"
                )
            yield tif
    except tifffile.TiffFileError as error:
        raise FlowmagError(f"{path} is not a TIFF file, or damaged: {error}") from error
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


def _is_whole(tif: tifffile.TiffFile) -> bool:
    """Whether the data of the first series ends before the file does."""
    series = tif.series[0]
    if series.dataoffset is not None:
        return bool(series.dataoffset + series.nbytes <= tif.filehandle.size)
    if any(page is None for page in series.pages):
        return False  # OME-XML speaks of planes that neither this file nor its neighbours hold
    last = series.pages[-1]
    if last is None or last.parent is not tif:
        return True
    ends = [o + n for o, n in zip(last.dataoffsets, last.databytecounts, strict=True)]
    return max(ends, default=0) <= tif.filehandle.size


def _check_one_size(tif: tifffile.TiffFile, series: Any, path: Path) -> None:
    if series.kind != "generic":
        return
    shapes = {s.keyframe.shape for s in tif.series if not s.keyframe.is_reduced}
    if len(shapes) > 1:
        sizes = ", ".join("×".join(map(str, shape)) for shape in sorted(shapes))
        raise FlowmagError(f"{path} has pages of different sizes ({sizes}): a clip needs one size")


def _clip_axes(tif: tifffile.TiffFile, series: Any, path: Path) -> str:
    """Return the clip's letter for each axis of the series.

    An axis without a meaning (tifffile's Q and I) is time, a second one depth. ImageJ stacks made
    of a movie call time "slices": without frames and without a slice spacing they are time too,
    unless our note says that they are a depth.
    Samples of a pixel are colours only in pages that say so; cameras store channels as samples.
    """
    is_colour = series.keyframe.photometric not in _GREY
    ij = tif.imagej_metadata or {}
    is_depth = "spacing" in ij or "Z" in str(load_facts(ij.get("Info")).get("axes"))
    sizes = dict(zip(series.axes, series.shape, strict=True))
    letters: list[str] = []
    for letter, size in zip(series.axes, series.shape, strict=True):
        taken = {*letters, *series.axes}
        new = letter
        if letter in "QI":
            new = next((a for a in "TZ" if a not in taken), letter)
        elif letter == "S" and not (is_colour and size in (3, 4)) and "C" not in taken:
            new = "C"
        elif letter == "Z" and "T" not in taken and tif.is_imagej and not is_depth:
            new = "T"
        letters.append(_DROPPED if size == 1 and new not in "TYX" else new)
    unknown = [a for a in letters if a not in AXES + _DROPPED]
    if (
        unknown
        or not {"Y", "X"} <= {*letters}
        or len({*letters} - {_DROPPED}) < len([a for a in letters if a != _DROPPED])
    ):
        shape = ", ".join(f"{a}={n}" for a, n in sizes.items())
        raise FlowmagError(
            f"{path} has axes {series.axes} ({shape}): flowmag reads time, depth, channels, rows, "
            f"columns and colour (TZCYXS)"
        )
    return "".join(letters)


def _facts(tif: tifffile.TiffFile, spatial_axes: str) -> dict[str, Any]:
    """Return scale, frame rate, channel names and provenance as the file's dialect tells them."""
    if tif.is_ome and tif.ome_metadata:
        return _ome_facts(tif.ome_metadata, spatial_axes)
    if tif.imagej_metadata:
        return _imagej_facts(tif, tif.imagej_metadata, spatial_axes)
    ours = load_facts(tif.pages.first.description)
    if ours:
        facts = {key: ours.get(key) for key in ("fps", "pixel_size", "unit", "channel_names")}
        if facts["pixel_size"]:  # a depth of one plane is told, but is no axis any more
            facts["pixel_size"] = facts["pixel_size"][-len(spatial_axes) :]
        return facts | _note(ours)
    tag = tif.pages.first.tags.get("ResolutionUnit")
    # Inches are left out: 72 an inch is what photo editors write, not the size of anything.
    per_unit = {3: 1e4, 4: 1e3, 5: 1.0}.get(int(tag.value) if tag else 0)
    if per_unit is None or "Z" in spatial_axes:
        return {}
    lengths = {axis: per_unit * size for axis, size in _resolution(tif).items()}
    size, symbol = pixel_size(lengths, dict.fromkeys("YX", "µm"), spatial_axes)
    return {"pixel_size": size, "unit": symbol}


def _note(ours: dict[str, Any]) -> dict[str, Any]:
    provenance = ours.get("provenance")
    return {"metadata": {"provenance": provenance}} if provenance else {}


def _imagej_facts(tif: tifffile.TiffFile, ij: dict[str, Any], axes: str) -> dict[str, Any]:
    ours = load_facts(ij.get("Info"))
    unit = str(ij.get("unit", ""))
    second = units.seconds(str(ij.get("tunit", "s"))) or 0
    size, symbol = pixel_size(
        {**_resolution(tif), "Z": abs(number(ij.get("spacing")))},
        {"X": unit, "Y": str(ij.get("yunit", unit)), "Z": str(ij.get("zunit", unit))},
        axes,
    )
    names = list(ij.get("Labels") or [])
    count = int(ij.get("channels", 1))
    # ImageJ labels planes, not channels: only labels that come again in each frame name channels,
    # and those of a single channel never do so for sure.
    cyclic = count > 1 and bool(names) and names == names[:count] * (len(names) // count)
    return {
        "fps": rate(number(ij.get("finterval")) * second),
        "pixel_size": size,
        "unit": symbol,
        "channel_names": tuple(names[:count]) if cyclic else ours.get("channel_names"),
        **_note(ours),
    }


def _resolution(tif: tifffile.TiffFile) -> dict[str, float]:
    """Return the lengths along Y and X by the resolution tags, without those that say nothing."""
    tags = tif.pages.first.tags
    sizes: dict[str, float] = {}
    for axis in "YX":
        tag = tags.get(f"{axis}Resolution")
        numerator, denominator = tag.value if tag else (0, 1)
        if numerator and denominator:
            sizes[axis] = denominator / numerator
    return sizes


def _ome_facts(xml: str, axes: str) -> dict[str, Any]:
    root = ElementTree.fromstring(xml)
    pixels = root.find(".//{*}Pixels")
    if pixels is None:
        return {}
    size, symbol = pixel_size(
        {a: number(pixels.get(f"PhysicalSize{a}")) for a in axes},
        {a: pixels.get(f"PhysicalSize{a}Unit", "µm") for a in axes},
        axes,
    )
    second = units.seconds(pixels.get("TimeIncrementUnit", "s")) or 0
    interval = number(pixels.get("TimeIncrement")) * second or _mean_interval(pixels)
    names = [c.get("Name") for c in pixels.iterfind("{*}Channel")]
    ours = load_facts(root.findtext(".//{*}Image/{*}Description"))
    return {
        "fps": rate(interval),
        "pixel_size": size,
        "unit": symbol,
        "channel_names": tuple(names) if names and all(names) else ours.get("channel_names"),
        **_note(ours),
    }


def _mean_interval(pixels: ElementTree.Element) -> float:
    """Return the mean time between frames by the times of their planes, 0 if there are none."""
    times = {
        int(plane.get("TheT", 0)): float(plane.get("DeltaT", "nan"))
        * (units.seconds(plane.get("DeltaTUnit", "s")) or 0)
        for plane in pixels.iterfind("{*}Plane")
        if plane.get("TheZ", "0") == "0" and plane.get("TheC", "0") == "0"
    }
    if len(times) < 2:
        return 0.0
    first, last = min(times), max(times)
    return (times[last] - times[first]) / (last - first)
