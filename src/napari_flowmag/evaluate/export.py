"""Tasks as files, for programs that flowmag cannot call."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from napari_flowmag.atomic import replacing, write_atomically
from napari_flowmag.evaluate.case import CaseSet, Sample


def export_tasks(
    sets: Sequence[CaseSet], folder: Path, progress: Callable[[int, int], None] | None = None
) -> Path:
    """Write the frames of all tasks, and a list of what is asked.

    Each task is ``SET/CASE.tif``: its frames, the reference first, in the type that they have.
    ``tasks.json`` lists set, case, file, magnification, frames a second and the values of black and
    white. What another program makes of them is evaluated from a folder with the same names.

    Parameters
    ----------
    sets
        What to write.
    folder
        Where; it is made if need be.
    progress
        Called with (tasks done, tasks in all).

    Returns
    -------
    Path
        Of ``tasks.json``, which is written last.

    Raises
    ------
    FlowmagError
        If the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    total = sum(len(cases.cases) for cases in sets)
    listed = []
    for cases in sets:
        (folder / cases.name).mkdir(exist_ok=True)
        for case in cases.cases:
            path = folder / cases.name / f"{case.name}.tif"
            sample = case.make()
            _write(path, sample)
            listed.append(
                {
                    "set": cases.name,
                    "case": case.name,
                    "file": str(path.relative_to(folder)),
                    "alpha": case.alpha,
                    "fps": sample.fps,
                    "black": sample.value_range[0],
                    "white": sample.value_range[1],
                }
            )
            if progress:
                progress(len(listed), total)
    write_atomically(folder / "tasks.json", json.dumps(listed, indent=1).encode())
    return folder / "tasks.json"


def _write(path: Path, sample: Sample) -> None:
    import tifffile

    frames = np.asarray(sample.frames)
    photometric = "rgb" if frames.ndim == 4 else "minisblack"
    with replacing(path) as temporary:
        tifffile.imwrite(temporary, frames, photometric=photometric, compression="zlib")
