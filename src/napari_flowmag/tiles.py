"""Cutting a picture into overlapping tiles whose results blend without seams.

Coordinates and weights only: no pixel is touched here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ALIGN = 32
"""Tiles start at multiples of this, so that networks which halve the picture up to five times
see the same grid in a tile as in the whole."""

MIN_TILE = 128
"""Smallest tile in px: below it, margins and seams leave nothing between them."""


@dataclass(frozen=True, eq=False)
class Span:
    """A piece of one axis.

    Attributes
    ----------
    start, stop : int
        Pixels ``start`` … ``stop - 1``.
    weight : ndarray
        (stop - start,) float32 in [0, 1]: the piece's share of each pixel. The shares of all
        spans of an axis add up to 1 everywhere.
    """

    start: int
    stop: int
    weight: NDArray[np.float32]

    @property
    def slice(self) -> slice:
        """The pixels as an index."""
        return slice(self.start, self.stop)


@dataclass(frozen=True, eq=False)
class Tile:
    """A rectangle of the picture: one span of rows, one of columns."""

    rows: Span
    columns: Span

    @property
    def weight(self) -> NDArray[np.float32]:
        """Share of each pixel, (rows, columns) float32; all tiles add up to 1."""
        return self.rows.weight[:, None] * self.columns.weight[None, :]


def tiles(height: int, width: int, tile: int | None, context: int) -> list[Tile]:
    """Cover a picture with overlapping tiles.

    Parameters
    ----------
    height, width : int
        Of the picture, px.
    tile : int or None
        Largest side of a tile in px, at least :data:`MIN_TILE`; None takes the whole picture.
    context : int
        Surroundings in px that a result needs to be right: so far inside of a tile's inner
        edges its share is 0. At most a quarter of the tile is given to it on each side.
    """
    rows = spans(height, tile or height, context)
    columns = spans(width, tile or width, context)
    return [Tile(r, c) for r in rows for c in columns]


def spans(length: int, tile: int, context: int) -> list[Span]:
    """Cover ``length`` pixels with overlapping spans of at most ``tile`` pixels.

    Parameters are those of :func:`tiles`, for one axis.
    """
    if tile >= length:
        return [Span(0, length, np.ones(length, np.float32))]
    margin = min(context, tile // 4)
    ramp = max(8, tile // 16)
    stride = max((tile - 2 * margin - ramp) // ALIGN, 1)
    # In units of ALIGN. The last span may be a little shorter, so that it starts on the grid.
    last = -(-(length - tile) // ALIGN)
    count = -(-last // stride) + 1
    starts = [ALIGN * round(i * last / (count - 1)) for i in range(count)]
    edges = [(s, min(s + tile, length)) for s in starts]
    shares = [_share(start, stop, length, margin, ramp) for start, stop in edges]
    total = np.zeros(length)
    for (start, stop), share in zip(edges, shares, strict=True):
        total[start:stop] += share
    return [
        Span(start, stop, (share / total[start:stop]).astype(np.float32))
        for (start, stop), share in zip(edges, shares, strict=True)
    ]


def _share(start: int, stop: int, length: int, margin: int, ramp: int) -> NDArray[np.float64]:
    # 0 within the margin of an inner edge, then rising over the ramp; the picture's own edges
    # are as good as its middle.
    at = np.arange(start, stop) + 0.5
    share = np.ones(stop - start)
    if start > 0:
        share = np.minimum(share, (at - start - margin) / ramp)
    if stop < length:
        share = np.minimum(share, (stop - margin - at) / ramp)
    return np.clip(share, 0, 1)
