"""Where to cut crops out of a picture, and cutting them: turned, stretched, padded or plain.

The picture is read only where a crop needs it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from napari_flowmag.adapt.settings import AdaptSettings

_BLOCK = 16


@dataclass(frozen=True, eq=False)
class Cut:
    """A square to cut out of pictures of one size.

    A plain one is a slice: not a value of it is interpolated. A turned or stretched one reads the
    picture, bilinearly, at ``matrix @ (row, column of the crop) + origin``; outside the picture
    there is 0.

    Attributes
    ----------
    rows, columns : slice
        What is read of the picture: not more than the crop needs.
    shape : (int, int)
        Height and width of the crop.
    matrix : ndarray or None
        (2, 2), None where the slice is the crop.
    origin : (float, float)
        Row and column, in the slice, of the crop's first pixel.
    flips : tuple of int
        Axes of the crop to flip, -1 or -2.
    """

    rows: slice
    columns: slice
    shape: tuple[int, int]
    matrix: NDArray[np.float64] | None = None
    origin: tuple[float, float] = (0.0, 0.0)
    flips: tuple[int, ...] = ()

    def take(self, picture: Tensor) -> Tensor:
        """Make the crop (B, C, *shape) of what `rows` and `columns` give of pictures."""
        if self.matrix is not None:
            picture = self._resample(picture)
        return picture.flip(self.flips) if self.flips else picture

    def _resample(self, picture: Tensor) -> Tensor:
        matrix = torch.from_numpy(self.matrix)
        grid = torch.stack(
            torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in self.shape),
                           indexing="ij"), -1,
        )  # fmt: skip
        place = grid @ matrix.T + torch.tensor(self.origin, dtype=torch.float64)
        size = torch.tensor(picture.shape[-2:], dtype=torch.float64)
        # grid_sample without aligned corners: -1 and 1 are the outer edges of the outer pixels.
        place = ((2 * place + 1) / size - 1).flip(-1).to(picture)
        return F.grid_sample(
            picture, place.expand(len(picture), -1, -1, -1), padding_mode="zeros",
            align_corners=False,
        )  # fmt: skip


def draw_cut(
    size: tuple[int, int],
    settings: AdaptSettings,
    rng: np.random.Generator,
    places: NDArray[np.float64] | None = None,
) -> Cut:
    """Draw a crop of a picture.

    Parameters
    ----------
    size : (int, int)
        Height and width of the picture.
    settings : AdaptSettings
        Crop, padding, rotation, stretch, flips.
    rng : Generator
        The only source of randomness.
    places : ndarray, optional
        What :func:`blocks` gave: the crop's middle is drawn from it, as far as the crop then lies
        in the picture. None: evenly.
    """
    flips = tuple(axis for axis in (-1, -2) if rng.random() < settings.flip)
    side = settings.crop
    shape = (side, side) if settings.pad else (min(side, size[0]), min(side, size[1]))
    wanted = None if places is None else _draw_place(places, rng)
    angle = math.radians(rng.uniform(-settings.rotation, settings.rotation))
    stretch = settings.stretch ** rng.uniform(-1, 1, 2)
    if settings.rotation == 0 and settings.stretch == 1:
        plain = _plain(size, shape, wanted, rng, flips)
        if plain is not None:
            return plain
    return _turned(size, shape, angle, stretch, wanted, rng, flips)


def fixed_cut(size: tuple[int, int], crop: int, middle: tuple[float, float]) -> Cut:
    """Return the plain crop, whole inside the picture, whose middle is nearest to a place."""
    shape = (min(crop, size[0]), min(crop, size[1]))
    starts = [_start(n, part, at) for n, part, at in zip(size, shape, middle, strict=True)]
    rows, columns = (slice(a, a + n) for a, n in zip(starts, shape, strict=True))
    return Cut(rows, columns, shape)


def _start(length: int, part: int, middle: float) -> int:
    return int(np.clip(round(middle - part / 2), 0, length - part))


def _plain(
    size: tuple[int, int],
    shape: tuple[int, int],
    wanted: tuple[float, float] | None,
    rng: np.random.Generator,
    flips: tuple[int, ...],
) -> Cut | None:
    if any(part > length for part, length in zip(shape, size, strict=True)):
        return None
    drawn = rng.random(2)
    starts = [
        int(u * (length - part + 1)) if wanted is None else _start(length, part, wanted[axis])
        for axis, (u, length, part) in enumerate(zip(drawn, size, shape, strict=True))
    ]
    rows, columns = (slice(a, a + n) for a, n in zip(starts, shape, strict=True))
    return Cut(rows, columns, shape, flips=flips)


def _turned(
    size: tuple[int, int],
    shape: tuple[int, int],
    angle: float,
    stretch: NDArray[np.float64],
    wanted: tuple[float, float] | None,
    rng: np.random.Generator,
    flips: tuple[int, ...],
) -> Cut:
    """Turn the picture about its middle, stretch it, and cut: as one reading of the picture."""
    cosine, sine = math.cos(angle), math.sin(angle)
    # From offsets in the stretched and turned picture back to offsets in the picture.
    matrix = np.array([[cosine, -sine], [sine, cosine]]) @ np.diag(1 / stretch)
    whole = np.array(size) * stretch
    room = (whole - np.array(shape)) / 2
    # How far the crop's middle lies from the picture's; smaller pictures lie in the middle of it.
    offset = rng.uniform(-1, 1, 2) * np.maximum(room, 0)
    if wanted is not None:
        target = np.linalg.inv(matrix) @ (np.array(wanted) - np.array(size) / 2)
        offset = np.clip(target, -np.maximum(room, 0), np.maximum(room, 0))
    corner = offset - (np.array(shape) - 1) / 2
    origin = (np.array(size) - 1) / 2 + matrix @ corner
    corners = [origin + matrix @ np.array([r, c]) for r in (0, shape[0] - 1)
               for c in (0, shape[1] - 1)]  # fmt: skip
    low = np.floor(np.min(corners, 0)).astype(int)
    high = np.ceil(np.max(corners, 0)).astype(int) + 1
    low, high = np.clip(low, 0, size), np.clip(high, 0, size)
    row, column = origin - low
    return Cut(
        slice(int(low[0]), int(high[0])),
        slice(int(low[1]), int(high[1])),
        shape,
        matrix,
        (float(row), float(column)),
        flips,
    )


def blocks(weight: NDArray[np.floating]) -> NDArray[np.float64]:
    """Sum a picture of weights over blocks of 16 × 16 px: where crops may have their middle."""
    height, width = weight.shape
    padded = np.pad(weight.astype(np.float64), ((0, -height % _BLOCK), (0, -width % _BLOCK)))
    rows, columns = padded.shape[0] // _BLOCK, padded.shape[1] // _BLOCK
    sums: NDArray[np.float64] = padded.reshape(rows, _BLOCK, columns, _BLOCK).sum((1, 3))
    return sums


def heaviest(places: NDArray[np.float64]) -> tuple[float, float]:
    """Return the middle of the heaviest block, row and column in px."""
    row, column = np.unravel_index(int(places.argmax()), places.shape)
    return (float(row) + 0.5) * _BLOCK, (float(column) + 0.5) * _BLOCK


def _draw_place(places: NDArray[np.float64], rng: np.random.Generator) -> tuple[float, float]:
    """Draw a block by its weight, and a place in it."""
    total = places.cumsum()
    block = int(np.searchsorted(total, rng.random() * total[-1], side="right"))
    row, column = np.unravel_index(min(block, places.size - 1), places.shape)
    dy, dx = rng.random(2)
    return (float(row) + dy) * _BLOCK, (float(column) + dx) * _BLOCK
