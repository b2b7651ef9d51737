"""A vibrating cantilever in front of a wall, drawn exactly at any deflection.

An aluminium bar, 200 × 16 mm, is clamped on the left and sprayed with black speckles. The camera
sees it at 0.8 mm a pixel. Every column moves up and down as a whole, as a thin beam's do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_flowmag.errors import FlowmagError
from napari_flowmag.synthetic.blobs import Blobs
from napari_flowmag.synthetic.clips import FloatArray, edge, texture

Float64Array = NDArray[np.float64]

HEIGHT, WIDTH = 240, 320
CLAMP, TIP, MIDDLE, HALF = 36.0, 286.0, 120.0, 10.0  # px: 250 × 20 px is 200 × 16 mm
MILLIMETRES = 0.8  # a pixel
FIRST_FREQUENCY = 327.0  # Hz: 0.1615 · 16 mm / (200 mm)² · sqrt(69 GPa / 2700 kg/m³)

_BETA = (1.875104, 4.694091, 7.854757)  # roots of cos(x) cosh(x) = -1: modes of a cantilever


def bending_mode(position: ArrayLike, order: int = 1) -> Float64Array:
    """Return a bending mode of an Euler-Bernoulli cantilever, 1 at its free end.

    Parameters
    ----------
    position
        Distance from the clamp as a share of the length. The mode is 0 behind the clamp.
    order
        1, 2 or 3.

    Raises
    ------
    FlowmagError
        If there is no such mode here.
    """
    beta = _root(order)
    x = beta * np.clip(np.asarray(position, dtype=np.float64), 0, None)
    ratio = (np.cosh(beta) + np.cos(beta)) / (np.sinh(beta) + np.sin(beta))
    shape = (np.cosh(x) - np.cos(x) - ratio * (np.sinh(x) - np.sin(x))) / 2
    return np.asarray(shape if order % 2 else -shape)


def bending_frequency(order: int = 1) -> float:
    """Return the frequency of a mode in Hz: they grow with the squares of the roots."""
    return FIRST_FREQUENCY * (_root(order) / _root(1)) ** 2


def _root(order: int) -> float:
    if order not in range(1, len(_BETA) + 1):
        raise FlowmagError(f"no bending mode {order}: choose 1 to {len(_BETA)}")
    return _BETA[order - 1]


def draw_beam(swing: ArrayLike, *, seed: int = 0) -> Float64Array:
    """Draw the bar at any deflection, without camera noise.

    Parameters
    ----------
    swing
        (T, N) px, downwards: how far each of the first N modes moves the tip, frame by frame.
    seed
        Seed of speckles and surroundings.

    Returns
    -------
    ndarray
        (T, H, W, 3) float64, 0 to 1 but for rare values just outside.
    """
    rng = np.random.default_rng((seed, 3))
    wall, block = _wall(rng), _clamp_block(rng)
    speckles = _speckles(rng)
    x, y = np.arange(WIDTH, dtype=float), np.arange(HEIGHT, dtype=float)[:, None]
    cover_block = edge(CLAMP - x) * edge(36 - abs(y - MIDDLE))
    still = np.zeros_like(speckles.x)
    frames = []
    for column, speck in zip(deflection(swing, x), deflection(swing, speckles.x), strict=True):
        across = (y - MIDDLE - column) / HALF  # -1 at the upper edge of the bar, 1 below
        cover = edge(TIP - x) * edge(HALF * (1 - abs(across)))
        dark = np.exp(-speckles.draw(still, speck, HEIGHT, WIDTH))
        paint = (0.86 - 0.12 * across - 0.10 * across**2) * (0.12 + 0.88 * dark)
        bar = np.array([0.97, 0.96, 0.92])[:, None, None] * paint
        frames.append(_over(cover_block, block, _over(cover, bar, wall)))
    return np.moveaxis(np.stack(frames), 1, -1)


def deflection(swing: ArrayLike, x: Float64Array) -> Float64Array:
    """Return how far down the bar is bent at `x` px of the picture, (T, len(x)) px."""
    swings = np.asarray(swing, dtype=np.float64)
    shares = (x - CLAMP) / (TIP - CLAMP)
    modes = np.stack([bending_mode(shares, n + 1) for n in range(swings.shape[1])])
    return np.asarray(swings @ modes)


def beam_motion(swing: ArrayLike) -> FloatArray:
    """Return the displacement of each pixel, (T, 2, H, W) float32 px, (dx, dy)."""
    columns = deflection(swing, np.arange(WIDTH, dtype=float)).astype(np.float32)
    motion = np.zeros((len(columns), 2, HEIGHT, WIDTH), dtype=np.float32)
    motion[:, 1] = columns[:, None] * beam_pixels()
    return motion


def beam_pixels() -> NDArray[np.bool_]:
    """Return where the bar is at rest, (H, W)."""
    x, y = np.arange(WIDTH), np.arange(HEIGHT)[:, None]
    return np.asarray((abs(y - MIDDLE) < HALF) & (x > CLAMP) & (x < TIP))


def _over(cover: NDArray[Any], top: NDArray[Any], below: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(cover * top + (1 - cover) * below)


def _speckles(rng: np.random.Generator) -> Blobs:
    """Black paint sprayed on the white bar, as is usual for measuring vibration by camera."""
    count = 420
    size = rng.uniform(1.1, 2.4, count)
    return Blobs(
        x=rng.uniform(CLAMP - 8, TIP + 8, count),
        y=rng.uniform(MIDDLE - HALF - 6, MIDDLE + HALF + 6, count),
        sigma_x=size,
        sigma_y=size * rng.uniform(0.8, 1.25, count),
        brightness=rng.uniform(0.3, 1.6, count),
    )


def _wall(rng: np.random.Generator) -> FloatArray:
    """Render a plastered wall under a lamp, (3, H, W)."""
    plaster = texture((HEIGHT, WIDTH), rng, scales=(1.5, 3.0, 40.0)) - 0.5
    plaster = plaster.mean(axis=0) + 0.2 * (plaster - plaster.mean(axis=0))
    y, x = np.linspace(-1, 1, HEIGHT)[:, None], np.linspace(-1, 1, WIDTH)
    lamp = 1 - 0.22 * ((x - 0.3) ** 2 + (y + 0.4) ** 2)
    colour = np.array([0.36, 0.43, 0.50])[:, None, None]
    return np.asarray(colour * lamp * (1 + 0.7 * plaster), dtype=np.float32)


def _clamp_block(rng: np.random.Generator) -> FloatArray:
    """Render the steel block that holds the bar, with two screws, (3, H, W)."""
    steel = 0.2 * (1 + 0.3 * (texture((HEIGHT, WIDTH), rng, channels=1) - 0.5))
    x, y = np.arange(WIDTH), np.arange(HEIGHT)[:, None]
    for centre in (MIDDLE - 23, MIDDLE + 23):
        depth = 7 - np.hypot(x - CLAMP / 2, y - centre)
        steel = _over(edge(depth), 0.42 - 0.012 * (y - centre), steel)
        steel = _over(edge(depth - 4), np.full_like(steel, 0.10), steel)
    return np.asarray(steel * np.array([1.0, 1.02, 1.08])[:, None, None], dtype=np.float32)
