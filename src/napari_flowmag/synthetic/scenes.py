"""The scenes of ``flowmag demo``: a vibrating beam and a beating sheet of heart cells.

Both are plausible recordings with pixel sizes and frame rates, whose motion stays below half a
pixel and is known exactly. As in `clips`, nothing is interpolated between pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from napari_flowmag.errors import FlowmagError
from napari_flowmag.synthetic.beam import (
    FIRST_FREQUENCY,
    MILLIMETRES,
    beam_motion,
    beam_pixels,
    draw_beam,
)
from napari_flowmag.synthetic.blobs import Blobs
from napari_flowmag.synthetic.clips import KnownClip

Float64Array = NDArray[np.float64]

_DAMPING = 0.008  # share of critical damping: aluminium, with the losses of its clamp


def demo_clip(kind: str, *, factor: float = 1.0, length: int = 64, seed: int = 0) -> KnownClip:
    """Render one of the demonstration scenes.

    Parameters
    ----------
    kind
        "beam": an aluminium bar, 200 × 16 mm, clamped on the left, rings in its first bending
        mode after a tap (327 Hz); its tip moves by 0.3 px. A high-speed camera sees it in colour,
        8 bit, at 4,000 frames a second and 0.8 mm a pixel.
        "cells": a sheet of aligned heart-muscle cells that beats once a second and moves by up to
        0.35 px, next to bare glass. A microscope camera sees it in grey, 16 bit, at 30 frames a
        second and 0.325 µm a pixel.
    factor
        Magnification of the motion relative to frame 0. With a factor other than 1 the clip is
        the ideal result of magnifying the one with factor 1, and therefore free of camera noise.
    length
        Number of frames.
    seed
        Seed of the textures and of the camera noise.

    Returns
    -------
    KnownClip
        Frames (T, 240, 320, 3) uint8 for "beam", (T, 256, 256) uint16 for "cells".

    Raises
    ------
    FlowmagError
        If there is no scene of this name.
    """
    if kind not in _SCENES:
        raise FlowmagError(f"no demonstration {kind!r}: choose one of {', '.join(_SCENES)}")
    return _SCENES[kind](factor, length, seed)


def demo_kinds() -> tuple[str, ...]:
    """Return the names that `demo_clip` takes."""
    return tuple(_SCENES)


def _beam(factor: float, length: int, seed: int) -> KnownClip:
    fps = 4000.0
    phase = 2 * np.pi * FIRST_FREQUENCY * np.arange(length) / fps
    ringing = factor * 0.3 * np.exp(-_DAMPING * phase) * np.sin(phase)
    pictures = draw_beam(ringing[:, None], seed=seed)
    if factor == 1:
        noise = np.random.default_rng((seed, 4)).standard_normal(pictures.shape)
        pictures = pictures + 0.5 / 255 * noise
    return KnownClip(
        np.round(pictures.clip(0, 1) * 255).astype(np.uint8),
        beam_motion(ringing[:, None]),
        beam_pixels(),
        fps,
        (MILLIMETRES, MILLIMETRES),
        "mm",
        "beam",
    )


def _cells(factor: float, length: int, seed: int) -> KnownClip:
    height, width, fps, micrometres = 256, 256, 30.0, 0.325
    rng = np.random.default_rng((seed, 5))
    sheet, glass = _stained_sheet(height, width, rng), _debris(height, width, rng)
    beat = 0.35 * _beats(np.arange(length) / fps)
    still = np.zeros_like(glass.x)
    ground = 150 + glass.draw(still, still, height, width)

    frames = []
    for pull in factor * beat:
        dx, dy = _contraction(sheet.x, sheet.y, height)
        frames.append(ground + sheet.draw(pull * dx, pull * dy, height, width))
    counts = np.stack(frames)
    if factor == 1:
        # Photon noise of a camera that makes one count out of ten electrons.
        noise = np.random.default_rng((seed, 6)).standard_normal(counts.shape)
        counts = counts + np.sqrt(counts / 10) * noise

    y, x = np.meshgrid(np.arange(float(height)), np.arange(float(width)), indexing="ij")
    moving = x < _sheet_edge(y)
    field = np.stack(_contraction(x, y, height)) * moving
    displacement = (factor * beat).astype(np.float32)[:, None, None, None] * field
    return KnownClip(
        np.round(counts).clip(0, 65535).astype(np.uint16),
        displacement.astype(np.float32),
        moving,
        fps,
        (micrometres, micrometres),
        "µm",
        "cells",
    )


def _beats(time: Float64Array) -> Float64Array:
    """Contraction between 0 and 1: one beat a second, fast to rise and slow to relax."""
    since = np.clip((time - 0.2) % 1.0, 0, None) * (time >= 0.2)
    shape = np.exp(-since / 0.16) - np.exp(-since / 0.05)
    return np.asarray(shape / 0.4359)  # the maximum of the difference


def _contraction(x: Float64Array, y: Float64Array, height: int) -> tuple[Float64Array, ...]:
    """Displacement (dx, dy) at full contraction, as a share of its maximum.

    The free edge on the right is pulled towards the left, where the sheet goes on, and the sheet
    grows wider across its fibres.
    """
    share = np.clip(x / _sheet_edge(y), 0, 1)
    return -share, 0.25 * (2 * y / height - 1) * share


def _sheet_edge(y: Float64Array) -> Float64Array:
    """Return where the sheet ends, px from the left."""
    return np.asarray(186 + 9 * np.sin(y / 31) + 4 * np.sin(y / 13 + 1))


def _stained_sheet(height: int, width: int, rng: np.random.Generator) -> Blobs:
    """Z-discs along aligned myofibrils, over the haze of what is out of focus."""
    x, y = [], []
    for row in np.arange(-40.0, height + 40.0, 6.5):
        spacing = 5.8 * rng.normal(1, 0.07, size=60)  # 1.9 µm sarcomeres
        along = np.cumsum(spacing) - rng.uniform(10, 40)
        x.append(along)
        y.append(row + rng.normal(0, 0.5, 60) + 5 * np.sin(along / 60 + row / 90))
    discs_x, discs_y = np.concatenate(x), np.concatenate(y)
    haze_x, haze_y = rng.uniform(-20, width, 260), rng.uniform(-20, height + 20, 260)
    brightness = rng.uniform(0.4, 1.2, discs_x.size) * _patches(discs_x, discs_y, rng)
    everything = Blobs(
        x=np.concatenate([discs_x, haze_x]),
        y=np.concatenate([discs_y, haze_y]),
        sigma_x=np.concatenate([rng.uniform(1.1, 1.5, discs_x.size), rng.uniform(6, 14, 260)]),
        sigma_y=np.concatenate([rng.uniform(1.8, 2.8, discs_x.size), rng.uniform(4, 9, 260)]),
        brightness=np.concatenate([1500 * brightness, rng.uniform(30, 160, 260)]),
    )
    return everything.keep(everything.x + everything.sigma_x < _sheet_edge(everything.y) - 1)


def _patches(x: Float64Array, y: Float64Array, rng: np.random.Generator) -> Float64Array:
    """Brightness of the cells, which express the stain unequally, at the given places."""
    level = gaussian_filter(rng.standard_normal((64, 64)), (2.5, 5.0), mode="wrap")
    level = 0.62 + 0.38 * np.tanh(level / level.std())
    return np.asarray(level[(y / 5).astype(int) % 64, (x / 5).astype(int) % 64])


def _debris(height: int, width: int, rng: np.random.Generator) -> Blobs:
    """Specks that stick to the glass and stay still."""
    count = 70
    x, y = rng.uniform(0, width, count), rng.uniform(0, height, count)
    size, brightness = rng.uniform(1.2, 2.6, count), 60 + 500 * rng.random(count) ** 3
    specks = Blobs(x, y, size, size * rng.uniform(0.8, 1.25, count), brightness)
    return specks.keep(x - 3 * size > _sheet_edge(y))


_SCENES: dict[str, Callable[[float, int, int], KnownClip]] = {"beam": _beam, "cells": _cells}
