"""What numbers in a picture stand for: intensities, their negatives, or colours of a palette."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_flowmag.errors import FlowmagError

if TYPE_CHECKING:
    import tifffile
    from numpy.typing import NDArray

_WHITE_IS_ZERO, _PALETTE = 0, 3


@dataclass(frozen=True)
class Shown:
    """Turns the numbers that a TIFF file stores into the values that it shows.

    `table` has red, green and blue, or a grey, for each number of a palette; None without one.
    `black` is the number that a negative stores for black; None unless the file is one.
    """

    table: NDArray[Any] | None = None
    black: int | None = None

    def axes(self, stored: str) -> str:
        """Return the axes of what is shown."""
        return stored if self.table is None or self.table.ndim == 1 else f"{stored}S"

    def dtype(self, stored: np.dtype[Any]) -> np.dtype[Any]:
        """Return the data type of what is shown."""
        return stored if self.table is None else self.table.dtype

    def values(self, stored: NDArray[Any]) -> NDArray[Any]:
        """Return what is shown, colours as the last axis."""
        if self.table is not None:
            return np.take(self.table, stored, axis=0)
        if self.black is not None:
            return np.asarray(stored ^ stored.dtype.type(self.black))
        return stored


def shown(tif: tifffile.TiffFile, path: Path) -> Shown:
    """Find out what the numbers of a file's first series stand for.

    Those of ImageJ are intensities whatever the table of colours that they are looked at with, and
    so are those of a palette in OME-TIFF. Negatives of signed and real numbers stay as they are:
    nothing says which number is white. So do true and false: tifffile calls masks negatives unless
    it is told better.

    Raises
    ------
    FlowmagError
        If the palette is not one for all pages, or there is more than the number of a colour.
    """
    series = tif.series[0]
    page = series.keyframe
    if tif.is_imagej or page.dtype is None:
        return Shown()
    if page.photometric == _WHITE_IS_ZERO and page.dtype.kind == "u":
        return Shown(black=2**page.bitspersample - 1)
    if page.photometric != _PALETTE or page.colormap is None or tif.is_ome:
        return Shown()
    palettes = (other.aspage().colormap for other in series.pages if other is not None)
    is_one = all(p is not None and np.array_equal(p, page.colormap) for p in palettes)
    if page.samplesperpixel > 1 or not is_one:
        raise FlowmagError(
            f"{path} has a palette for each page, or more than a palette's colours: "
            f"convert it to RGB or grey"
        )
    return Shown(table=_table(page.colormap))


def palette_numbers(path: Path) -> NDArray[Any] | None:
    """Return the numbers that a file with a palette stores; None if there is no palette."""
    import PIL.Image
    import PIL.ImageSequence

    try:
        with PIL.Image.open(path) as file:
            if file.mode != "P":
                return None
            pictures = [np.array(picture) for picture in PIL.ImageSequence.Iterator(file)]
    except (OSError, ValueError, PIL.Image.DecompressionBombError):
        return None  # what is wrong with it, if anything, is said when it is read
    return pictures[0] if len(pictures) == 1 else np.stack(pictures)


def _table(colormap: NDArray[Any]) -> NDArray[Any]:
    """Return (N, 3) colours, or (N,) if all are greys: of 8 bits unless that would lose some."""
    colours = colormap.T
    if colours.max() <= 255:  # some programs store 8 bits where 16 are asked for
        colours = colours.astype(np.uint8)
    elif not (colours % 257).any() or not (colours % 256).any():
        colours = (colours >> 8).astype(np.uint8)
    is_grey = bool((colours == colours[:, :1]).all())
    return np.ascontiguousarray(colours[:, 0] if is_grey else colours)
