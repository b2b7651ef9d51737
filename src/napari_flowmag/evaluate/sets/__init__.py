"""The tasks of ``flowmag evaluate``: one module a set, and the registry that makes them.

Everything but `pairs` is drawn from a seed, twice the same; see each module for what it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from napari_flowmag.errors import FlowmagError
from napari_flowmag.evaluate.case import CaseSet
from napari_flowmag.evaluate.sets import (
    known,
    lines,
    microscopy,
    noise,
    pairs,
    structure,
    subpixel,
)
from napari_flowmag.evaluate.sets.request import Request

_SETS: dict[str, Callable[[Request], CaseSet]] = {
    "subpixel": subpixel.make_set,
    "noise": noise.make_set,
    "microscopy": microscopy.make_set,
    "structure": structure.make_set,
    "lines": lines.make_set,
    "known": known.make_set,
    "pairs": pairs.make_set,
}


def set_names() -> tuple[str, ...]:
    """Return the names that `case_sets` takes; `pairs` needs a folder."""
    return tuple(_SETS)


def case_sets(
    names: Sequence[str],
    *,
    quick: bool,
    seed: int = 0,
    pairs: Path | None = None,
    objects: Path | None = None,
    backgrounds: Path | None = None,
) -> list[CaseSet]:
    """Make sets of tasks. Their samples are drawn when they are asked for.

    Parameters
    ----------
    names
        Of `set_names`.
    quick
        Make a few tasks of each set, for a first look.
    seed
        Seed of everything that is random.
    pairs
        Folder of real pairs in the authors' layout, for the set `pairs`.
    objects
        Folder of cut-outs for the sets `subpixel` and `noise`, in place of the built-in ones: PNG
        pictures with transparency, Pascal VOC, or COCO.
    backgrounds
        Folder of pictures that these cut-outs move in front of.

    Raises
    ------
    FlowmagError
        If a set is unknown or asked for twice, or a folder is missing or holds nothing fit.
    """
    for name in names:
        if name not in _SETS:
            raise FlowmagError(f"no set '{name}': choose from {', '.join(_SETS)}")
    if len(set(names)) < len(names):
        raise FlowmagError(f"a set is asked for twice: {', '.join(names)}")
    if seed < 0:
        raise FlowmagError(f"the seed is {seed}: give a whole number from 0 up")
    request = Request(quick, seed, pairs, objects, backgrounds)
    return [_SETS[name](request) for name in names]
