"""Kymographs as files: a drawing, a calibrated picture, a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_flowmag import units
from napari_flowmag.atomic import replacing, write_atomically
from napari_flowmag.errors import FlowmagError
from napari_flowmag.kymograph import draw_kymographs


@dataclass(frozen=True, eq=False)
class Kymograph:
    """What lies along a line over time, with its scale.

    Attributes
    ----------
    slices : dict of str to ndarray
        Title → (T, L) or (T, L, C) of each clip that was sampled, all of one shape; NaN where a
        clip has no frame, or does not reach.
    fps : float, optional
        Frames a second; None: time counts frames.
    distance : float
        From one sample along the line to the next, in `unit`.
    unit : str
        Unit of length; ``px`` where the pixel size is unknown.
    start : float
        Number of the first frame, from which time counts.
    """

    slices: Mapping[str, NDArray[Any]]
    fps: float | None = None
    distance: float = 1.0
    unit: str = "px"
    start: float = 0

    def times(self) -> NDArray[np.float64]:
        """Time of each row: seconds, or frames."""
        count = len(next(iter(self.slices.values())))
        return np.asarray((self.start + np.arange(count)) / (self.fps or 1.0), dtype=np.float64)

    def positions(self) -> NDArray[np.float64]:
        """Distance of each column from the beginning of the line, in `unit`."""
        count = next(iter(self.slices.values())).shape[1]
        return np.asarray(np.arange(count) * self.distance, dtype=np.float64)


def save_kymograph(path: str | Path, kymograph: Kymograph) -> Path:
    """Write a kymograph; the suffix chooses the format.

    ``.png``: drawn with axes, all clips side by side. ``.tif``: float32 for ImageJ, a row for each
    frame and a column for each sample, with the distance of samples and frames; several clips are
    the pages of a stack. ``.csv``: a row for each frame, with the time first; the header has the
    positions. NaN is blank, NaN, and an empty field.

    Raises
    ------
    FlowmagError
        If the suffix is another, or the file cannot be written.
    """
    path = Path(path)
    write = _WRITERS.get(path.suffix.lower())
    if write is None:
        raise FlowmagError(f"{path}: a kymograph is written as {', '.join(_WRITERS)}")
    try:
        write(path, kymograph)
    except OSError as error:
        raise FlowmagError(f"cannot write {path}: {error.strerror}") from error
    return path


def _png(path: Path, kymograph: Kymograph) -> None:
    calibrated = kymograph.unit != "px"
    panels, value_range = _panels(kymograph.slices)
    picture = draw_kymographs(
        panels,
        fps=kymograph.fps,
        pixel_size=kymograph.distance if calibrated else None,
        unit=kymograph.unit if calibrated else None,
        value_range=value_range,
        start=kymograph.start,
    )
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG")


def _panels(
    slices: Mapping[str, NDArray[Any]],
) -> tuple[Mapping[str, NDArray[Any]], tuple[float, float] | None]:
    """Return what is drawn side by side, and its black and white: channels that are no colours.

    Each channel has values of its own: what is black and white in it, is so for all clips.
    """
    if {values.shape[2:] for values in slices.values()} <= {(), (3,)}:
        return slices, None
    pages = np.stack([np.stack(_planes(values)) for values in slices.values()])
    low, high = np.nanpercentile(pages, (0.1, 99.9), axis=(0, 2, 3), keepdims=True)
    shown = (pages - low) / np.maximum(high - low, 1e-12)
    return dict(zip(_titles(slices), shown.reshape(-1, *pages.shape[2:]), strict=True)), (0, 1)


def _tiff(path: Path, kymograph: Kymograph) -> None:
    import tifffile

    pages = [page for values in kymograph.slices.values() for page in _planes(values)]
    interval = 1 / kymograph.fps if kymograph.fps else 1.0
    unit = units.length(kymograph.unit)  # by the name that is plain ASCII, as ImageJ wants it
    with replacing(path) as temporary:
        tifffile.imwrite(
            temporary,
            np.stack(pages).astype(np.float32),
            imagej=True,
            resolution=(1 / kymograph.distance, 1 / interval),
            metadata={
                "axes": "CYX",
                "unit": unit.pint if unit else "pixel",
                "yunit": "sec" if kymograph.fps else "frame",
                "Labels": _titles(kymograph.slices),
            },
        )


def _csv(path: Path, kymograph: Kymograph) -> None:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    places = [f"{value:.6g} {kymograph.unit}" for value in kymograph.positions()]
    table.writerow(["clip", "time (s)" if kymograph.fps else "frame", *places])
    titles = iter(_titles(kymograph.slices))
    for values in kymograph.slices.values():
        for page in _planes(values):
            title = next(titles)
            for time, row in zip(kymograph.times(), page, strict=True):
                fields = ("" if np.isnan(value) else f"{value:.7g}" for value in row)
                table.writerow([title, f"{time:.9g}", *fields])
    write_atomically(path, text.getvalue().encode())


def _planes(values: NDArray[Any]) -> list[NDArray[Any]]:
    return [values] if values.ndim == 2 else list(np.moveaxis(values, -1, 0))


def _titles(slices: Mapping[str, NDArray[Any]]) -> list[str]:
    titles = []
    for title, values in slices.items():
        count = len(_planes(values))
        titles += [title] if count == 1 else [f"{title} C{c}" for c in range(count)]
    return titles


_WRITERS: dict[str, Callable[[Path, Kymograph], None]] = {
    ".png": _png,
    ".tif": _tiff,
    ".tiff": _tiff,
    ".csv": _csv,
}
