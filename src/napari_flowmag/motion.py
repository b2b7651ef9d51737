"""The motion of regions over time, as numbers: displacement, main frequency, achieved factor."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_flowmag.atomic import write_atomically
from napari_flowmag.errors import FlowmagError
from napari_flowmag.measure import UnmeasurableError, displacements

_TOGETHER = 8  # pictures that are held at a time
_SHORTEST = 8  # frames: fewer say nothing about a frequency
_PERIODS = 1.5  # in the clip: fewer do not tell a frequency
_FINER = 16  # zeros are added so that a peak is found between the frequencies of the spectrum


@dataclass(frozen=True, eq=False)
class Motion:
    """How a region moved.

    Attributes
    ----------
    label
        Number of the region in the mask; 0 for the whole picture.
    displacement
        (T, 2) px, (dx, dy) from the reference.
    fps
        Frames a second; None if unknown.
    """

    label: int
    displacement: NDArray[np.float64]
    fps: float | None = None

    @property
    def largest(self) -> float:
        """Largest distance from the reference, px."""
        return float(np.hypot(*self.displacement.T).max())

    def along(self) -> NDArray[np.float64]:
        """Return the displacement along the direction of most motion, (T,) px, with mean 0."""
        centred = self.displacement - self.displacement.mean(axis=0)
        _, _, directions = np.linalg.svd(centred, full_matrices=False)
        return np.asarray(centred @ directions[0])

    def frequency(self) -> tuple[float, float] | None:
        """Return the main frequency and the amplitude there, in Hz and px.

        The highest peak of the spectrum under a Hann window, without the mean; its place is good
        to a small fraction of 1 / duration where one sinusoid stands out. None where the frame
        rate is unknown, there are fewer than 8 frames, or nothing moves; and where the peak lies
        within 1.5 / duration of 0 or of half the frame rate: a sinusoid there overlaps with its
        mirror image, which takes the peak elsewhere, and what has no period at all peaks there.
        """
        count = len(self.displacement)
        if self.fps is None or count < _SHORTEST or not self.displacement.any():
            return None
        window = np.hanning(count)
        spectrum = np.abs(np.fft.rfft(self.along() * window, _FINER * count)) * 2 / window.sum()
        frequencies = np.fft.rfftfreq(_FINER * count, 1 / self.fps)
        peak = int(spectrum.argmax())
        margin = _PERIODS * self.fps / count
        if not margin <= frequencies[peak] <= self.fps / 2 - margin:
            return None
        return float(frequencies[peak]), float(spectrum[peak])


def regions_of(mask: ArrayLike | None) -> dict[int, NDArray[np.bool_] | None]:
    """Return the regions of a mask: number → (H, W) bool; without a mask, 0 → None.

    Parameters
    ----------
    mask
        (H, W): whole numbers, each a region; of other types, what is not 0 is region 1.

    Raises
    ------
    FlowmagError
        If the mask changes over time or is empty.
    """
    if mask is None:
        return {0: None}
    values = np.asarray(mask)
    if values.ndim == 3 and len(values) == 1:
        values = values[0]
    if values.ndim != 2:
        raise FlowmagError("motion is measured in regions that stay: give a mask of one picture")
    if values.dtype.kind not in "ui":
        values = (values != 0).astype(np.uint8)
    labels = np.unique(values[values != 0])
    if not labels.size:
        raise FlowmagError("the mask is empty: nothing to measure in")
    return {int(label): values == label for label in labels}


def measure_motion(
    reference: ArrayLike,
    frames: Iterable[ArrayLike],
    mask: ArrayLike | None = None,
    *,
    fps: float | None = None,
    search: int = 16,
    start: int = 0,
    lost: dict[int, UnmeasurableError] | None = None,
) -> list[Motion]:
    """Measure how each region of a mask moved; see :func:`~napari_flowmag.measure.displacements`.

    Parameters
    ----------
    reference
        (H, W) or (H, W, C): the picture from which motion is measured.
    frames
        Pictures like it; read once, a few held at a time.
    mask
        (H, W) labels; the whole picture by default.
    fps
        Frames a second.
    search
        Largest displacement that is looked for, px.
    start
        Number of the first frame, for what is said of one that cannot be measured.
    lost
        Receives why a region cannot be measured in some frame, by its number; it is then left out
        of the result. Without it such a region is an error.

    Raises
    ------
    FlowmagError
        If the mask does not fit, a region has no structure, or a frame cannot be measured, such as
        a black one.
    """
    regions = regions_of(mask)
    moved: dict[int, list[NDArray[np.float64]]] = {label: [] for label in regions}
    pictures = iter(frames)
    # A region is prepared anew for each few pictures, which takes less time than one of them does.
    while some := list(itertools.islice(pictures, _TOGETHER)):
        for label in list(moved):
            at = start + len(moved[label])
            try:
                found = displacements(reference, some, regions[label], search=search, start=at)
            except UnmeasurableError as error:
                where = f"region {label}, " if label else ""
                told = UnmeasurableError(f"{where}{error}")
                if lost is None:
                    raise told from error
                lost[label] = told
                del moved[label]
                continue
            moved[label].extend(found)
    return [Motion(label, np.array(places).reshape(-1, 2), fps) for label, places in moved.items()]


def write_motion(
    path: Path, motions: Sequence[Motion], *, start: int = 0, size: float = 1.0, unit: str = "px"
) -> None:
    """Write a table: a row for each region and frame.

    Parameters
    ----------
    path
        A ``.csv`` file.
    motions
        What to write.
    start
        Number of the first frame.
    size, unit
        Size of a pixel.

    Raises
    ------
    FlowmagError
        If the path has another suffix or cannot be written to.
    """
    if path.suffix.lower() != ".csv":
        raise FlowmagError(f"{path}: give a name that ends in .csv")
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["region", "frame", "time (s)", f"dx ({unit})", f"dy ({unit})"])
    for motion in motions:
        for t, (dx, dy) in enumerate(motion.displacement):
            time = "" if motion.fps is None else f"{(start + t) / motion.fps:.9g}"
            table.writerow([motion.label, start + t, time, f"{size * dx:.6g}", f"{size * dy:.6g}"])
    write_atomically(path, text.getvalue().encode())
