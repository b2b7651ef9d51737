"""A bar that rings in one of its first three bending modes (Euler-Bernoulli), by 0.3 px.

The bar is that of ``flowmag demo``; see `napari_flowmag.synthetic.beam`. Its frequencies are 327,
2,049 and 5,738 Hz, and the camera takes twelve frames a period.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from napari_flowmag.evaluate.case import Case, CaseSet, Sample, band_around
from napari_flowmag.evaluate.sets.request import Request, fingerprint, generator
from napari_flowmag.evaluate.sets.scene import grey_levels, still_pixels
from napari_flowmag.synthetic.beam import (
    CLAMP,
    HALF,
    HEIGHT,
    MIDDLE,
    TIP,
    WIDTH,
    beam_motion,
    beam_pixels,
    bending_frequency,
    bending_mode,
    draw_beam,
)

ORDERS = (1, 2, 3)
ALPHAS = (5.0, 10.0, 20.0)
AMPLITUDE = 0.3  # px, of the tip
_A_PERIOD = 12  # frames
_EVERY_QUICK = 3  # frames
_NOISE = 0.5  # grey levels of 255: the camera's
_LEAST = 0.1  # of the tip's motion: what moves by less, near clamp and nodes, hardly moves
_VERSION = 1


def make_set(request: Request) -> CaseSet:
    """Make the set: one period of each mode, or four frames of it, at each magnification."""
    every = _EVERY_QUICK if request.quick else 1
    return CaseSet(
        name="structure",
        title="Vibrating structure",
        description="A clamped bar rings in one of three bending modes; its tip moves by 0.3 px.",
        fingerprint=fingerprint("structure", _VERSION, request.seed, every),
        cases=tuple(
            Case(
                name=f"mode{order}-a{alpha:g}",
                alpha=alpha,
                make=partial(_sample, order, alpha, every, request.seed),
                level=float(order),
                group=f"mode {order}, ×{alpha:g}",
            )
            for order in ORDERS
            for alpha in ((10.0,) if request.quick else ALPHAS)
        ),
        varies="bending mode",
    )


def _sample(order: int, alpha: float, every: int, seed: int) -> Sample:
    swing = np.zeros((_A_PERIOD // every, order))
    swing[:, -1] = AMPLITUDE * np.sin(2 * np.pi * np.arange(len(swing)) / len(swing))
    noise = generator(seed, "structure", order).standard_normal((len(swing), HEIGHT, WIDTH, 3))
    pictures = 255 * draw_beam(swing, seed=seed)
    return Sample(
        frames=grey_levels(np.round(pictures + _NOISE * noise)),
        value_range=(0.0, 255.0),
        truth=np.asarray((255 * draw_beam(alpha * swing, seed=seed)).clip(0, 255), np.float32),
        motion=beam_motion(swing),
        moving=_moving(order),
        still=still_pixels(_reached(alpha)),
        fps=bending_frequency(order) * len(swing),
        band=band_around(bending_frequency(order)),
    )


def _moving(order: int) -> np.ndarray:
    shares = (np.arange(WIDTH) - CLAMP) / (TIP - CLAMP)
    return np.asarray(beam_pixels() & (abs(bending_mode(shares, order)) > _LEAST))


def _reached(alpha: float) -> np.ndarray:
    """Return where the bar comes, (H, W): no mode is larger than at the tip."""
    x, y = np.arange(WIDTH), np.arange(HEIGHT)[:, None]
    blur = 3.0
    across = abs(y - MIDDLE) < HALF + alpha * AMPLITUDE + blur
    return np.asarray(across & (x > CLAMP - blur) & (x < TIP + blur), dtype=np.float32)
