"""The part of a picture in which there is something to draw: all of it, or halves along its sides.

Work that only outlines need is done around them alone. Halves, and no parts that fit exactly,
because operations are recorded for each size (:mod:`napari_flowmag.recorded`).
"""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from napari_flowmag.warp import sides

_ALIGN = 32
"""Parts start at multiples of so many px: what is pooled in them is pooled alike in the whole."""

_CONTEXT = 48
"""Px around what is drawn that it may depend on, beside how far it moves."""

_SMALL = 256
"""Sides up to so many px are not halved."""


class Area(NamedTuple):
    """A part of a picture, px."""

    rows: slice
    columns: slice

    def cut(self, picture: Tensor) -> Tensor:
        """Cut the part out of (B, C, H, W); what is the same everywhere, (B, C, 1, 1), stays."""
        alike = picture.shape[-2:] == (1, 1)
        return picture if alike else picture[..., self.rows, self.columns]

    def cut_small(self, picture: Tensor) -> Tensor:
        """Cut the part out of what has half the resolution."""
        rows, columns = (slice(s.start // 2, (s.stop + 1) // 2) for s in self)
        return picture[..., rows, columns]

    def put(self, part: Tensor, like: Tensor) -> Tensor:
        """Surround the part with zeros, as far as a picture goes."""
        height, width = sides(like)
        if sides(part) == (height, width):
            return part
        rows, columns = self
        ends = columns.start, width - columns.stop, rows.start, height - rows.stop
        return F.pad(part, ends)


def area_of(small: Tensor, reach: Tensor, size: tuple[int, int]) -> Area | None:
    """Find where something is to be drawn.

    Parameters
    ----------
    small : Tensor
        (B, 1, h, w) at half the resolution: above 0 where there is something.
    reach : Tensor
        Of the same shape: by how many px it may move.
    size : (int, int)
        Of the pictures.

    Returns
    -------
    Area, optional
        None: nothing is drawn.
    """
    seen = (small > 0).amax((0, 1))
    if not seen.any():
        return None
    margin = _CONTEXT + int(reach[small > 0].max().clamp(max=max(size)))
    return Area(*(_piece(seen.any(1 - axis), margin, size[axis]) for axis in (0, 1)))


def _piece(seen: Tensor, margin: int, length: int) -> slice:
    """Give half of an axis if that holds all that is seen, else all."""
    places = seen.nonzero()
    first, last = 2 * int(places[0]) - margin, 2 * int(places[-1]) + 1 + margin
    latest = _ALIGN * (length // (2 * _ALIGN))
    start = min(_ALIGN * (max(first, 0) // _ALIGN), latest)
    stop = start + length - latest
    fits = length > _SMALL and min(last, length - 1) < stop
    return slice(start, stop) if fits else slice(0, length)
