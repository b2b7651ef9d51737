"""Write TIFF stacks frame by frame: ImageJ where it can hold the clip, else OME-TIFF."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_flowmag import units
from napari_flowmag.clip import Clip
from napari_flowmag.errors import FlowmagError
from napari_flowmag.io._facts import dump_facts, facts_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CLASSIC_LIMIT = 4_000_000_000  # bytes of pixels that a TIFF of 32-bit offsets holds with its pages
_SMALLEST_PIXEL = 2**-31  # lengths whose inverse a resolution tag holds: a fraction of 32 bits
_IMAGEJ_TYPES = ("uint8", "uint16", "float32")
_OME_TYPES = ("int8", "int16", "int32", "uint8", "uint16", "uint32", "float32", "float64")


def check(path: Path, like: Clip) -> None:
    """Raise FlowmagError if `path` cannot hold such a clip."""
    if like.dtype == bool:
        raise FlowmagError(
            f"{path.name}: a TIFF stack of true/false values is not written: "
            f"convert the clip to uint8 or write .ome.zarr"
        )
    if _is_ome_name(path) and like.dtype.name not in _OME_TYPES:
        raise FlowmagError(
            f"{path.name}: OME-TIFF has no {like.dtype}: write .tif without .ome, or .ome.zarr"
        )


@contextmanager
def sink(
    temporary: Path, path: Path, like: Clip, provenance: dict[str, Any] | None
) -> Iterator[Callable[[NDArray[Any]], None]]:
    """Open a TIFF file for the frames of a clip, given one after the other.

    The file's pages and metadata are laid out first, for the number of frames is known; the pixels
    then go one frame after the other to where the pages expect them.
    """
    import tifffile

    dialect, metadata = _dialect(path, like, provenance)
    resolution = metadata.pop("resolution", None)
    with tifffile.TiffWriter(
        temporary,
        bigtiff=like.frames.nbytes > _CLASSIC_LIMIT,
        imagej=dialect == "imagej",
        ome=dialect == "ome",
    ) as tif:
        where = tif.write(
            None,
            shape=like.shape,
            dtype=like.dtype,
            photometric="rgb" if "S" in like.axes else "minisblack",
            metadata=metadata,
            resolution=resolution,
            software=False,
            returnoffset=True,
        )
    if where is None:
        raise FlowmagError(f"{path.name}: the TIFF library gave no place for the pixels")
    with temporary.open("r+b") as file:
        file.seek(where[0])

        def write(frame: NDArray[Any]) -> None:
            file.write(np.ascontiguousarray(frame).data)

        yield write


def _is_ome_name(path: Path) -> bool:
    return ".ome." in path.name.lower()


def _dialect(
    path: Path, like: Clip, provenance: dict[str, Any] | None
) -> tuple[str, dict[str, Any]]:
    """Return what makes tifffile write the fitting dialect, and the metadata in its terms."""
    imagej = (
        not _is_ome_name(path)
        and like.frames.nbytes <= _CLASSIC_LIMIT
        and like.dtype.name in _IMAGEJ_TYPES
        and like.sizes["X"] > 1  # tifffile takes an ImageJ stack of single columns for cut off
        and min(like.pixel_size or (1,)) > _SMALLEST_PIXEL
        and ("S" not in like.axes or like.dtype == np.uint8)
    )
    if imagej:
        return "imagej", _imagej_metadata(like, provenance)
    if like.dtype.name in _OME_TYPES:
        return "ome", _ome_metadata(like, provenance)
    # Types that neither has, float16 and 64-bit whole numbers: tifffile's own description.
    return "shaped", facts_of(like, provenance)


def _imagej_metadata(like: Clip, provenance: dict[str, Any] | None) -> dict[str, Any]:
    metadata: dict[str, Any] = {"axes": like.axes, "Info": dump_facts(like, provenance)}
    if like.fps:
        metadata |= {"finterval": 1 / like.fps, "tunit": "sec"}
    size = like.pixel_size
    if size:
        unit = units.length(like.unit)
        metadata |= {"unit": unit.pint if unit else "pixel"}
        metadata |= {"resolution": (1 / size[-1], 1 / size[-2])}
    if "Z" in like.lengths:
        metadata |= {"spacing": like.lengths["Z"]}
    if like.channel_names:
        sizes = like.sizes
        metadata |= {"mode": "composite"}
        metadata |= {"Labels": [*like.channel_names] * (sizes["T"] * sizes.get("Z", 1))}
    return metadata


def _ome_metadata(like: Clip, provenance: dict[str, Any] | None) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "axes": like.axes,
        "Name": like.name,
        "Description": dump_facts(like, provenance),
    }
    if like.fps:
        metadata |= {"TimeIncrement": 1 / like.fps, "TimeIncrementUnit": "s"}
    for axis, size in like.lengths.items():
        metadata |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": like.unit}
    if like.channel_names:
        metadata |= {"Channel": {"Name": list(like.channel_names)}}
    return metadata
