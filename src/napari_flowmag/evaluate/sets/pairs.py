"""Real pairs of frames with small motions, as the paper measures on; nobody knows the truth."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_flowmag.errors import FlowmagError
from napari_flowmag.evaluate.case import Case, CaseSet, Sample
from napari_flowmag.evaluate.sets.request import Request, contents, fingerprint

if TYPE_CHECKING:
    from napari_flowmag.train.data import PairFolder

ALPHAS = (2, 4, 10, 16, 64)
_SMALLEST = 16  # px: what flow estimators take
_QUICK = 6  # pairs
_VERSION = 1


def make_set(request: Request) -> CaseSet:
    """Make the set: each pair of the folder's test split with each magnification.

    Raises
    ------
    FlowmagError
        If no folder is given, or it is not in the authors' layout, incomplete or damaged.
    """
    from napari_flowmag.train.data import CHECKED, open_pairs, spread

    if request.pairs is None:
        raise FlowmagError(
            "the set 'pairs' needs a folder of real pairs, which holds test_fn.json, test/frameA "
            "and test/frameB"
        )
    most = _QUICK if request.quick else CHECKED
    folder = open_pairs(request.pairs, _SMALLEST, "test", checked=most)
    chosen = folder.subset(spread(len(folder), most)) if request.quick else folder

    sides = [folder.root / side / name for side in ("frameA", "frameB") for name in chosen.names]
    return CaseSet(
        name="pairs",
        title="Real pairs",
        description="Pairs of frames of real videos with small motions.",
        fingerprint=fingerprint("pairs", _VERSION, contents(sides, folder.root)),
        cases=tuple(
            Case(f"{name}-a{alpha}", float(alpha), partial(_sample, chosen, index))
            for index, name in enumerate(_case_names(chosen.names))
            for alpha in ALPHAS
        ),
    )


def _sample(pairs: PairFolder, index: int) -> Sample:
    frames = pairs.read(index).movedim(1, -1).numpy()
    top = 255.0 if frames.dtype == np.uint8 else 1.0
    return Sample(np.ascontiguousarray(frames), value_range=(0.0, top))


def _case_names(files: tuple[str, ...]) -> list[str]:
    """Return the files' names with numbers, and without what a task's name must not hold."""
    width = len(str(len(files)))
    return [f"{number:0{width}d}-{_plain(name)}" for number, name in enumerate(files)]


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", Path(name).stem)
