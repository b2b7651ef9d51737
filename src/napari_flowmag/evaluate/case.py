"""One task for a magnifier, and sets of them: what all data of an evaluation look like."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_flowmag.errors import FlowmagError


@dataclass(frozen=True)
class Sample:
    """What a magnifier gets, and what is known about the right answer.

    Attributes
    ----------
    frames
        (T, H, W) or (T, H, W, 3), T from 2; frame 0 is the reference.
    value_range
        Values of black and white.
    truth
        Magnified frames, floats in the shape and the values of `frames`, without noise; None
        where nobody knows.
    motion
        (T, 2, H, W) float32, px, (dx, dy): how far what lies at each pixel of frame 0 has moved by
        frame t, before magnification; None where nobody knows.
    moving
        (H, W) bool: pixels of frame 0 that move; None where nobody knows.
    still
        (H, W) bool: pixels where nothing may change, in any frame and any magnified one; None
        where there are none or nobody knows.
    fps
        Frames per second.
    band
        Lowest and highest frequency in Hz that a filter over time is to let pass; None where the
        motion is no oscillation, or nobody knows.
    """

    frames: NDArray[Any]
    value_range: tuple[float, float] = (0.0, 1.0)
    truth: NDArray[np.float32] | None = None
    motion: NDArray[np.float32] | None = None
    moving: NDArray[np.bool_] | None = None
    still: NDArray[np.bool_] | None = None
    fps: float = 30.0
    band: tuple[float, float] | None = None


def band_around(frequency: float) -> tuple[float, float]:
    """Return the band of a filter for motion of one frequency: half of it to half as much again."""
    return 0.5 * frequency, 1.5 * frequency


@dataclass(frozen=True)
class Case:
    """A task of a set, made when it is needed.

    Attributes
    ----------
    name
        Unique within the set and fit to be a file's name.
    alpha
        Magnification asked for.
    make
        Makes the sample; the same one every time.
    level
        Value of what the set varies, such as px of displacement; None where it varies nothing.
    group
        Tasks of one group are averaged, and it is the heading of their figures.
    """

    name: str
    alpha: float
    make: Callable[[], Sample]
    level: float | None = None
    group: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise FlowmagError(f"case {self.name!r}: letters, digits, '.', '_' and '-' only")
        if not self.group:
            object.__setattr__(self, "group", f"α = {self.alpha:g}")


@dataclass(frozen=True)
class CaseSet:
    """Tasks of one kind.

    Attributes
    ----------
    name
        Short, and fit to be a folder's name.
    title
        Heading for readers.
    description
        What the tasks are, in a sentence or two.
    fingerprint
        Changes when any sample would: results kept under another one are not used.
    cases
        The tasks.
    varies
        What `Case.level` says, with its unit: "displacement in px"; empty where it varies nothing.
    """

    name: str
    title: str
    description: str
    fingerprint: str
    cases: tuple[Case, ...]
    varies: str = ""
