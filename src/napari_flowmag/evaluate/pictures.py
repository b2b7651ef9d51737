"""Pictures of some tasks: what each method made of them, cut where it moves, and over time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_flowmag.evaluate.case import Case, CaseSet, Sample
from napari_flowmag.evaluate.methods import Magnified, Method
from napari_flowmag.evaluate.store import plain_name, set_folder

SIDE = 160
"""Largest side of a cut-out, px."""

_SHOWN = 3  # tasks of a set
_LINE = 48.0  # px: length of the line that is shown over time
_LONG = 6  # frames from which a picture over time says something

Picture = NDArray[np.uint8]


def shown_cases(cases: CaseSet) -> list[Case]:
    """Return a few tasks of a set that differ the most: in level, or else in magnification."""
    groups: dict[float, list[Case]] = {}
    for case in cases.cases:
        groups.setdefault(case.alpha if case.level is None else case.level, []).append(case)
    values = sorted(groups)
    chosen = sorted({round(i) for i in np.linspace(0, len(values) - 1, _SHOWN)}) if values else []
    # Another one of each group, so that not all show the same scene.
    return [groups[values[i]][n % len(groups[values[i]])] for n, i in enumerate(chosen)]


def picture_folder(root: Path, cases: CaseSet, case: Case) -> Path:
    """Return where the pictures of a task are, below the folder of all pictures."""
    return root / set_folder(cases) / case.name


def has_pictures(folder: Path | None, method: Method) -> bool:
    """Tell whether a method's pictures of a task are there, or none are wanted."""
    return folder is None or _path(folder, method).is_file()


def picture_paths(folder: Path, method: Method) -> tuple[Path, Path]:
    """Return where a method's cut-out and picture over time are, if they are."""
    path = _path(folder, method)
    return path, path.with_name(f"{path.stem}.xt.png")


def write_pictures(folder: Path, sample: Sample, method: Method, magnified: Magnified) -> None:
    """Write a method's pictures of a task; those of input and truth too, if they are not there."""
    folder.mkdir(parents=True, exist_ok=True)
    place = _Place(sample)
    given = {"input-reference": sample.frames[:1], "input-frame": sample.frames}
    if sample.truth is not None:
        given["truth"] = sample.truth
    for name, frames in given.items():
        path = folder / f"{name}.png"
        if not path.is_file():
            place.write(path, frames)
    place.write(_path(folder, method), magnified)


def _path(folder: Path, method: Method) -> Path:
    return folder / f"{plain_name(method.name)}-{method.key[:12]}.png"


class _Place:
    """Where to look at a sample: the frame of largest motion, and what moves in it."""

    def __init__(self, sample: Sample) -> None:
        self._range = sample.value_range
        frames = _grey(sample.frames)
        motion = sample.motion
        if motion is not None:
            size = np.abs(motion).mean(axis=(1, 2, 3))
            self._index = int(size.argmax())
            weight = np.hypot(*motion[self._index])
        else:
            change = np.abs(frames - frames[0])
            self._index = int(change.mean(axis=(1, 2)).argmax())
            weight = change[self._index]
        height, width = frames.shape[1:]
        rows, columns = np.mgrid[:height, :width]
        total = max(float(weight.sum()), 1e-12)
        middle = float((rows * weight).sum() / total), float((columns * weight).sum() / total)
        if not weight.any():
            middle = height / 2, width / 2
        self._cut = tuple(_window(m, n) for m, n in zip(middle, (height, width), strict=True))
        self._line = _line(middle, (height, width), motion, self._index)

    def write(self, path: Path, frames: Magnified) -> None:
        from napari_flowmag.kymograph import kymograph

        picture = frames[min(self._index, len(frames) - 1)][self._cut]
        _save(path, self._bytes(picture))
        if len(frames) >= _LONG:
            over_time = kymograph(_grey(frames), self._line)
            _save(path.with_name(f"{path.stem}.xt.png"), self._bytes(over_time.T))

    def _bytes(self, values: NDArray[np.generic]) -> Picture:
        low, high = self._range
        shares = (np.asarray(values, dtype=np.float64) - low) / (high - low)
        return np.asarray(np.round(255 * np.clip(np.nan_to_num(shares), 0, 1)), dtype=np.uint8)


def _save(path: Path, picture: Picture) -> None:
    from PIL import Image

    from napari_flowmag.atomic import replacing

    with replacing(path) as temporary:
        Image.fromarray(picture).save(temporary, format="png")


def _grey(frames: NDArray[np.generic]) -> NDArray[np.float64]:
    values = np.asarray(frames, dtype=np.float64)
    return values.mean(axis=-1) if values.ndim == 4 else values


def _window(middle: float, length: int) -> slice:
    side = min(SIDE, length)
    start = int(np.clip(round(middle - side / 2), 0, length - side))
    return slice(start, start + side)


def _line(
    middle: tuple[float, float],
    size: tuple[int, int],
    motion: NDArray[np.float32] | None,
    index: int,
) -> list[tuple[float, float]]:
    """Lay a line along the motion through the middle of it, or a horizontal one."""
    along = np.array([0.0, 1.0])
    if motion is not None:
        mean = motion[index].mean(axis=(1, 2))[::-1]
        length = float(np.hypot(*mean))
        along = mean / length if length > 1e-9 else along
    last = np.array(size) - 1.0
    ends = [np.array(middle) + sign * _LINE / 2 * along for sign in (-1, 1)]
    return [(float(p[0]), float(p[1])) for p in np.clip(ends, 0, last)]
